package poller

import (
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gild-project/gild/pkg/golden"
)

// memory is what is under way for each cron. After a restart it is empty, and what was not
// written is polled once more.
type memory struct {
	mu    sync.Mutex
	crons map[types.NamespacedName]*entry
}

// entry belongs to one cron, told by its UID.
type entry struct {
	uid types.UID
	// busy tells that a poll waits or runs.
	busy bool
	// outcome is of a poll that is not recorded yet; nil for none.
	outcome *outcome
	// written is the resource version that our last write has made, at a time: older views say nothing.
	written   string
	writtenAt time.Time
	// next is the time of the next poll, as long as the cron's annotation says what it said then.
	next time.Time
	said string
}

func newMemory() *memory { return &memory{crons: map[types.NamespacedName]*entry{}} }

// of returns what is known of a cron. fresh tells that it is new to us.
func (m *memory) of(cron *cdiv1.DataImportCron) (known entry, fresh bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := client.ObjectKeyFromObject(cron)
	said := cron.Annotations[golden.AnnotationNextCronTime]
	e := m.crons[key]
	if e == nil || e.uid != cron.UID {
		m.crons[key] = &entry{uid: cron.UID, said: said}
		return *m.crons[key], true
	}
	if e.said != said {
		e.next, e.said = time.Time{}, said
	}
	return *e, false
}

// believeAgain is after how long a view from before our own last write is believed: a cache is never
// that late, but a cluster may have been restored to an earlier state.
const believeAgain = 2 * time.Minute

// stale is how long a view of a cron says nothing because it is from before our own last write; 0 when
// it is not.
func (e *entry) stale(cron *cdiv1.DataImportCron, now time.Time) time.Duration {
	if e.written == "" {
		return 0
	}
	order, err := resourceversion.CompareResourceVersion(cron.ResourceVersion, e.written)
	if err != nil || order >= 0 || now.Before(e.writtenAt) {
		return 0
	}
	return max(0, e.writtenAt.Add(believeAgain).Sub(now))
}

func (m *memory) forget(key types.NamespacedName) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.crons, key)
}

// change changes what is known of a cron, unless another one has its name now.
func (m *memory) change(key types.NamespacedName, uid types.UID, change func(e *entry)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.crons[key]; e != nil && e.uid == uid {
		change(e)
	}
}
