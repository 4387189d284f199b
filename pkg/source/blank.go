package source

import (
	"context"
	"fmt"
	"io"
)

// blankSize is what a blank image holds: one sector. Whoever wants a disk of it has it grown.
const blankSize = 512

// blankImage is a disk of nothing but zeros.
type blankImage struct{ offset int64 }

var _ Image = (*blankImage)(nil)

// Read implements Image.
func (i *blankImage) Read(ctx context.Context, p []byte) (int, error) {
	n, err := i.ReadAt(ctx, p, i.offset)
	i.offset += int64(n)
	if n > 0 {
		return n, nil // the next call meets the end again
	}
	return 0, err
}

// ReadAt implements Image.
func (i *blankImage) ReadAt(_ context.Context, p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fail(SourceRefused, fmt.Sprintf("reading a blank disk: the offset %d is negative", off))
	}
	n := int(min(int64(len(p)), max(0, blankSize-off)))
	clear(p[:n])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Ranged implements Image.
func (i *blankImage) Ranged() bool { return true }

// Rewind implements Image.
func (i *blankImage) Rewind(context.Context) error {
	i.offset = 0
	return nil
}

// Tail implements Image.
func (i *blankImage) Tail(_ context.Context, n int64) ([]byte, error) {
	return make([]byte, min(n, blankSize)), nil
}

// NextData returns the size: there is no data.
func (i *blankImage) NextData(int64) int64 { return blankSize }

// Fetched implements Image.
func (i *blankImage) Fetched() int64 { return 0 }

// Size implements Image.
func (i *blankImage) Size() int64 { return blankSize }

// Framed implements Image.
func (i *blankImage) Framed() bool { return true }

// Validators implements Image: it never changes.
func (i *blankImage) Validators() (etag, lastModified string) { return "", "" }

// ContentType implements Image.
func (i *blankImage) ContentType() string { return "" }

// Name implements Image.
func (i *blankImage) Name() string { return "a blank disk" }

// Close implements Image.
func (i *blankImage) Close() error { return nil }
