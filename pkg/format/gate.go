package format

import (
	"context"
	"fmt"

	"github.com/gild-project/gild/pkg/format/refusal"
)

// Image is what is known of an image after its check.
type Image struct {
	// VirtualSize of the disk in bytes.
	VirtualSize int64
	// DataBytes is how much of the disk the image has data for; the rest reads as zero.
	DataBytes int64
}

// window is how much of a table is held at once.
const window = 256 << 10

// gate checks one image before qemu-img sees it. qemu-img reads zeros behind the end of a file
// and calls it a success: after the gate there is nothing for it to read there.
type gate struct {
	format Format
	image  ReaderAt
	size   int64
}

func (g gate) corrupt(format string, args ...any) error {
	return refusal.New(refusal.CorruptImage, fmt.Sprintf("the %s image is corrupt: ", g.format)+fmt.Sprintf(format, args...))
}

func (g gate) truncated(what string, end int64) error {
	return refusal.New(refusal.TruncatedImage, fmt.Sprintf("the %s image is truncated: its %s ends at %d and the file at %d: fetch it again", g.format, what, end, g.size))
}

// inside makes sure that a part of the file is in the file. Both numbers may be anything.
func (g gate) inside(what string, off, length int64) error {
	switch {
	case off < 0 || length < 0 || off > off+length:
		return g.corrupt("its %s has %d bytes at %d", what, length, off)
	case off+length > g.size:
		return g.truncated(what, off+length)
	}
	return nil
}

// fits bounds the disk, and with it the time of the check.
func (g gate) fits(virtualSize, maxVirtualSize, maxFormat int64) error {
	switch {
	case virtualSize == 0:
		return refusal.New(refusal.EmptySource, fmt.Sprintf("the %s image holds a disk of 0 bytes", g.format))
	case virtualSize > maxFormat:
		return refusal.New(refusal.UnsupportedFormat, fmt.Sprintf("the %s image has a disk of %d bytes, and %d are the most that are read", g.format, virtualSize, maxFormat))
	case virtualSize > maxVirtualSize:
		return refusal.New(refusal.TooLarge, fmt.Sprintf("the disk has %d bytes, more than the %d that fit: ask for a volume of at least %dMi", virtualSize, maxVirtualSize, (virtualSize-1)>>20+1))
	}
	return nil
}

// read returns a part of the file, which must be in it.
func (g gate) read(ctx context.Context, what string, off, length int64) ([]byte, error) {
	if err := g.inside(what, off, length); err != nil {
		return nil, err
	}
	p := make([]byte, length)
	return p, g.fill(ctx, p, off)
}

func (g gate) fill(ctx context.Context, p []byte, off int64) error {
	n, err := g.image.ReadAt(ctx, p, off)
	switch {
	case n == len(p):
		return nil
	case err == nil:
		return fmt.Errorf("reading %s image: source gave %d of %d bytes at %d", g.format, n, len(p), off)
	}
	return err
}

// entries visits a table of count entries of width bytes, in order and in parts.
func (g gate) entries(ctx context.Context, what string, off, count, width int64, visit func(index int64, entry []byte) error) error {
	if err := g.inside(what, off, count*width); err != nil {
		return err
	}
	part := make([]byte, min(window, count*width))
	for index := int64(0); index < count; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		part = part[:min(int64(len(part)), (count-index)*width)]
		if err := g.fill(ctx, part, off+index*width); err != nil {
			return err
		}
		for at := int64(0); at < int64(len(part)); at += width {
			if err := visit(index, part[at:at+width]); err != nil {
				return err
			}
			index++
		}
	}
	return nil
}

// area is a part of the file that holds tables, where no data can be.
type area struct{ off, length int64 }

// overlaps tells whether data would be read out of a table.
func overlaps(areas []area, off, length int64) bool {
	for _, a := range areas {
		if off < a.off+a.length && a.off < off+length {
			return true
		}
	}
	return false
}

func isZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
