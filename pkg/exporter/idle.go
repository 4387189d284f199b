package exporter

import (
	"sync"
	"time"
)

// Timer is the part of time.Timer that idle needs.
type Timer interface {
	Stop() bool
	Reset(d time.Duration) bool
}

// idle ends an exporter that nobody reads from any more.
type idle struct {
	after time.Duration
	timer Timer

	mu     sync.Mutex
	active int
	over   chan struct{}
	ended  bool
}

// newIdle counts from now on.
func newIdle(after time.Duration, afterFunc func(d time.Duration, f func()) Timer) *idle {
	i := &idle{after: after, over: make(chan struct{})}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.timer = afterFunc(after, i.elapsed)
	return i
}

// elapsed ends the exporter, if no request came at the last moment.
func (i *idle) elapsed() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.active == 0 && !i.ended {
		i.ended = true
		close(i.over)
	}
}

func (i *idle) begin() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.active++
	i.timer.Stop()
}

func (i *idle) end() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.active--; i.active == 0 {
		i.timer.Reset(i.after)
	}
}
