package target

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCompleteClearsTheTailOfADevice(t *testing.T) {
	needRoot(t)
	for name, kind := range kinds() {
		for _, end := range []int64{5 * mib, 5*mib + 1536, kind.size} {
			t.Run(name, func(t *testing.T) {
				device := kind.make(t)
				dirty(t, device, kind.size)
				before := bytes.Repeat([]byte{0xff}, int(end))
				target, err := Open(device)
				require.NoError(t, err)
				size, err := target.Complete(t.Context(), end)
				require.NoError(t, err)
				require.Equal(t, end, size)
				requireDisk(t, device, kind.size, before)
			})
		}
	}
}

func TestCompleteRefuses(t *testing.T) {
	needRoot(t)
	device := loop(t, t.TempDir(), 16*mib)
	for end, want := range map[int64]string{0: TargetError, 17 * mib: TooLarge} {
		target, err := Open(device)
		require.NoError(t, err)
		_, err = target.Complete(t.Context(), end)
		require.Equal(t, want, reason(t, err), "%d", end)
	}
}

func TestCompleteLeavesFilesAlone(t *testing.T) {
	dir := t.TempDir()
	for _, size := range []int64{0, mib} {
		if size > 0 {
			require.NoError(t, os.WriteFile(filepath.Join(dir, DiskName), make([]byte, size), 0o600))
		}
		target, err := Open(dir)
		require.NoError(t, err)
		got, err := target.Complete(t.Context(), 0)
		require.NoError(t, err)
		require.Equal(t, size, got)
	}
}
