package importer_test

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/pkg/importer"
)

func TestCompleteOptionsAreTheirArguments(t *testing.T) {
	for _, o := range []importer.CompleteOptions{
		{Target: "/target", RegistryConfig: "/etc/containers"},
		{Target: "/dev/target", DiskEnd: 4 << 30, RegistryConfig: "/etc/containers", TerminationLog: "/dev/termination-log"},
		{Target: "/target", Source: "docker://registry.example.org/disk:1", Platform: "linux/arm64", Pin: importer.Pin{Digest: "sha256:" + strings.Repeat("a", 64)},
			SecretDir: "/secret", CADir: "/ca", RegistryConfig: "/config"},
	} {
		args := o.Args()
		require.Equal(t, importer.CompleteCommand, args[0])
		var read importer.CompleteOptions
		fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
		read.BindFlags(fs)
		require.NoError(t, fs.Parse(args[1:]))
		require.Equal(t, o, read)
		require.NoError(t, read.Validate())
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
		source string
		proved error
		open   error
		volume volume
		want   importer.Reason
	}{
		"completed":        {t.Context(), "/dev/target", "", nil, nil, volume{}, importer.Imported},
		"proved":           {t.Context(), "/dev/target", "https://images.example.org/disk", nil, nil, volume{}, importer.Imported},
		"moved on":         {t.Context(), "/dev/target", "https://images.example.org/disk", partError{reason: "SourceChanged"}, errors.New("never opened"), volume{}, importer.SourceChanged},
		"asks for a while": {t.Context(), "/dev/target", "https://images.example.org/disk", &importer.Error{Reason: importer.TooManyRequests, RetryAfter: 7 * time.Second, Err: errors.New("busy")}, nil, volume{}, importer.TooManyRequests},
		"no target":        {t.Context(), "", "", nil, nil, volume{}, importer.InvalidOptions},
		"no URL":           {t.Context(), "/dev/target", "ftp://images.example.org/disk", nil, nil, volume{}, importer.InvalidOptions},
		"not there":        {t.Context(), "/dev/target", "", nil, partError{reason: "TargetError"}, volume{}, importer.TargetError},
		"too small":        {t.Context(), "/dev/target", "", nil, nil, volume{partError{reason: "TooLarge"}}, importer.TooLarge},
		"stopped":          {stopped, "/dev/target", "", nil, nil, volume{errors.New("cut short")}, importer.Interrupted},
	} {
		t.Run(name, func(t *testing.T) {
			log := filepath.Join(t.TempDir(), "log")
			var out bytes.Buffer
			asked := ""
			result := importer.Complete(test.ctx, importer.CompleteOptions{Target: test.target, Source: test.source, DiskEnd: 4096, TerminationLog: log}, importer.Completion{
				Prove: func(_ context.Context, o importer.Options) error {
					asked = o.Source
					return test.proved
				},
				OpenVolume: func(string) (importer.Volume, error) { return test.volume, test.open },
				Clock:      instant{}, Stdout: &out, Stderr: &out,
			})
			require.Equal(t, test.want, result.Reason, result.Message)
			if test.want != importer.InvalidOptions {
				require.Equal(t, test.source, asked)
			}
			line, err := importer.ParseResult(bytes.TrimSpace(out.Bytes()))
			require.NoError(t, err)
			require.Equal(t, result.Reason, line.Reason)
			require.FileExists(t, log)
			if test.want == importer.Imported {
				require.EqualValues(t, 4096, line.VirtualSize)
			}
			if test.want == importer.TooManyRequests {
				require.EqualValues(t, 7, line.RetryAfterSeconds)
			}
		})
	}
}
