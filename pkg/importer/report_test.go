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
	var came int64
	r.opened(1000, func() int64 { return came })
	r.pass()
	for second := range 8 {
		r.tick(time.Unix(int64(second), 0))
		if second < 5 {
			came += 100
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
	r.opened(-1, func() int64 { return 0 })
	r.tick(time.Unix(0, 0))
	require.NotContains(t, stdout.String(), "totalBytes")
}

func TestPositionFollowsWhatIsRead(t *testing.T) {
	total := int64(1000)
	m := newMeter()
	var came int64
	m.open(func() int64 { return came })
	came = 700
	require.EqualValues(t, 700, m.position(&total))
	m.rewind()
	require.EqualValues(t, 0, m.position(&total), "a second reading")
	came = 800
	require.EqualValues(t, 100, m.position(&total))
	m.reach(600)
	require.EqualValues(t, 600, m.position(&total), "parts that are not needed are skipped")
	m.reach(500)
	came = 850
	require.EqualValues(t, 650, m.position(&total), "pieces under way count")
	came = 2000
	require.EqualValues(t, 1000, m.position(&total), "what comes again does not show")
	require.EqualValues(t, 1800, m.position(nil))
	var other int64
	m.open(func() int64 { return other })
	other = 30
	require.EqualValues(t, 30, m.position(&total), "another try")
	require.EqualValues(t, 2030, m.came(), "the result counts all that came")
}

func TestNoticeGoesWhenBytesCome(t *testing.T) {
	r, _, _ := newTestReporter(ProgressJSON, false)
	var came int64
	r.opened(1000, func() int64 { return came })
	r.notice("next try in 4s")
	r.tick(time.Unix(1, 0))
	require.Equal(t, "next try in 4s", r.progress.Message)
	came = 1
	r.tick(time.Unix(2, 0))
	require.Empty(t, r.progress.Message)
	r.phase(Verifying, "storing the last bytes")
	came = 2
	r.tick(time.Unix(3, 0))
	require.Equal(t, "storing the last bytes", r.progress.Message)
}

func TestPlainLinesAreRare(t *testing.T) {
	r, stdout, _ := newTestReporter(ProgressAuto, false)
	var came int64
	r.opened(4<<20, func() int64 { return came })
	for second := range 25 {
		came += 1 << 17
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
	r.opened(1000, func() int64 { return 420 })
	r.tick(time.Unix(1, 0))
	r.opened(2000, func() int64 { return 0 })
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
