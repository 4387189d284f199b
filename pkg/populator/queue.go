package populator

import (
	"fmt"
	"maps"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// queue bounds how many imports run at once, in all and per host. newQueue sets the limits.
//
// What runs is told by the Jobs that exist; running adds the places given to imports whose Job our
// cache does not show yet. So a restart forgets nothing that counts.
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

// enter asks for a place; jobs are the hosts of the imports that have a Job, by claim. Without a place it
// returns why, and the import waits in line: an older one that could run goes first.
func (q *queue) enter(claim types.UID, host string, since time.Time, jobs map[types.UID]string) (why string, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if _, held := q.running[claim]; held {
		return "", true
	}
	running := maps.Clone(q.running)
	maps.Copy(running, jobs)
	onHost := map[string]int{}
	for _, h := range running {
		onHost[h]++
	}
	q.waiting[claim] = waiter{host: host, since: since}
	if len(running) >= q.perCluster {
		return fmt.Sprintf("%d imports are running, as many as --max-imports allows", len(running)), false
	}
	if n := onHost[host]; n >= q.perHost {
		return fmt.Sprintf("%d imports from %s are running, as many as --max-imports-per-host allows", n, host), false
	}
	for other, w := range q.waiting {
		older := w.since.Before(since) || w.since.Equal(since) && other < claim
		if older && onHost[w.host] < q.perHost {
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
