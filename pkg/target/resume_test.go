package target

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// interrupt writes the first half of disk like a run that is killed: what came after the last
// sync is torn.
func interrupt(t *testing.T, path string, disk []byte, granule int64) {
	t.Helper()
	target, err := Open(path)
	require.NoError(t, err)
	require.NoError(t, target.Prepare(t.Context(), int64(len(disk)), granule))
	require.NoError(t, target.ZeroAll(t.Context()))
	half := len(disk) / 2 / mib * mib
	require.NoError(t, scatter(t, target, disk[:half], int(granule), 1))
	require.NoError(t, target.Sync(t.Context()))
	require.True(t, target.Zeroed())
	_, err = target.WriteAt(t.Context(), disk[half+mib:], int64(half+mib))
	require.NoError(t, err)
	require.NoError(t, target.Keep())
	require.NoError(t, target.Discard(), "there is nothing to discard after Keep")
}

func resume(t *testing.T, path string, disk []byte, granule int64) {
	t.Helper()
	target, err := Open(path)
	require.NoError(t, err)
	require.NoError(t, target.Resume(t.Context(), int64(len(disk)), granule))
	require.True(t, target.Zeroed())
	require.Error(t, target.Resume(t.Context(), int64(len(disk)), granule), "it is open")
	require.Zero(t, target.Written())
	half := len(disk) / 2 / mib * mib
	for off := half; off < len(disk); off += mib {
		_, err := target.WriteAt(t.Context(), disk[off:min(off+mib, len(disk))], int64(off))
		require.NoError(t, err)
	}
	require.NoError(t, target.Commit(t.Context(), int64(len(disk))))
}

func TestResumeFile(t *testing.T) {
	for _, granule := range []int64{512, 65536} {
		for _, size := range []int{8 * mib, 8*mib + 512, 8*mib + 100} {
			t.Run(fmt.Sprintf("granule %d, size %d", granule, size), func(t *testing.T) {
				dir := t.TempDir()
				disk := sample(t, size)
				interrupt(t, dir, disk, granule)
				require.NoFileExists(t, filepath.Join(dir, DiskName))
				resume(t, dir, disk, granule)
				got, err := os.ReadFile(filepath.Join(dir, DiskName))
				require.NoError(t, err)
				require.True(t, bytes.Equal(disk, got))
			})
		}
	}
}

func TestResumeDevice(t *testing.T) {
	needRoot(t)
	for name, kind := range kinds() {
		for _, granule := range []int64{512, 65536} {
			t.Run(fmt.Sprintf("%s, granule %d", name, granule), func(t *testing.T) {
				device := kind.make(t)
				dirty(t, device, kind.size)
				disk := sample(t, 8*mib+512)
				interrupt(t, device, disk, granule)
				resume(t, device, disk, granule)
				requireDisk(t, device, kind.size, disk)
			})
		}
	}
}

func TestResumeRefuses(t *testing.T) {
	const size = 2 * mib
	for name, change := range map[string]func(t *testing.T, partial string){
		"nothing there": func(t *testing.T, partial string) { require.NoError(t, os.Remove(partial)) },
		"another size":  func(t *testing.T, partial string) { require.NoError(t, os.Truncate(partial, size+block)) },
		"emptied":       func(t *testing.T, partial string) { require.NoError(t, os.Truncate(partial, 0)) },
		"never synced":  func(t *testing.T, partial string) { require.NoError(t, os.Chmod(partial, freshMode)) },
		"a second name": func(t *testing.T, partial string) { require.NoError(t, os.Link(partial, partial+".2")) },
		"a link": func(t *testing.T, partial string) {
			aside(t, partial)
			require.NoError(t, os.Symlink(partial+".2", partial))
		},
		"a directory":     func(t *testing.T, partial string) { aside(t, partial); require.NoError(t, os.Mkdir(partial, 0o700)) },
		"somebody else's": func(t *testing.T, partial string) { needRoot(t); require.NoError(t, os.Chown(partial, 12345, -1)) },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "my.raw")
			disk := sample(t, size)
			interrupt(t, path, disk, block)
			change(t, path+".partial")
			target, err := Open(path)
			require.NoError(t, err)
			require.Equal(t, TargetError, reason(t, target.Resume(t.Context(), size, block)))
			_, err = target.WriteAt(t.Context(), disk, 0)
			require.Error(t, err, "it is not open")
			if name == "a directory" {
				return
			}
			require.NoError(t, target.Prepare(t.Context(), size, block), "it can start over")
			fill(t, target, disk, mib)
			require.NoError(t, target.Commit(t.Context(), size))
			got, err := os.ReadFile(path)
			require.NoError(t, err)
			require.True(t, bytes.Equal(disk, got))
		})
	}
}

func aside(t *testing.T, partial string) {
	t.Helper()
	require.NoError(t, os.Rename(partial, partial+".2"))
}

// TestPreparedIsNotResumable kills a run that started over: an old checkpoint must not fit.
func TestPreparedIsNotResumable(t *testing.T) {
	const size = 4 * mib
	dir := t.TempDir()
	disk := sample(t, size)
	interrupt(t, dir, disk, block)
	for name, open := range map[string]func(target *Target) error{
		"anew": func(target *Target) error { return target.Prepare(t.Context(), size, block) },
		"after a resume": func(target *Target) error {
			if err := target.Resume(t.Context(), size, block); err != nil {
				return err
			}
			return target.Prepare(t.Context(), size, block)
		},
	} {
		t.Run(name, func(t *testing.T) {
			interrupt(t, dir, disk, block)
			target, err := Open(dir)
			require.NoError(t, err)
			require.NoError(t, open(target))
			_, err = target.WriteAt(t.Context(), disk[:mib], 0)
			require.NoError(t, err)
			require.NoError(t, target.Keep())
			again, err := Open(dir)
			require.NoError(t, err)
			require.ErrorContains(t, again.Resume(t.Context(), size, block), "ever synced")
		})
	}
}

func TestResumeNeedsASize(t *testing.T) {
	target, err := Open(t.TempDir())
	require.NoError(t, err)
	require.ErrorContains(t, target.Resume(t.Context(), 0, block), "unknown size")
	require.ErrorContains(t, target.Prepare(t.Context(), 0, 100), "no granule")
	require.NoError(t, target.Discard())
}

// TestOnlyOneOfManyRunsGoesOn starts several on the same unfinished file.
func TestOnlyOneOfManyRunsGoesOn(t *testing.T) {
	const size = 4 * mib
	disk := sample(t, size)
	for _, how := range []func(target *Target) error{
		func(target *Target) error { return target.Resume(t.Context(), size, block) },
		func(target *Target) error { return target.Prepare(t.Context(), size, block) },
	} {
		for range 20 {
			dir := t.TempDir()
			interrupt(t, dir, disk, block)
			targets := make([]*Target, 8)
			for n := range targets {
				var err error
				targets[n], err = Open(dir)
				require.NoError(t, err)
			}
			opened := make(chan *Target, len(targets))
			_ = inParallel(len(targets), len(targets), func(n int) error {
				if how(targets[n]) == nil {
					opened <- targets[n]
				}
				return nil
			})
			close(opened)
			committed := 0
			for target := range opened {
				if scatter(t, target, disk, block, 2) == nil && target.Commit(t.Context(), size) == nil {
					committed++
				}
				require.NoError(t, target.Discard())
			}
			require.Equal(t, 1, committed)
			got, err := os.ReadFile(filepath.Join(dir, DiskName))
			require.NoError(t, err)
			require.True(t, bytes.Equal(disk, got))
		}
	}
}
