package poller

import (
	"context"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/types"
)

// queue hands polls to workers: at most so many for each host at once, and the hosts in turn, so that
// one with thousands of crons does not keep the others waiting. How many run in all is the
// number of workers.
type queue struct {
	perHost int

	mu      sync.Mutex
	running map[string]int
	waiting map[string][]job
	// turn are the hosts with waiting polls, the next one first.
	turn []string
	// changed is closed and replaced when a poll may be had that was not before.
	changed chan struct{}
}

// job is one poll that is due.
type job struct {
	host string
	key  types.NamespacedName
	uid  types.UID
}

func newQueue(perHost int) *queue {
	return &queue{perHost: perHost, running: map[string]int{}, waiting: map[string][]job{}, changed: make(chan struct{})}
}

// push adds a poll. It never blocks.
func (q *queue) push(j job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting[j.host]) == 0 {
		q.turn = append(q.turn, j.host)
	}
	q.waiting[j.host] = append(q.waiting[j.host], j)
	q.wake()
}

// next waits for a poll that may run now. ok is false when ctx has ended. Each poll ends with done.
func (q *queue) next(ctx context.Context) (j job, ok bool) {
	for {
		j, ok, changed := q.take()
		if ok {
			return j, true
		}
		select {
		case <-ctx.Done():
			return job{}, false
		case <-changed:
		}
	}
}

// take is next without waiting. Without a poll, changed is closed when it is worth asking again.
func (q *queue) take() (j job, ok bool, changed <-chan struct{}) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for n, host := range q.turn {
		if q.running[host] >= q.perHost {
			continue
		}
		j := q.waiting[host][0]
		q.waiting[host] = q.waiting[host][1:]
		q.turn = slices.Delete(q.turn, n, n+1)
		if len(q.waiting[host]) > 0 {
			q.turn = append(q.turn, host)
		} else {
			delete(q.waiting, host)
		}
		q.running[host]++
		return j, true, nil
	}
	return job{}, false, q.changed
}

// done ends a poll.
func (q *queue) done(j job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.running[j.host]--; q.running[j.host] <= 0 {
		delete(q.running, j.host)
	}
	q.wake()
}

func (q *queue) wake() {
	close(q.changed)
	q.changed = make(chan struct{})
}
