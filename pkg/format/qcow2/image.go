package qcow2

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/gild-project/gild/pkg/format/refusal"
)

// maxEntries bounds the entries of one slice: 12 MiB, as two slices are in memory when one
// follows the other.
const maxEntries = 12 << 20 / entryBytes

// ReaderAt is a source that can be read anywhere, many times at once. It fills p or fails, with
// io.EOF behind the end.
type ReaderAt interface {
	ReadAt(ctx context.Context, p []byte, off int64) (int, error)
}

// Sink takes the disk. Calls run at the same time, never overlap, and come in any order; what
// is not written is zero. The offset and the length of a write are multiples of
// Header.Granule, and only the write that ends with the disk may be shorter.
type Sink interface {
	WriteAt(ctx context.Context, p []byte, off int64) (int, error)
}

// Image is an image whose tables were read and checked.
type Image struct {
	Header
	// DataBytes is how much of the disk the image has data for; the rest reads as zero.
	DataBytes int64

	image  ReaderAt
	size   int64
	parts  []part
	digest string
	// entries of the only slice; nil when there are more.
	entries []entry
	placer  *placer
}

// part is a slice of the disk with a bounded number of entries.
type part struct {
	// first and end are entries of the first table.
	first, end int64
	entries    int
	digest     [sha256.Size]byte
}

// Open reads the header and every table that describes the disk, and makes sure that all they
// point to is inside the file of size bytes. qemu-img reads zeros behind the end of a file and
// calls it a success; here a cut image is refused.
//
// At most 24 MiB of entries are in memory at once, whatever the image says: a larger image has
// several Slices. A disk larger than maxVirtualSize is not read: that bounds the time.
func Open(ctx context.Context, image ReaderAt, size, maxVirtualSize int64) (*Image, error) {
	head := make([]byte, min(size, HeadSize))
	if err := readFull(ctx, image, head, 0); err != nil {
		return nil, err
	}
	h, err := ReadHeader(head)
	if err != nil {
		return nil, err
	}
	if err := h.fits(maxVirtualSize); err != nil {
		return nil, err
	}
	if err := inside("first cluster", 0, h.cluster(), size); err != nil {
		return nil, err
	}
	err = h.checkExtensions(func(p []byte, off int64) error { return readFull(ctx, image, p, off) })
	if err != nil {
		return nil, err
	}
	if err := inside("first table", h.l1Offset, h.l1Size*8, size); err != nil {
		return nil, err
	}
	im := &Image{Header: h, image: image, size: size, placer: newPlacer(h)}
	if err := im.scan(ctx, head); err != nil {
		return nil, err
	}
	return im, nil
}

// scan reads all tables once, cuts the disk into slices, and keeps the entries of the first
// slice if it is the only one.
func (im *Image) scan(ctx context.Context, head []byte) error {
	all := sha256.New()
	all.Write(head)
	c := im.collector(0)
	first := int64(0)
	cut := func(end int64) {
		p := part{first, end, len(c.entries), c.digest()}
		all.Write(p.digest[:])
		im.parts = append(im.parts, p)
		first = end
	}
	var offsets []int64
	err := im.eachTable(ctx, 0, im.l1Needed(), func(index, off int64, table []byte) error {
		// Tables of their own fit into the file; a table used many times over would make this
		// run as long as the image likes.
		if offsets = append(offsets, off); int64(len(offsets)) > im.size/im.cluster() {
			return errShared(off)
		}
		if int64(len(c.entries)) > maxEntries-im.l2Entries() {
			cut(index)
			c.reset()
		}
		return c.add(index, off, table)
	})
	if err != nil {
		return err
	}
	slices.Sort(offsets)
	for i := range len(offsets) - 1 {
		if offsets[i] == offsets[i+1] {
			return errShared(offsets[i])
		}
	}
	cut(im.l1Needed())
	if len(im.parts) == 1 {
		im.entries = c.entries
		im.sortByFile(im.entries)
	}
	im.DataBytes = c.data
	im.digest = hex.EncodeToString(all.Sum(nil))
	return nil
}

// load returns the entries of one slice as their data lies in the file.
func (im *Image) load(ctx context.Context, slice int) ([]entry, error) {
	if len(im.parts) == 1 {
		return im.entries, nil
	}
	p := im.parts[slice]
	c := im.collector(p.entries)
	if err := im.eachTable(ctx, p.first, p.end, c.add); err != nil {
		return nil, err
	}
	if c.digest() != p.digest {
		return nil, Changed{}
	}
	im.sortByFile(c.entries)
	return c.entries, nil
}

// Slices is how many slices the disk has, in the order of the disk. Each has Pieces of its own.
func (im *Image) Slices() int { return len(im.parts) }

// Digest is the sha256 of the header and the tables, in hex. Nothing that was placed from an
// image with another digest can be kept.
func (im *Image) Digest() string { return im.digest }

func truncated(what string, off, length, size int64) error {
	return refusal.New(refusal.TruncatedImage, fmt.Sprintf("the qcow2 image is cut: its %s of %d bytes at %d lies beyond its end at %d: fetch it again", what, length, off, size))
}

func readFull(ctx context.Context, image ReaderAt, p []byte, off int64) error {
	n, err := image.ReadAt(ctx, p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return truncated("part", off, int64(len(p)), off+int64(n))
	}
	return fmt.Errorf("reading image: %w", err)
}
