package qcow2

import (
	"context"
	"iter"
)

const (
	// maxPiece is the most bytes of a piece: the largest compressed cluster just fits.
	maxPiece = 4 << 20
	// maxGap is how many bytes nobody asked for are read to spare a request.
	maxGap = 64 << 10
)

// Piece is a part of the file with the clusters that begin in it.
type Piece struct {
	// Off and Len say where its bytes are. Len is at most 4 MiB.
	Off, Len int64

	entries []entry
}

// Pieces returns the parts of the file that a slice of the disk needs, in the order of the
// file, without overlap and cut between clusters. With whole they cover every byte of the
// file, so that a checksum can be computed on the way. The error comes once, at the end.
func (im *Image) Pieces(ctx context.Context, slice int, whole bool) iter.Seq2[Piece, error] {
	return func(yield func(Piece, error) bool) {
		entries, err := im.load(ctx, slice)
		if err != nil {
			yield(Piece{}, err)
			return
		}
		c := cutter{whole: whole, yield: func(p Piece) bool {
			if ctx.Err() != nil {
				yield(Piece{}, context.Cause(ctx))
				return false
			}
			return yield(p, nil)
		}}
		for i := range entries {
			off, length := im.span(entries[i])
			if !c.add(entries, i, off, length) {
				return
			}
		}
		c.finish(entries, im.size)
	}
}

// cutter joins the spans of entries to pieces.
type cutter struct {
	whole bool
	yield func(Piece) bool
	// off and end bound the piece being made; its entries begin with the one at first.
	off, end int64
	first, n int
}

// add takes the next entry; the offsets rise.
func (c *cutter) add(entries []entry, i int, off, length int64) bool {
	joins := c.n > 0 || c.whole
	if joins && (off+length-c.off > maxPiece || !c.whole && off-c.end > maxGap) {
		if !c.cut(entries, off) {
			return false
		}
		joins = c.whole
	}
	if !joins {
		c.off, c.end = off, off
	}
	if c.n == 0 {
		c.first = i
	}
	c.n++
	c.end = max(c.end, off+length)
	return true
}

// cut ends the piece before the byte at next. Compressed clusters end somewhere in the sector
// in which the next one begins, so that the end is nominal.
func (c *cutter) cut(entries []entry, next int64) bool {
	end := min(c.end, next)
	if c.whole {
		end = next
	}
	for c.off < end {
		p := Piece{Off: c.off, Len: min(end-c.off, maxPiece), entries: entries[c.first:][:c.n]}
		if !c.yield(p) {
			return false
		}
		c.off += p.Len
		c.n = 0
	}
	return true
}

func (c *cutter) finish(entries []entry, size int64) {
	if c.whole {
		c.end = size
	}
	if c.n > 0 || c.whole {
		c.cut(entries, c.end)
	}
}
