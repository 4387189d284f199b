package importer

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// inspected is what the first bytes of a source tell.
type inspected struct {
	source Source
	// hangUp ends the source, also while somebody waits for its bytes.
	hangUp context.CancelFunc
	head   []byte
	format string
	// size is the virtual size the target will have, -1 while it is not known.
	size int64
}

// inspect reads the head, and the end if the source can, and refuses what cannot work before
// anything is downloaded or written.
func (r *run) inspect(ctx context.Context, source Source) (*inspected, error) {
	head := make([]byte, r.parts.Formats.HeadSize())
	n, err := readFull(ctx, source, head)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	i := &inspected{source: source, head: head[:n], size: -1}
	// Without an end the stream itself will show it.
	tail, _ := source.Tail(ctx, r.parts.Formats.TailSize())
	if i.format, err = r.detect(i, tail); err != nil {
		return nil, err
	}
	r.result.SourceFormat = i.format
	r.result.ETag, r.result.LastModified = source.Validators()
	if err := r.checkLength(i); err != nil {
		return nil, err
	}
	return i, r.checkSize(i)
}

func (r *run) detect(i *inspected, tail []byte) (string, error) {
	want := r.options.SourceFormat
	if want == FormatAuto {
		want = ""
	}
	return r.parts.Formats.Detect(i.head, tail, i.source.ContentType(), want)
}

// checkLength refuses a raw disk of which nobody could tell that it was cut.
func (r *run) checkLength(i *inspected) error {
	if i.source.Framed() || i.format == FormatQcow2 || len(r.expected) > 0 {
		return nil
	}
	return &Error{Reason: LengthUnknown, Err: fmt.Errorf("%s sends neither a length nor chunks: a cut connection would look like the end: give --checksum, or use another server", i.source.Name())}
}

// checkSize works out the size of the disk and whether it fits.
func (r *run) checkSize(i *inspected) error {
	own := i.source.Size()
	if i.format == FormatQcow2 {
		var err error
		if own, err = r.parts.Formats.VirtualSize(i.head); err != nil {
			return err
		}
	}
	if own < 0 {
		return nil
	}
	var err error
	i.size, err = r.finalSize(own)
	return err
}

// finalSize is the size of the target for a disk of own bytes: whole sectors, grown if asked.
func (r *run) finalSize(own int64) (int64, error) {
	size := (own + 511) / 512 * 512
	if wanted := int64(r.options.TargetSize); wanted > 0 {
		if wanted < size {
			return 0, &Error{Reason: TooLarge, Err: fmt.Errorf("the disk has %d bytes and --target-size is %d: a disk cannot be made smaller", size, wanted)}
		}
		size = wanted
	}
	r.result.VirtualSize = size
	if r.options.TargetFormat == FormatRaw {
		return size, r.target.Fits(size)
	}
	if size > maxQcow2Disk {
		return 0, &Error{Reason: TooLarge, Err: fmt.Errorf("the disk has %d bytes, more than the %d that are supported", size, int64(maxQcow2Disk))}
	}
	return size, nil
}

// readFull reads until p is full. At the end of the source it returns io.EOF with what was read.
func readFull(ctx context.Context, source Source, p []byte) (int, error) {
	n := 0
	for n < len(p) {
		m, err := source.Read(ctx, p[n:])
		n += m
		if err != nil {
			return n, err
		}
	}
	return n, nil
}
