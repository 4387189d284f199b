package target

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// slowDisk is what the child of TestSlowVolume writes.
const slowDisk = 192 * mib

// TestSlowVolume writes through the page cache to a device that is slower than the writer,
// with the memory of a small pod. Dirty pages count against it.
func TestSlowVolume(t *testing.T) {
	if device := os.Getenv("GILD_TEST_SLOW_DEVICE"); device != "" {
		writeSlowDisk(t, device)
		return
	}
	needRoot(t)
	group := memoryGroup(t, 128*mib)
	device := loop(t, t.TempDir(), slowDisk)
	throttle(t, device, 64*mib)
	child := exec.CommandContext(t.Context(), "sh", "-c", `echo $$ > "$0/cgroup.procs" && exec "$1" -test.run '^TestSlowVolume$' -test.v`, group, os.Args[0])
	child.Env = append(os.Environ(), "GILD_TEST_SLOW_DEVICE="+device, "GOMEMLIMIT=96MiB")
	var out bytes.Buffer
	child.Stdout, child.Stderr = &out, &out
	start := time.Now() //nolint:forbidigo // the figure is printed, not asserted
	require.NoError(t, child.Start())
	done := make(chan error, 1)
	go func() { done <- child.Wait() }()
	peak := int64(0)
	for running := true; running; {
		select {
		case err := <-done:
			require.NoError(t, err, "killed, or failed: %s", out.String())
			running = false
		case <-time.After(10 * time.Millisecond):
			peak = max(peak, unstored(t, group))
		}
	}
	t.Logf("%d MiB in %.1f s, at most %d MiB dirty or being stored", slowDisk/mib, time.Since(start).Seconds(), peak/mib) //nolint:forbidigo // as above
	require.Positive(t, peak, "the page cache was used")
	require.LessOrEqual(t, peak, int64(2*waitEvery+8*mib))
	want := slowChunk()
	eachDirect(t, device, slowDisk, func(part []byte, _ int64) {
		require.True(t, bytes.Equal(want[:len(part)], part), "the disk is another one")
	})
}

// slowChunk is what the disk consists of.
func slowChunk() []byte { return bytes.Repeat([]byte{0x55}, mib) }

func writeSlowDisk(t *testing.T, device string) {
	t.Helper()
	target, err := Open(device)
	require.NoError(t, err)
	require.NoError(t, target.Prepare(t.Context(), slowDisk, 512))
	chunk := slowChunk()
	require.NoError(t, inParallel(4, slowDisk/mib, func(n int) error {
		_, err := target.WriteAt(t.Context(), chunk, int64(n)*mib)
		return err
	}))
	require.NoError(t, target.Commit(t.Context(), slowDisk))
}

// memoryGroup makes a cgroup, of either version, that kills who needs more than limit bytes.
func memoryGroup(t *testing.T, limit int64) string {
	t.Helper()
	parent, file := "/sys/fs/cgroup/memory", "memory.limit_in_bytes"
	if _, err := os.Stat(parent); err != nil {
		parent, file = "/sys/fs/cgroup", "memory.max"
	}
	group := filepath.Join(parent, fmt.Sprintf("gild-test-%d", os.Getpid()))
	require.NoError(t, os.Mkdir(group, 0o700))
	t.Cleanup(func() { require.NoError(t, os.Remove(group)) })
	require.NoError(t, os.WriteFile(filepath.Join(group, file), []byte(strconv.FormatInt(limit, 10)), 0o600))
	return group
}

// throttle lets a device store so many bytes in a second, where the kernel has the first
// version of block cgroups: the second has none for everybody.
func throttle(t *testing.T, device string, rate int64) {
	t.Helper()
	const file = "/sys/fs/cgroup/blkio/blkio.throttle.write_bps_device"
	if _, err := os.Stat(file); err != nil {
		t.Log("the device is not slowed down: only the bound of dirty pages is tested")
		return
	}
	number := runTool(t, "lsblk", "-dno", "MAJ:MIN", device)
	require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, "%s %d", number, rate), 0o600))
	t.Cleanup(func() { require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, "%s 0", number), 0o600)) })
}

// unstored is what of the group's memory is dirty or being stored, in bytes.
func unstored(t *testing.T, group string) int64 {
	t.Helper()
	stat, err := os.ReadFile(filepath.Join(group, "memory.stat"))
	require.NoError(t, err)
	sum := int64(0)
	for line := range strings.Lines(string(stat)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch name {
		case "dirty", "writeback", "file_dirty", "file_writeback":
			n, err := strconv.ParseInt(value, 10, 64)
			require.NoError(t, err)
			sum += n
		}
	}
	return sum
}
