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
// What runs is told by the pods that have a node. An import that was let in counts for a while before
// its pod has one; after that it does not, so that claims whose volume never comes
// hold nobody up. A restart forgets nothing that counts.
type queue struct {
	perCluster, perHost int

	mu      sync.Mutex
	entered map[types.NamespacedName]entry // let in, by claim
	waiting map[types.NamespacedName]entry
}

// entry is an import from a host; since is when it was let in, or made.
type entry struct {
	host  string
	since time.Time
}

// reservation is how long a place is kept for an import whose pod has no node.
const reservation = 30 * time.Second

func newQueue(perCluster, perHost int) *queue {
	return &queue{
		perCluster: perCluster, perHost: perHost,
		entered: map[types.NamespacedName]entry{}, waiting: map[types.NamespacedName]entry{},
	}
}

// enter asks for a place for an import made at since; pods are the hosts of the imports whose pod has
// a node, by claim. Without a place it returns why, and the import waits in line: an older one that
// could run goes first. It may be asked again and again, until leave.
func (q *queue) enter(claim types.NamespacedName, host string, since, now time.Time, pods map[types.NamespacedName]string) (why string, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	running := maps.Clone(pods)
	if running == nil {
		running = map[types.NamespacedName]string{}
	}
	for other, e := range q.entered {
		if now.Sub(e.since) < reservation {
			running[other] = e.host
		}
	}
	if _, held := running[claim]; held {
		return "", true
	}
	onHost := map[string]int{}
	for _, h := range running {
		onHost[h]++
	}
	q.waiting[claim] = entry{host: host, since: since}
	if len(running) >= q.perCluster {
		return fmt.Sprintf("%d imports are running, as many as --max-imports allows", len(running)), false
	}
	if n := onHost[host]; n >= q.perHost {
		return fmt.Sprintf("%d imports from %s are running, as many as --max-imports-per-host allows", n, host), false
	}
	for other, w := range q.waiting {
		older := w.since.Before(since) || w.since.Equal(since) && other.String() < claim.String()
		if older && onHost[w.host] < q.perHost {
			return "an older import goes first", false
		}
	}
	delete(q.waiting, claim)
	q.entered[claim] = entry{host: host, since: now}
	return "", true
}

// keep keeps the place of an import that was let in for another reservation.
func (q *queue) keep(claim types.NamespacedName, now time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if e, held := q.entered[claim]; held {
		e.since = now
		q.entered[claim] = e
	}
}

// leave gives up an import's place, running or waiting.
func (q *queue) leave(claim types.NamespacedName) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.entered, claim)
	delete(q.waiting, claim)
}
