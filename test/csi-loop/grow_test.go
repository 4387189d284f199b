package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// The tools work on files as they do on devices.
func TestGrow(t *testing.T) {
	for _, block := range []string{"1024", "4096"} {
		t.Run("blocks of "+block, func(t *testing.T) {
			image := sparse(t, 32*mebibyte)
			small := func() bool {
				t.Helper()
				small, err := smallerThanDevice(image)
				require.NoError(t, err)
				return small
			}
			require.False(t, small(), "no file system yet")
			output, err := exec.CommandContext(t.Context(), "mkfs.ext4", "-q", "-b", block, image).CombinedOutput()
			require.NoError(t, err, string(output))
			require.False(t, small())
			require.NoError(t, os.Truncate(image, 64*mebibyte))
			require.True(t, small())
			require.NoError(t, grow(t.Context(), image, filepath.Join(t.TempDir(), "stage")))
			require.False(t, small())
			output, err = exec.CommandContext(t.Context(), "e2fsck", "-f", "-n", image).CombinedOutput()
			require.NoError(t, err, string(output))
		})
	}
}
