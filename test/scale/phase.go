package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"github.com/gild-project/gild/pkg/golden"
)

const (
	// settled is how long the poller must not write to count as done.
	settled = 10 * time.Second
	look    = time.Second
	// perEdit is what an edit of a schedule takes here, with what the poller makes of it.
	perEdit = 45 * time.Millisecond
	// spread is how long after their minute the last polls of a day's or an hour's schedule are due.
	spread = time.Minute
)

// fromNothing is the first phase: the crons are new, each is polled, rolls a golden claim and
// repoints its DataSource.
func (s *scale) fromNothing(ctx context.Context) error {
	s.say("creating %d crons", s.crons)
	if err := createCrons(ctx, s.api.client, s.crons, s.hosts.url); err != nil {
		return err
	}
	fill, err := startFiller(ctx, s.api)
	if err != nil {
		return err
	}
	defer fill.stop()
	from := time.Now()
	if err := s.startPoller(ctx); err != nil {
		return err
	}
	defer func() { s.stopPoller() }()
	s.say("waiting for the first polls and their golden claims")
	err = s.until(ctx, func() (bool, error) { return fill.filled.Load() >= int64(s.crons), fill.err() })
	if err != nil {
		return fmt.Errorf("%w (%d of %d claims were filled)", err, fill.filled.Load(), s.crons)
	}
	if err := s.untilSettled(ctx); err != nil {
		return err
	}
	if err := s.allImported(ctx); err != nil {
		return err
	}
	return s.finish(measured{name: "first", from: from, to: time.Now(), apart: time.Hour}, rules{polls: s.crons})
}

// allImported makes sure that every cron has its golden image.
func (s *scale) allImported(ctx context.Context) error {
	all := &metav1.PartialObjectMetadataList{}
	all.SetGroupVersionKind(cdiv1.SchemeGroupVersion.WithKind("DataImportCronList"))
	if err := s.api.client.List(ctx, all); err != nil {
		return fmt.Errorf("listing the crons: %w", err)
	}
	missing := 0
	for _, cron := range all.Items {
		if cron.Annotations[golden.AnnotationImported] == "" {
			missing++
		}
	}
	if missing > 0 || len(all.Items) != s.crons {
		return fmt.Errorf("%d of %d crons have no golden image after the first phase", missing, len(all.Items))
	}
	return nil
}

// dueAtOnce is the second phase: all crons are due in one minute, an hour after their last poll.
func (s *scale) dueAtOnce(ctx context.Context) error {
	now := time.Now()
	due := now.Add(time.Duration(s.crons)*perEdit + 30*time.Second).Truncate(time.Minute).Add(time.Minute)
	s.say("editing the schedules: all are due at %s", due.Format(time.TimeOnly))
	if err := reschedule(ctx, s.api.client, s.crons, fmt.Sprintf("%d * * * *", due.UTC().Minute()), now.Add(-time.Hour)); err != nil {
		return err
	}
	if err := s.startPoller(ctx); err != nil { // a new one, whose memory holds nothing of the first phase
		return err
	}
	if err := s.untilSettled(ctx); err != nil {
		return err
	}
	if late := time.Since(due); late > 0 {
		return fmt.Errorf("the schedules took %s too long to edit", late)
	}
	s.say("waiting for %s", due.Format(time.TimeOnly))
	before := s.hosts.answered()
	err := s.until(ctx, func() (bool, error) {
		return time.Since(due) > spread+settled && s.hosts.answered()-before >= s.crons || time.Since(due) > 10*spread, nil
	})
	if err != nil {
		return err
	}
	if err := s.untilSettled(ctx); err != nil {
		return err
	}
	return s.finish(measured{name: "due", from: due, to: time.Now(), apart: time.Hour}, rules{polls: s.crons, steady: true, each: true})
}

// unchanged is the third phase: all crons are due each minute and nothing changes.
func (s *scale) unchanged(ctx context.Context) error {
	s.say("editing the schedules: all are due each minute")
	if err := reschedule(ctx, s.api.client, s.crons, "* * * * *", time.Time{}); err != nil {
		return err
	}
	if err := s.untilSettled(ctx); err != nil {
		return err
	}
	from := time.Now().Truncate(time.Minute).Add(time.Minute)
	to := from.Add(s.quiet.Truncate(time.Minute))
	s.say("watching from %s to %s", from.Format(time.TimeOnly), to.Format(time.TimeOnly))
	if err := s.until(ctx, func() (bool, error) { return time.Now().After(to), nil }); err != nil {
		return err
	}
	minutes := int(to.Sub(from) / time.Minute)
	return s.finish(measured{name: "unchanged", from: from, to: to, apart: time.Minute / 2}, rules{polls: minutes * s.crons, steady: true})
}

// until waits until done, and fails when a program ends before.
func (s *scale) until(ctx context.Context, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, s.patience)
	defer cancel()
	tick := time.NewTicker(look)
	defer tick.Stop()
	for {
		ok, err := done()
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting: %w", ctx.Err())
		case <-s.poller.ended:
			return s.poller.alive()
		case <-s.api.process.ended:
			return s.api.process.alive()
		case <-tick.C:
		}
	}
}

// untilSettled waits until the poller has written nothing for a while.
func (s *scale) untilSettled(ctx context.Context) error {
	begun := time.Now()
	return s.until(ctx, func() (bool, error) {
		all, err := s.api.audit.writes()
		last := begun
		for _, w := range all {
			if !w.lease() && w.at.After(last) {
				last = w.at
			}
		}
		return time.Since(last) > settled, err
	})
}

// finish counts a phase and keeps its figures.
func (s *scale) finish(m measured, r rules) error {
	var err error
	m.crons, r.perHost = s.crons, s.perHost
	m.requests, m.most = s.hosts.between(m.from, m.to)
	all, err := s.api.audit.writes()
	if err != nil {
		return err
	}
	m.writes = within(all, m.from, m.to)
	f := figuresOf(m)
	if f.MiB, err = s.poller.memory(); err != nil {
		return err
	}
	if f.CPU, err = s.poller.cpu(); err != nil {
		return err
	}
	f.judge(r)
	s.report.Phases = append(s.report.Phases, f)
	return nil
}

func (s *scale) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, time.Now().Format(time.TimeOnly)+" "+format+"\n", args...)
}

// path of a file of this run.
func (s *scale) path(name string) string { return filepath.Join(s.dir, name) }
