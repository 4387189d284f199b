package target

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDevice(t *testing.T) {
	needRoot(t)
	for name, kind := range kinds() {
		for _, disk := range []int{0, 5*mib + 1536, 15 * mib} {
			for _, all := range []bool{true, false} {
				t.Run(name, func(t *testing.T) {
					device := kind.make(t)
					dirty(t, device, kind.size)
					target, err := Open(device)
					require.NoError(t, err)
					require.True(t, target.Block())
					require.Equal(t, kind.size, target.Capacity())
					require.NoError(t, target.Prepare(t.Context(), 0, block))
					require.Equal(t, !kind.worn, target.Zeroed())
					if all {
						require.NoError(t, target.ZeroAll(t.Context()))
						require.True(t, target.Zeroed())
						requireDisk(t, device, kind.size, nil)
					}
					require.True(t, target.direct)
					content := sample(t, disk)
					fill(t, target, content, mib)
					require.NoError(t, target.Commit(t.Context(), int64(disk)))
					requireDisk(t, device, kind.size, content)
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
	requireDisk(t, device, size, content)
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
	eachDirect(t, device, size, func(part []byte, off int64) {
		if off < mib || off >= size-mib {
			require.True(t, isZero(part))
		}
	})
}
