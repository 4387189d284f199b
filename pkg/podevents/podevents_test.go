package podevents

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func now() time.Time { return time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC) }

// event was last seen so long ago.
func event(reason, message string, ago time.Duration) corev1.Event {
	return corev1.Event{Reason: reason, Message: message, LastTimestamp: metav1.NewTime(now().Add(-ago))}
}

// newEvent is one as recorders of events.k8s.io write it.
func newEvent(reason, message string, ago time.Duration) corev1.Event {
	return corev1.Event{Reason: reason, Message: message, EventTime: metav1.NewMicroTime(now().Add(-ago))}
}

// inSeries was first seen an hour ago, and last so long ago.
func inSeries(reason, message string, ago time.Duration) corev1.Event {
	e := newEvent(reason, message, time.Hour)
	e.Series = &corev1.EventSeries{Count: 3, LastObservedTime: metav1.NewMicroTime(now().Add(-ago))}
	return e
}

func TestLatest(t *testing.T) {
	for name, test := range map[string]struct {
		events  []corev1.Event
		reasons []string
		want    string // the message; empty for no event
	}{
		"none":                {nil, []string{"Failed"}, ""},
		"another reason":      {[]corev1.Event{event("Pulled", "x", 0)}, []string{"Failed"}, ""},
		"the only one":        {[]corev1.Event{event("Failed", "x", 0)}, []string{"Failed"}, "x"},
		"oldest first":        {[]corev1.Event{event("Failed", "old", time.Minute), event("Failed", "new", 0)}, []string{"Failed"}, "new"},
		"newest first":        {[]corev1.Event{event("Failed", "new", 0), event("Failed", "old", time.Minute)}, []string{"Failed"}, "new"},
		"one of many reasons": {[]corev1.Event{event("Pulled", "new", 0), event("Pulling", "old", time.Second), event("Failed", "x", 0)}, []string{"Pulling", "Pulled"}, "new"},
		"the same time":       {[]corev1.Event{event("Failed", "first", 0), event("Failed", "second", 0)}, []string{"Failed"}, "second"},
		"of a new recorder":   {[]corev1.Event{newEvent("Failed", "new", 0), event("Failed", "old", time.Minute)}, []string{"Failed"}, "new"},
		"of a series":         {[]corev1.Event{inSeries("Failed", "new", 0), event("Failed", "old", time.Minute)}, []string{"Failed"}, "new"},
		"no time at all":      {[]corev1.Event{event("Failed", "new", 0), {Reason: "Failed", Message: "timeless"}}, []string{"Failed"}, "new"},
	} {
		t.Run(name, func(t *testing.T) {
			found := Latest(test.events, test.reasons...)
			if test.want == "" {
				require.Nil(t, found)
				return
			}
			require.NotNil(t, found)
			require.Equal(t, test.want, found.Message)
		})
	}
}

func TestByTime(t *testing.T) {
	events := []corev1.Event{event("c", "", time.Second), newEvent("b", "", time.Minute), inSeries("d", "", 0), {Reason: "a"}}
	slices.SortFunc(events, ByTime)
	var order string
	for _, e := range events {
		order += e.Reason
	}
	require.Equal(t, "abcd", order)
}

func TestFailingMount(t *testing.T) {
	failed := event("FailedMount", "wrong fs", time.Second)
	for name, test := range map[string]struct {
		onNode time.Duration // since when the pod has its node
		status corev1.ConditionStatus
		events []corev1.Event
		want   bool
	}{
		"nothing failed":        {time.Minute, corev1.ConditionTrue, []corev1.Event{event("Scheduled", "", 0)}, false},
		"a mount":               {time.Minute, corev1.ConditionTrue, []corev1.Event{failed}, true},
		"an attachment":         {time.Minute, corev1.ConditionTrue, []corev1.Event{event("FailedAttachVolume", "", 0)}, true},
		"a device":              {time.Minute, corev1.ConditionTrue, []corev1.Event{event("FailedMapVolume", "", 0)}, true},
		"not for long":          {19 * time.Second, corev1.ConditionTrue, []corev1.Event{failed}, false},
		"long enough":           {21 * time.Second, corev1.ConditionTrue, []corev1.Event{failed}, true},
		"only at first":         {time.Minute, corev1.ConditionTrue, []corev1.Event{event("FailedMount", "", 56*time.Second)}, false},
		"no longer at first":    {time.Minute, corev1.ConditionTrue, []corev1.Event{event("FailedMount", "", 54*time.Second)}, true},
		"mounted since":         {time.Minute, corev1.ConditionTrue, []corev1.Event{event("SuccessfulMountVolume", "", 0), failed}, false},
		"attached since":        {time.Minute, corev1.ConditionTrue, []corev1.Event{event("SuccessfulAttachVolume", "", 0), failed}, false},
		"pulled since":          {time.Minute, corev1.ConditionTrue, []corev1.Event{event("Pulled", "", 0), failed}, false},
		"fails again":           {time.Minute, corev1.ConditionTrue, []corev1.Event{failed, event("SuccessfulAttachVolume", "", 2*time.Second)}, true},
		"not on a node":         {time.Minute, corev1.ConditionFalse, []corev1.Event{failed}, false},
		"no word of the node's": {time.Minute, "", []corev1.Event{failed}, false},
	} {
		t.Run(name, func(t *testing.T) {
			pod := &corev1.Pod{}
			if test.status != "" {
				pod.Status.Conditions = []corev1.PodCondition{
					{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(now().Add(-time.Hour))},
					{Type: corev1.PodScheduled, Status: test.status, LastTransitionTime: metav1.NewTime(now().Add(-test.onNode))},
				}
			}
			require.Equal(t, test.want, FailingMount(pod, test.events, now()) != nil)
		})
	}
}

func TestWithoutQueries(t *testing.T) {
	for text, want := range map[string]string{
		"":                                       "",
		"is it gone?":                            "is it gone?",
		"https://blobs.example.org/a?sig=canary": "https://blobs.example.org/a",
		`Get "https://blobs.example.org/a?sig=canary&x=1": refused`: `Get "https://blobs.example.org/a": refused`,
		"'http://a.example.org/?x' and https://b.example.org?y z":   "'http://a.example.org/' and https://b.example.org z",
		"https://blobs.example.org/a: 404":                          "https://blobs.example.org/a: 404",
	} {
		require.Equal(t, want, WithoutQueries(text))
	}
}
