package format

import (
	"bytes"
	"context"
	"encoding/binary"
	"math"

	"github.com/gild-project/gild/pkg/format/refusal"
)

// Source: Virtual Hard Disk Image Format Specification 1.0 (Microsoft, 2006), all big-endian.
const (
	vhdFooterSize  = 512
	vhdHeaderSize  = 1024
	vhdFixed       = 2
	vhdDynamic     = 3
	vhdDifferent   = 4
	vhdUnallocated = 0xffffffff
	// vhdMaxSize is 2040 GiB, the most that qemu and Hyper-V take.
	vhdMaxSize = 0xff000000 * 512
	// vhdMaxGeometry is what images say that are too large for a geometry.
	vhdMaxGeometry = 65535 * 16 * 255 * 512
	// vhdMaxTable is 16 times what the largest disk needs in the usual blocks of 2 MiB.
	vhdMaxTable = 64 << 20
)

// vhdFooter is a footer that passed the gate.
type vhdFooter struct {
	kind uint32
	// geometry tells that the size is that of cylinders, heads and sectors.
	geometry    bool
	virtualSize int64
	headerAt    int64
}

// CheckVHD makes sure that a fixed or dynamic VHD says the same in all its copies, with good
// checksums, and that all it points to is inside the file of size bytes. It holds 256 KiB of
// tables, whatever the header says.
func CheckVHD(ctx context.Context, image ReaderAt, size, maxVirtualSize int64) (Image, error) {
	g := gate{VHD, image, size}
	footer, raw, err := g.readVHDFooter(ctx)
	if err != nil {
		return Image{}, err
	}
	if err := g.fits(footer.virtualSize, maxVirtualSize, vhdMaxSize); err != nil {
		return Image{}, err
	}
	head, err := g.read(ctx, "footer", 0, vhdFooterSize)
	if err != nil {
		return Image{}, err
	}
	copied := bytes.HasPrefix(head, []byte("conectix"))
	switch {
	case footer.kind == vhdFixed && copied:
		return Image{}, g.corrupt("its two footers contradict each other")
	case footer.kind == vhdFixed:
		if err := g.inside("disk", 0, footer.virtualSize+vhdFooterSize); err != nil {
			return Image{}, err
		}
		return Image{VirtualSize: footer.virtualSize, DataBytes: footer.virtualSize}, nil
	case !bytes.Equal(head, raw):
		return Image{}, g.corrupt("its two footers differ: repair it with the tool that made it, or fetch it again")
	}
	return g.checkDynamicVHD(ctx, footer)
}

// readVHDFooter reads the footer at the end of the file, which every kind has.
func (g gate) readVHDFooter(ctx context.Context) (vhdFooter, []byte, error) {
	raw, err := g.read(ctx, "footer", max(g.size-vhdFooterSize, 0), vhdFooterSize)
	if err != nil {
		return vhdFooter{}, nil, err
	}
	switch {
	case bytes.HasPrefix(raw[1:], []byte("conectix")):
		return vhdFooter{}, nil, refusal.New(refusal.TruncatedImage, "the vhd image ends one byte short of its footer: fetch it again, or convert it if a very old Virtual PC made it")
	case !bytes.HasPrefix(raw, []byte("conectix")):
		return vhdFooter{}, nil, refusal.New(refusal.TruncatedImage, "the vhd image is truncated: it does not end with a footer: fetch it again")
	case binary.BigEndian.Uint32(raw[64:]) != vhdChecksum(raw, 64):
		return vhdFooter{}, nil, g.corrupt("the checksum of its footer is wrong")
	case binary.BigEndian.Uint16(raw[12:]) != 1:
		return vhdFooter{}, nil, refusal.New(refusal.UnsupportedFormat, "the vhd image has an unknown version")
	}
	footer := vhdFooter{kind: binary.BigEndian.Uint32(raw[60:])}
	switch footer.kind {
	case vhdFixed, vhdDynamic:
	case vhdDifferent:
		return vhdFooter{}, nil, refusal.New(refusal.UnsafeImage, "the vhd image is a differencing disk and needs its parent, which is never opened: merge the two first")
	default:
		return vhdFooter{}, nil, refusal.New(refusal.UnsupportedFormat, "the vhd image is neither fixed nor dynamic: convert it with qemu-img convert")
	}
	current, header := binary.BigEndian.Uint64(raw[48:]), binary.BigEndian.Uint64(raw[16:])
	if current > math.MaxInt64-511 || footer.kind == vhdDynamic && header > math.MaxInt64 {
		return vhdFooter{}, nil, g.corrupt("its disk has %d bytes and its header is at %d", current, header)
	}
	// Who wrote it: only these three count in cylinders. The size in the footer of Virtual PC is
	// often more than the disk. An image of everybody else may end before or behind the last
	// whole cylinder. qemu-img is told what was found here, because its versions disagree.
	switch string(raw[28:32]) {
	case "vpc ", "vs  ", "qemu":
		chs := int64(binary.BigEndian.Uint16(raw[56:])) * int64(raw[58]) * int64(raw[59]) * 512
		footer.geometry = chs != vhdMaxGeometry
		footer.virtualSize = chs
	}
	if !footer.geometry {
		footer.virtualSize = int64(current) &^ 511
		if current%512 != 0 {
			return vhdFooter{}, nil, g.corrupt("its disk has %d bytes, which are no whole sectors", current)
		}
	}
	footer.headerAt = int64(header) //nolint:gosec // compared above; a fixed disk has none
	return footer, raw, nil
}

// vhdChecksum is the complement of the sum of all bytes but its own.
func vhdChecksum(b []byte, at int) uint32 {
	var sum uint32
	for i, c := range b {
		if i < at || i >= at+4 {
			sum += uint32(c)
		}
	}
	return ^sum
}

// checkDynamicVHD walks the block allocation table.
func (g gate) checkDynamicVHD(ctx context.Context, footer vhdFooter) (Image, error) {
	h, err := g.read(ctx, "header", footer.headerAt, vhdHeaderSize)
	if err != nil {
		return Image{}, err
	}
	tableAt, entries, block := binary.BigEndian.Uint64(h[16:]), int64(binary.BigEndian.Uint32(h[28:])), int64(binary.BigEndian.Uint32(h[32:]))
	switch {
	case !bytes.HasPrefix(h, []byte("cxsparse")):
		return Image{}, g.corrupt("it has no header at %d", footer.headerAt)
	case binary.BigEndian.Uint32(h[36:]) != vhdChecksum(h, 36):
		return Image{}, g.corrupt("the checksum of its header is wrong")
	case !isZero(h[40:56]) || !isZero(h[64:66]):
		return Image{}, refusal.New(refusal.UnsafeImage, "the vhd image names a parent, which is never opened: merge the two first")
	case block < 512 || block&(block-1) != 0:
		return Image{}, g.corrupt("its blocks have %d bytes", block)
	case entries*4 > vhdMaxTable:
		return Image{}, g.corrupt("its table has %d entries", entries)
	case (footer.virtualSize-1)/block >= entries:
		return Image{}, g.corrupt("its table has %d entries and its disk needs %d", entries, (footer.virtualSize-1)/block+1)
	case tableAt > math.MaxInt64:
		return Image{}, g.corrupt("its table is at %d", tableAt)
	}
	found := Image{VirtualSize: footer.virtualSize}
	bitmap := (block/8/512 + 511) &^ 511
	tables := []area{{0, vhdFooterSize}, {footer.headerAt, vhdHeaderSize}, {int64(tableAt), entries * 4}}
	ends := gate{VHD, g.image, g.size - vhdFooterSize}
	err = g.entries(ctx, "table", int64(tableAt), entries, 4, func(index int64, entry []byte) error {
		sector := int64(binary.BigEndian.Uint32(entry))
		if sector == vhdUnallocated {
			return nil
		}
		if overlaps(tables, sector*512, bitmap+block) {
			return g.corrupt("block %d lies in its tables", index)
		}
		found.DataBytes += max(min(block, footer.virtualSize-index*block), 0)
		// qemu-img wants the whole of the last block too.
		return ends.inside("data", sector*512, bitmap+block)
	})
	return found, err
}

// vhdSizeRule tells qemu-img where to find the size of a disk that passed the gate.
func vhdSizeRule(ctx context.Context, image ReaderAt, size int64) (string, error) {
	footer, _, err := gate{VHD, image, size}.readVHDFooter(ctx)
	if footer.geometry {
		return "chs", err
	}
	return "current_size", err
}
