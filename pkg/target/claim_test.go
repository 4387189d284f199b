package target

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

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
