package importer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
)

// wholeImage is an image that can be read at random by a tool.
type wholeImage struct {
	RandomReader
	// file is where the image is, if it is a file.
	file   *os.File
	length int64
	format string
	// virtualSize of its disk, and how much data the image has for it, in bytes.
	virtualSize, data int64
}

// localSource is a source that is a file.
type localSource interface {
	File() *os.File
}

// byTool has qemu-img read the source where it is.
func (r *run) byTool(ctx context.Context, i *inspected) error {
	// Before anything is written: a wrong image costs nothing but the reading.
	if err := r.digestAll(ctx, i); err != nil {
		return err
	}
	image := &wholeImage{RandomReader: i.source, length: i.source.Size(), format: i.image.Format}
	if local, ok := i.source.(localSource); ok {
		image.file = local.File()
	}
	r.report.pass()
	return r.convert(ctx, i, image)
}

// bySpool brings the whole image into scratch space first.
func (r *run) bySpool(ctx context.Context, i *inspected) error {
	if r.options.ScratchDir == "" {
		return r.scratchRequired(i)
	}
	scratch, err := r.parts.OpenScratch(r.options.ScratchDir)
	if err != nil {
		return scratchError(err)
	}
	spool := r.spool
	if i.unchecked() {
		spool = r.unpackTo
	}
	image, err := spool(ctx, i, scratch)
	if err == nil {
		err = r.convert(ctx, i, image)
	}
	return errors.Join(err, scratch.Discard())
}

// unpackTo writes the disk of an image that is read in order into scratch.
func (r *run) unpackTo(ctx context.Context, i *inspected, scratch Target) (*wholeImage, error) {
	if err := scratch.Prepare(ctx, i.header.VirtualSize, i.header.Granule); err != nil {
		return nil, scratchError(err)
	}
	if err := r.passes(ctx, i, scratchSink{scratch}); err != nil {
		return nil, err
	}
	r.report.scratch(scratch.Written())
	if err := scratch.Settle(ctx, i.header.VirtualSize); err != nil {
		return nil, scratchError(err)
	}
	return scratchImage(scratch, i.header.VirtualSize, FormatRaw), nil
}

// scratchSink tells a full scratch space from a full target.
type scratchSink struct{ Sink }

// WriteAt implements Sink.
func (s scratchSink) WriteAt(ctx context.Context, p []byte, off int64) (int, error) {
	n, err := s.Sink.WriteAt(ctx, p, off)
	return n, scratchError(err)
}

func scratchImage(scratch Target, length int64, format string) *wholeImage {
	file := scratch.File()
	return &wholeImage{RandomReader: fileReader{file}, file: file, length: length, format: format}
}

func (r *run) scratchRequired(i *inspected) error {
	why := "the server cannot send parts of it"
	if i.compression != "" {
		why = "it is packed in " + i.compression
	}
	return &Error{Reason: ScratchRequired, Err: fmt.Errorf("the %s image must be stored before it is converted to %s, because %s: give --scratch-dir, a directory with room for it", i.image.Format, r.options.TargetFormat, why)}
}

// spool writes the image into scratch, unpacked, and verifies its checksum.
func (r *run) spool(ctx context.Context, i *inspected, scratch Target) (*wholeImage, error) {
	if err := scratch.Fits(i.source.Size()); err != nil {
		return nil, scratchError(err)
	}
	if err := scratch.Prepare(ctx, 0, flatGranule); err != nil {
		return nil, scratchError(err)
	}
	s, err := r.takeStream(ctx, i)
	if err != nil {
		return nil, err
	}
	defer s.close()
	length, err := r.copyTo(ctx, scratch, s, min(scratch.Capacity(), r.imageLimit(i)))
	if err != nil {
		return nil, err
	}
	if err := s.drain(); err != nil {
		return nil, err
	}
	if err := r.verify(i, s.flow.length, s.hashes); err != nil {
		return nil, err
	}
	return scratchImage(scratch, length, i.image.Format), scratchError(scratch.Settle(ctx, length))
}

func (r *run) copyTo(ctx context.Context, scratch Target, image io.Reader, limit int64) (length int64, err error) {
	buffer := make([]byte, chunkSize)
	for {
		n, ended, err := fill(image, buffer)
		if err != nil {
			return length, err
		}
		if length+int64(n) > limit {
			return length, &Error{Reason: NoScratchSpace, Err: fmt.Errorf("using scratch space: the image goes on after %s", Human(limit))}
		}
		if n > 0 {
			if _, err := scratch.WriteAt(ctx, buffer[:n], length); err != nil {
				return length, scratchError(err)
			}
		}
		length += int64(n)
		r.report.scratch(length)
		if ended {
			return length, nil
		}
	}
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

// convert checks all tables of the image and has it converted.
func (r *run) convert(ctx context.Context, i *inspected, image *wholeImage) error {
	if err := r.check(ctx, i, image); err != nil {
		return err
	}
	size, err := r.finalSize(image.virtualSize)
	if err != nil {
		return err
	}
	if r.options.TargetFormat == FormatQcow2 && !i.image.Flat {
		if err := r.target.Fits(image.data); err != nil {
			return fmt.Errorf("storing the data of the disk: %w", err)
		}
	}
	if err := r.write(ctx, image, size); err != nil {
		return err
	}
	if r.options.TargetFormat == FormatRaw {
		return r.commit(ctx, size)
	}
	if err := r.checkOutput(ctx, size); err != nil {
		return err
	}
	return r.commit(ctx, -1)
}

func (r *run) check(ctx context.Context, i *inspected, image *wholeImage) (err error) {
	r.report.phase(Verifying, "checking the tables of the image")
	if i.image.Flat {
		if err := r.recheckFlat(ctx, i, image); err != nil {
			return err
		}
	}
	if image.format == FormatRaw || image.format == FormatISO {
		image.virtualSize, image.data = image.length, image.length
		return nil
	}
	image.virtualSize, image.data, err = r.parts.Formats.Check(ctx, image.format, image, image.length, r.maxDisk())
	return err
}

// recheckFlat looks at the end of what looked like a disk as it is: it may be a fixed VHD.
func (r *run) recheckFlat(ctx context.Context, i *inspected, image *wholeImage) error {
	tail := make([]byte, r.parts.Formats.TailSize())
	if image.length < int64(len(tail)) {
		return nil
	}
	if _, err := image.ReadAt(ctx, tail, image.length-int64(len(tail))); err != nil {
		return err
	}
	found, err := r.parts.Formats.Detect(i.imageHead, tail, "", "")
	if err != nil {
		return err
	}
	if found.Flat {
		return nil
	}
	if err := r.mustBe(found.Format); err != nil {
		return err
	}
	r.found(i, found)
	i.image, image.format = found, found.Format
	return nil
}

// write has the image converted onto an empty target.
func (r *run) write(ctx context.Context, image *wholeImage, size int64) error {
	sized := size
	if r.options.TargetFormat == FormatQcow2 {
		// The file grows with its data.
		sized = 0
	}
	if err := r.prepare(ctx, sized, flatGranule); err != nil {
		return err
	}
	// The tool writes past WriteAt, so nobody else knows that there is something on the target.
	r.prepared = 0
	if err := r.target.ZeroAll(ctx); err != nil {
		return err
	}
	format := image.format
	if format == FormatISO {
		format = FormatRaw
	}
	err := r.parts.Formats.Convert(ctx, Conversion{
		Source: image.RandomReader, SourceFile: image.file, Size: image.length, SourceFormat: format,
		Target: r.target.File(), TargetFormat: r.options.TargetFormat, VirtualSize: size, DataBytes: image.data,
		Progress: func(done float64) {
			r.report.phase(Importing, fmt.Sprintf("converting, %.0f%% done", done*100))
			r.report.wrote(int64(done * float64(image.data)))
			if image.file == nil {
				r.report.at(int64(done * float64(image.length)))
			}
		},
	})
	if err == nil && image.file != nil {
		// The tool reads a local file past us. A byte of it tells whether it changed meanwhile.
		_, err = image.ReadAt(ctx, make([]byte, 1), 0)
	}
	return err
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
	virtualSize, _, err := r.parts.Formats.Check(ctx, FormatQcow2, fileReader{r.target.File()}, info.Size(), maxQcow2Disk)
	if err != nil {
		return &Error{Reason: TargetError, Err: fmt.Errorf("checking target: %w", err)}
	}
	if virtualSize != size {
		return &Error{Reason: TargetError, Err: fmt.Errorf("checking target: it has a disk of %d bytes in place of %d", virtualSize, size)}
	}
	return nil
}

// fileReader reads a file of ours.
type fileReader struct{ file *os.File }

// ReadAt implements RandomReader.
func (f fileReader) ReadAt(_ context.Context, p []byte, off int64) (int, error) {
	return f.file.ReadAt(p, off)
}
