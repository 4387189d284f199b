package qcow2

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"sync"
	"sync/atomic"
)

// Bounds of one step over the tables. Second-level tables lie far apart in the file, so that
// several are read at once.
const (
	l1Step      = 1 << 20
	l2Step      = 4 << 20
	l2Tables    = 512
	l2Reads     = 8
	l2ReadBytes = 1 << 20
)

// tableAt is where the second-level table number index is.
type tableAt struct {
	index, off int64
}

// eachTable reads the second-level tables of the entries [first, end) of the first table and
// hands them to visit, in this order. visit must not keep the table.
func (im *Image) eachTable(ctx context.Context, first, end int64, visit func(index, off int64, table []byte) error) error {
	l1 := make([]byte, min(l1Step, (end-first)*8))
	batch := make([]tableAt, 0, min(l2Step/im.cluster(), l2Tables, end-first))
	var buf []byte
	flush := func() error {
		defer func() { batch = batch[:0] }()
		if need := int64(len(batch)) * im.cluster(); need > int64(len(buf)) {
			buf = make([]byte, need)
		}
		if err := im.readTables(ctx, batch, buf); err != nil {
			return err
		}
		for i, t := range batch {
			if err := visit(t.index, t.off, buf[int64(i)*im.cluster():][:im.cluster()]); err != nil {
				return err
			}
		}
		return nil
	}
	for ; first < end; first += int64(len(l1) / 8) {
		l1 = l1[:min(int64(len(l1)), (end-first)*8)]
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := readFull(ctx, im.image, l1, im.l1Offset+first*8); err != nil {
			return err
		}
		for i := range int64(len(l1) / 8) {
			off, err := im.readL1Entry(first+i, binary.BigEndian.Uint64(l1[i*8:]))
			if err != nil {
				return err
			}
			if off == 0 {
				continue
			}
			if err := inside("second-level table", off, im.cluster(), im.size); err != nil {
				return err
			}
			if batch = append(batch, tableAt{first + i, off}); len(batch) < cap(batch) {
				continue
			}
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// readTables reads tables into buf, one after another. Neighbours in the file are one read.
func (im *Image) readTables(ctx context.Context, tables []tableAt, buf []byte) error {
	type read struct{ first, n int }
	var reads []read
	for i, t := range tables {
		last := len(reads) - 1
		if i > 0 && t.off == tables[i-1].off+im.cluster() && int64(reads[last].n+1)*im.cluster() <= l2ReadBytes {
			reads[last].n++
			continue
		}
		reads = append(reads, read{i, 1})
	}
	errs := make([]error, len(reads))
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(l2Reads, len(reads)) {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(reads)) && ctx.Err() == nil; i = next.Add(1) - 1 {
				r := reads[i]
				part := buf[int64(r.first)*im.cluster():][:int64(r.n)*im.cluster()]
				errs[i] = readFull(ctx, im.image, part, tables[r.first].off)
			}
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return errors.Join(errs...)
}

// collector gathers the entries of a slice and the digest of its tables.
type collector struct {
	im      *Image
	entries []entry
	data    int64
	sum     hash.Hash
}

// collector has room for entries before it grows.
func (im *Image) collector(entries int) *collector {
	return &collector{im: im, entries: make([]entry, 0, entries), sum: sha256.New()}
}

// add checks a table and keeps its entries.
func (c *collector) add(index, off int64, table []byte) error {
	c.sum.Write(fmt.Appendf(nil, "%d@%d:", index, off))
	c.sum.Write(table)
	return c.im.readL2(index, table, func(e entry) error {
		start, length := c.im.span(e)
		c.entries = append(c.entries, e)
		c.data += c.im.data(e)
		return inside("data", start, length, c.im.size)
	})
}

func (c *collector) digest() (d [sha256.Size]byte) {
	c.sum.Sum(d[:0])
	return d
}

// reset begins the next slice.
func (c *collector) reset() {
	c.entries = c.entries[:0]
	c.sum.Reset()
}
