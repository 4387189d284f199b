package qcow2

import (
	"bytes"
	"context"
	"hash/maphash"
	"sync"
)

// Pass reads an image forward. Tables are taken as they come and clusters as soon as a table
// claims them; of bytes that nobody claims yet the last 32 MiB are remembered. An image whose
// tables come later than that is read a second time.
//
// Its methods are for one goroutine. The contexts of Write must live until End or Close.
type Pass struct {
	h        Header
	head     []byte
	sink     Sink
	placer   *placer
	workers  chan struct{}
	jobs     sync.WaitGroup
	failure  failure
	window   *window
	filling  *block
	pos      int64
	data     int64
	claims   claims
	found    candidates
	seed     maphash.Seed
	l1Sums   map[int64]uint64
	l2Sums   map[int64]uint64
	again    bool
	lastSize int64
}

// failure is the first error of a job.
type failure struct {
	mu  sync.Mutex
	err error
}

func (f *failure) set(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.err = err
	}
}

func (f *failure) get() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// NewPass begins with the header, which it checks as ReadHeader does. A disk larger than
// maxVirtualSize is refused. As many clusters as workers are decoded and written at once.
func NewPass(head []byte, maxVirtualSize int64, workers int, sink Sink) (*Pass, error) {
	h, err := ReadHeader(head)
	if err != nil {
		return nil, err
	}
	if err := h.fits(maxVirtualSize); err != nil {
		return nil, err
	}
	return &Pass{
		h:       h,
		head:    bytes.Clone(head[:min(len(head), HeadSize)]),
		sink:    sink,
		placer:  newPlacer(h),
		workers: make(chan struct{}, max(1, workers)),
		window:  newWindow(h.cluster()),
		claims:  claims{blocks: map[int64]*claim{}},
		found:   candidates{tables: map[int64][]byte{}},
		seed:    maphash.MakeSeed(),
		l1Sums:  map[int64]uint64{},
		l2Sums:  map[int64]uint64{},
	}, nil
}

// Write takes the next bytes of the file, from byte 0 on. It keeps nothing of data. The error
// is a refusal if the image is bad, Changed, or what the sink said.
func (p *Pass) Write(ctx context.Context, data []byte) error {
	for len(data) > 0 {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if p.filling == nil {
			p.filling = p.window.next(p.pos/p.window.size, p.lost)
		}
		b := p.filling
		n := min(len(data), cap(b.b)-len(b.b))
		b.b = append(b.b, data[:n]...)
		p.pos += int64(n)
		data = data[n:]
		if len(b.b) == cap(b.b) {
			if err := p.complete(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// End tells that the file ends here. With again, clusters came before their tables and were
// forgotten: Write the whole file once more, then End. Without, the disk is written.
func (p *Pass) End(ctx context.Context) (again bool, err error) {
	if err := inside("first cluster", 0, p.h.cluster(), p.pos); err != nil {
		return false, err
	}
	if p.filling != nil {
		if err := p.complete(ctx); err != nil {
			return false, err
		}
	}
	p.jobs.Wait()
	if err := p.failure.get(); err != nil {
		return false, err
	}
	if err := p.checkSize(); err != nil || len(p.claims.blocks) == 0 {
		return false, err
	}
	if p.again {
		return false, errScratch("its tables come after their clusters, and the list of them later still")
	}
	p.again, p.lastSize, p.pos = true, p.pos, 0
	p.window.release(func(*block) bool { return true })
	return true, nil
}

// Close waits for what Write left running. It is needed only after an error.
func (p *Pass) Close() { p.jobs.Wait() }

// DataBytes is how much of the disk the image has data for, as far as its tables were read.
func (p *Pass) DataBytes() int64 { return p.data }

// checkSize looks at what was claimed and is not there.
func (p *Pass) checkSize() error {
	if p.again && p.pos != p.lastSize {
		return Changed{}
	}
	if err := inside("first table", p.h.l1Offset, p.h.l1Size*8, p.pos); err != nil {
		return err
	}
	for _, c := range p.claims.blocks {
		for _, t := range c.tables {
			if err := inside("second-level table", t.off, p.h.cluster(), p.pos); err != nil {
				return err
			}
		}
		for _, e := range c.entries {
			off, length := p.h.span(e)
			if err := inside("data", off, length, p.pos); err != nil {
				return err
			}
		}
	}
	return nil
}
