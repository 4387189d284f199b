package vmdk

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// ReaderAt is an image that can be read at random.
type ReaderAt interface {
	// ReadAt fills p from off, or says why not.
	ReadAt(ctx context.Context, p []byte, off int64) (int, error)
}

// Check reads the header of an image that is not a stream, and every table that describes its
// disk, and makes sure that all they point to is inside the file of size bytes. qemu-img reads
// zeros behind the end of a file and calls it a success; after this check there is nothing for it
// to read there. dataBytes is how much of the disk the image has data for; the rest is zero.
//
// It holds less than 256 KiB, whatever the header says, and takes as long as the tables are.
func Check(ctx context.Context, image ReaderAt, size int64) (dataBytes int64, err error) {
	const enough = 64 << 10
	head := make([]byte, min(size, enough))
	if err := readFull(ctx, image, head, 0); err != nil {
		return 0, err
	}
	h, err := ReadHeader(head)
	if err != nil {
		return 0, err
	}
	if h.Stream {
		return 0, errors.New("checking vmdk tables: a streamOptimized image is read in a pass")
	}
	w := walk{Header: h, image: image, size: size}
	if overhead := int64(h.fields.overhead); overhead > size/sector { //nolint:gosec // at most 2^32
		return 0, truncated("its grains start in sector %d and it has %d bytes", overhead, size)
	}
	err = w.directory(ctx)
	return w.data, err
}

// walk is the state of one pass over the tables.
type walk struct {
	Header
	image ReaderAt
	size  int64
	table [tableBytes]byte
	// read counts the bytes of grain tables.
	read int64
	data int64
}

func (w *walk) directory(ctx context.Context) error {
	start := int64(w.fields.directory) * sector //nolint:gosec // at most 2^41
	if err := w.inside("grain directory", start, w.tables*4); err != nil {
		return err
	}
	chunk := make([]byte, 64<<10)
	for first := int64(0); first < w.tables; first += int64(len(chunk) / 4) {
		part := chunk[:min(int64(len(chunk)), (w.tables-first)*4)]
		if err := readFull(ctx, w.image, part, start+first*4); err != nil {
			return err
		}
		for i := range int64(len(part) / 4) {
			if err := w.grainTable(ctx, first+i, binary.LittleEndian.Uint32(part[i*4:])); err != nil {
				return err
			}
		}
	}
	return nil
}

// grainTable checks the table that the entry number index of the directory names.
func (w *walk) grainTable(ctx context.Context, index int64, at uint32) error {
	if at == 0 {
		return nil
	}
	off := int64(at) * sector
	if err := w.inside("grain table", off, tableBytes); err != nil {
		return err
	}
	// Tables of their own fit into the file; a table used many times over would make this
	// walk, and every reader after it, run as long as the image likes.
	if w.read += tableBytes; w.read > w.size {
		return corrupt("its grain tables are used more than once")
	}
	if err := readFull(ctx, w.image, w.table[:], off); err != nil {
		return err
	}
	for i := range int64(entries) {
		disk := (index*entries + i) * w.grain
		if disk >= w.VirtualSize {
			return nil
		}
		if err := w.grainAt(disk, binary.LittleEndian.Uint32(w.table[i*4:])); err != nil {
			return err
		}
	}
	return nil
}

// grainAt checks the grain at the given byte of the disk. Only what the guest can see of it must
// be there.
func (w *walk) grainAt(disk int64, at uint32) error {
	if at == 0 || at == 1 && w.fields.flags&flagZeroGrains != 0 {
		return nil
	}
	if uint64(at) < 1+w.fields.descriptorSize {
		return corrupt("the data for byte %d of the disk is in sector %d, within the header", disk, at)
	}
	visible := min(w.grain, w.VirtualSize-disk)
	w.data += visible
	return w.inside("data", int64(at)*sector, visible)
}

// inside refuses what does not lie within the file.
func (w *walk) inside(what string, off, length int64) error {
	if off > w.size || length > w.size-off {
		return truncated("its %s of %d bytes at %d lies beyond its end at %d", what, length, off, w.size)
	}
	return nil
}

func readFull(ctx context.Context, image ReaderAt, p []byte, off int64) error {
	n, err := image.ReadAt(ctx, p, off)
	switch {
	case n == len(p):
		return nil
	case err == nil || errors.Is(err, io.EOF):
		return truncated("it ends within its tables at %d", off+int64(n))
	}
	return fmt.Errorf("reading image: %w", err)
}
