package poller

import (
	"time"

	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"github.com/gild-project/gild/pkg/golden"
)

// task is what a poll is for.
type task int

const (
	// taskNone means that no poll is due.
	taskNone task = iota
	// taskFind looks for the newest revision of the source.
	taskFind
	// taskComplete looks for what belongs to a digest that was written by hand.
	taskComplete
)

// decision is what becomes of a cron now.
type decision struct {
	task task
	// next is when to look again, zero for not by itself. With a task it is not set.
	next time.Time
	// reschedule tells that the schedule was edited: next is to be recorded.
	reschedule bool
	// illegal is why the schedule cannot be read; no poll is made then.
	illegal *failure
}

// maxNotBefore bounds how long a source can keep polls away.
const maxNotBefore = 24 * time.Hour

// decide says what is due for a cron. next is the time of the next poll, when one later than the
// cron's annotation is known, otherwise zero.
func decide(cron *cdiv1.DataImportCron, now, next time.Time) decision {
	times, err := parseSchedule(cron.Spec.Schedule, cron.CreationTimestamp.Time, cron.UID)
	if err != nil {
		return decision{illegal: illegal(cron.Spec.Schedule, err)}
	}
	s := readState(cron)
	waiting := byHand(cron)
	asked, changed := pollNow(cron, &s)
	switch {
	case waiting != "" && waiting != s.Desired:
		return decision{task: taskComplete}
	case changed && times == nil && s.Completed != "" && s.Completed == cron.Annotations[golden.AnnotationDesiredDigest]:
		// What was written by hand stays, whatever the source is at now.
		return decision{task: taskComplete}
	case asked:
		return decision{task: taskFind}
	case s.Source != "" && s.Source != sourceOf(cron) && waiting != "":
		return decision{task: taskComplete}
	case s.Source != "" && s.Source != sourceOf(cron) && (times != nil || s.Failures > 0):
		return decision{task: taskFind}
	case s.Source == "" && times != nil:
		return decision{task: taskFind}
	case times != nil && wasIllegal(cron):
		return decision{task: taskFind}
	case s.Schedule != cron.Spec.Schedule:
		return decision{next: nextPoll(times, &s, now), reschedule: true}
	}
	if next.IsZero() {
		next = timeIn(cron, golden.AnnotationNextCronTime)
	}
	retry := s.Failures > 0 && s.Transient
	if times == nil && !retry {
		return decision{}
	}
	if !now.Before(next) {
		if retry && waiting != "" {
			return decision{task: taskComplete}
		}
		return decision{task: taskFind}
	}
	// The clock may have been set back since.
	if latest := nextPoll(times, &s, now); next.After(latest) {
		next = latest
	}
	return decision{next: next}
}

// wasIllegal reports whether the last word on a cron is that its schedule cannot be read.
func wasIllegal(cron *cdiv1.DataImportCron) bool {
	c := condition(cron)
	return c != nil && c.Reason == reasonIllegalSchedule
}

// byHand is the digest that was written by hand and is not complete; empty for none.
func byHand(cron *cdiv1.DataImportCron) string {
	desired := cron.Annotations[golden.AnnotationDesiredDigest]
	if found := polled(cron); found != nil && found.Digest == desired {
		return ""
	}
	return desired
}

// nextPoll is when a cron is polled after now: at the schedule's next time, or earlier after a
// failure that may pass, but not before the source wants it. Zero means not by itself.
func nextPoll(times *schedule, s *state, now time.Time) time.Time {
	var next time.Time
	if times != nil {
		next = times.next(now)
	}
	if s.Failures > 0 && s.Transient {
		if retry := now.Add(backoff(s.Failures)).Truncate(time.Second).UTC(); next.IsZero() || retry.Before(next) {
			next = retry
		}
	}
	if !next.IsZero() && s.NotBefore != nil && next.Before(s.NotBefore.Time) && s.NotBefore.Sub(now) <= maxNotBefore {
		next = s.NotBefore.UTC()
	}
	return next
}

// backoff is how long to wait after the n-th transient failure in a row: 1, 2, 4 … 60 minutes.
func backoff(n int) time.Duration {
	const doublings = 6
	return min(time.Minute<<min(n-1, doublings), time.Hour)
}
