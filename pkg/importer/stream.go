package importer

import (
	"context"
	"fmt"
)

// stream writes a flat disk to the target as it comes.
func (r *run) stream(ctx context.Context, i *inspected) error {
	if err := r.prepare(ctx, max(i.size, 0)); err != nil {
		return err
	}
	capacity := r.target.Capacity()
	if wanted := int64(r.options.TargetSize); wanted > 0 {
		capacity = wanted
	}
	t, err := r.transfer(ctx, i, capacity, r.endless(i, capacity), func(p []byte, off int64) error {
		_, err := r.target.WriteAt(ctx, p, off)
		r.report.wrote(r.target.Written())
		return err
	})
	if err != nil {
		return err
	}
	// Some formats show only at the end of the image.
	if _, err := r.detect(i, t.tail); err != nil {
		return err
	}
	size, err := r.finalSize(t.length)
	if err != nil {
		return err
	}
	r.report.phase(Verifying, "storing the last bytes")
	return r.target.Commit(ctx, size)
}

// prepare empties the target. A device that is empty already is left alone: emptying it may
// take so long that the server hangs up, and then this must not begin again.
func (r *run) prepare(ctx context.Context, size int64) error {
	if r.prepared && r.target.Block() && r.target.Written() == 0 {
		return nil
	}
	r.report.phase(Importing, "preparing the target")
	if err := r.target.Prepare(ctx, size, chunkSize); err != nil {
		return err
	}
	r.prepared = true
	return nil
}

// endless is the refusal of a source that goes on after limit bytes.
func (r *run) endless(i *inspected, limit int64) func(int64) error {
	return func(length int64) error {
		if i.source.Size() < 0 {
			return &Error{Reason: TooLarge, Err: fmt.Errorf("%s does not say its length and goes on after %s, which is all that %s may take", i.source.Name(), Human(limit), r.target)}
		}
		if err := r.target.Fits(length); err != nil {
			return err
		}
		return &Error{Reason: TooLarge, Err: fmt.Errorf("the disk has %d bytes, more than the %d that are asked for", length, limit)}
	}
}
