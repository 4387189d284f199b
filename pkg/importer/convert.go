package importer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
)

// localImage is a whole image in a file that can be read at random.
type localImage struct {
	file   *os.File
	format string
	// virtualSize of its disk, and how much data of it is not zero, in bytes.
	virtualSize, data int64
	// done drops the file if it is scratch.
	done func()
}

// convert brings the whole image into a file, checks it there, and has it converted.
func (r *run) convert(ctx context.Context, i *inspected) error {
	image, length, err := r.fetch(ctx, i)
	if err != nil {
		return err
	}
	defer image.done()
	if image.format == FormatQcow2 {
		r.report.phase(Verifying, "checking the tables of the image")
		image.virtualSize, image.data, err = r.parts.Formats.Check(ctx, image.file, length, r.maxDisk())
		if err != nil {
			return err
		}
	}
	size, err := r.finalSize(image.virtualSize)
	if err != nil {
		return err
	}
	if r.options.TargetFormat == FormatQcow2 {
		if err := r.target.Fits(image.data); err != nil {
			return fmt.Errorf("storing the data of the disk: %w", err)
		}
	}
	return r.write(ctx, image, size)
}

func (r *run) maxDisk() int64 {
	if r.options.TargetFormat == FormatQcow2 {
		return maxQcow2Disk
	}
	return r.target.Capacity()
}

// fetch returns the image as a file: the local one where it is, others in scratch space.
func (r *run) fetch(ctx context.Context, i *inspected) (image *localImage, length int64, err error) {
	if local, ok := i.source.(localSource); ok {
		t, err := r.transfer(ctx, i, math.MaxInt64, nil, nil)
		return &localImage{file: local.File(), format: i.format, virtualSize: t.length, data: t.length, done: func() {}}, t.length, err
	}
	if r.options.ScratchDir == "" {
		return nil, 0, &Error{Reason: ScratchRequired, Err: fmt.Errorf("converting %s to %s needs --scratch-dir, a directory with room for the image", i.format, r.options.TargetFormat)}
	}
	scratch, err := r.parts.OpenScratch(r.options.ScratchDir)
	if err != nil {
		return nil, 0, scratchError(err)
	}
	image, length, err = r.spool(ctx, i, scratch)
	if err != nil {
		return nil, 0, errors.Join(err, scratch.Discard())
	}
	return image, length, nil
}

// spool downloads the image into scratch.
func (r *run) spool(ctx context.Context, i *inspected, scratch Target) (*localImage, int64, error) {
	if err := scratch.Fits(i.source.Size()); err != nil {
		return nil, 0, scratchError(err)
	}
	if err := scratch.Prepare(ctx, 0, chunkSize); err != nil {
		return nil, 0, scratchError(err)
	}
	limit := scratch.Capacity()
	full := func(length int64) error { return scratchError(scratch.Fits(length)) }
	if i.source.Size() < 0 && i.format == FormatQcow2 {
		// An endless body must not fill the node: this is more than any tool writes for the disk.
		if most := 2*i.size + 1<<30; most < limit {
			limit, full = most, r.endless(i, most)
		}
	}
	t, err := r.transfer(ctx, i, limit, full, func(p []byte, off int64) error {
		_, err := scratch.WriteAt(ctx, p, off)
		return scratchError(err)
	})
	r.result.ScratchBytes = t.length
	if err != nil {
		return nil, 0, err
	}
	if _, err := r.detect(i, t.tail); err != nil {
		return nil, 0, err
	}
	if err := scratch.Settle(ctx, t.length); err != nil {
		return nil, 0, scratchError(err)
	}
	done := func() { _ = scratch.Discard() }
	return &localImage{file: scratch.File(), format: i.format, virtualSize: t.length, data: scratch.Written(), done: done}, t.length, nil
}

// scratchError tells full or broken scratch space from a full or broken target.
func scratchError(err error) error {
	if err == nil {
		return nil
	}
	reason := map[Reason]Reason{TooLarge: NoScratchSpace, NoSpace: NoScratchSpace, TargetError: ScratchError}[Classify(err).Reason]
	if reason == "" {
		return err
	}
	return &Error{Reason: reason, Err: fmt.Errorf("using scratch space: %w", err)}
}

// write converts the image to the target and makes it durable.
func (r *run) write(ctx context.Context, image *localImage, size int64) error {
	sized := size
	if r.options.TargetFormat == FormatQcow2 {
		// The file grows with its data.
		sized = 0
	}
	if err := r.prepare(ctx, sized); err != nil {
		return err
	}
	// The tool writes in any order, past the target.
	if err := r.target.ZeroAll(ctx); err != nil {
		return err
	}
	format := image.format
	if format == FormatISO {
		format = FormatRaw
	}
	err := r.parts.Formats.Convert(ctx, Conversion{
		Source: image.file, SourceFormat: format, Target: r.target.File(), TargetFormat: r.options.TargetFormat,
		VirtualSize: size, DataBytes: image.data,
		Progress: func(done float64) {
			r.report.phase(Importing, fmt.Sprintf("converting, %.0f%% done", done*100))
			r.report.wrote(int64(done * float64(image.data)))
		},
	})
	if err != nil {
		return err
	}
	r.report.phase(Verifying, "storing the last bytes")
	if r.options.TargetFormat == FormatRaw {
		return r.target.Commit(ctx, size)
	}
	if err := r.checkOutput(ctx, size); err != nil {
		return err
	}
	return r.target.Commit(ctx, -1)
}

// checkOutput reads what was written like an image of a stranger.
func (r *run) checkOutput(ctx context.Context, size int64) error {
	if err := r.target.Settle(ctx, -1); err != nil {
		return err
	}
	info, err := r.target.File().Stat()
	if err != nil {
		return &Error{Reason: TargetError, Err: fmt.Errorf("checking target: %w", err)}
	}
	virtualSize, _, err := r.parts.Formats.Check(ctx, r.target.File(), info.Size(), maxQcow2Disk)
	if err != nil {
		return &Error{Reason: TargetError, Err: fmt.Errorf("checking target: %w", err)}
	}
	if virtualSize != size {
		return &Error{Reason: TargetError, Err: fmt.Errorf("checking target: it has a disk of %d bytes in place of %d", virtualSize, size)}
	}
	return nil
}
