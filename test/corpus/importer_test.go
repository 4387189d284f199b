//go:build corpus

package corpus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
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
	peak := watchMemory(command.Process.Pid)
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

// watchMemory looks at the high-water mark of a process until the returned function is called,
// which returns the last one seen in bytes.
func watchMemory(pid int) func() int64 {
	stop, last := make(chan struct{}), make(chan int64)
	go func() {
		ticker := time.NewTicker(5 * time.Millisecond)
		defer ticker.Stop()
		var peak int64
		for {
			peak = max(peak, highWater(pid))
			select {
			case <-stop:
				last <- peak
				return
			case <-ticker.C:
			}
		}
	}()
	return func() int64 {
		close(stop)
		return <-last
	}
}

func highWater(pid int) int64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0 // it has ended
	}
	_, after, _ := strings.Cut(string(status), "VmHWM:")
	var kib int64
	if _, err := fmt.Sscanf(after, "%d kB", &kib); err != nil {
		return 0 // it is ending
	}
	return kib << 10
}
