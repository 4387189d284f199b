package poller

import (
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"github.com/gild-project/gild/pkg/golden"
)

// finding is what one poll brings back: a revision, or why there is none.
type finding struct {
	revision *golden.Revision
	// image is what the source's image stream named; empty without one.
	image   string
	failure *failure
}

// outcome is all that one poll has to record. It is made once, of the cron that was polled, and may
// be applied again to a newer view of it: twice is the same as once.
type outcome struct {
	uid  types.UID
	seen seen
	at   time.Time
	next time.Time // zero for not by itself
	finding
	state  state
	reason string
	// message is of the condition; failures end with their count and the next time.
	message string
	// recovered tells that the poll before had failed.
	recovered bool
}

// seen is what a poll's outcome is about. When it has changed meanwhile, the outcome is of no use.
type seen struct {
	source, schedule, desired string
}

func seenOf(cron *cdiv1.DataImportCron) seen {
	return seen{source: sourceOf(cron), schedule: cron.Spec.Schedule, desired: cron.Annotations[golden.AnnotationDesiredDigest]}
}

// outdated reports whether a cron has been edited since it was polled.
func (o *outcome) outdated(cron *cdiv1.DataImportCron) bool {
	now := seenOf(cron)
	if o.revision != nil && now.desired == o.revision.Digest {
		now.desired = o.seen.desired // our own write, of which we do not know
	}
	return cron.UID != o.uid || now != o.seen
}

// conclude makes the outcome of a poll that began at a time.
func conclude(cron *cdiv1.DataImportCron, t task, f finding, at time.Time) *outcome {
	before := readState(cron)
	o := &outcome{uid: cron.UID, seen: seenOf(cron), at: at, finding: f, recovered: before.Failures > 0}
	o.state = state{Schedule: cron.Spec.Schedule, Source: o.seen.source, PollNow: before.PollNow}
	_, changed := pollNow(cron, &before)
	if t == taskFind || changed {
		o.state.PollNow = fingerprint(cron.Annotations[golden.AnnotationPollNow])
	}
	o.state.Fresh = needsFresh(cron)
	o.state.Desired, o.state.Completed = byHand(cron), before.Completed
	if f.failure != nil {
		o.state.Failures = before.Failures + 1
		o.state.Transient = !f.failure.permanent
		if f.failure.retryAfter > 0 {
			o.state.NotBefore = &metav1.Time{Time: at.Add(min(f.failure.retryAfter, maxNotBefore)).UTC().Truncate(time.Second)}
		}
	} else {
		o.state.Desired, o.state.Completed = "", ""
		if t == taskComplete {
			o.state.Completed = f.revision.Digest
		}
	}
	times, err := parseSchedule(cron.Spec.Schedule, cron.CreationTimestamp.Time, cron.UID)
	switch {
	case err != nil:
	case times != nil && wasPolledByCDI(cron, &before):
		// That was what CDI has found last. Now the source is asked, which CDI may have been away from for long.
		o.next = at.UTC().Truncate(time.Second)
	default:
		o.next = nextPoll(times, &o.state, at)
	}
	o.describe(cron)
	return o
}

// refuse makes the outcome of a schedule that cannot be read: nothing was polled.
func refuse(cron *cdiv1.DataImportCron, f *failure) *outcome {
	s := readState(cron)
	s.Schedule = cron.Spec.Schedule
	return &outcome{
		uid: cron.UID, seen: seenOf(cron), finding: finding{failure: f}, state: s, reason: f.reason,
		message: f.message + "; nothing is polled until then",
	}
}

func (o *outcome) describe(cron *cdiv1.DataImportCron) {
	if o.failure != nil {
		o.reason = o.failure.reason
		o.message = fmt.Sprintf("%s; %s; %s", o.failure.message, countFailures(o.state.Failures), nextWords(o.next))
		return
	}
	desired := cron.Annotations[golden.AnnotationDesiredDigest]
	name := shortDigest(o.revision.Digest)
	switch {
	case polled(cron) == nil:
		o.reason, o.message = reasonFound, "the source is at revision "+name
	case desired != o.revision.Digest:
		o.reason, o.message = reasonChanged, fmt.Sprintf("the source has changed from revision %s to %s", shortDigest(desired), name)
	default:
		o.reason, o.message = reasonNotModified, "the source is still at revision "+name
	}
}

func countFailures(n int) string {
	if n == 1 {
		return "the poll has failed once"
	}
	return fmt.Sprintf("%d polls in a row have failed", n)
}

func nextWords(next time.Time) string {
	if next.IsZero() {
		return "the next one is made when the cron is edited or its annotation " + golden.AnnotationPollNow + " changes"
	}
	return "the next one is at " + next.UTC().Format(time.RFC3339)
}
