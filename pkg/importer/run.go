package importer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"
)

// maxRestarts bounds how often an image is read from its first byte again because it changed
// or could not be resumed.
const maxRestarts = 5

// maxQcow2Disk bounds the disk of a qcow2 target, which need not fit: 64 TiB is what the
// largest file systems hold.
const maxQcow2Disk = 64 << 40

// Run imports the image and reports progress and outcome as o says. The Result is filled in as
// far as the run came, also with an error, which is always an *Error.
func Run(ctx context.Context, o Options, p Parts) (Result, error) {
	start := p.Clock.Now()
	report := newReporter(o.Progress, p)
	r := &run{options: o, parts: p, report: report}
	report.start()
	err := r.all(ctx)
	report.stop()
	r.result.Seconds = math.Round(p.Clock.Now().Sub(start).Seconds()*1000) / 1000
	failure := r.conclude(ctx, err)
	report.outcome(o, r.result)
	if err := writeTermination(o.TerminationLog, r.result); err != nil {
		report.complain(err)
	}
	if failure != nil {
		return r.result, failure
	}
	return r.result, nil
}

// run is the state of one Run.
type run struct {
	options Options
	parts   Parts
	report  *reporter
	result  Result

	target Target
	// origin and expected belong to the source that is open. The digests of all that is expected are
	// computed, also of what is only to be found out.
	origin   Origin
	expected []Checksum
	// prepared is the granule that the target was prepared for. 0 means that it may hold anything.
	prepared int64
	// touched tells that the target was opened for writing, and stored that there is a checkpoint
	// of what is on it.
	touched, stored bool
	// spoolNext tells that this image must be in scratch space.
	spoolNext bool
}

// conclude writes the reason and the message of the result.
func (r *run) conclude(ctx context.Context, err error) *Error {
	r.report.count(&r.result)
	if err == nil {
		return nil
	}
	failure := r.judge(ctx, err)
	r.result.Reason, r.result.Message = failure.Reason, failure.Error()
	if failure.Reason.ExitCode() == ExitTransient {
		r.result.RetryAfterSeconds = int64(math.Ceil(failure.RetryAfter.Seconds()))
	}
	return failure
}

// judge says how the run ended.
func (r *run) judge(ctx context.Context, err error) *Error {
	failure := Classify(err)
	if ctx.Err() == nil || failure.Reason.ExitCode() == ExitTarget {
		return failure
	}
	// Whatever broke, broke because we were told to stop.
	message := "the importer was told to stop: nothing usable is on the target"
	if r.stored {
		message = "the importer was told to stop: a run with the same --checkpoint can continue"
	}
	return &Error{Reason: Interrupted, Err: errors.New(message)}
}

func (r *run) all(ctx context.Context) (err error) {
	if err := r.options.Validate(); err != nil {
		return &Error{Reason: InvalidOptions, Err: err}
	}
	if r.options.Content == ContentFiles {
		return r.files(ctx)
	}
	if r.target, err = r.parts.OpenTarget(r.options.Target); err != nil {
		return err
	}
	if err := r.checkTarget(); err != nil {
		return err
	}
	if err := r.tries(ctx); err != nil {
		// What went wrong first is the reason; what went wrong while tidying is told too.
		if tidy := r.leave(ctx, err); tidy != nil {
			failure := Classify(err)
			failure.Err = fmt.Errorf("%w (and then: %w)", failure.Err, tidy)
			return failure
		}
		return err
	}
	return nil
}

// leave drops what was written, or keeps it for a run that can continue. What an earlier run
// left is kept when this one did not come as far as the target.
func (r *run) leave(ctx context.Context, cause error) error {
	switch {
	case !r.touched:
		return nil
	case r.stored && r.judge(ctx, cause).Reason.ExitCode() == ExitTransient:
		return r.target.Keep()
	}
	r.voidCheckpoint()
	return r.target.Discard()
}

// checkTarget refuses what the options alone show to be wrong.
func (r *run) checkTarget() error {
	if r.options.TargetFormat == FormatQcow2 && r.target.Block() {
		return &Error{Reason: InvalidOptions, Err: errors.New("--target-format qcow2 needs a file system: a block device holds the raw disk itself")}
	}
	if r.options.TargetFormat == FormatRaw {
		return r.target.Fits(r.wantedSize())
	}
	return nil
}

// tries starts over while the source changes or cannot be resumed.
func (r *run) tries(ctx context.Context) error {
	for restarts := 0; ; restarts++ {
		err := r.try(ctx)
		var source interface{ StartOver() bool }
		if err == nil || !errors.As(err, &source) || !source.StartOver() {
			return err
		}
		if restarts == maxRestarts {
			return fmt.Errorf("giving up after starting over %d times: %w", restarts, err)
		}
		wait := time.Second << restarts
		r.report.notice(fmt.Sprintf("%v; starting over in %s", err, wait))
		if err := r.parts.Clock.Sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// try opens the source once and imports it.
func (r *run) try(ctx context.Context) error {
	sourceCtx, hangUp := context.WithCancel(ctx)
	defer hangUp()
	source, err := r.parts.OpenSource(sourceCtx, r.opening())
	if err != nil {
		return err
	}
	defer func() { _ = source.Close() }()
	r.report.opened(source.Size(), source.Fetched)
	r.learn(source)
	i, err := r.inspect(ctx, source, hangUp)
	if err != nil {
		return err
	}
	defer i.close()
	if r.options.DryRun {
		return r.dryRun(i)
	}
	if err := r.bring(ctx, i); err != nil {
		return err
	}
	r.result.Reason = Imported
	r.result.Message = fmt.Sprintf("imported a disk of %s as %s", Human(r.result.VirtualSize), r.options.TargetFormat)
	return nil
}

// bring goes the image's way. One that turns out to need scratch space goes there if there is some.
func (r *run) bring(ctx context.Context, i *inspected) error {
	way := i.way(r.options.TargetFormat)
	if r.spoolNext {
		way = bySpool
	}
	var err error
	switch way {
	case byPieces:
		err = r.byPieces(ctx, i)
	case inOrder:
		err = r.inOrder(ctx, i)
	case byTool:
		err = r.byTool(ctx, i)
	case bySpool:
		err = r.bySpool(ctx, i)
	}
	if err == nil || way == bySpool || r.options.ScratchDir == "" || Classify(err).Reason != ScratchRequired {
		return err
	}
	r.spoolNext = true
	return &changed{err}
}
