package qcow2

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
)

// maxWrite is the most bytes of joined clusters that are decoded before they are written.
const maxWrite = 1 << 20

// Place decodes data, the bytes of the piece, and writes its clusters. Many calls may run at
// once. It keeps nothing of data. The error is a refusal if the image is bad, else what the
// sink or the source said.
func (im *Image) Place(ctx context.Context, p Piece, data []byte, sink Sink) error {
	if int64(len(data)) != p.Len {
		return fmt.Errorf("placing %d bytes of a piece of %d", len(data), p.Len)
	}
	return im.placer.place(ctx, p.entries, pieceView{p.Off, data, im}, sink)
}

// pieceView finds the bytes of entries in a piece. Those of a compressed cluster may nominally
// end in the next one.
type pieceView struct {
	off  int64
	data []byte
	im   *Image
}

func (v pieceView) near(off, length int64) []byte {
	rest := v.data[off-v.off:]
	return rest[:min(length, int64(len(rest)))]
}

func (v pieceView) all(ctx context.Context, off, length int64) ([]byte, error) {
	p := make([]byte, length)
	return p, readFull(ctx, v.im.image, p, off)
}

// view finds the bytes of the file.
type view interface {
	// near returns the bytes that are at hand, at most length.
	near(off, length int64) []byte
	// all returns all of them.
	all(ctx context.Context, off, length int64) ([]byte, error)
}

// placer writes clusters to where they belong on the disk.
type placer struct {
	h     Header
	desks sync.Pool
}

// desk is what one call works with.
type desk struct {
	codec
	order []entry
	out   []byte
}

func newPlacer(h Header) *placer {
	return &placer{h: h}
}

// desk returns one that nobody uses.
func (p *placer) desk() (*desk, error) {
	if d, ok := p.desks.Get().(*desk); ok {
		return d, nil
	}
	c, err := newCodec(&p.h)
	return &desk{codec: c, out: aligned(max(p.h.cluster(), maxWrite))}, err
}

func (p *placer) place(ctx context.Context, entries []entry, v view, sink Sink) error {
	d, err := p.desk()
	if err != nil {
		return err
	}
	defer p.desks.Put(d)
	// In the order of the disk, neighbours stand side by side.
	d.order = append(d.order[:0], entries...)
	slices.SortFunc(d.order, func(a, b entry) int { return cmp.Compare(a.guest, b.guest) })
	for rest := d.order; len(rest) > 0; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n := p.run(rest)
		if err := p.write(ctx, d, rest[:n], v, sink); err != nil {
			return err
		}
		rest = rest[n:]
	}
	return nil
}

// write puts a run of clusters onto the disk.
func (p *placer) write(ctx context.Context, d *desk, run []entry, v view, sink Sink) error {
	at := run[0].cluster() * p.h.cluster()
	if p.direct(run[0]) {
		b, err := p.plain(ctx, run, v)
		if err != nil {
			return err
		}
		_, err = sink.WriteAt(ctx, b, at)
		return err
	}
	b, err := p.assemble(ctx, d, run, v)
	if err != nil {
		return err
	}
	for _, part := range p.parts(run[0], int64(len(b))) {
		if _, err := sink.WriteAt(ctx, b[part[0]:part[1]], at+part[0]); err != nil {
			return err
		}
	}
	return nil
}

// parts is what of an assembled run is written: all of it, or the granules in which a cluster
// with holes has data.
func (p *placer) parts(e entry, size int64) [][2]int64 {
	if e.compressed() || p.h.full(e) {
		return [][2]int64{{0, size}}
	}
	var parts [][2]int64
	unit := p.h.Granule()
	each := unit / p.h.subcluster()
	for off := int64(0); off < size; off += unit {
		if e.mask()>>(off/p.h.subcluster())&(1<<each-1) == 0 {
			continue
		}
		if last := len(parts) - 1; last >= 0 && parts[last][1] == off {
			parts[last][1] = min(off+unit, size)
			continue
		}
		parts = append(parts, [2]int64{off, min(off+unit, size)})
	}
	return parts
}

// direct tells whether a cluster is written as it is in the file. Small ones are gathered.
func (p *placer) direct(e entry) bool {
	return !e.compressed() && p.h.cluster() >= directIO && p.h.full(e)
}

// full tells whether a cluster has data for all that the disk has of it.
func (h *Header) full(e entry) bool {
	return !h.extL2 || uint64(e.mask()) == h.visibleMask(e.cluster())
}

// run is how many of the entries make one write.
func (p *placer) run(entries []entry) int {
	direct := p.direct(entries[0])
	if !entries[0].compressed() && !p.h.full(entries[0]) {
		return 1
	}
	most := max(1, maxWrite/int(p.h.cluster()))
	if direct {
		most = maxPiece / int(p.h.cluster())
	}
	n := 1
	for n < len(entries) && n < most && p.joins(entries[n-1], entries[n], direct) {
		n++
	}
	return n
}

// joins tells whether b goes out in one write with a, the cluster before it in the run.
func (p *placer) joins(a, b entry, direct bool) bool {
	switch {
	case b.cluster() != a.cluster()+1 || p.direct(b) != direct:
		return false
	case direct:
		aOff, _ := p.h.span(a)
		bOff, _ := p.h.span(b)
		return bOff == aOff+p.h.cluster()
	}
	return b.compressed() || p.h.full(b)
}

// plain returns the bytes of clusters that are neighbours in the file too.
func (p *placer) plain(ctx context.Context, entries []entry, v view) ([]byte, error) {
	off, _ := p.h.span(entries[0])
	last, length := p.h.span(entries[len(entries)-1])
	length += last - off
	if b := v.near(off, length); int64(len(b)) == length {
		return b, nil
	}
	return v.all(ctx, off, length)
}

// assemble puts clusters side by side.
func (p *placer) assemble(ctx context.Context, d *desk, entries []entry, v view) ([]byte, error) {
	size := int64(0)
	for i, e := range entries {
		dst := d.out[size:][:p.h.cluster()]
		size += p.h.visible(e.cluster())
		if i > 0 && e.compressed() && e.where == entries[i-1].where {
			copy(dst, d.out[int64(i-1)*p.h.cluster():])
			continue
		}
		if err := p.fill(ctx, d, dst, e, v); err != nil {
			return nil, err
		}
	}
	return d.out[:size], nil
}

// fill puts one cluster into dst.
func (p *placer) fill(ctx context.Context, d *desk, dst []byte, e entry, v view) error {
	off, length := p.h.span(e)
	src := v.near(off, length)
	short := int64(len(src)) < length
	if e.compressed() {
		err := d.decode(dst, src)
		if err == nil || !short {
			return p.refuse(e, err)
		}
	}
	if short {
		var err error
		if src, err = v.all(ctx, off, length); err != nil {
			return err
		}
	}
	if e.compressed() {
		return p.refuse(e, d.decode(dst, src))
	}
	clear(dst[copy(dst, src):])
	p.clearHoles(dst, e.mask())
	return nil
}

func (p *placer) refuse(e entry, err error) error {
	if err == nil {
		return nil
	}
	return corrupt("the compressed cluster for byte %d of the disk does not decode: %v", e.cluster()*p.h.cluster(), err)
}

// clearHoles zeroes the subclusters without data.
func (p *placer) clearHoles(b []byte, mask uint32) {
	if !p.h.extL2 {
		return
	}
	sub := p.h.subcluster()
	for i := range int64(subclusters) {
		if mask&(1<<i) == 0 {
			clear(b[i*sub:][:sub])
		}
	}
}
