package importer_test

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/pkg/importer"
)

func TestCompleteOptionsAreTheirArguments(t *testing.T) {
	for _, o := range []importer.CompleteOptions{
		{Target: "/target"},
		{Target: "/dev/target", DiskEnd: 4 << 30, TerminationLog: "/dev/termination-log"},
	} {
		args := o.Args()
		require.Equal(t, importer.CompleteCommand, args[0])
		var read importer.CompleteOptions
		fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
		read.BindFlags(fs)
		require.NoError(t, fs.Parse(args[1:]))
		require.Equal(t, o, read)
	}
}

// volume is one whose disk ends where it should, or that cannot be completed.
type volume struct{ err error }

func (v volume) Complete(_ context.Context, end int64) (int64, error) { return end, v.err }

// instant is a clock that stands still.
type instant struct{}

func (instant) Now() time.Time { return time.Unix(0, 0) }

func (instant) Sleep(ctx context.Context, _ time.Duration) error { return ctx.Err() }

func TestCompleteTellsHowItEnded(t *testing.T) {
	stopped, stop := context.WithCancel(t.Context())
	stop()
	for name, test := range map[string]struct {
		ctx    context.Context //nolint:containedctx // what the run is told is what is tested
		target string
		open   error
		volume volume
		want   importer.Reason
	}{
		"completed": {t.Context(), "/dev/target", nil, volume{}, importer.Imported},
		"no target": {t.Context(), "", nil, volume{}, importer.InvalidOptions},
		"not there": {t.Context(), "/dev/target", partError{reason: "TargetError"}, volume{}, importer.TargetError},
		"too small": {t.Context(), "/dev/target", nil, volume{partError{reason: "TooLarge"}}, importer.TooLarge},
		"stopped":   {stopped, "/dev/target", nil, volume{errors.New("cut short")}, importer.Interrupted},
	} {
		t.Run(name, func(t *testing.T) {
			log := filepath.Join(t.TempDir(), "log")
			var out bytes.Buffer
			result := importer.Complete(test.ctx, importer.CompleteOptions{Target: test.target, DiskEnd: 4096, TerminationLog: log},
				func(string) (importer.Volume, error) { return test.volume, test.open },
				importer.Parts{Clock: instant{}, Stdout: &out, Stderr: &out})
			require.Equal(t, test.want, result.Reason)
			line, err := importer.ParseResult(bytes.TrimSpace(out.Bytes()))
			require.NoError(t, err)
			require.Equal(t, result.Reason, line.Reason)
			require.FileExists(t, log)
			if test.want == importer.Imported {
				require.EqualValues(t, 4096, line.VirtualSize)
			}
		})
	}
}
