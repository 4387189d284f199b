//go:build corpus

package corpus

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/pkg/importer"
)

const (
	// timeLimit and memoryLimit are what one import may use.
	timeLimit   = 60 * time.Second
	memoryLimit = 128 << 20
)

// outcome is how one run of the importer ended.
type outcome struct {
	code   int
	result importer.Result
	stderr string
	// memory is the largest resident memory in bytes of the importer, without its helpers.
	memory int64
	took   time.Duration
}

// runImporter runs the real importer in dir.
func runImporter(t *testing.T, dir string, args ...string) outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeLimit)
	defer cancel()
	command := exec.CommandContext(ctx, filepath.Join(home, "importer"), append(args, "--progress=json")...)
	command.Dir, command.Env = dir, []string{"PATH=" + os.Getenv("PATH")}
	command.WaitDelay = 5 * time.Second
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	start := time.Now()
	require.NoError(t, command.Start())
	peak := WatchMemory(command.Process.Pid)
	err := command.Wait()
	o := outcome{took: time.Since(start), stderr: stderr.String()}
	watched := peak()
	require.NoError(t, ctx.Err(), "the importer ran longer than %s: %s%s", timeLimit, stdout.String(), stderr.String())
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	o.code = command.ProcessState.ExitCode()
	usage, ok := command.ProcessState.SysUsage().(*syscall.Rusage)
	require.True(t, ok)
	// The kernel's figure is exact and may be that of a helper; the watched one is the importer's.
	o.memory = usage.Maxrss << 10
	if o.memory > memoryLimit {
		o.memory = watched
	}
	lines := strings.Split(strings.TrimSpace(stdout.String()), "\n")
	o.result, err = importer.ParseResult([]byte(lines[len(lines)-1]))
	require.NoError(t, err, "exit code %d without a result: %s%s", o.code, stdout.String(), stderr.String())
	return o
}
