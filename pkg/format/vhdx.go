package format

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
	"math"

	"github.com/gild-project/gild/pkg/format/refusal"
)

// Source: [MS-VHDX], Virtual Hard Disk v2 File Format, all little-endian.
const (
	vhdxMaxSize = 64 << 40
	// vhdxMaxTable holds the table of the largest disk in the smallest blocks.
	vhdxMaxTable   = 516 << 20
	vhdxStart      = 320 << 10
	vhdxSection    = 64 << 10
	vhdxHeaderSize = 4 << 10
	vhdxMetadata   = 64 << 10

	// Identifiers as they stand in the file.
	vhdxTableID     = "6677c22d23f600429d64115e9bfd4a08"
	vhdxMetadataID  = "06a27c8b90479a4bb8fe575f050f886e"
	vhdxParameterID = "3767a1ca36fa434db3b633f0aa44e76b"
	vhdxDiskSizeID  = "2442a52f1bcd7648b2115dbed83bf4b8"
	vhdxLogicalID   = "1dbf41816fa90947ba47f233a8faab5f"
	vhdxPhysicalID  = "c748a3cd5d4471449cc9e9885251c556"
	vhdxPage83ID    = "ab12cabee6b2234593efc309e000c746"
	vhdxLocatorID   = "2d5fd3a80bb34d45abf7d3d84834ab0c"

	// States of a block.
	vhdxAbsent    = 0
	vhdxUndefined = 1
	vhdxZero      = 2
	vhdxUnmapped  = 3
	vhdxUnmapped1 = 5 // of version 0.95 of the format
	vhdxPresent   = 6
	vhdxPartly    = 7
)

// vhdx is the state of the gate of one image.
type vhdx struct {
	gate
	log, table, metadata area
	block, disk          int64
}

// CheckVHDX makes sure that a VHDX was closed cleanly, has no parent, good checksums, and that
// all it points to is inside the file of size bytes. It holds less than 1 MiB, whatever the
// headers say.
func CheckVHDX(ctx context.Context, image ReaderAt, size, maxVirtualSize int64) (Image, error) {
	v := vhdx{gate: gate{VHDX, image, size}}
	start, err := v.read(ctx, "header", 0, vhdxStart)
	if err != nil {
		return Image{}, err
	}
	if !bytes.HasPrefix(start, []byte("vhdxfile")) {
		return Image{}, v.corrupt("it has no identifier")
	}
	if err := v.readHeader(start[vhdxSection:][:vhdxHeaderSize], start[2*vhdxSection:][:vhdxHeaderSize]); err != nil {
		return Image{}, err
	}
	if err := v.readRegions(start[3*vhdxSection:][:vhdxSection], start[4*vhdxSection:]); err != nil {
		return Image{}, err
	}
	if err := v.readMetadata(ctx); err != nil {
		return Image{}, err
	}
	if err := v.fits(v.disk, maxVirtualSize, vhdxMaxSize); err != nil {
		return Image{}, err
	}
	return v.walk(ctx)
}

// vhdxSum is CRC-32C over b with its own four bytes, at 4, as zeros.
func vhdxSum(b []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	sum := crc32.Update(0, table, b[:4])
	sum = crc32.Update(sum, table, make([]byte, 4))
	return crc32.Update(sum, table, b[8:])
}

func vhdxGood(b []byte, signature string) bool {
	return bytes.HasPrefix(b, []byte(signature)) && binary.LittleEndian.Uint32(b[4:]) == vhdxSum(b)
}

// readHeader takes the newer of the good headers. One may be bad: a writer was stopped.
func (v *vhdx) readHeader(first, second []byte) error {
	good := func(h []byte) bool { return vhdxGood(h, "head") && binary.LittleEndian.Uint16(h[66:]) == 1 }
	sequence := func(h []byte) uint64 { return binary.LittleEndian.Uint64(h[8:]) }
	h := first
	switch {
	case !good(first) && !good(second):
		return v.corrupt("it has no header with a good checksum")
	case !good(first), good(second) && sequence(second) > sequence(first):
		h = second
	case good(second) && sequence(second) == sequence(first) && !bytes.Equal(first[:80], second[:80]):
		return v.corrupt("its two headers contradict each other")
	}
	if !isZero(h[48:64]) {
		return refusal.New(refusal.CorruptImage, "the vhdx image was not closed cleanly, its log must be replayed first: attach it once in Hyper-V, or run qemu-img check -r all")
	}
	v.log = area{int64(binary.LittleEndian.Uint64(h[72:])), int64(binary.LittleEndian.Uint32(h[68:]))} //nolint:gosec // inside refuses what is negative
	return v.inside("log", v.log.off, v.log.length)
}

// readRegions finds the block allocation table and the metadata. Readers use the first of two
// equal tables; the second may be bad.
func (v *vhdx) readRegions(first, second []byte) error {
	switch {
	case !vhdxGood(first, "regi"):
		return v.corrupt("the checksum of its region table is wrong")
	case vhdxGood(second, "regi") && !bytes.Equal(first, second):
		return v.corrupt("its two region tables contradict each other")
	}
	count := binary.LittleEndian.Uint32(first[8:])
	if count > 2047 {
		return v.corrupt("it has %d regions", count)
	}
	known := []area{{0, 1 << 20}, v.log}
	for i := range int(count) {
		entry := first[16+32*i:][:32]
		region := area{int64(binary.LittleEndian.Uint64(entry[16:])), int64(binary.LittleEndian.Uint32(entry[24:]))} //nolint:gosec // inside refuses what is negative
		if err := v.inside("region", region.off, region.length); err != nil {
			return err
		}
		if overlaps(known, region.off, region.length) {
			return v.corrupt("its regions overlap")
		}
		known = append(known, region)
		id := hex.EncodeToString(entry[:16])
		switch {
		case id == vhdxTableID && v.table.length == 0:
			v.table = region
		case id == vhdxMetadataID && v.metadata.length == 0:
			v.metadata = region
		case id == vhdxTableID || id == vhdxMetadataID:
			return v.corrupt("it has a region twice")
		case binary.LittleEndian.Uint32(entry[28:])&1 != 0:
			return refusal.New(refusal.UnsupportedFormat, "the vhdx image needs an unknown region")
		}
	}
	if v.table.length == 0 || v.metadata.length < vhdxMetadata || v.table.length > vhdxMaxTable {
		return v.corrupt("its table has %d bytes and its metadata %d", v.table.length, v.metadata.length)
	}
	return nil
}

// readMetadata reads what describes the disk. All items are required, and no unknown one may be.
func (v *vhdx) readMetadata(ctx context.Context) error {
	table, err := v.read(ctx, "metadata", v.metadata.off, vhdxMetadata)
	if err != nil {
		return err
	}
	count := int(binary.LittleEndian.Uint16(table[10:]))
	if !bytes.HasPrefix(table, []byte("metadata")) || count > 2047 {
		return v.corrupt("its metadata has %d items", count)
	}
	sizes := map[string]int64{vhdxParameterID: 8, vhdxDiskSizeID: 8, vhdxLogicalID: 4, vhdxPhysicalID: 4, vhdxPage83ID: 16}
	items := map[string][]byte{}
	for i := range count {
		entry := table[32+32*i:][:32]
		id, off := hex.EncodeToString(entry[:16]), int64(binary.LittleEndian.Uint32(entry[16:]))
		size, known := sizes[id]
		switch {
		case id == vhdxLocatorID:
			return vhdxParent()
		case !known && binary.LittleEndian.Uint32(entry[24:])&4 != 0:
			return refusal.New(refusal.UnsupportedFormat, "the vhdx image needs unknown metadata")
		case !known:
			continue
		case items[id] != nil || off < vhdxMetadata || off+size > v.metadata.length:
			return v.corrupt("an item of its metadata is at %d, or twice", off)
		}
		if items[id], err = v.read(ctx, "metadata", v.metadata.off+off, size); err != nil {
			return err
		}
	}
	if len(items) != len(sizes) {
		return v.corrupt("its metadata lacks items")
	}
	return v.takeMetadata(items)
}

func vhdxParent() error {
	return refusal.New(refusal.UnsafeImage, "the vhdx image is a differencing disk and needs its parent, which is never opened: merge the two first")
}

func (v *vhdx) takeMetadata(items map[string][]byte) error {
	le32 := binary.LittleEndian.Uint32
	disk := binary.LittleEndian.Uint64(items[vhdxDiskSizeID])
	v.block = int64(le32(items[vhdxParameterID]))
	flags, logical := le32(items[vhdxParameterID][4:]), le32(items[vhdxLogicalID])
	switch {
	case flags&2 != 0:
		return vhdxParent()
	case v.block < 1<<20 || v.block > 256<<20 || v.block&(v.block-1) != 0:
		return v.corrupt("its blocks have %d bytes", v.block)
	case logical == 4096:
		return refusal.New(refusal.UnsupportedFormat, "the vhdx image has logical sectors of 4096 bytes, which qemu-img cannot read: convert it with Set-VHD or Convert-VHD to 512 bytes")
	case logical != 512:
		return v.corrupt("its logical sectors have %d bytes", logical)
	case disk > math.MaxInt64 || disk%512 != 0:
		return v.corrupt("its disk has %d bytes, which are no whole sectors", disk)
	}
	v.disk = int64(disk)
	return nil
}

// walk checks the block allocation table: after every so many blocks comes an entry for a
// bitmap, which only differencing disks use.
func (v *vhdx) walk(ctx context.Context) (Image, error) {
	ratio := (1 << 23) * 512 / v.block
	blocks := (v.disk-1)/v.block + 1
	entries := blocks + (blocks-1)/ratio
	if entries > v.table.length/8 {
		return Image{}, v.corrupt("its table has %d entries and its disk needs %d", v.table.length/8, entries)
	}
	found := Image{VirtualSize: v.disk}
	tables := []area{{0, 1 << 20}, v.log, v.table, v.metadata}
	err := v.entries(ctx, "table", v.table.off, entries, 8, func(index int64, entry []byte) error {
		if index%(ratio+1) == ratio {
			return nil
		}
		index -= index / (ratio + 1)
		value := binary.LittleEndian.Uint64(entry)
		switch value & 7 {
		case vhdxAbsent, vhdxUndefined, vhdxZero, vhdxUnmapped, vhdxUnmapped1:
			return nil
		case vhdxPartly:
			return vhdxParent()
		case vhdxPresent:
		default:
			return v.corrupt("block %d has the state %d", index, value&7)
		}
		// The unit is 1 MiB.
		off, length := int64(value>>20<<20), min(v.block, v.disk-index*v.block) //nolint:gosec // inside refuses what is negative
		found.DataBytes += length
		if err := v.inside("data", off, length); err != nil {
			return err
		}
		if overlaps(tables, off, v.block) {
			return v.corrupt("block %d lies in its tables", index)
		}
		return nil
	})
	return found, err
}
