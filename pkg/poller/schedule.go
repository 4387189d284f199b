package poller

import (
	"errors"
	"hash/fnv"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
	"k8s.io/apimachinery/pkg/types"
)

const (
	// maxJitter and jitterShare bound how long after its time a scheduled poll is made.
	maxJitter   = time.Minute
	jitterShare = 10
)

// schedule is when one cron is polled by itself.
type schedule struct {
	times  cron.Schedule
	spread float64 // in [0,1), the same for the cron's whole life
}

// parseSchedule reads the schedule of a cron: five fields or a descriptor such as @daily, in UTC
// unless it begins with CRON_TZ= or TZ= and a time zone. nil means never: the schedule is empty.
func parseSchedule(text string, created time.Time, uid types.UID) (*schedule, error) {
	if text == "" {
		return nil, nil
	}
	if zone, _, found := strings.Cut(text, " "); !found && strings.Contains(zone, "TZ=") {
		return nil, errors.New("a time zone alone is no schedule") // the parser panics at it
	}
	times, err := cron.ParseStandard(text)
	if err != nil {
		return nil, err
	}
	if every, ok := times.(cron.ConstantDelaySchedule); ok {
		times = interval{delay: every.Delay, from: created}
	}
	if times.Next(created.UTC()).IsZero() {
		return nil, errors.New("it names no time within five years")
	}
	return &schedule{times: times, spread: placeOf(uid)}, nil
}

// placeOf is the place of a cron among all others, in [0,1), the same for its whole life.
func placeOf(uid types.UID) float64 {
	sum := fnv.New32a()
	_, _ = sum.Write([]byte(uid)) // a hash takes everything
	return float64(sum.Sum32()) / (1 << 32)
}

// next is the first poll whose scheduled time is after a time: that time and the cron's jitter, in
// whole seconds and UTC. It is zero when there is none within five years.
func (s *schedule) next(after time.Time) time.Time {
	slot := s.times.Next(after.UTC())
	if slot.IsZero() {
		return slot
	}
	jitter := maxJitter
	if following := s.times.Next(slot); !following.IsZero() {
		jitter = min(jitter, following.Sub(slot)/jitterShare)
	}
	return slot.Add(time.Duration(s.spread * float64(jitter)).Truncate(time.Second)).UTC()
}

// interval is an @every schedule. Its times are counted from the creation of the cron, so that
// neither the jitter nor a poll by hand moves them.
type interval struct {
	delay time.Duration
	from  time.Time
}

// Next implements cron.Schedule.
func (i interval) Next(after time.Time) time.Time {
	if after.Before(i.from) {
		return i.from
	}
	return i.from.Add((after.Sub(i.from)/i.delay + 1) * i.delay)
}

// illegal is the failure of a schedule that cannot be read.
func illegal(text string, err error) *failure {
	return hopeless(reasonIllegalSchedule,
		"schedule %.100q: %s: write five fields (minute, hour, day of month, month, day of week) or a descriptor such as @daily", text, err)
}
