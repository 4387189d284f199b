package format

import (
	"context"
	"encoding/binary"
	"math"

	"github.com/gild-project/gild/pkg/format/refusal"
)

// Source: block/vdi.c of qemu and VDICore.h of VirtualBox, all little-endian.
const (
	vdiHeaderSize = 512
	vdiSignature  = 0xbeda107f
	vdiVersion    = 1<<16 | 1
	vdiDynamic    = 1
	vdiStatic     = 2
	vdiBlock      = 1 << 20
	// From vdiDiscarded on, an entry means no data.
	vdiDiscarded = 0xfffffffe
	// vdiMaxBlocks is a map of 64 MiB, a disk of 16 TiB.
	vdiMaxBlocks = 16 << 20
)

// CheckVDI makes sure that a dynamic or static VDI is complete in itself and that all it points
// to is inside the file of size bytes. It holds 256 KiB of tables, whatever the header says.
func CheckVDI(ctx context.Context, image ReaderAt, size, maxVirtualSize int64) (Image, error) {
	g := gate{VDI, image, size}
	h, err := g.read(ctx, "header", 0, vdiHeaderSize)
	if err != nil {
		return Image{}, err
	}
	le32 := func(off int) int64 { return int64(binary.LittleEndian.Uint32(h[off:])) }
	kind, mapAt, dataAt, blocks := le32(76), le32(340), le32(344), le32(384)
	disk := binary.LittleEndian.Uint64(h[368:])
	switch {
	case le32(64) != vdiSignature:
		return Image{}, g.corrupt("it has no signature")
	case le32(68) != vdiVersion:
		return Image{}, refusal.New(refusal.UnsupportedFormat, "the vdi image has another version than 1.1: convert it with VBoxManage clonemedium")
	case kind != vdiDynamic && kind != vdiStatic, !isZero(h[424:456]):
		return Image{}, refusal.New(refusal.UnsafeImage, "the vdi image is a part of a snapshot and needs its parent, which is never opened: clone it with VBoxManage clonemedium")
	case le32(360) != 512 || le32(376) != vdiBlock || le32(380) != 0:
		return Image{}, g.corrupt("it has sectors of %d bytes, and blocks of %d and %d bytes", le32(360), le32(376), le32(380))
	case mapAt < vdiHeaderSize || mapAt%512 != 0 || dataAt%512 != 0 || dataAt < mapAt+blocks*4:
		return Image{}, g.corrupt("its map of %d blocks is at %d and its data at %d", blocks, mapAt, dataAt)
	case blocks > vdiMaxBlocks:
		return Image{}, g.corrupt("it has %d blocks", blocks)
	case disk > math.MaxInt64-511:
		return Image{}, g.corrupt("its disk has %d bytes", disk)
	}
	// VirtualBox makes disks of odd sizes. All readers round up.
	found := Image{VirtualSize: (int64(disk) + 511) &^ 511}
	if err := g.fits(found.VirtualSize, maxVirtualSize, math.MaxInt64); err != nil {
		return Image{}, err
	}
	needed := (found.VirtualSize-1)/vdiBlock + 1
	if needed > blocks {
		return Image{}, g.corrupt("its map has %d blocks and its disk needs %d", blocks, needed)
	}
	// The reader wants the whole map, and the disk no more than its own part.
	if err := g.inside("map", mapAt, blocks*4); err != nil {
		return Image{}, err
	}
	err = g.entries(ctx, "map", mapAt, needed, 4, func(index int64, entry []byte) error {
		block := int64(binary.LittleEndian.Uint32(entry))
		if block >= vdiDiscarded {
			return nil
		}
		length := min(vdiBlock, found.VirtualSize-index*vdiBlock)
		found.DataBytes += length
		return g.inside("data", dataAt+block*vdiBlock, length)
	})
	return found, err
}
