package importer

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
)

const (
	// lineEvery is how often json mode writes a line; people get one every plainEvery.
	lineEvery  = time.Second
	plainEvery = 10 * time.Second
	// rateOver is the number of lines over which the rate is taken.
	rateOver = 5
)

// reporter tells how the run goes, in the form of Options.Progress.
type reporter struct {
	mode   string
	stdout io.Writer
	stderr io.Writer
	clock  Clock
	bar    *progressbar.ProgressBar

	mu       sync.Mutex
	progress Progress
	meter    meter
	samples  []sample
	shown    time.Time
	// noticed is the count at the last notice, -1 when there is none to be seen.
	noticed int64

	done  chan struct{}
	ended sync.WaitGroup
}

type sample struct {
	at    time.Time
	bytes int64
}

func newReporter(mode string, p Parts) *reporter {
	if mode == ProgressAuto && p.Terminal {
		mode = ProgressBar
	}
	return &reporter{mode: mode, stdout: p.Stdout, stderr: p.Stderr, clock: p.Clock, progress: Progress{Phase: Importing}, meter: newMeter(), noticed: -1, done: make(chan struct{})}
}

// start shows progress until stop.
func (r *reporter) start() {
	r.ended.Go(func() {
		ticker := time.NewTicker(lineEvery)
		defer ticker.Stop()
		for {
			select {
			case <-r.done:
				return
			case <-ticker.C:
				r.tick(r.clock.Now())
			}
		}
	})
}

func (r *reporter) stop() {
	close(r.done)
	r.ended.Wait()
	if r.bar != nil {
		_ = r.bar.Exit()
		r.say(r.stderr, "\n")
	}
}

// tick takes a sample for the rate and shows a line when it is time.
func (r *reporter) tick(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	came := r.meter.came()
	if r.noticed >= 0 && came > r.noticed {
		// Bytes came: what the notice said is over.
		r.progress.Message, r.noticed = "", -1
	}
	r.samples = append(r.samples, sample{now, came})
	r.samples = r.samples[max(len(r.samples)-rateOver-1, 0):]
	first, last := r.samples[0], r.samples[len(r.samples)-1]
	r.progress.BytesPerSecond = 0
	if seconds := last.at.Sub(first.at).Seconds(); seconds > 0 {
		r.progress.BytesPerSecond = max(int64(float64(last.bytes-first.bytes)/seconds), 0)
	}
	r.show(now, false)
}

// show writes the progress. The caller holds the lock. Urgent lines come at once.
func (r *reporter) show(now time.Time, urgent bool) {
	r.progress.TransferredBytes = r.meter.position(r.progress.TotalBytes)
	switch r.mode {
	case ProgressJSON:
		// A Progress always marshals.
		line, _ := json.Marshal(r.progress)
		r.say(r.stdout, "%s\n", line)
	case ProgressBar:
		r.showBar()
	case ProgressAuto:
		if urgent || now.Sub(r.shown) >= plainEvery {
			r.shown = now
			r.say(r.stdout, "%s\n", r.plain())
		}
	}
}

func (r *reporter) showBar() {
	if r.bar == nil {
		total := int64(-1)
		if r.progress.TotalBytes != nil {
			total = *r.progress.TotalBytes
		}
		r.bar = progressbar.NewOptions64(total,
			progressbar.OptionSetWriter(r.stderr), progressbar.OptionShowBytes(true), progressbar.OptionUseIECUnits(true),
			progressbar.OptionSetWidth(30), progressbar.OptionFullWidth(), progressbar.OptionThrottle(0))
	}
	if r.progress.TotalBytes != nil && r.bar.GetMax64() != *r.progress.TotalBytes {
		r.bar.ChangeMax64(*r.progress.TotalBytes)
	}
	text := string(r.progress.Phase)
	if r.progress.Message != "" {
		text = r.progress.Message
	}
	r.bar.Describe(clean(text, 60))
	// A bar that cannot be drawn is no reason to stop.
	_ = r.bar.Set64(r.progress.TransferredBytes)
}

// plain is a line for people where there is no terminal.
func (r *reporter) plain() string {
	p := r.progress
	line := fmt.Sprintf("%s: %s", p.Phase, Human(p.TransferredBytes))
	if p.TotalBytes != nil && *p.TotalBytes > 0 {
		line += fmt.Sprintf(" of %s (%d%%)", Human(*p.TotalBytes), p.TransferredBytes*100 / *p.TotalBytes)
	}
	if p.BytesPerSecond > 0 {
		line += fmt.Sprintf(", %s/s", Human(p.BytesPerSecond))
	}
	if p.Message != "" {
		line += ", " + clean(p.Message, maxMessage)
	}
	return line
}

// opened is told of a source that was opened: its length, -1 when that is not known, and what
// counts its bytes.
func (r *reporter) opened(n int64, fetched func() int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.meter.open(fetched)
	r.progress.Passes, r.progress.WrittenBytes = 0, 0
	r.progress.TotalBytes = nil
	if n >= 0 {
		r.progress.TotalBytes = &n
	}
}

// pass starts a reading of the source. What was read to look at it counts for the first one.
func (r *reporter) pass() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.progress.Passes > 0 {
		r.meter.rewind()
	}
	r.progress.Phase, r.progress.Message = Importing, ""
	r.progress.Passes++
}

// at is told how far a source has been read of which not all is needed.
func (r *reporter) at(off int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.meter.reach(off)
}

// scratch is told how much scratch space is used.
func (r *reporter) scratch(n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.progress.ScratchBytes = n
}

// checkpoint writes a checkpoint for whoever reads the log. logged is false where nobody could use it.
func (r *reporter) checkpoint(text []byte) (logged bool) {
	if r.mode != ProgressJSON {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.say(r.stdout, "{\"checkpoint\":%s}\n", text)
	return true
}

func (r *reporter) wrote(n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.progress.WrittenBytes = n
}

func (r *reporter) written() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.progress.WrittenBytes
}

func (r *reporter) phase(p Phase, message string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.progress.Phase, r.progress.Message, r.noticed = p, message, -1
}

// notice tells people at once why nothing moves.
func (r *reporter) notice(message string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.progress.Message, r.noticed = clean(message, maxMessage), r.meter.came()
	r.show(r.clock.Now(), true)
}

// count writes the totals into the result.
func (r *reporter) count(result *Result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	result.TransferredBytes, result.WrittenBytes = r.meter.came(), r.progress.WrittenBytes
	result.ScratchBytes, result.Passes = r.progress.ScratchBytes, r.progress.Passes
	if result.Seconds > 0 {
		result.BytesPerSecond = int64(float64(result.TransferredBytes) / result.Seconds)
	}
}

// table shows what a dry run found.
func (r *reporter) table(rows [][2]string) {
	if r.mode == ProgressJSON || r.mode == ProgressNone {
		return
	}
	for _, row := range rows {
		r.say(r.stdout, "%-10s %s\n", row[0], clean(row[1], maxMessage))
	}
}

// outcome is the last thing that is said.
func (r *reporter) outcome(o Options, result Result) {
	switch {
	case r.mode == ProgressJSON:
		r.say(r.stdout, "%s\n", result.Marshal())
	case result.Reason.ExitCode() != ExitDone:
		r.say(r.stderr, "importer: %s: %s\n", result.Reason, clean(result.Message, maxMessage))
	case r.mode == ProgressNone:
	case result.Reason == Probed:
		r.say(r.stdout, "%s: %s\n", result.Reason, clean(result.Message, maxMessage))
	default:
		r.say(r.stdout, "%s: %s, %s written to %s in %.1f s, %s\n", result.Reason, result.Message, Human(result.WrittenBytes), clean(o.Target, maxMessage), result.Seconds, cmp.Or(result.Digest, "no checksum asked for"))
	}
}

// complain reports what must not change the outcome.
func (r *reporter) complain(err error) { r.say(r.stderr, "importer: %v\n", err) }

// say writes to people. When nobody listens the import goes on: its result is the disk.
func (*reporter) say(w io.Writer, format string, args ...any) {
	_, _ = fmt.Fprintf(w, format, args...)
}
