package source_test

import (
	"context"
	"sync"
	"time"

	"github.com/gild-project/gild/pkg/source"
)

// The timeouts of options. Timers know them apart by their time.
const (
	headerTimeout = 30 * time.Second
	stallTimeout  = 60 * time.Second
)

// timers run until a test ends them, however long the machine takes.
type timers struct {
	mu    sync.Mutex
	armed map[*timer]bool
	due   []due
	// resets counts how often timers of each time were started again.
	resets  map[time.Duration]int
	changed chan struct{}
}

// due is the end of one timer of d, as soon as there is one and ready says so.
type due struct {
	d     time.Duration
	ready func() bool
}

type timer struct {
	timers *timers
	d      time.Duration
	f      func()
}

func newTimers() *timers {
	return &timers{armed: map[*timer]bool{}, resets: map[time.Duration]int{}, changed: make(chan struct{})}
}

// AfterFunc is for source.Options.
func (t *timers) AfterFunc(d time.Duration, f func()) source.Timer {
	x := &timer{timers: t, f: f}
	x.Reset(d)
	return x
}

// Reset implements source.Timer.
func (x *timer) Reset(d time.Duration) bool {
	t := x.timers
	t.mu.Lock()
	was := t.armed[x]
	t.armed[x], x.d = true, d
	t.resets[d]++
	close(t.changed)
	t.changed = make(chan struct{})
	over := t.over()
	t.mu.Unlock()
	for _, f := range over {
		f()
	}
	return was
}

// Stop implements source.Timer.
func (x *timer) Stop() bool {
	x.timers.mu.Lock()
	defer x.timers.mu.Unlock()
	was := x.timers.armed[x]
	delete(x.timers.armed, x)
	return was
}

// end ends a timer of d: now, or the next one that runs when ready, which may be nil, says so.
func (t *timers) end(d time.Duration, ready func() bool) {
	t.mu.Lock()
	t.due = append(t.due, due{d, ready})
	over := t.over()
	t.mu.Unlock()
	for _, f := range over {
		f()
	}
}

// over takes the timers that end now. It needs mu.
func (t *timers) over() (calls []func()) {
	var left []due
	for _, end := range t.due {
		x := t.running(end.d)
		if x == nil || (end.ready != nil && !end.ready()) {
			left = append(left, end)
			continue
		}
		delete(t.armed, x)
		calls = append(calls, x.f)
	}
	t.due = left
	return calls
}

// running needs mu.
func (t *timers) running(d time.Duration) *timer {
	for x := range t.armed {
		if x.d == d {
			return x
		}
	}
	return nil
}

// runs tells that a timer of d runs.
func (t *timers) runs(d time.Duration) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.running(d) != nil
}

// next waits until a timer of d runs that was started after count starts, and returns their number.
func (t *timers) next(ctx context.Context, d time.Duration, count int) (int, error) {
	for {
		t.mu.Lock()
		now, runs, changed := t.resets[d], t.running(d) != nil, t.changed
		t.mu.Unlock()
		if runs && now > count {
			return now, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// started is how often timers of d were started.
func (t *timers) started(d time.Duration) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.resets[d]
}
