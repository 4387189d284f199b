package format

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"

	"github.com/gild-project/gild/pkg/format/refusal"
)

// Bits of table entries (docs/interop/qcow2.txt).
const (
	offsetMask      = 0x00fffffffffffe00
	l1Reserved      = 0x7f000000000001ff
	entryCompressed = 1 << 62
	entryLength     = entryCompressed - 1
	entryZero       = 1 << 0
	entryReserved   = 0x3f000000000001fe
	subclusters     = 32
)

// CheckQcow2 reads the header and every table that describes the disk, and makes sure that all
// they point to is inside the file of size bytes. qemu-img reads zeros behind the end of a
// file and calls it a success; after this check there is nothing for it to read there.
//
// It holds two clusters in memory, at most 4 MiB, whatever the header says. A disk larger than
// maxVirtualSize is not walked: that bounds the time.
func CheckQcow2(ctx context.Context, image io.ReaderAt, size, maxVirtualSize int64) (Image, error) {
	head := make([]byte, min(size, qcow2HeaderMinLen))
	if err := readFull(image, head, 0); err != nil {
		return Image{}, err
	}
	h, err := ReadQcow2Header(head)
	if err != nil {
		return Image{}, err
	}
	if h.VirtualSize > maxVirtualSize {
		return Image{}, refusal.New(refusal.UnsupportedFormat, fmt.Sprintf("the disk has %d bytes, more than the %d that are checked", h.VirtualSize, maxVirtualSize))
	}
	if size < h.cluster() {
		return Image{}, truncated("first cluster", 0, h.cluster(), size)
	}
	if err := h.readExtensions(image); err != nil {
		return Image{}, err
	}
	w := walk{Qcow2Header: h, image: image, size: size, table: make([]byte, h.cluster())}
	if err := w.inside("first table", h.l1Offset, h.l1Size*8); err != nil {
		return Image{}, err
	}
	if err := w.firstLevel(ctx); err != nil {
		return Image{}, err
	}
	return Image{VirtualSize: h.VirtualSize, DataBytes: w.data}, nil
}

// walk is the state of one pass over the tables.
type walk struct {
	Qcow2Header
	image io.ReaderAt
	size  int64
	// table holds one second-level table.
	table []byte
	// tables counts the bytes of second-level tables.
	tables int64
	data   int64
}

func (w *walk) firstLevel(ctx context.Context) error {
	chunk := make([]byte, 64<<10)
	needed := w.l1Needed()
	for first := int64(0); first < needed; first += int64(len(chunk) / 8) {
		part := chunk[:min(int64(len(chunk)), (needed-first)*8)]
		if err := readFull(w.image, part, w.l1Offset+first*8); err != nil {
			return err
		}
		for i := range int64(len(part) / 8) {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err := w.secondLevel(first+i, binary.BigEndian.Uint64(part[i*8:])); err != nil {
				return err
			}
		}
	}
	return nil
}

// secondLevel checks the table that the entry number index of the first one names.
func (w *walk) secondLevel(index int64, entry uint64) error {
	off := int64(entry & offsetMask)
	switch {
	case entry&l1Reserved != 0:
		return corrupt("entry %d of its first table has reserved bits set", index)
	case off == 0:
		return nil
	case off%w.cluster() != 0:
		return corrupt("entry %d of its first table points to %#x, between clusters", index, off)
	}
	if err := w.inside("second table", off, w.cluster()); err != nil {
		return err
	}
	// Tables of their own fit into the file; a table used many times over would make this
	// walk, and every reader after it, run as long as the image likes.
	if w.tables += w.cluster(); w.tables > w.size {
		return corrupt("its tables are used more than once")
	}
	if err := readFull(w.image, w.table, off); err != nil {
		return err
	}
	span := w.cluster() * w.l2Entries()
	for i := range w.l2Entries() {
		guest := index*span + i*w.cluster()
		if guest >= w.VirtualSize {
			return nil
		}
		entry := w.table[i*w.l2EntrySize():]
		var bitmap uint64
		if w.extL2 {
			bitmap = binary.BigEndian.Uint64(entry[8:])
		}
		if err := w.clusterAt(guest, binary.BigEndian.Uint64(entry), bitmap); err != nil {
			return err
		}
	}
	return nil
}

// clusterAt checks one cluster of the disk.
func (w *walk) clusterAt(guest int64, entry, bitmap uint64) error {
	if entry&entryCompressed != 0 {
		return w.compressed(guest, entry, bitmap)
	}
	off := int64(entry & offsetMask)
	zero := entry&entryZero != 0
	switch {
	case entry&entryReserved != 0:
		return corrupt("the entry for byte %d of the disk has reserved bits set", guest)
	case off%w.cluster() != 0:
		return corrupt("the data for byte %d of the disk is at %#x, between clusters", guest, off)
	case zero && (w.version < 3 || w.extL2):
		return corrupt("the entry for byte %d of the disk has a flag that its version does not know", guest)
	}
	// Only the bytes that the guest can see must be there.
	visible := min(w.cluster(), w.VirtualSize-guest)
	length := visible
	if w.extL2 {
		var err error
		if length, err = w.allocated(guest, off, bitmap); err != nil {
			return err
		}
		length = min(length, visible)
	}
	if zero || off == 0 || length == 0 {
		return nil
	}
	w.data += length
	return w.inside("data", off, length)
}

// allocated returns the end of the last subcluster that has data.
func (w *walk) allocated(guest, off int64, bitmap uint64) (int64, error) {
	data, zeros := uint32(bitmap&math.MaxUint32), uint32(bitmap>>32)
	if data&zeros != 0 || off == 0 && data != 0 {
		return 0, corrupt("the subclusters for byte %d of the disk contradict themselves", guest)
	}
	return int64(bits.Len32(data)) * (w.cluster() / subclusters), nil
}

// compressed checks a cluster of which the entry gives a byte offset and a number of sectors.
func (w *walk) compressed(guest int64, entry, bitmap uint64) error {
	shift := 62 - (w.clusterBits - 8)
	off := int64(entry & (1<<shift - 1))             //nolint:gosec // at most 61 bits
	sectors := int64((entry & entryLength) >> shift) //nolint:gosec // at most 13 bits
	if bitmap != 0 || off == 0 {
		return corrupt("the compressed cluster for byte %d of the disk contradicts itself", guest)
	}
	w.data += min(w.cluster(), w.VirtualSize-guest)
	return w.inside("compressed data", off, (sectors+1)*512-off%512)
}

// inside refuses what does not lie within the file.
func (w *walk) inside(what string, off, length int64) error {
	if off > w.size || length > w.size-off {
		return truncated(what, off, length, w.size)
	}
	return nil
}

func truncated(what string, off, length, size int64) error {
	return refusal.New(refusal.TruncatedImage, fmt.Sprintf("the qcow2 image is cut: its %s of %d bytes at %d lies beyond its end at %d: fetch it again", what, length, off, size))
}

func readFull(image io.ReaderAt, p []byte, off int64) error {
	n, err := image.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if errors.Is(err, io.EOF) {
		return truncated("header or table", off, int64(len(p)), off+int64(n))
	}
	return fmt.Errorf("reading image: %w", err)
}
