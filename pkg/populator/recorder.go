package populator

import (
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/clock"
	"k8s.io/utils/lru"
)

// Reasons of the events on a claim.
const (
	eventStarted   = "ImportStarted"
	eventWaiting   = "ImportWaiting"
	eventRetry     = "ImportRetry"
	eventFailed    = "ImportFailed"
	eventSucceeded = "ImportSucceeded"
	eventRestarted = "ImportRestarted"
	eventNameTaken = "ImportNameTaken"

	eventStrategy   = "StrategyChosen"
	eventPassedOver = "StrategyPassedOver"
	eventNoSnapshot = "SnapshotNotKept"
	eventFollows    = "ImportShared"
)

var _ record.EventRecorder = (*eventRecorder)(nil)

// eventRecorder passes events on, but not twice: an event that says of an object what the
// last one with its reason said is dropped for a while, and so are the events of
// lib-volume-populator that ours tell better. The library emits its own with every
// update of a claim, for the claim's whole life.
type eventRecorder struct {
	next record.EventRecorder

	clock clock.PassiveClock
	last  *lru.Cache // told, by object and reason
}

// told is what was last said of an object with one reason.
type told struct {
	message string
	at      time.Time
}

const (
	// rememberEvents is how many objects and reasons are remembered.
	rememberEvents = 8192
	// sayAgain is after how long the same is news again.
	sayAgain = 10 * time.Minute
)

func newEventRecorder(next record.EventRecorder, clock clock.PassiveClock) *eventRecorder {
	return &eventRecorder{next: next, clock: clock, last: lru.New(rememberEvents)}
}

func (r *eventRecorder) Event(object runtime.Object, eventType, reason, message string) {
	if r.isNews(object, reason, message) {
		r.next.Event(object, eventType, reason, message)
	}
}

func (r *eventRecorder) Eventf(object runtime.Object, eventType, reason, format string, args ...any) {
	r.Event(object, eventType, reason, fmt.Sprintf(format, args...))
}

func (r *eventRecorder) AnnotatedEventf(object runtime.Object, annotations map[string]string, eventType, reason, format string, args ...any) {
	if message := fmt.Sprintf(format, args...); r.isNews(object, reason, message) {
		r.next.AnnotatedEventf(object, annotations, eventType, reason, "%s", message)
	}
}

// isNews reports whether an event is worth passing on, and remembers it.
func (r *eventRecorder) isNews(object runtime.Object, reason, message string) bool {
	switch reason {
	case "PopulatorFinished", "PopulateOperationFinished", "PopulateOperationFailed",
		"PopulatorDataSourceNotFound", "reasonPVCPrimeMutatorError":
		return false
	}
	accessor, err := meta.Accessor(object)
	if err != nil {
		return true
	}
	key := string(accessor.GetUID()) + " " + reason
	now := r.clock.Now()
	if last, ok := r.last.Get(key); ok {
		if last, ok := last.(told); ok && last.message == message && now.Sub(last.at) < sayAgain {
			return false
		}
	}
	r.last.Add(key, told{message: message, at: now})
	return true
}
