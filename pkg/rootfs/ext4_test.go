package rootfs

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestExt4HoldsAllEntries(t *testing.T) {
	for _, size := range []int64{512 << 20, 300<<20 + 5000, 0} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			f := scratch(t, t.TempDir())
			used, err := Ext4(t.Context(), entriesOf(everything()), f, size, Options{})
			require.NoError(t, err)
			info, err := f.Stat()
			require.NoError(t, err)
			if size > 0 {
				require.Equal(t, size, info.Size())
			}
			if size == 0 {
				require.Zero(t, info.Size()%(1<<20))
			}
			require.Less(t, used, info.Size())
			// The zeros of the files are not written, and neither are the free blocks.
			var stat unix.Stat_t
			require.NoError(t, unix.Fstat(int(f.Fd()), &stat))
			require.Less(t, stat.Blocks*512, int64(60<<20))
			command(t, "e2fsck", "-f", "-n", f.Name())
		})
	}
}

func TestKernelReadsAndWritesExt4(t *testing.T) {
	needRoot(t)
	for _, size := range []int64{300 << 20, 0} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			f := scratch(t, t.TempDir())
			items := append(everything(), crowd(20000)...)
			_, err := Ext4(t.Context(), entriesOf(items), f, size, Options{})
			require.NoError(t, err)
			dir, unmount := mounted(t, "-o", "loop", f.Name())
			expectTree(t, dir, items, true)
			fillUp(t, dir)
			unmount()
			command(t, "e2fsck", "-f", "-n", f.Name())
		})
	}
}

// fillUp writes files until the file system is full.
func fillUp(t *testing.T, dir string) {
	t.Helper()
	content := noise(3 << 20)
	for n := 0; ; n++ {
		require.Less(t, n, 1000)
		err := os.WriteFile(filepath.Join(dir, "crowd", fmt.Sprintf("more-%d", n)), content, 0o600)
		if err != nil {
			require.ErrorIs(t, err, unix.ENOSPC)
			require.Greater(t, n, 5, "there was no room for new files")
			return
		}
	}
}
