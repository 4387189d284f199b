package target

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// needRoot skips what cannot be tested without loop devices and mounts.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: needs root for loop devices and mounts")
	}
}

func runTool(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	require.NoError(t, err, "%s %v: %s", name, args, out)
	return strings.TrimSpace(string(out))
}

// undo runs a command at the end of the test, whose context is over by then.
func undo(t *testing.T, name string, args ...string) {
	t.Cleanup(func() {
		out, err := exec.Command(name, args...).CombinedOutput()
		require.NoError(t, err, "%s %v: %s", name, args, out)
	})
}

// loop makes a block device over a file of size bytes below dir.
func loop(t *testing.T, dir string, size int64, args ...string) string {
	t.Helper()
	backing := filepath.Join(dir, "backing")
	f, err := os.Create(backing)
	require.NoError(t, err)
	require.NoError(t, f.Truncate(size))
	require.NoError(t, f.Close())
	device := runTool(t, "losetup", append([]string{"-f", "--show", backing}, args...)...)
	undo(t, "losetup", "-d", device)
	return device
}

// tmpfs mounts a small file system in memory.
func tmpfs(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	runTool(t, "mount", "-t", "tmpfs", "-o", "size="+size, "gild-test", dir)
	undo(t, "umount", dir)
	return dir
}

// dirty fills a device with 0xff.
func dirty(t *testing.T, device string, size int64) {
	t.Helper()
	f, err := os.OpenFile(device, os.O_WRONLY, 0)
	require.NoError(t, err)
	for off := int64(0); off < size; off += mib {
		_, err := f.WriteAt(bytes.Repeat([]byte{0xff}, int(min(mib, size-off))), off)
		require.NoError(t, err)
	}
	require.NoError(t, f.Sync())
	require.NoError(t, f.Close())
}

// readDirect reads what the device holds, not what the page cache says.
func readDirect(t *testing.T, device string, size int64) []byte {
	t.Helper()
	f, err := os.OpenFile(device, os.O_RDONLY|unix.O_DIRECT, 0)
	require.NoError(t, err)
	defer func() { require.NoError(t, f.Close()) }()
	content := alignedBuffer(int(size), block)
	for off := int64(0); off < size; {
		n, err := f.ReadAt(content[off:min(off+mib, size)], off)
		require.NoError(t, err)
		off += int64(n)
	}
	return content
}

func TestDevice(t *testing.T) {
	needRoot(t)
	cases := map[string]struct {
		size    int64
		args    []string
		onTmpfs bool
		before  func(t *testing.T, device string)
		punches bool
	}{
		"on a file":        {size: 16 * mib, punches: true},
		"4Kn":              {size: 16 * mib, args: []string{"-b", "4096"}, punches: true},
		"direct":           {size: 16 * mib, args: []string{"--direct-io=on"}, punches: true},
		"odd size":         {size: 16*mib + 512, punches: true},
		"in memory":        {size: 16 * mib, onTmpfs: true, punches: true},
		"cannot punch":     {size: 16 * mib, onTmpfs: true, before: func(t *testing.T, device string) { runTool(t, "blkdiscard", "-z", device) }},
		"cannot punch 4Kn": {size: 16 * mib, args: []string{"-b", "4096"}, onTmpfs: true, before: func(t *testing.T, device string) { runTool(t, "blkdiscard", "-z", device) }},
	}
	for name, c := range cases {
		for _, disk := range []int{0, 5*mib + 1536, 15 * mib} {
			for _, all := range []bool{true, false} {
				t.Run(name, func(t *testing.T) {
					dir := t.TempDir()
					if c.onTmpfs {
						dir = tmpfs(t, "24m")
					}
					device := loop(t, dir, c.size, c.args...)
					if c.before != nil {
						c.before(t, device)
					}
					dirty(t, device, c.size)
					target, err := Open(device)
					require.NoError(t, err)
					require.True(t, target.Block())
					require.Equal(t, c.size, target.Capacity())
					require.NoError(t, target.Prepare(t.Context(), 0, block))
					require.Equal(t, c.punches, target.Zeroed())
					if all {
						require.NoError(t, target.ZeroAll(t.Context()))
						require.True(t, target.Zeroed())
					}
					require.True(t, target.direct)
					content := sample(t, disk)
					fill(t, target, content, mib)
					require.NoError(t, target.Commit(t.Context(), int64(disk)))
					got := readDirect(t, device, c.size)
					require.True(t, bytes.Equal(content, got[:disk]))
					require.True(t, isZero(got[disk:]), "old bytes survive behind the disk")
				})
			}
		}
	}
}

func TestDeviceIsZeroedByWritingAsTheLastResort(t *testing.T) {
	needRoot(t)
	const size = 16 * mib
	device := loop(t, t.TempDir(), size, "-b", "4096")
	target, err := Open(device)
	require.NoError(t, err)
	require.NoError(t, target.Prepare(t.Context(), 0, block))
	dirty(t, device, size)
	target.zeroed.Store(false)
	target.noZeroRange = true
	content := sample(t, 5*mib+512)
	fill(t, target, content, mib)
	require.NoError(t, target.Commit(t.Context(), int64(len(content))))
	got := readDirect(t, device, size)
	require.True(t, bytes.Equal(content, got[:len(content)]))
	require.True(t, isZero(got[len(content):]))
}

func TestDeviceTooSmall(t *testing.T) {
	needRoot(t)
	target, err := Open(loop(t, t.TempDir(), 16*mib))
	require.NoError(t, err)
	err = target.Fits(16*mib + 512)
	require.Equal(t, TooLarge, reason(t, err))
	require.ErrorContains(t, err, "at least 17Mi")
	require.NoError(t, target.Fits(16*mib))
	require.NoError(t, target.Prepare(t.Context(), 0, block))
	_, err = target.WriteAt(t.Context(), make([]byte, mib), 16*mib)
	require.Equal(t, TooLarge, reason(t, err))
	require.NoError(t, target.Discard())
}

func TestDeviceInUse(t *testing.T) {
	needRoot(t)
	device := loop(t, t.TempDir(), 16*mib)
	runTool(t, "mkfs.ext4", "-q", device)
	dir := t.TempDir()
	runTool(t, "mount", device, dir)
	undo(t, "umount", dir)
	target, err := Open(device)
	require.NoError(t, err)
	err = target.Prepare(t.Context(), 0, block)
	require.Equal(t, TargetError, reason(t, err))
	require.ErrorContains(t, err, "somebody else uses it")
}

func TestDiscardedDeviceHoldsNoDisk(t *testing.T) {
	needRoot(t)
	const size = 16 * mib
	device := loop(t, t.TempDir(), size)
	target, err := Open(device)
	require.NoError(t, err)
	require.NoError(t, target.Prepare(t.Context(), 0, block))
	fill(t, target, bytes.Repeat([]byte{0x55}, size), mib)
	require.NoError(t, target.Discard())
	got := readDirect(t, device, size)
	require.True(t, isZero(got[:mib]))
	require.True(t, isZero(got[size-mib:]))
}

// TestLostWriteIsSeen is the recipe for a device that loses writes: its backing file system
// is full. qemu-img's default mode and cp both call this a success.
func TestLostWriteIsSeen(t *testing.T) {
	needRoot(t)
	for name, direct := range map[string]bool{"direct": true, "buffered": false} {
		t.Run(name, func(t *testing.T) {
			device := loop(t, tmpfs(t, "8m"), 32*mib)
			target := openLossy(t, device, direct)
			err := writeAndCommit(t, target, 20*mib)
			require.Contains(t, []string{NoSpace, TargetError}, reason(t, err))
			_, err = target.WriteAt(t.Context(), []byte{1}, 0)
			require.Error(t, err, "a lost write is final")
			require.Error(t, target.Commit(t.Context(), 20*mib), "a lost write is final")
			_ = target.Discard()
		})
	}
}

func openLossy(t *testing.T, device string, direct bool) *Target {
	t.Helper()
	target, err := Open(device)
	require.NoError(t, err)
	require.NoError(t, target.Prepare(t.Context(), 0, block))
	if !direct {
		require.NoError(t, setDirect(target.file, false))
		target.direct = false
	}
	return target
}

func writeAndCommit(t *testing.T, target *Target, size int64) error {
	t.Helper()
	for off := int64(0); off < size; off += mib {
		if _, err := target.WriteAt(t.Context(), bytes.Repeat([]byte{0x55}, mib), off); err != nil {
			return err
		}
	}
	return target.Commit(t.Context(), size)
}

func TestFullFileSystem(t *testing.T) {
	needRoot(t)
	dir := tmpfs(t, "8m")
	target, err := Open(dir)
	require.NoError(t, err)
	require.Less(t, target.Capacity(), int64(8*mib))
	require.Equal(t, TooLarge, reason(t, target.Fits(9*mib)))
	require.NoError(t, target.Prepare(t.Context(), 0, block))
	err = writeAndCommit(t, target, 20*mib)
	require.Equal(t, NoSpace, reason(t, err))
	require.NoError(t, target.Discard())
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, entries)
}

// TestClaimSizeSuffices makes file systems of the size that TooLarge asks for, and fills the
// small ones to the last byte.
func TestClaimSizeSuffices(t *testing.T) {
	needRoot(t)
	const gib = 1 << 30
	for _, size := range []int64{4 * mib, 40 * mib, 90 * mib, 300 * mib, 900 * mib, 2 * gib, 10 * gib, 15 * gib, 30 * gib, 60 * gib, 120 * gib, 500 * gib, 2048 * gib} {
		t.Run(quantity(size), func(t *testing.T) {
			device := loop(t, t.TempDir(), claimSize(size))
			runTool(t, "mkfs.ext4", "-q", device)
			dir := t.TempDir()
			runTool(t, "mount", device, dir)
			undo(t, "umount", dir)
			target, err := Open(dir)
			require.NoError(t, err)
			require.NoError(t, target.Fits(size))
			t.Logf("disk %d, claim %d (%+.1f%%), capacity %d", size, claimSize(size), 100*float64(claimSize(size)-size)/float64(size), target.Capacity())
			if size > 512*mib {
				return
			}
			size = target.Capacity()
			require.NoError(t, target.Prepare(t.Context(), 0, block))
			chunk := bytes.Repeat([]byte{0x55}, mib)
			for off := int64(0); off < size; off += mib {
				_, err := target.WriteAt(t.Context(), chunk[:min(mib, size-off)], off)
				require.NoError(t, err)
			}
			require.NoError(t, target.Commit(t.Context(), size))
		})
	}
}
