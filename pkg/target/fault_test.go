package target

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// TestLostWritesAreSeen is the recipe for a device that loses writes: its backing file system
// is full after some MiB. qemu-img's default mode and cp call this a success. Where the first
// write fails moves through all that a target does: writing from many goroutines, storing
// early, Sync, zeroing the gaps, and the last sync. The room ends some MiB before the disk,
// because a loop device calls it a success when only the start of a request was stored: no
// writer can see that.
func TestLostWritesAreSeen(t *testing.T) {
	needRoot(t)
	const size = 24 * mib
	disk := bytes.Repeat([]byte{0x55}, 20*mib+512)
	for _, worn := range []bool{false, true} {
		for _, granule := range []int64{512, 65536} {
			rooms := []int64{1, 2, 7, 8, 9, 15, 26}
			if worn {
				// The data has room, the gap behind it has none.
				rooms = append(rooms, 21)
			}
			for _, room := range rooms {
				t.Run(fmt.Sprintf("worn %v, granule %d, room %d MiB", worn, granule, room), func(t *testing.T) {
					dir := tmpfs(t, "28m")
					device := loop(t, dir, size)
					if worn {
						runTool(t, "blkdiscard", "-z", device)
						runTool(t, "fallocate", "-p", "-l", fmt.Sprint(size), filepath.Join(dir, "backing"))
					}
					runTool(t, "mount", "-o", fmt.Sprintf("remount,size=%dm", room), dir)
					target, err := Open(device)
					require.NoError(t, err)
					require.NoError(t, target.Prepare(t.Context(), size, granule))
					require.Equal(t, !worn, target.Zeroed())
					err = importDisk(t, target, disk)
					if room*mib > size {
						require.NoError(t, err)
						requireDisk(t, device, size, disk)
						return
					}
					require.Contains(t, []string{NoSpace, TargetError}, reason(t, err))
					requireBroken(t, target, err)
					// Wiping the device fails as well, or finds room; nobody depends on it.
					_ = target.Discard()
				})
			}
		}
	}
}

// importDisk writes from many goroutines, syncs half way and commits.
func importDisk(t *testing.T, target *Target, disk []byte) error {
	t.Helper()
	const chunk = mib
	half := len(disk) / 2 / chunk * chunk
	for _, part := range []extent{{0, int64(half)}, {int64(half), int64(len(disk))}} {
		err := inParallel(4, int((part.end-part.off+chunk-1)/chunk), func(n int) error {
			off := part.off + int64(n)*chunk
			_, err := target.WriteAt(t.Context(), disk[off:min(off+chunk, part.end)], off)
			return err
		})
		if err != nil {
			return err
		}
		if err := target.Sync(t.Context()); err != nil {
			return err
		}
	}
	return target.Commit(t.Context(), int64(len(disk)))
}

// requireBroken proves that an error is the answer to everything from then on.
func requireBroken(t *testing.T, target *Target, first error) {
	t.Helper()
	var failure *Error
	require.ErrorAs(t, first, &failure)
	_, err := target.WriteAt(t.Context(), make([]byte, 65536), 0)
	for _, err := range []error{
		err, target.Sync(t.Context()), target.ZeroAll(t.Context()), target.Settle(t.Context(), -1),
		target.Commit(t.Context(), -1), target.Prepare(t.Context(), 0, block),
	} {
		require.ErrorIs(t, err, failure)
	}
}

// TestLostWriteIsToldToAll has many goroutines sync and write while pages are lost: nobody may
// hear that all is well after it is not.
func TestLostWriteIsToldToAll(t *testing.T) {
	needRoot(t)
	for round := range 8 {
		device := loop(t, tmpfs(t, "2m"), 16*mib)
		target, err := Open(device)
		require.NoError(t, err)
		require.NoError(t, target.Prepare(t.Context(), 0, 512))
		data := bytes.Repeat([]byte{0x55}, 4*mib)
		_, err = target.WriteAt(t.Context(), data, 0)
		require.NoError(t, err, "the page cache takes it")
		errs := make(chan error, 64)
		_ = inParallel(8, cap(errs), func(n int) error {
			if n%4 == 1 {
				_, _ = target.WriteAt(t.Context(), data[:512], int64(8*mib+n*512))
			}
			errs <- target.Sync(t.Context())
			return nil
		})
		close(errs)
		for err := range errs {
			require.Error(t, err, "round %d: data was lost before", round)
			requireBroken(t, target, err)
		}
		_ = target.Discard()
	}
}

// TestErrorsOfAnEarlierWriterAreHis leaves a lost write behind, as a killed importer does.
func TestErrorsOfAnEarlierWriterAreHis(t *testing.T) {
	needRoot(t)
	const size = 16 * mib
	dir := tmpfs(t, "2m")
	device := loop(t, dir, size)
	// Somebody who keeps the device open keeps its errors.
	holder, err := os.Open(device)
	require.NoError(t, err)
	defer func() { require.NoError(t, holder.Close()) }()
	lose := func() {
		earlier, err := os.OpenFile(device, os.O_WRONLY, 0)
		require.NoError(t, err)
		_, err = earlier.WriteAt(bytes.Repeat([]byte{0xff}, 8*mib), 0)
		require.NoError(t, err)
		require.NoError(t, unix.SyncFileRange(int(earlier.Fd()), 0, 0, unix.SYNC_FILE_RANGE_WRITE))
		require.NoError(t, earlier.Close())
	}
	lose()
	target, err := Open(device)
	require.NoError(t, err)
	require.Error(t, target.Resume(t.Context(), size, 512), "what was lost cannot be resumed")
	lose()
	runTool(t, "mount", "-o", "remount,size=24m", dir)
	disk := sample(t, 5*mib+512)
	require.NoError(t, target.Prepare(t.Context(), size, 512))
	require.NoError(t, importDisk(t, target, disk))
	requireDisk(t, device, size, disk)
}

func TestFullFileSystem(t *testing.T) {
	needRoot(t)
	for _, granule := range []int64{512, 65536} {
		t.Run(fmt.Sprintf("granule %d", granule), func(t *testing.T) {
			dir := tmpfs(t, "8m")
			target, err := Open(dir)
			require.NoError(t, err)
			require.Less(t, target.Capacity(), int64(8*mib))
			require.Equal(t, TooLarge, reason(t, target.Fits(9*mib)))
			require.NoError(t, target.Prepare(t.Context(), 20*mib, granule))
			err = importDisk(t, target, bytes.Repeat([]byte{0x55}, 20*mib))
			require.Equal(t, NoSpace, reason(t, err))
			require.ErrorContains(t, err, "a disk of 20971520 bytes needs a volume of at least 30Mi")
			requireBroken(t, target, err)
			require.NoError(t, target.Discard())
			entries, err := os.ReadDir(dir)
			require.NoError(t, err)
			require.Empty(t, entries)
		})
	}
}

// TestFileSystemIsFullOnlyWhenStoring is a file system on storage that is smaller than it says:
// pages are taken and lost when they are stored.
func TestFileSystemIsFullOnlyWhenStoring(t *testing.T) {
	needRoot(t)
	for _, granule := range []int64{512, 65536} {
		t.Run(fmt.Sprintf("granule %d", granule), func(t *testing.T) {
			storage := tmpfs(t, "40m")
			device := loop(t, storage, 32*mib)
			runTool(t, "mkfs.ext4", "-q", "-E", "lazy_itable_init=0", device)
			dir := t.TempDir()
			runTool(t, "mount", device, dir)
			undo(t, "umount", dir)
			var s unix.Statfs_t
			require.NoError(t, unix.Statfs(storage, &s))
			used := int64(s.Blocks-s.Bfree) * s.Bsize
			runTool(t, "mount", "-o", fmt.Sprintf("remount,size=%d", used+4*mib), storage)
			target, err := Open(dir)
			require.NoError(t, err)
			require.NoError(t, target.Prepare(t.Context(), 16*mib, granule))
			err = importDisk(t, target, bytes.Repeat([]byte{0x55}, 16*mib))
			require.Contains(t, []string{NoSpace, TargetError}, reason(t, err))
			requireBroken(t, target, err)
			require.NoFileExists(t, filepath.Join(dir, DiskName))
			// The file system may be read-only by now.
			_ = target.Discard()
		})
	}
}

// TestFileLargerThanAllowed fails at one write of many, without a signal that kills.
func TestFileLargerThanAllowed(t *testing.T) {
	var old unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_FSIZE, &old))
	target := openPrepared(t, t.TempDir())
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 3 * mib, Max: old.Max}))
	err := importDisk(t, target, bytes.Repeat([]byte{0x55}, 8*mib))
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_FSIZE, &old))
	require.Equal(t, TooLarge, reason(t, err))
	require.True(t, errors.Is(err, unix.EFBIG))
	requireBroken(t, target, err)
}
