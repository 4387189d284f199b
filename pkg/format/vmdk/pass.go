package vmdk

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
)

// Sink takes the disk's data. Calls run at the same time, in any order, and never overlap. What
// is not written is zero.
type Sink interface {
	// WriteAt writes all of p at off, both multiples of the header's Granule but for the end of
	// the disk. p starts at a multiple of 4096 in memory, for direct I/O, and is reused afterwards.
	WriteAt(ctx context.Context, p []byte, off int64) (int, error)
}

// state is what the next bytes of the source are.
type state int

const (
	directory   state = iota // part of the grain directory
	table                    // a grain table
	marker                   // the first sector of a grain, or a sector that says what follows
	compressed               // the other sectors of a grain
	footer                   // the header again, with the place of the directory
	padding                  // zeros behind the end
	afterHeader              // nothing: where tables or grains start, behind what was skipped
)

// Pass turns a streamOptimized image into a disk while the image comes in, byte after byte.
//
// Every grain says where it belongs, so that it can be placed without the tables. The tables, which
// come before the grains or after them, must name exactly the grains that came: that finds a
// grain that was lost, and one that says the wrong place.
type Pass struct {
	header Header
	sink   Sink
	tables *ledger

	state state
	// at is how many bytes of the source were taken.
	at int64
	// skip is how many of the next bytes are of no interest; then part is filled, of which
	// filled bytes are there.
	skip   int64
	part   []byte
	filled int

	// index counts the entries of the directory, or the tables at the start, that were read.
	index int64
	// directoryEnd is the byte behind the directory and its padding.
	directoryEnd int64
	// directoryAt is the sector of the directory, once it was read.
	directoryAt int64
	footerSeen  bool
	small       [tableBytes]byte

	// cell is being filled; the others are idle or in a goroutine. next is the grain that is being
	// added to it.
	cell *cell
	next struct {
		disk        int64
		size, total int
	}
	idle chan *cell
	busy sync.WaitGroup
	data atomic.Int64

	mu  sync.Mutex
	err error
}

// NewPass starts to read the streamOptimized image that begins with head (see ReadHeader). A disk
// larger than maxVirtualSize bytes is refused. Grains are decoded by up to workers goroutines, at
// least one, in buffers of about 1 MiB each. Beside them, a Pass holds up to 100 bytes per 32 MiB
// of a disk with usual grains.
func NewPass(head []byte, maxVirtualSize int64, workers int, sink Sink) (*Pass, error) {
	h, err := ReadHeader(head)
	if err != nil {
		return nil, err
	}
	if !h.Stream {
		return nil, unsupported("it is not streamOptimized")
	}
	if h.VirtualSize > maxVirtualSize {
		return nil, unsupported("its disk has %d bytes, more than the %d that are read", h.VirtualSize, maxVirtualSize)
	}
	cells := max(1, workers) + 1
	p := &Pass{header: h, sink: sink, tables: newLedger(h), directoryAt: -1, state: afterHeader, idle: make(chan *cell, cells)}
	for range cells {
		p.idle <- newCell(h.grain)
	}
	p.skip = p.grainsAt()
	if p.header.tablesFirst() {
		p.skip = int64(h.fields.directory) * sector //nolint:gosec // at most 2^41
	}
	return p, nil
}

// DataBytes is how much of the disk was written so far.
func (p *Pass) DataBytes() int64 { return p.data.Load() }

// Write takes the next bytes of the source, the head again included, and does not keep them. ctx
// ends the writes to the sink that it starts, which may go on until End or Close. After an error
// only Close may be called.
func (p *Pass) Write(ctx context.Context, data []byte) error {
	for len(data) > 0 {
		n, err := p.take(ctx, data)
		if err != nil {
			return err
		}
		p.at += int64(n)
		data = data[n:]
	}
	return p.failure()
}

// End says that all bytes of the source were written, and waits until they are in the sink. An
// image that is cut anywhere is refused here at the latest. again is always false.
func (p *Pass) End(ctx context.Context) (again bool, err error) {
	err = p.finish(ctx)
	p.start(ctx)
	p.busy.Wait()
	if failure := p.failure(); failure != nil {
		return false, failure
	}
	return false, err
}

// Close waits for what Write started. It may be called at any time, and again.
func (p *Pass) Close() { p.busy.Wait() }

// take uses at least the first byte of data and returns how many it used.
func (p *Pass) take(ctx context.Context, data []byte) (int, error) {
	if p.skip > 0 {
		n := min(p.skip, int64(len(data)))
		if p.skip -= n; p.skip > 0 {
			return int(n), nil
		}
		return int(n), p.skipped(ctx)
	}
	if p.state == padding {
		if !isZero(data) {
			return 0, corrupt("something follows its end, before byte %d", p.at+int64(len(data)))
		}
		return len(data), nil
	}
	n := copy(p.part[p.filled:], data)
	if p.filled += n; p.filled < len(p.part) {
		return n, nil
	}
	p.filled = 0
	// What comes next starts behind the bytes that this call used.
	return n, p.step(ctx, p.at+int64(n))
}

// expect makes n bytes the next ones to be looked at as a whole.
func (p *Pass) expect(s state, part []byte) { p.state, p.part, p.filled = s, part, 0 }

// fail keeps the first error of a goroutine.
func (p *Pass) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		p.err = err
	}
}

func (p *Pass) failure() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// start decodes and writes the grains in the cell, if there are any.
func (p *Pass) start(ctx context.Context) {
	c := p.cell
	if c == nil || len(c.parts) == 0 {
		return
	}
	p.cell = nil
	p.busy.Go(func() {
		defer func() { c.reset(); p.idle <- c }()
		if err := p.place(ctx, c); err != nil {
			p.fail(err)
		}
	})
}

func (p *Pass) place(ctx context.Context, c *cell) error {
	grain := p.header.grain
	for i, part := range c.parts {
		at := int64(i) * grain
		decoded, err := c.decode(c.grains[at:at+grain], part)
		switch visible := min(grain, p.header.VirtualSize-c.disk-at); {
		case err != nil:
			return corrupt("the grain for byte %d of its disk cannot be decoded (%v)", c.disk+at, err)
		case int64(decoded) != grain && int64(decoded) != visible:
			return corrupt("the grain for byte %d of its disk has %d bytes instead of %d", c.disk+at, decoded, visible)
		}
	}
	visible := min(int64(len(c.parts))*grain, p.header.VirtualSize-c.disk)
	if _, err := p.sink.WriteAt(ctx, c.grains[:visible], c.disk); err != nil {
		return fmt.Errorf("writing grains at %d: %w", c.disk, err)
	}
	p.data.Add(visible)
	return nil
}
