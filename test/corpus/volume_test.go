//go:build corpus

package corpus

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// volume is where an importer writes.
type volume interface {
	// path is what --target gets.
	path() string
	// read returns what is there as a disk of size bytes.
	read(t *testing.T, size int64) Content
	// left tells what a refused import left behind, empty when nothing.
	left(t *testing.T) string
}

// fileVolume is a file to create in a directory of its own.
type fileVolume struct{ dir string }

func (v fileVolume) path() string { return filepath.Join(v.dir, "disk.raw") }

func (v fileVolume) read(t *testing.T, size int64) Content {
	t.Helper()
	return contentOfFile(t, v.path(), size)
}

func contentOfFile(t *testing.T, path string, size int64) Content {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	require.NoError(t, err)
	c, err := ContentOf(f, size, info.Size(), WithData(f, info.Size()), make([]byte, mib))
	require.NoError(t, err)
	c.Size = info.Size()
	return c
}

func (v fileVolume) left(t *testing.T) string {
	t.Helper()
	entries, err := os.ReadDir(v.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	require.NoError(t, err)
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return strings.Join(names, " ")
}

// blockVolume is a loop device full of old bytes.
type blockVolume struct {
	device  string
	backing *os.File
	size    int64
}

// newBlockVolume makes a device of size bytes with logical blocks of sector bytes over a file
// in dir. A device too large to be filled has old bytes in some places only.
func newBlockVolume(t *testing.T, dir string, size int64, sector string) *blockVolume {
	t.Helper()
	backing, err := os.Create(filepath.Join(dir, "backing"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, errors.Join(backing.Close(), os.Remove(backing.Name()))) })
	require.NoError(t, backing.Truncate(size))
	const fillAll, places = 64 * mib, 64
	step := int64(mib)
	if size > fillAll {
		step = max(size/places/mib*mib, mib)
	}
	old := bytes.Repeat([]byte{0xff}, mib)
	for off := int64(0); off < size; off += step {
		_, err := backing.WriteAt(old[:min(mib, size-off)], off)
		require.NoError(t, err)
	}
	_, err = backing.WriteAt(old[:min(mib, size)], size-min(mib, size))
	require.NoError(t, err)
	require.NoError(t, backing.Sync())
	out, err := exec.CommandContext(t.Context(), "losetup", "--find", "--show", "--direct-io=on", "--sector-size", sector, backing.Name()).Output()
	require.NoError(t, err, "losetup: %v", err)
	v := &blockVolume{device: strings.TrimSpace(string(out)), backing: backing, size: size}
	t.Cleanup(func() {
		out, err := exec.Command("losetup", "--detach", v.device).CombinedOutput()
		require.NoError(t, err, "losetup: %s", out)
	})
	return v
}

func (v *blockVolume) path() string { return v.device }

// read goes past the page cache, which shows what was never stored.
func (v *blockVolume) read(t *testing.T, size int64) Content {
	t.Helper()
	if v.size > hashAll {
		// The loop device writes directly: what is stored is in its file.
		c, err := ContentOf(v.backing, size, v.size, WithData(v.backing, v.size), make([]byte, mib))
		require.NoError(t, err)
		return c
	}
	f, err := os.OpenFile(v.device, os.O_RDONLY|unix.O_DIRECT, 0)
	require.NoError(t, err)
	defer func() { _ = f.Close() }()
	aligned, err := unix.Mmap(-1, 0, mib, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	require.NoError(t, err)
	defer func() { _ = unix.Munmap(aligned) }()
	c, err := ContentOf(f, size, v.size, Every(v.size), aligned)
	require.NoError(t, err)
	return c
}

// left: old bytes may stay on a device, it has no name to remove.
func (v *blockVolume) left(*testing.T) string { return "" }
