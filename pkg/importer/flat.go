package importer

import (
	"context"
	"fmt"
	"io"

	"golang.org/x/sync/errgroup"
)

// flatGranule is the unit of writes of a disk that comes as it is.
const flatGranule = 4096

// flat writes a disk that comes as it is, in the order of its bytes.
func (r *run) flat(ctx context.Context, i *inspected) error {
	if err := r.prepare(ctx, max(i.size, 0), flatGranule); err != nil {
		return err
	}
	s, err := r.takeStream(ctx, i)
	if err != nil {
		return err
	}
	defer s.close()
	length, err := r.copyFlat(ctx, i, s)
	if err != nil {
		return err
	}
	if err := r.verify(i, s.flow.length, s.hashes); err != nil {
		return err
	}
	size, err := r.finalSize(length)
	if err != nil {
		return err
	}
	return r.commit(ctx, size)
}

// copyFlat writes chunks while the next ones are read, and returns the length of the disk.
func (r *run) copyFlat(ctx context.Context, i *inspected, s *stream) (int64, error) {
	group, ctx := errgroup.WithContext(ctx)
	// The target may fail while the source is silent.
	stop := context.AfterFunc(ctx, s.flow.stop)
	c := &flatCopy{run: r, image: i, limit: r.target.Capacity(), free: make(chan []byte, chunkCount+2)}
	if wanted := r.wantedSize(); wanted > 0 {
		c.limit = wanted
	}
	for range cap(c.free) {
		c.free <- make([]byte, chunkSize)
	}
	write := func(p []byte, off int64) {
		group.Go(func() error {
			_, err := r.target.WriteAt(ctx, p, off)
			r.report.wrote(r.target.Written())
			c.free <- p
			return err
		})
	}
	var length int64
	group.Go(func() (err error) {
		defer stop()
		if length, err = c.read(ctx, s, write); err != nil {
			return err
		}
		return s.drain()
	})
	err := group.Wait()
	return length, err
}

// flatCopy is one copy of a flat disk.
type flatCopy struct {
	run   *run
	image *inspected
	// limit is the largest disk that is taken.
	limit int64
	free  chan []byte
}

// read cuts the image into chunks. The last full chunk is held back: a fixed VHD is a flat disk
// with a footer, and only the end tells.
func (c *flatCopy) read(ctx context.Context, image io.Reader, write func(p []byte, off int64)) (length int64, err error) {
	var held []byte
	for {
		var buffer []byte
		select {
		case buffer = <-c.free:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
		n, ended, err := fill(image, buffer)
		switch {
		case err != nil:
			return 0, err
		case ended:
			return c.finish(ctx, append(held, buffer[:n]...), length-int64(len(held)), write)
		}
		if err := c.fits(length); err != nil {
			return 0, err
		}
		if held != nil {
			write(held, length-chunkSize)
		}
		held = buffer
		length += chunkSize
	}
}

// finish writes end, which begins at off, without the footer of a fixed VHD.
func (c *flatCopy) finish(ctx context.Context, end []byte, off int64, write func([]byte, int64)) (int64, error) {
	length, err := c.diskLength(ctx, end, off+int64(len(end)))
	if err != nil {
		return 0, err
	}
	if length < off {
		return 0, &Error{Reason: UnsupportedFormat, Err: fmt.Errorf("the image is a fixed VHD that has %d bytes for a disk of %d: convert it to raw", off+int64(len(end)), length)}
	}
	if err := c.fits(length); err != nil {
		return 0, err
	}
	write(end[:length-off], off)
	return length, nil
}

// diskLength is the length of the disk in an image of length bytes that ends like this.
func (c *flatCopy) diskLength(ctx context.Context, end []byte, length int64) (int64, error) {
	formats, i := c.run.parts.Formats, c.image
	tail := end[max(int64(len(end))-formats.TailSize(), 0):]
	found, err := formats.Detect(i.imageHead, tail, "", "")
	if err != nil || found.Flat {
		return length, err
	}
	if err := c.run.mustBe(found.Format); err != nil {
		return 0, err
	}
	c.run.found(i, found)
	return formats.Footer(ctx, i.imageHead, tail, length)
}

// fits refuses a disk that goes on after the limit.
func (c *flatCopy) fits(length int64) error {
	if length <= c.limit {
		return nil
	}
	source, target := c.image.source, c.run.target
	if source.Size() < 0 || c.image.compression != "" {
		return &Error{Reason: TooLarge, Err: fmt.Errorf("%s does not say the length of its disk and goes on after %s, which is all that %s may take", source.Name(), Human(c.limit), target)}
	}
	if err := target.Fits(length); err != nil {
		return err
	}
	return &Error{Reason: TooLarge, Err: fmt.Errorf("the disk has %d bytes, more than the %d that are asked for", length, c.limit)}
}
