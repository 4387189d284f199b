package populator

import (
	"fmt"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// queue bounds how many imports run at once, in all and per host. Its zero value is
// not usable: newQueue sets the limits. It lives in memory; after a restart the running
// Jobs are entered again by hold.
type queue struct {
	perCluster, perHost int

	mu      sync.Mutex
	running map[types.UID]string // host, by claim
	waiting map[types.UID]waiter
}

type waiter struct {
	host  string
	since time.Time
}

func newQueue(perCluster, perHost int) *queue {
	return &queue{
		perCluster: perCluster, perHost: perHost,
		running: map[types.UID]string{}, waiting: map[types.UID]waiter{},
	}
}

// hold enters an import that already runs.
func (q *queue) hold(claim types.UID, host string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.waiting, claim)
	q.running[claim] = host
}

// enter asks for a place. Without one it returns why, and the import waits in line: an older
// import that could run goes first.
func (q *queue) enter(claim types.UID, host string, since time.Time) (why string, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if _, held := q.running[claim]; held {
		return "", true
	}
	q.waiting[claim] = waiter{host: host, since: since}
	if len(q.running) >= q.perCluster {
		return fmt.Sprintf("%d imports are running, as many as --max-imports allows", len(q.running)), false
	}
	if n := q.onHost(host); n >= q.perHost {
		return fmt.Sprintf("%d imports from %s are running, as many as --max-imports-per-host allows", n, host), false
	}
	for other, w := range q.waiting {
		older := w.since.Before(since) || w.since.Equal(since) && other < claim
		if older && q.onHost(w.host) < q.perHost {
			return "an older import goes first", false
		}
	}
	delete(q.waiting, claim)
	q.running[claim] = host
	return "", true
}

// leave gives up an import's place, running or waiting.
func (q *queue) leave(claim types.UID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.running, claim)
	delete(q.waiting, claim)
}

func (q *queue) onHost(host string) int {
	n := 0
	for _, h := range q.running {
		if h == host {
			n++
		}
	}
	return n
}
