package populator

import (
	"fmt"
	"sync"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/record"
)

// Reasons of the events on a claim.
const (
	eventStarted       = "ImportStarted"
	eventWaiting       = "ImportWaiting"
	eventRetry         = "ImportRetry"
	eventFailed        = "ImportFailed"
	eventSucceeded     = "ImportSucceeded"
	eventRestarted     = "ImportRestarted"
	eventImageNotFound = "VMDiskImageNotFound"
	eventNameTaken     = "ImportNameTaken"
)

var _ record.EventRecorder = (*eventRecorder)(nil)

// eventRecorder passes events on, but not twice: an event that says of an object what the
// last one with its reason said is dropped, and so are the events of
// lib-volume-populator that ours tell better. The library emits its own with every
// update of a claim, for the claim's whole life.
type eventRecorder struct {
	next record.EventRecorder

	mu   sync.Mutex
	last map[string]string // message, by object and reason
}

func newEventRecorder(next record.EventRecorder) *eventRecorder {
	return &eventRecorder{next: next, last: map[string]string{}}
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
	r.mu.Lock()
	defer r.mu.Unlock()
	if last, ok := r.last[key]; ok && last == message {
		return false
	}
	r.last[key] = message
	return true
}

// forget drops what is remembered of an object that has gone.
func (r *eventRecorder) forget(uid string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for key := range r.last {
		if len(key) > len(uid) && key[:len(uid)] == uid {
			delete(r.last, key)
		}
	}
}
