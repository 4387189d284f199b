package importer

import (
	"context"
	"iter"
)

// byPieces reads an image at random: only the parts with data, or all of it when there is a
// checksum, each straight to its place.
func (r *run) byPieces(ctx context.Context, i *inspected) error {
	image, granule, err := r.openImage(ctx, i)
	if err != nil {
		return err
	}
	c := r.newCheckpointer(i, image)
	from, err := r.begin(ctx, i, c, granule)
	if err != nil {
		return err
	}
	// A checksum is of the bytes in order. Slices are not in order: then it needs a pass of its own.
	whole := len(r.expected) > 0 && image.Slices() == 1
	for slice := from.Slice; slice < image.Slices(); slice++ {
		pieces := image.Pieces(ctx, slice, whole, c.witness)
		if slice == from.Slice {
			pieces = after(pieces, from.Offset)
		}
		c.slice = slice
		if err := r.movement(i, c, image.Slices()).move(ctx, pieces); err != nil {
			return err
		}
	}
	r.report.at(i.source.Size())
	if whole || len(r.expected) == 0 {
		err = r.verify(i, i.source.Size(), c.hashes)
	} else {
		err = r.digestAll(ctx, i)
	}
	if err != nil {
		return err
	}
	if err := r.commit(ctx, i.size); err != nil {
		return err
	}
	r.dropCheckpoint()
	return nil
}

// openImage reads the tables of the image. A flat disk has none.
func (r *run) openImage(ctx context.Context, i *inspected) (Image, int64, error) {
	if i.image.Flat {
		image := flatImage{size: i.source.Size()}
		if sparse, ok := i.source.(sparse); ok {
			image.nextData = sparse.NextData
		}
		return image, flatGranule, nil
	}
	r.report.phase(Importing, "reading the tables of the image")
	image, err := r.parts.Formats.Open(ctx, i.image.Format, i.source, i.source.Size(), r.maxDisk())
	return image, i.header.Granule, err
}

// begin prepares the target, or continues with what an earlier run left there.
func (r *run) begin(ctx context.Context, i *inspected, c *checkpointer, granule int64) (Checkpoint, error) {
	r.report.pass()
	from, err := c.load()
	if err == nil && from.Offset > 0 {
		err = r.resume(ctx, i, c, from, granule)
	}
	if err == nil && from.Offset > 0 {
		r.stored = true
		r.report.at(from.Offset)
		r.report.notice("going on at " + Human(from.Offset))
		return from, nil
	}
	if ctx.Err() != nil {
		return from, context.Cause(ctx)
	}
	if err != nil {
		r.report.notice("starting at the first byte: " + err.Error())
	}
	return Checkpoint{}, r.prepare(ctx, i.size, granule)
}

// resume opens the target where an earlier run left it, and believes the checkpoint only if the
// target does look like that.
func (r *run) resume(ctx context.Context, i *inspected, c *checkpointer, from Checkpoint, granule int64) error {
	if err := r.target.Resume(ctx, i.size, granule); err != nil {
		return err
	}
	r.touched = true
	return c.restore(ctx, from, r.target.File())
}

func (r *run) movement(i *inspected, c *checkpointer, slices int) movement {
	return movement{
		source:  i.source,
		arrived: c.hashes.write,
		settled: func(ctx context.Context, p Piece) error {
			// Each slice goes through the whole source, for its share of the disk.
			done := float64(c.slice)*float64(i.source.Size()) + float64(p.Off+p.Len)
			r.report.at(int64(done / float64(slices)))
			r.report.wrote(r.target.Written())
			return c.settled(ctx, p)
		},
	}
}

// after skips the pieces that end at or before offset.
func after(pieces iter.Seq2[Piece, error], offset int64) iter.Seq2[Piece, error] {
	return func(yield func(Piece, error) bool) {
		for p, err := range pieces {
			if err == nil && p.Off+p.Len <= offset {
				continue
			}
			if !yield(p, err) {
				return
			}
		}
	}
}

// sparse is a source that knows where it has no data.
type sparse interface {
	// NextData returns the first place at or behind off that may have data, the size if there is none.
	NextData(off int64) int64
}

// flatImage is a disk as it is.
type flatImage struct {
	size int64
	// nextData is that of a sparse source, else nil.
	nextData func(off int64) int64
}

var _ Image = flatImage{}

// Slices implements Image.
func (flatImage) Slices() int { return 1 }

// Digest implements Image. There are no tables.
func (flatImage) Digest() string { return "" }

// Pieces implements Image.
func (f flatImage) Pieces(_ context.Context, _ int, whole bool, sink Sink) iter.Seq2[Piece, error] {
	return func(yield func(Piece, error) bool) {
		for off := int64(0); off < f.size; off += pieceSize {
			if !whole && f.nextData != nil {
				off = max(off, f.nextData(off)/pieceSize*pieceSize)
			}
			if off >= f.size {
				return
			}
			place := func(ctx context.Context, data []byte) error {
				_, err := sink.WriteAt(ctx, data, off)
				return err
			}
			if !yield(Piece{Off: off, Len: min(pieceSize, f.size-off), Place: place}, nil) {
				return
			}
		}
	}
}
