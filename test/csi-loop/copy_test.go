package main

import (
	"bytes"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// sparse makes a file of size bytes with content at the given places.
func sparse(t *testing.T, size int64, places ...int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image")
	file, err := os.Create(path)
	require.NoError(t, err)
	require.NoError(t, file.Truncate(size))
	for _, place := range places {
		_, err := file.WriteAt(bytes.Repeat([]byte{byte(place/4096 + 1)}, 4096), place)
		require.NoError(t, err)
	}
	require.NoError(t, file.Close())
	return path
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	return content
}

// allocated returns the bytes that a file takes on the disk.
func allocated(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	require.NoError(t, err)
	const blockUnit = 512 // stat(2)
	return info.Sys().(*syscall.Stat_t).Blocks * blockUnit
}

func TestCopyImage(t *testing.T) {
	const size = 8 * mebibyte
	for name, places := range map[string][]int64{
		"nothing but a hole": {},
		"data at both ends":  {0, size - 4096},
		"data in the middle": {mebibyte, mebibyte + 4096, 5 * mebibyte},
	} {
		t.Run(name, func(t *testing.T) {
			source := sparse(t, size, places...)
			target := filepath.Join(t.TempDir(), "copy")
			require.NoError(t, os.WriteFile(target, bytes.Repeat([]byte{9}, 2*size), 0o600), "what an earlier try left")
			require.NoError(t, copyImage(target, source))
			require.True(t, bytes.Equal(read(t, source), read(t, target)))
			require.LessOrEqual(t, allocated(t, target), allocated(t, source)+mebibyte, "holes stay holes")
		})
	}
	t.Run("an empty file", func(t *testing.T) {
		target := filepath.Join(t.TempDir(), "copy")
		require.NoError(t, copyImage(target, sparse(t, 0)))
		require.Empty(t, read(t, target))
	})
	t.Run("no source", func(t *testing.T) {
		target := filepath.Join(t.TempDir(), "copy")
		require.ErrorIs(t, copyImage(target, filepath.Join(t.TempDir(), "none")), os.ErrNotExist)
		require.NoFileExists(t, target)
	})
}

func TestCopyData(t *testing.T) { // where blocks can be shared, copyImage does not come to it
	const size = 3*mebibyte + 5
	source := sparse(t, size, 0, 2*mebibyte)
	from, err := os.Open(source)
	require.NoError(t, err)
	target := filepath.Join(t.TempDir(), "copy")
	to, err := os.Create(target)
	require.NoError(t, err)
	require.NoError(t, copyData(to, from))
	require.NoError(t, to.Close())
	require.NoError(t, from.Close())
	require.True(t, bytes.Equal(read(t, source), read(t, target)))
	require.LessOrEqual(t, allocated(t, target), int64(mebibyte))
}

func TestCannotShare(t *testing.T) {
	require.True(t, cannotShare(unix.EXDEV))
	require.True(t, cannotShare(unix.EOPNOTSUPP))
	require.False(t, cannotShare(unix.ENOSPC))
	require.False(t, cannotShare(unix.EIO))
}

func TestMountIn(t *testing.T) {
	const table = `25 1 7:0 / / rw,relatime shared:1 - ext4 /dev/loop0 rw
26 25 7:12 / /a\040b rw shared:2 - ext4 /dev/loop12 rw
27 25 7:1 / /one rw shared:3 - ext4 /dev/loop1 rw
28 25 7:1 / /two rw shared:3 - ext4 /dev/loop1 rw
bad line
`
	for device, want := range map[uint32]string{0: "/", 12: "/a b", 1: "/one", 2: ""} {
		require.Equal(t, want, mountIn(table, loopMajor, device))
	}
	require.Empty(t, mountIn(table, 8, 0))
}
