package importer

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// stillClock stands still until it is told the time.
type stillClock struct{ now time.Time }

func (c *stillClock) Now() time.Time { return c.now }

func (c *stillClock) Sleep(ctx context.Context, _ time.Duration) error { return ctx.Err() }

func newTestReporter(mode string, terminal bool) (r *reporter, stdout, stderr *bytes.Buffer) {
	stdout, stderr = &bytes.Buffer{}, &bytes.Buffer{}
	return newReporter(mode, Parts{Stdout: stdout, Stderr: stderr, Terminal: terminal, Clock: &stillClock{time.Unix(0, 0)}}), stdout, stderr
}

func TestJSONLinesHaveRates(t *testing.T) {
	r, stdout, stderr := newTestReporter(ProgressJSON, true)
	r.opened(1000)
	r.pass()
	for second := range 8 {
		r.tick(time.Unix(int64(second), 0))
		if second < 5 {
			r.moved(100)
			r.wrote(int64(50 * second))
		}
	}
	var rates, moved []int64
	for line := range strings.Lines(stdout.String()) {
		p, err := ParseProgress([]byte(line))
		require.NoError(t, err)
		require.EqualValues(t, 1000, *p.TotalBytes)
		rates, moved = append(rates, p.BytesPerSecond), append(moved, p.TransferredBytes)
	}
	require.Equal(t, []int64{0, 100, 200, 300, 400, 500, 500, 500}, moved)
	require.Equal(t, []int64{0, 100, 100, 100, 100, 100, 80, 60}, rates, "over the last five seconds")
	require.Empty(t, stderr.String())
}

func TestUnknownLengthIsAbsent(t *testing.T) {
	r, stdout, _ := newTestReporter(ProgressJSON, false)
	r.opened(-1)
	r.tick(time.Unix(0, 0))
	require.NotContains(t, stdout.String(), "totalBytes")
}

func TestStartingOverGoesBackToZero(t *testing.T) {
	r, _, _ := newTestReporter(ProgressJSON, false)
	r.pass()
	r.moved(700)
	r.pass()
	r.moved(100)
	require.EqualValues(t, 100, r.progress.TransferredBytes)
	var result Result
	r.count(&result, 900)
	require.EqualValues(t, 900, result.TransferredBytes, "the source knows best")
	require.EqualValues(t, 2, result.Passes)
}

func TestPlainLinesAreRare(t *testing.T) {
	r, stdout, _ := newTestReporter(ProgressAuto, false)
	r.opened(4 << 20)
	for second := range 25 {
		r.moved(1 << 17)
		r.tick(time.Unix(int64(second+100), 0))
	}
	require.Equal(t, 3, strings.Count(stdout.String(), "\n"))
	require.Contains(t, stdout.String(), "Importing: 1.4 MiB of 4 MiB (34%), 128 KiB/s\n")
	r.notice("next try in 4s\x1b[2J")
	require.Contains(t, stdout.String(), "next try in 4s?[2J\n", "a notice comes at once, and cleaned")
}

func TestBarOnATerminal(t *testing.T) {
	r, stdout, stderr := newTestReporter(ProgressAuto, true)
	r.start()
	r.opened(1000)
	r.moved(420)
	r.tick(time.Unix(1, 0))
	r.opened(2000)
	r.notice("next try in 4s")
	r.stop()
	require.Empty(t, stdout.String())
	require.Contains(t, stderr.String(), "42%")
	require.Contains(t, stderr.String(), "next try in 4s")
}

func TestNoneSaysOnlyHowItEnds(t *testing.T) {
	r, stdout, stderr := newTestReporter(ProgressNone, true)
	r.notice("next try in 4s")
	r.tick(time.Unix(1, 0))
	r.table([][2]string{{"a", "b"}})
	r.outcome(Options{}, Result{Reason: Imported})
	require.Empty(t, stdout.String()+stderr.String())
	r.outcome(Options{}, Result{Reason: NotFound, Message: "gone\x07"})
	require.Equal(t, "importer: NotFound: gone?\n", stderr.String())
}

func TestReporterStopsWhileItWaits(*testing.T) {
	r, _, _ := newTestReporter(ProgressJSON, false)
	r.start()
	r.stop()
}

func TestScratchFaultsAreNotTargetFaults(t *testing.T) {
	for from, want := range map[Reason]Reason{TooLarge: NoScratchSpace, NoSpace: NoScratchSpace, TargetError: ScratchError, SourceChanged: SourceChanged, Interrupted: Interrupted} {
		got := Classify(scratchError(&Error{Reason: from, Err: context.Canceled}))
		require.Equal(t, want, got.Reason)
	}
	require.NoError(t, scratchError(nil))
}
