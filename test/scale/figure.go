package main

import (
	"fmt"
	"slices"
	"time"
)

const (
	memoryLimit = 256 // MiB
	mib         = 1 << 20
	// writeEvery is the shortest time between two writes to a cron whose source does not change.
	writeEvery = 10 * time.Minute
	crons      = "dataimportcrons"
)

// figures are what one phase has shown.
type figures struct {
	Phase string `json:"phase"`
	Crons int    `json:"crons"`
	// Polls are requests to the hosts; NotModified of them cost nothing.
	Polls       int `json:"polls"`
	NotModified int `json:"notModified"`
	// Twice is how many URLs were polled again in the time in which one poll is due.
	Twice int `json:"polledTwice"`
	// Unpolled is how many URLs were never polled.
	Unpolled int `json:"unpolled"`
	// MostPerHost is the most polls that one host had to answer at once.
	MostPerHost int `json:"mostPerHost"`
	// LastPoll and LastWrite are seconds from the beginning: the due minute, or the start of the poller.
	LastPoll  float64 `json:"lastPoll"`
	LastWrite float64 `json:"lastWrite"`
	// PerSecond is the polls of the busiest second, Mean those from the first to the last.
	PerSecond int     `json:"pollsInBusiestSecond"`
	Mean      float64 `json:"pollsPerSecond"`
	// Writes are the poller's requests that change something, by verb and resource.
	Writes map[string]int `json:"writes"`
	// CronWrites are those to crons, and MostPerCron the most to one cron within ten minutes.
	CronWrites  int `json:"cronWrites"`
	MostPerCron int `json:"mostWritesPerCron"`
	// MiB is the most resident memory of the poller since its start, CPU its processor time since then.
	MiB    float64  `json:"mib"`
	CPU    float64  `json:"cpuSeconds"`
	Faults []string `json:"faults"`
}

// measured is what a phase leaves behind.
type measured struct {
	name     string
	crons    int
	from, to time.Time
	// apart is how far apart two polls of one URL must be.
	apart    time.Duration
	requests []request
	most     int
	writes   []write
}

// figuresOf counts.
func figuresOf(m measured) figures {
	f := figures{Phase: m.name, Crons: m.crons, Polls: len(m.requests), MostPerHost: m.most, Writes: map[string]int{}}
	f.countPolls(m)
	perCron := map[string][]time.Time{}
	for _, w := range m.writes {
		f.Writes[w.String()]++
		if w.lease() {
			continue
		}
		f.LastWrite = max(f.LastWrite, w.at.Sub(m.from).Seconds())
		if w.resource == crons {
			f.CronWrites++
			perCron[w.name] = append(perCron[w.name], w.at)
		}
	}
	for _, times := range perCron {
		f.MostPerCron = max(f.MostPerCron, mostWithin(times, writeEvery))
	}
	return f
}

func (f *figures) countPolls(m measured) {
	perURL := map[string][]time.Time{}
	perSecond := map[int64]int{}
	var first, last time.Time
	for _, r := range m.requests {
		perURL[r.host+r.path] = append(perURL[r.host+r.path], r.at)
		perSecond[r.at.Unix()]++
		if r.status == 304 {
			f.NotModified++
		}
		if first.IsZero() || r.at.Before(first) {
			first = r.at
		}
		if r.done.After(last) {
			last = r.done
		}
	}
	for _, n := range perSecond {
		f.PerSecond = max(f.PerSecond, n)
	}
	for _, times := range perURL {
		if mostWithin(times, m.apart) > 1 {
			f.Twice++
		}
	}
	f.Unpolled = m.crons - len(perURL)
	if !last.IsZero() {
		f.LastPoll = last.Sub(m.from).Seconds()
		f.Mean = float64(len(m.requests)) / last.Sub(first).Seconds()
	}
}

// mostWithin is the most times in any window of that length.
func mostWithin(times []time.Time, window time.Duration) int {
	slices.SortFunc(times, time.Time.Compare)
	most, begin := 0, 0
	for end, t := range times {
		for t.Sub(times[begin]) >= window {
			begin++
		}
		most = max(most, end-begin+1)
	}
	return most
}

// rules are what a phase must keep.
type rules struct {
	perHost int
	polls   int
	// steady has at most one write to a cron in ten minutes; each has one for each poll.
	steady, each bool
}

// judge lists what must not be.
func (f *figures) judge(r rules) {
	f.Faults = []string{}
	fault := func(wrong bool, format string, args ...any) {
		if wrong {
			f.Faults = append(f.Faults, fmt.Sprintf(format, args...))
		}
	}
	fault(f.MiB > memoryLimit, "%.0f MiB of memory, more than %d", f.MiB, memoryLimit)
	fault(f.Unpolled != 0, "%d URLs were not polled", f.Unpolled)
	fault(f.Twice > 0, "%d URLs were polled twice", f.Twice)
	fault(f.Polls != r.polls, "%d polls, %d were due", f.Polls, r.polls)
	fault(f.MostPerHost > r.perHost, "%d polls of one host at once, more than %d", f.MostPerHost, r.perHost)
	fault(r.steady && f.MostPerCron > 1, "%d writes to one cron within %s", f.MostPerCron, writeEvery)
	fault(r.each && f.CronWrites != f.Polls, "%d writes to crons for %d polls", f.CronWrites, f.Polls)
}
