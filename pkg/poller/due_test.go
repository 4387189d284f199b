package poller

import (
	"fmt"
	"testing"
	"time"
	_ "time/tzdata"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"github.com/gild-project/gild/pkg/golden"
)

// at reads a time that a test is at.
func at(t *testing.T, text string) time.Time {
	t.Helper()
	parsed, err := time.Parse(time.RFC3339, text)
	require.NoError(t, err)
	return parsed
}

func TestSchedule(t *testing.T) {
	const created = "2026-01-01T00:00:00Z"
	for name, test := range map[string]struct{ schedule, after, want string }{
		"five fields, in UTC":             {"30 1 * * 1", "2026-11-21T12:00:00+02:00", "2026-11-23T01:30:00Z"},
		"descriptor":                      {"@daily", "2026-11-21T12:00:00Z", "2026-11-22T00:00:00Z"},
		"time zone":                       {"CRON_TZ=Asia/Tokyo 0 6 * * *", "2026-11-21T12:00:00Z", "2026-11-21T21:00:00Z"},
		"time zone, short":                {"TZ=America/New_York 0 6 * * *", "2026-11-21T12:00:00Z", "2026-11-22T11:00:00Z"},
		"summer time begins at that time": {"CRON_TZ=Europe/Berlin 30 2 * * *", "2026-03-28T12:00:00Z", "2026-03-30T00:30:00Z"},
		"summer time begins before it":    {"CRON_TZ=Europe/Berlin 30 5 * * *", "2026-03-28T12:00:00Z", "2026-03-29T03:30:00Z"},
		"summer time ends, first time":    {"CRON_TZ=Europe/Berlin 30 2 * * *", "2026-10-24T12:00:00Z", "2026-10-25T00:30:00Z"},
		"summer time ends, second time":   {"CRON_TZ=Europe/Berlin 30 2 * * *", "2026-10-25T00:31:00Z", "2026-10-25T01:30:00Z"},
		"leap day":                        {"0 0 29 2 *", "2026-11-21T12:00:00Z", "2028-02-29T00:00:00Z"},
		"interval, counted from creation": {"@every 90m", "2026-01-01T02:00:00Z", "2026-01-01T03:00:00Z"},
		"interval, exactly then":          {"@every 90m", "2026-01-01T03:00:00Z", "2026-01-01T04:30:00Z"},
		"interval, clock before creation": {"@every 90m", "2025-12-31T00:00:00Z", "2026-01-01T00:00:00Z"},
		"years later":                     {"@every 1h", "2036-01-01T00:00:01Z", "2036-01-01T01:00:00Z"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := parseSchedule(test.schedule, at(t, created), "")
			require.NoError(t, err)
			s.spread = 0
			require.Equal(t, test.want, s.next(at(t, test.after)).Format(time.RFC3339))
		})
	}
	never, err := parseSchedule("", at(t, created), "")
	require.NoError(t, err)
	require.Nil(t, never)
}

func TestIllegalSchedules(t *testing.T) {
	for _, schedule := range []string{
		"hourly", "* * * *", "* * * * * *", "61 * * * *", "@fortnightly", "CRON_TZ=Nowhere/Land 0 0 * * *", "TZ=UTC", "CRON_TZ=UTC", "0 0 30 2 *", "@every soon", " ",
	} {
		_, err := parseSchedule(schedule, at(t, "2026-01-01T00:00:00Z"), "")
		require.Error(t, err, schedule)
	}
}

func TestJitter(t *testing.T) {
	now := at(t, "2026-11-21T12:00:00Z")
	for schedule, most := range map[string]time.Duration{
		"0 1 * * *": time.Minute, "* * * * *": 6 * time.Second, "*/5 * * * *": 30 * time.Second, "@every 5s": 0,
	} {
		seconds := map[int]bool{}
		for n := range 1000 {
			uid := types.UID(fmt.Sprintf("uid-%d", n))
			s, err := parseSchedule(schedule, now, uid)
			require.NoError(t, err)
			slot, next := s.times.Next(now), s.next(now)
			require.Equal(t, next, s.next(now), "the same each time")
			require.GreaterOrEqual(t, next.Sub(slot), time.Duration(0))
			require.LessOrEqual(t, next.Sub(slot), most)
			require.Zero(t, next.Nanosecond())
			seconds[int(next.Sub(slot).Seconds())] = true
		}
		require.GreaterOrEqual(t, len(seconds), int(most.Seconds())*9/10, "%s is not spread", schedule)
	}
}

const (
	oneDigest   = golden.PrefixSHA256 + "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
	otherDigest = golden.PrefixSHA256 + "60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752"
)

// fileCron is polled each hour, and was polled last at 11:00.
func fileCron() *cdiv1.DataImportCron {
	cron := &cdiv1.DataImportCron{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "golden", Name: "fedora", UID: "0b8a4d5c-cron", ResourceVersion: "1",
			CreationTimestamp: metav1.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC),
			Annotations:       map[string]string{},
		},
		Spec: cdiv1.DataImportCronSpec{Schedule: "0 * * * *", ManagedDataSource: "fedora"},
	}
	cron.Spec.Template.Spec.Source = &cdiv1.DataVolumeSource{HTTP: &cdiv1.DataVolumeSourceHTTP{URL: "https://images.example.org/fedora.qcow2"}}
	return cron
}

// polledCron is fileCron after its poll at 11:00.
func polledCron(t *testing.T, change func(*state)) *cdiv1.DataImportCron {
	t.Helper()
	cron := fileCron()
	s := state{Schedule: cron.Spec.Schedule, Source: sourceOf(cron)}
	if change != nil {
		change(&s)
	}
	cron.Annotations[annotationState] = s.String()
	cron.Annotations[golden.AnnotationPolled] = (&golden.Revision{Digest: oneDigest}).String()
	cron.Annotations[golden.AnnotationDesiredDigest] = oneDigest
	setTime(cron, golden.AnnotationLastCronTime, at(t, "2026-11-21T11:00:00Z"))
	setTime(cron, golden.AnnotationNextCronTime, nextSlot(t, cron, "2026-11-21T11:00:00Z"))
	return cron
}

// nextSlot is the next scheduled time of a cron with its jitter.
func nextSlot(t *testing.T, cron *cdiv1.DataImportCron, after string) time.Time {
	t.Helper()
	s, err := parseSchedule(cron.Spec.Schedule, cron.CreationTimestamp.Time, cron.UID)
	require.NoError(t, err)
	if s == nil {
		return time.Time{}
	}
	return s.next(at(t, after))
}

func TestDecide(t *testing.T) {
	const now = "2026-11-21T11:30:00Z"
	failed := func(transient bool) func(*state) {
		return func(s *state) { s.Failures, s.Transient = 1, transient }
	}
	for name, test := range map[string]struct {
		before func(*state)
		change func(t *testing.T, cron *cdiv1.DataImportCron)
		now    string
		next   string // that memory knows
		task   task
		waits  string // until the slot after this time
		until  string // until this time
		again  bool
	}{
		"not due":                    {waits: "2026-11-21T11:30:00Z"},
		"due":                        {now: "2026-11-21T12:00:59Z", task: taskFind},
		"due since three days":       {now: "2026-11-24T11:59:59Z", task: taskFind},
		"clock set forward a year":   {now: "2027-11-24T11:59:59Z", task: taskFind},
		"clock set back":             {now: "2026-11-18T09:30:00Z", waits: "2026-11-18T09:30:00Z"},
		"clock set back, remembered": {now: "2026-11-18T10:00:59Z", next: "2026-11-18T10:00:30Z", task: taskFind},
		"memory knows better":        {now: "2026-11-21T12:30:00Z", next: "2026-11-21T13:00:05Z", until: "2026-11-21T13:00:05Z"},
		"next time deleted": {task: taskFind, change: func(_ *testing.T, cron *cdiv1.DataImportCron) {
			delete(cron.Annotations, golden.AnnotationNextCronTime)
		}},
		"next time set to the past": {task: taskFind, change: func(_ *testing.T, cron *cdiv1.DataImportCron) {
			cron.Annotations[golden.AnnotationNextCronTime] = "2026-11-21T11:29:59Z"
		}},
		"next time of a CDI in another zone": {until: "2026-11-21T11:45:00Z", change: func(_ *testing.T, cron *cdiv1.DataImportCron) {
			cron.Annotations[golden.AnnotationNextCronTime] = "2026-11-21T13:45:00+02:00"
		}},
		"new": {task: taskFind, change: func(_ *testing.T, cron *cdiv1.DataImportCron) { cron.Annotations = nil }},
		"new and by hand": {change: func(_ *testing.T, cron *cdiv1.DataImportCron) {
			cron.Annotations, cron.Spec.Schedule = nil, ""
		}},
		"state is garbage": {task: taskFind, change: func(_ *testing.T, cron *cdiv1.DataImportCron) {
			cron.Annotations[annotationState] = "{"
		}},
		"schedule edited": {again: true, waits: "2026-11-21T13:00:00Z", change: func(_ *testing.T, cron *cdiv1.DataImportCron) {
			cron.Spec.Schedule = "0 14 * * *"
		}},
		"schedule edited to none": {again: true, change: func(_ *testing.T, cron *cdiv1.DataImportCron) { cron.Spec.Schedule = "" }},
		"source edited": {task: taskFind, change: func(_ *testing.T, cron *cdiv1.DataImportCron) {
			cron.Spec.Template.Spec.Source.HTTP.CertConfigMap = "certs"
		}},
		"from http to registry": {task: taskFind, change: func(_ *testing.T, cron *cdiv1.DataImportCron) {
			url := "docker://registry.example.org/fedora:latest"
			cron.Spec.Template.Spec.Source = &cdiv1.DataVolumeSource{Registry: &cdiv1.DataVolumeSourceRegistry{URL: &url}}
		}},
		"size edited": {waits: now, change: func(_ *testing.T, cron *cdiv1.DataImportCron) {
			cron.Spec.Template.Spec.Storage = &cdiv1.StorageSpec{}
		}},
		"checksum file named": {task: taskFind, change: func(_ *testing.T, cron *cdiv1.DataImportCron) {
			cron.Annotations[golden.AnnotationChecksumURL] = "https://images.example.org/SHA256SUMS"
		}},
		"poll now": {task: taskFind, change: func(_ *testing.T, cron *cdiv1.DataImportCron) {
			cron.Annotations[golden.AnnotationPollNow] = "please"
		}},
		"poll now, by hand": {task: taskFind, change: func(t *testing.T, cron *cdiv1.DataImportCron) {
			noSchedule(t, cron)
			cron.Annotations[golden.AnnotationPollNow] = "please"
		}},
		"poll now, done": {before: func(s *state) { s.PollNow = fingerprint("please") }, waits: now, change: func(_ *testing.T, cron *cdiv1.DataImportCron) {
			cron.Annotations[golden.AnnotationPollNow] = "please"
		}},
		"poll now taken away":    {before: func(s *state) { s.PollNow = fingerprint("please") }, waits: now},
		"by hand, nothing to do": {change: noSchedule},
		"by hand, source edited": {change: func(t *testing.T, cron *cdiv1.DataImportCron) {
			noSchedule(t, cron)
			cron.Spec.Template.Spec.Source.HTTP.URL += "2"
		}},
		"by hand, a digest": {task: taskComplete, change: func(t *testing.T, cron *cdiv1.DataImportCron) {
			noSchedule(t, cron)
			cron.Annotations[golden.AnnotationDesiredDigest] = otherDigest
		}},
		"a digest beside a schedule": {task: taskComplete, change: func(_ *testing.T, cron *cdiv1.DataImportCron) {
			cron.Annotations[golden.AnnotationDesiredDigest] = otherDigest
		}},
		"a digest of a cron from CDI": {task: taskComplete, change: func(_ *testing.T, cron *cdiv1.DataImportCron) {
			cron.Annotations = map[string]string{golden.AnnotationDesiredDigest: otherDigest}
		}},
		"a digest, refused": {before: func(s *state) { failed(false)(s); s.Desired = otherDigest }, change: func(t *testing.T, cron *cdiv1.DataImportCron) {
			noSchedule(t, cron)
			cron.Annotations[golden.AnnotationDesiredDigest] = otherDigest
		}},
		"a digest, refused, source edited": {before: func(s *state) { failed(false)(s); s.Desired = otherDigest }, task: taskComplete,
			change: func(t *testing.T, cron *cdiv1.DataImportCron) {
				noSchedule(t, cron)
				cron.Annotations[golden.AnnotationDesiredDigest] = otherDigest
				cron.Spec.Template.Spec.Source.HTTP.URL += "2"
			}},
		"a digest, retried": {before: func(s *state) { failed(true)(s); s.Desired = otherDigest }, task: taskComplete, now: "2026-11-21T12:00:00Z",
			change: func(t *testing.T, cron *cdiv1.DataImportCron) {
				noSchedule(t, cron)
				cron.Annotations[golden.AnnotationDesiredDigest] = otherDigest
				cron.Annotations[golden.AnnotationNextCronTime] = "2026-11-21T12:00:00Z"
			}},
		"a digest, refused, schedule's turn": {before: func(s *state) { failed(false)(s); s.Desired = otherDigest }, task: taskFind, now: "2026-11-21T12:00:59Z",
			change: func(_ *testing.T, cron *cdiv1.DataImportCron) {
				cron.Annotations[golden.AnnotationDesiredDigest] = otherDigest
			}},
		"failed, retried": {before: failed(true), now: "2026-11-21T11:01:00Z", task: taskFind, change: func(_ *testing.T, cron *cdiv1.DataImportCron) {
			cron.Annotations[golden.AnnotationNextCronTime] = "2026-11-21T11:01:00Z"
		}},
		"failed, retry not due": {before: failed(true), now: "2026-11-21T11:00:30Z", until: "2026-11-21T11:01:00Z", change: func(_ *testing.T, cron *cdiv1.DataImportCron) {
			cron.Annotations[golden.AnnotationNextCronTime] = "2026-11-21T11:01:00Z"
		}},
		"failed for good": {before: failed(false), waits: now},
		"failed for good, edited": {before: failed(false), task: taskFind, change: func(t *testing.T, cron *cdiv1.DataImportCron) {
			noSchedule(t, cron)
			cron.Spec.Template.Spec.Source.HTTP.URL += "2"
		}},
		"kept away beyond the schedule": {
			before: func(s *state) {
				failed(true)(s)
				s.NotBefore = &metav1.Time{Time: at(t, "2026-11-21T14:30:00Z")}
			},
			until: "2026-11-21T14:30:00Z", now: "2026-11-21T12:30:00Z", change: func(_ *testing.T, cron *cdiv1.DataImportCron) {
				cron.Annotations[golden.AnnotationNextCronTime] = "2026-11-21T14:30:00Z"
			}},
	} {
		t.Run(name, func(t *testing.T) {
			cron := polledCron(t, test.before)
			if test.change != nil {
				test.change(t, cron)
			}
			if test.now == "" {
				test.now = now
			}
			var known time.Time
			if test.next != "" {
				known = at(t, test.next)
			}
			got := decide(cron, at(t, test.now), known)
			want := decision{task: test.task, reschedule: test.again}
			if test.waits != "" {
				want.next = nextSlot(t, cron, test.waits)
			}
			if test.until != "" {
				want.next = at(t, test.until)
			}
			require.Equal(t, want, got)
		})
	}
}

func noSchedule(_ *testing.T, cron *cdiv1.DataImportCron) {
	cron.Spec.Schedule = ""
	s := readState(cron)
	s.Schedule = ""
	cron.Annotations[annotationState] = s.String()
	delete(cron.Annotations, golden.AnnotationNextCronTime)
}

func TestIllegalScheduleStopsPolls(t *testing.T) {
	cron := polledCron(t, nil)
	cron.Spec.Schedule = "never"
	cron.Annotations[golden.AnnotationPollNow] = "please"
	got := decide(cron, at(t, "2026-11-21T12:30:00Z"), time.Time{})
	require.Equal(t, taskNone, got.task)
	require.Equal(t, reasonIllegalSchedule, got.illegal.reason)
	require.Contains(t, got.illegal.message, `"never"`)
	require.Contains(t, got.illegal.message, "@daily")
}

func TestBackoff(t *testing.T) {
	for n, minutes := range []int{1, 2, 4, 8, 16, 32, 60, 60} {
		require.Equal(t, time.Duration(minutes)*time.Minute, backoff(n+1))
	}
	require.Equal(t, time.Hour, backoff(1<<30))
}

func TestNextPoll(t *testing.T) {
	cron := fileCron()
	now := at(t, "2026-11-21T11:30:00Z")
	times, err := parseSchedule(cron.Spec.Schedule, cron.CreationTimestamp.Time, cron.UID)
	require.NoError(t, err)
	slot := times.next(now)
	after := func(d time.Duration) *metav1.Time { return &metav1.Time{Time: now.Add(d)} }
	for name, test := range map[string]struct {
		state state
		times *schedule
		want  time.Time
	}{
		"good":                      {state{}, times, slot},
		"good, by hand":             {state{}, nil, time.Time{}},
		"for good":                  {state{Failures: 3}, times, slot},
		"for good, by hand":         {state{Failures: 3}, nil, time.Time{}},
		"may pass":                  {state{Failures: 3, Transient: true}, times, now.Add(4 * time.Minute)},
		"may pass, by hand":         {state{Failures: 3, Transient: true}, nil, now.Add(4 * time.Minute)},
		"schedule comes first":      {state{Failures: 7, Transient: true}, times, slot},
		"Retry-After":               {state{Failures: 1, Transient: true, NotBefore: after(20 * time.Minute)}, times, now.Add(20 * time.Minute)},
		"Retry-After is over":       {state{Failures: 1, Transient: true, NotBefore: after(time.Second)}, times, now.Add(time.Minute)},
		"Retry-After past schedule": {state{Failures: 1, Transient: true, NotBefore: after(3 * time.Hour)}, times, now.Add(3 * time.Hour)},
		"Retry-After in a year":     {state{Failures: 1, Transient: true, NotBefore: after(365 * 24 * time.Hour)}, times, now.Add(time.Minute)},
		"Retry-After, for good":     {state{Failures: 1, NotBefore: after(3 * time.Hour)}, times, now.Add(3 * time.Hour)},
		"Retry-After, by hand":      {state{Failures: 1, NotBefore: after(3 * time.Hour)}, nil, time.Time{}},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, test.want, nextPoll(test.times, &test.state, now))
		})
	}
}
