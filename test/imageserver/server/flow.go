package server

import (
	"sync"
	"time"
)

// flow counts what all bodies of a published file have had together. A client that reads over
// several connections gets no more by that.
type flow struct {
	mu    sync.Mutex
	taken int64
	cuts  int
	// next is when the next byte may go.
	next time.Time
}

// take takes up to n bytes of those that are left of limit, and returns how many.
func (f *flow) take(n, limit int64) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	n = max(min(n, limit-f.taken), 0)
	f.taken += n
	return n
}

// due returns when n more bytes may go at rate bytes per second. What was not used before now is lost.
func (f *flow) due(n, rate int64, now time.Time) time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	due := f.next
	if due.Before(now) {
		due = now
	}
	f.next = due.Add(time.Duration(float64(n) / float64(rate) * float64(time.Second)))
	return due
}

// cut reports whether one more body is to be cut, of so many in all; 0 means every body.
func (f *flow) cut(times int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if times > 0 && f.cuts == times {
		return false
	}
	f.cuts++
	return true
}

// cutOut reports whether the last of so many cuts has come.
func (f *flow) cutOut(times int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.cuts == times
}
