package populator

import (
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// leaders holds which imports download what others ask for as well, under one key. Once an attempt runs the record of
// the import says so too; this is for the time before, and for how long an attempt may take to start. A restart
// forgets nothing that counts.
type leaders struct {
	mu sync.Mutex
	by map[types.NamespacedName]lead // by claim
}

// lead is the key of an import, and since when it has been about to get on.
type lead struct {
	key   string
	since time.Time
}

// leadPatience is how long others wait for an import whose importer does not run yet.
const leadPatience = time.Minute

func newLeaders() *leaders { return &leaders{by: map[types.NamespacedName]lead{}} }

// take makes a claim's import a leader, unless another one is under this key.
func (l *leaders) take(key string, claim types.NamespacedName, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.by[claim].key == key {
		return true
	}
	for _, held := range l.by {
		if held.key == key && fresh(held, now) {
			return false
		}
	}
	l.by[claim] = lead{key: key, since: now}
	return true
}

// join makes it one beside another, or gives it time anew: its attempt has been made.
func (l *leaders) join(key string, claim types.NamespacedName, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.by[claim] = lead{key: key, since: now}
}

// cede gives up the lead of a claim's import for another one that has it and has not begun either. Of two that cede to
// each other one does.
func (l *leaders) cede(key string, claim, to types.NamespacedName, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if held := l.by[to]; held.key != key || !fresh(held, now) {
		return false
	}
	delete(l.by, claim)
	return true
}

// holds reports whether a claim's import leads and may still begin.
func (l *leaders) holds(key string, claim types.NamespacedName, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.by[claim].key == key && fresh(l.by[claim], now)
}

// starting is holds for an import whose record says that its attempt starts. After a restart nobody knows since when.
func (l *leaders) starting(key string, claim types.NamespacedName, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.by[claim].key != key {
		l.by[claim] = lead{key: key, since: now}
	}
	return fresh(l.by[claim], now)
}

// keep gives a leader that waits for its turn time anew.
func (l *leaders) keep(claim types.NamespacedName, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if held, ok := l.by[claim]; ok {
		l.by[claim] = lead{key: held.key, since: now}
	}
}

// has reports whether a claim's import leads, whether it gets on or not.
func (l *leaders) has(key string, claim types.NamespacedName) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.by[claim].key == key
}

// leave gives up what a claim's import leads.
func (l *leaders) leave(claim types.NamespacedName) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.by, claim)
}

func fresh(held lead, now time.Time) bool { return now.Sub(held.since) < leadPatience }
