package qcow2

import (
	"bytes"
	"context"
	"encoding/binary"
	"hash/maphash"
	"slices"
)

// complete takes what is known of the block that was filled: its tables, then all clusters
// that end in it or that its tables claim.
func (p *Pass) complete(ctx context.Context) error {
	b := p.filling
	p.filling = nil
	if err := p.failure.get(); err != nil {
		return err
	}
	if err := p.checkStart(b); err != nil {
		return err
	}
	touched := map[int64]bool{b.index: true}
	tables, err := p.firstLevel(b)
	if err != nil {
		return err
	}
	if p.again {
		if err := p.verify(b); err != nil {
			return err
		}
	}
	for _, t := range append(tables, p.claims.takeTables(b.index)...) {
		if err := p.secondLevel(t, touched); err != nil {
			return err
		}
	}
	for index := range touched {
		if err := p.dispatch(ctx, index); err != nil {
			return err
		}
	}
	p.forget(b.index)
	return nil
}

// knowsTables tells whether the whole first table went by.
func (p *Pass) knowsTables() bool {
	return p.again || p.pos >= p.h.l1Offset+p.h.l1Needed()*8
}

// lost looks for tables in a block that leaves the window.
func (p *Pass) lost(b *block) {
	if !p.knowsTables() {
		p.found.gather(&p.h, b, p.window.size)
	}
}

// checkStart compares the header with the one that passed the gate, and reads its extensions.
func (p *Pass) checkStart(b *block) error {
	if b.index != 0 {
		return nil
	}
	if !bytes.HasPrefix(b.b, p.head) {
		return Changed{}
	}
	return p.h.checkExtensions(func(to []byte, off int64) error {
		copy(to, b.b[off:])
		return nil
	})
}

// firstLevel returns the second-level tables that the part of the first table in a block names
// and that are here already; it claims the others.
func (p *Pass) firstLevel(b *block) ([]tableAt, error) {
	start := b.index * p.window.size
	from := max(start, p.h.l1Offset)
	to := min(start+int64(len(b.b)), p.h.l1Offset+p.h.l1Needed()*8)
	if from >= to {
		return nil, nil
	}
	part := b.b[from-start : to-start]
	if p.again {
		return nil, p.same(p.l1Sums[b.index], part)
	}
	p.l1Sums[b.index] = maphash.Bytes(p.seed, part)
	var here []tableAt
	for i := int64(0); i+8 <= int64(len(part)); i += 8 {
		index := (from - p.h.l1Offset + i) / 8
		off, err := p.h.readL1Entry(index, binary.BigEndian.Uint64(part[i:]))
		if err != nil {
			return nil, err
		}
		t := tableAt{index, off}
		switch at := off / p.window.size; {
		case off == 0:
		case p.window.held[at] != nil && at != b.index, p.found.tables[off] != nil:
			here = append(here, t)
		default:
			err = p.claims.addTable(at, t)
		}
		if err != nil {
			return nil, err
		}
	}
	return here, nil
}

// secondLevel claims the clusters of a table, and notes the blocks here in which they end.
func (p *Pass) secondLevel(t tableAt, touched map[int64]bool) error {
	if err := inside("second-level table", t.off, p.h.cluster(), p.pos); err != nil {
		return err
	}
	if _, ok := p.l2Sums[t.off]; ok {
		return errShared(t.off)
	}
	at := t.off / p.window.size
	b := p.window.held[at]
	if b == nil && p.claims.bytes > maxClaims/2 {
		// The clusters of a candidate went by, so that they stay claimed until the second pass.
		// When those are many, it is better to meet the table again right before them.
		return p.claims.addTable(at, t)
	}
	table := p.found.tables[t.off]
	if b != nil {
		b.covered += p.h.cluster()
		table = b.b[t.off%p.window.size:][:p.h.cluster()]
	}
	p.l2Sums[t.off] = maphash.Bytes(p.seed, table)
	if err := p.claims.grow(seenBytes); err != nil {
		return err
	}
	return p.h.readL2(t.index, table, func(e entry) error {
		off, length := p.h.span(e)
		p.data += p.h.data(e)
		last := (off + length - 1) / p.window.size
		if p.window.held[last] != nil {
			touched[last] = true
		}
		return p.claims.addEntry(last, e)
	})
}

// verify compares the tables of a block with what they were in the first pass.
func (p *Pass) verify(b *block) error {
	for off := int64(0); off+p.h.cluster() <= int64(len(b.b)); off += p.h.cluster() {
		sum, ok := p.l2Sums[b.index*p.window.size+off]
		if !ok {
			continue
		}
		if err := p.same(sum, b.b[off:][:p.h.cluster()]); err != nil {
			return err
		}
	}
	return nil
}

func (p *Pass) same(sum uint64, now []byte) error {
	if sum != maphash.Bytes(p.seed, now) {
		return Changed{}
	}
	return nil
}

// dispatch hands the clusters that end in a block to a worker, as far as all of their bytes
// are remembered. The others stay claimed, for the second pass.
func (p *Pass) dispatch(ctx context.Context, index int64) error {
	var here []entry
	first := index
	for _, e := range p.claims.take(index).entries {
		off, length := p.h.span(e)
		if err := inside("data", off, length, p.pos); err != nil {
			return err
		}
		if !p.window.has(off, length) {
			if err := p.claims.addEntry(index, e); err != nil {
				return err
			}
			continue
		}
		here = append(here, e)
		first = min(first, off/p.window.size)
		if !e.compressed() {
			p.window.held[index].covered += length
		}
	}
	if len(here) == 0 {
		return nil
	}
	v := blockView{p.window.pin(first, index), p.window.size}
	select {
	case p.workers <- struct{}{}:
	case <-ctx.Done():
		p.window.unpin(v.blocks)
		return context.Cause(ctx)
	}
	p.jobs.Go(func() {
		defer func() {
			p.window.unpin(v.blocks)
			<-p.workers
		}()
		if err := p.placer.place(ctx, here, v, p.sink); err != nil {
			p.failure.set(err)
		}
	})
	return nil
}

// forget frees the blocks that nobody will ask for again.
func (p *Pass) forget(last int64) {
	if p.knowsTables() {
		p.found.drop()
	}
	known := p.claims.tables == 0 && p.knowsTables()
	p.window.release(func(b *block) bool {
		// A cluster that ends in the next block begins at most maxPiece before its end.
		return b.covered >= p.window.size || known && b.index <= last-maxPiece/p.window.size
	})
}

// blockView finds the bytes of entries in blocks that follow each other.
type blockView struct {
	blocks []*block
	size   int64
}

func (v blockView) near(off, length int64) []byte {
	at := off/v.size - v.blocks[0].index
	b := v.blocks[at].b[off%v.size:]
	if int64(len(b)) >= length {
		return b[:length]
	}
	glued := slices.Grow([]byte(nil), int(length))
	for glued = append(glued, b...); int64(len(glued)) < length; glued = append(glued, b...) {
		at++
		b = v.blocks[at].b
		b = b[:min(int64(len(b)), length-int64(len(glued)))]
	}
	return glued
}

func (v blockView) all(_ context.Context, off, length int64) ([]byte, error) {
	return v.near(off, length), nil
}
