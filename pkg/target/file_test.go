package target

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestDirectoryGetsDiskImg(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o077))
	for name, c := range map[string]struct{ size, chunk, commit int }{
		"whole blocks":      {3 * mib, mib, 3 * mib},
		"small chunks":      {3 * mib, block, 3 * mib},
		"end within block":  {2*mib + 1536, mib, 2*mib + 1536},
		"grown":             {mib, mib, 64 * mib},
		"grown odd":         {mib + 512, mib, 5*mib + 512},
		"less than a block": {512, mib, 512},
		"a gigabyte":        {mib, mib, 1 << 30},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(dir, DiskName), bytes.Repeat([]byte{0xff}, 9*mib), 0o600))
			disk := sample(t, c.size)
			target := openPrepared(t, dir)
			require.NoFileExists(t, filepath.Join(dir, DiskName), "a volume has no room for two disks")
			fill(t, target, disk, c.chunk)
			require.NoFileExists(t, filepath.Join(dir, DiskName), "an unfinished disk must not look like one")
			require.NoError(t, target.Commit(t.Context(), int64(c.commit)))

			requireFile(t, filepath.Join(dir, DiskName), disk)
			info, err := os.Stat(filepath.Join(dir, DiskName))
			require.NoError(t, err)
			require.EqualValues(t, c.commit, info.Size())
			require.Equal(t, os.FileMode(0o660), info.Mode().Perm())
			entries, err := os.ReadDir(dir)
			require.NoError(t, err)
			require.Len(t, entries, 1)
		})
	}
}

// requireFile wants a file to begin with disk and to have nothing but zeros behind it.
func requireFile(t *testing.T, path string, disk []byte) {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer func() { require.NoError(t, f.Close()) }()
	got := make([]byte, len(disk))
	_, err = io.ReadFull(f, got)
	require.NoError(t, err)
	require.True(t, bytes.Equal(disk, got))
	part := make([]byte, mib)
	for off := int64(len(disk)); ; {
		// What is in holes is zero, and most is.
		off, err = unix.Seek(int(f.Fd()), off, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return
		}
		require.NoError(t, err)
		n, err := f.ReadAt(part, off)
		if !errors.Is(err, io.EOF) {
			require.NoError(t, err)
		}
		require.True(t, isZero(part[:n]))
		off += int64(n)
	}
}

func TestHolesAreKept(t *testing.T) {
	dir := t.TempDir()
	target := openPrepared(t, dir)
	chunk := make([]byte, mib)
	chunk[5*block+7] = 1
	for i := range 64 {
		_, err := target.WriteAt(t.Context(), chunk, int64(i)*mib)
		require.NoError(t, err)
	}
	require.NoError(t, target.Commit(t.Context(), 64*mib))
	require.EqualValues(t, 64*block, target.Written())
	var s unix.Stat_t
	require.NoError(t, unix.Stat(filepath.Join(dir, DiskName), &s))
	require.EqualValues(t, 64*mib, s.Size)
	require.LessOrEqual(t, s.Blocks*512, int64(66*block))
}

func TestUnalignedMemoryIsCopied(t *testing.T) {
	dir := t.TempDir()
	disk := sample(t, 2*mib)
	shifted := append(make([]byte, 1, len(disk)+1), disk...)[1:]
	target := openPrepared(t, dir)
	fill(t, target, shifted, mib)
	require.NoError(t, target.Commit(t.Context(), int64(len(disk))))
	got, err := os.ReadFile(filepath.Join(dir, DiskName))
	require.NoError(t, err)
	require.True(t, bytes.Equal(disk, got))
}

func TestBufferedWritesAreWholeToo(t *testing.T) {
	dir := t.TempDir()
	disk := sample(t, 20*mib+512)
	target := openPrepared(t, dir)
	require.NoError(t, setDirect(target.file, false))
	target.direct = false
	fill(t, target, disk, mib)
	require.NoError(t, target.Commit(t.Context(), int64(len(disk))))
	got, err := os.ReadFile(filepath.Join(dir, DiskName))
	require.NoError(t, err)
	require.True(t, bytes.Equal(disk, got))
}

func TestFileKeepsTheOldOneUntilCommit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "my.raw")
	require.NoError(t, os.WriteFile(path, []byte("old"), 0o600))
	target := openPrepared(t, path)
	fill(t, target, sample(t, mib), mib)
	require.NoError(t, target.Discard())
	old, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "old", string(old))
	require.NoFileExists(t, path+".partial")

	target = openPrepared(t, path)
	fill(t, target, sample(t, mib), mib)
	require.NoError(t, target.Commit(t.Context(), mib))
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.EqualValues(t, mib, info.Size())
}

func TestPrepareAgainStartsOver(t *testing.T) {
	dir := t.TempDir()
	target := openPrepared(t, dir)
	fill(t, target, bytes.Repeat([]byte{0xff}, 8*mib), mib)
	require.NoError(t, target.Prepare(t.Context(), 0, block))
	require.Zero(t, target.Written())
	disk := sample(t, mib)
	fill(t, target, disk, mib)
	require.NoError(t, target.Commit(t.Context(), 8*mib))
	got, err := os.ReadFile(filepath.Join(dir, DiskName))
	require.NoError(t, err)
	require.True(t, bytes.Equal(disk, got[:mib]))
	require.True(t, isZero(got[mib:]))
}

func TestOpenChangesNothing(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, DiskName)
	require.NoError(t, os.WriteFile(path, []byte("old"), 0o600))
	for _, p := range []string{dir, path, filepath.Join(dir, "new")} {
		target, err := Open(p)
		require.NoError(t, err)
		require.Positive(t, target.Capacity())
		require.False(t, target.Block())
		require.NoError(t, target.Discard())
	}
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 1)
	old, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "old", string(old))
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	require.NoError(t, unix.Mkfifo(fifo, 0o600))
	linked := filepath.Join(dir, "linked")
	require.NoError(t, os.Mkdir(linked, 0o700))
	require.NoError(t, os.Symlink("/etc/passwd", filepath.Join(linked, DiskName)))
	for name, path := range map[string]string{
		"fifo": fifo, "character device": "/dev/full", "disk.img is a link": linked, "no directory": filepath.Join(dir, "a", "b"),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Open(path)
			require.Equal(t, TargetError, reason(t, err))
		})
	}
}

func TestLeftoverLinkIsNotFollowed(t *testing.T) {
	dir, outside := t.TempDir(), filepath.Join(t.TempDir(), "precious")
	require.NoError(t, os.WriteFile(outside, []byte("precious"), 0o600))
	require.NoError(t, os.Symlink(outside, filepath.Join(dir, DiskName+".partial")))
	target := openPrepared(t, dir)
	fill(t, target, sample(t, mib), mib)
	require.NoError(t, target.Commit(t.Context(), mib))
	kept, err := os.ReadFile(outside)
	require.NoError(t, err)
	require.Equal(t, "precious", string(kept))
}

func TestLeftoversDoNotCountAsUsed(t *testing.T) {
	needRoot(t)
	// A file system of its own: others fill and empty the usual one.
	dir := tmpfs(t, "256m")
	before, err := Open(dir)
	require.NoError(t, err)
	for _, name := range []string{DiskName, DiskName + ".partial"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), bytes.Repeat([]byte{1}, 64*mib), 0o600))
	}
	after, err := Open(dir)
	require.NoError(t, err)
	require.InDelta(t, before.Capacity(), after.Capacity(), mib)
}

func TestTwoImportsIntoOneDirectory(t *testing.T) {
	dir := t.TempDir()
	first := openPrepared(t, dir)
	fill(t, first, sample(t, 2*mib), mib)
	second, err := Open(dir)
	require.NoError(t, err)
	err = second.Prepare(t.Context(), 0, block)
	require.Equal(t, TargetError, reason(t, err))
	require.ErrorContains(t, err, "somebody else uses it")
	require.Equal(t, TargetError, reason(t, second.Resume(t.Context(), 2*mib, block)))
	require.NoError(t, first.Commit(t.Context(), 2*mib))
	require.FileExists(t, filepath.Join(dir, DiskName))
}

func TestReplacedFileIsNotPublished(t *testing.T) {
	dir := t.TempDir()
	target := openPrepared(t, dir)
	fill(t, target, sample(t, 2*mib), mib)
	partial := filepath.Join(dir, DiskName+".partial")
	require.NoError(t, os.Remove(partial))
	require.NoError(t, os.WriteFile(partial, []byte("half of another disk"), 0o600))
	err := target.Commit(t.Context(), 2*mib)
	require.Equal(t, TargetError, reason(t, err))
	require.ErrorContains(t, err, "somebody else replaced")
	require.NoFileExists(t, filepath.Join(dir, DiskName))
	require.NoError(t, target.Discard())
	require.FileExists(t, partial, "it is not ours")
}

func TestWriteAtKeepsItsContract(t *testing.T) {
	target := openPrepared(t, t.TempDir())
	data := bytes.Repeat([]byte{1}, block)
	_, err := target.WriteAt(t.Context(), data, 512)
	require.ErrorContains(t, err, "not a multiple")
	_, err = target.WriteAt(t.Context(), data, 4*block)
	require.NoError(t, err)
	_, err = target.WriteAt(t.Context(), data[:512], 2*block)
	require.ErrorContains(t, err, "short and not the last one")
	_, err = target.WriteAt(t.Context(), data[:512], 5*block)
	require.NoError(t, err)
	_, err = target.WriteAt(t.Context(), data, 6*block)
	require.ErrorContains(t, err, "comes after")
	require.ErrorContains(t, target.Commit(t.Context(), 5*block), "data was written up to")
}

func TestFitsSaysWhatToAskFor(t *testing.T) {
	target, err := Open(t.TempDir())
	require.NoError(t, err)
	require.NoError(t, target.Fits(target.Capacity()))
	err = target.Fits(1 << 50)
	require.Equal(t, TooLarge, reason(t, err))
	require.ErrorContains(t, err, "ask for a volume of at least 11")
}

func TestIsZero(t *testing.T) {
	p := make([]byte, block)
	require.True(t, isZero(p))
	require.True(t, isZero(nil))
	for _, at := range []int{0, 1, block / 2, block - 1} {
		p[at] = 1
		require.False(t, isZero(p), at)
		p[at] = 0
	}
}

func TestCancelStopsZeroing(t *testing.T) {
	target := openPrepared(t, t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, target.writeZeros(ctx, extent{0, 1 << 40}), context.Canceled)
	_, err := target.fallocate(ctx, unix.FALLOC_FL_ZERO_RANGE, 0, 1<<40)
	require.ErrorIs(t, err, context.Canceled)
}
