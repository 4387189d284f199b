// Package podevents finds in the events of a pod and its volumes what is worth telling its user.
package podevents

import (
	"regexp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

const (
	// mountPatience is how long mounting may fail before it is worth telling: the node may not know the volume yet.
	mountPatience = 20 * time.Second
	// firstMount is how long after a pod has its node a failed mount tells nothing: the node may not read the claim
	// yet, and tries again.
	firstMount = 5 * time.Second
)

// ByTime compares two events by when they were last seen, as slices.SortFunc wants it: oldest first.
func ByTime(a, b corev1.Event) int { return seen(&a).Compare(seen(&b)) }

// seen is when an event was last seen: recorders of events.k8s.io set no LastTimestamp.
func seen(event *corev1.Event) time.Time {
	switch {
	case !event.LastTimestamp.IsZero():
		return event.LastTimestamp.Time
	case event.Series != nil:
		return event.Series.LastObservedTime.Time
	}
	return event.EventTime.Time
}

// Latest is the newest event with one of the reasons, in whatever order they come; nil when there is none. Of two of
// the same time it is the later one.
func Latest(events []corev1.Event, reasons ...string) *corev1.Event {
	var newest *corev1.Event
	for i := range events {
		if slices.Contains(reasons, events[i].Reason) && (newest == nil || ByTime(events[i], *newest) >= 0) {
			newest = &events[i]
		}
	}
	return newest
}

// FailingMount is the newest event of a mount that goes on failing; nil when that is not worth telling yet, or the pod
// has gone on since: its volumes are attached, then mounted, before its images are pulled.
func FailingMount(pod *corev1.Pod, events []corev1.Event, now time.Time) *corev1.Event {
	event := Latest(events, "FailedMount", "FailedAttachVolume", "FailedMapVolume", "SuccessfulMountVolume", "SuccessfulAttachVolume",
		"Pulling", "Pulled", "Created", "Started")
	if event == nil || !strings.HasPrefix(event.Reason, "Failed") {
		return nil
	}
	since := scheduled(pod)
	if since.IsZero() || !since.Before(now.Add(-mountPatience)) || !since.Before(seen(event).Add(-firstMount)) {
		return nil
	}
	return event
}

// scheduled is since when a pod has its node, the zero time when it has none.
func scheduled(pod *corev1.Pod) time.Time {
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodScheduled && condition.Status == corev1.ConditionTrue {
			return condition.LastTransitionTime.Time
		}
	}
	return time.Time{}
}

// WithoutQueries takes the queries out of the URLs in a text: that of a blob store is often signed, and opens it to everybody.
func WithoutQueries(text string) string {
	return regexp.MustCompile(`(://[^\s"'?]*)\?[^\s"']*`).ReplaceAllString(text, "$1")
}
