package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/pkg/importer"
	"github.com/gild-project/gild/pkg/target"
)

// room is a target with room for less than a disk needs.
type room struct {
	importer.Target
	bytes int64
}

func (r room) Capacity() int64 { return r.bytes }

func (r room) Fits(size int64) error {
	if size > r.bytes {
		return &importer.Error{Reason: importer.TooLarge, Err: fmt.Errorf("%d bytes are too many", size)}
	}
	return r.Target.Fits(size)
}

// TestBlankDiskHasWhatThereIs: what a file system leaves of a volume is a little less than was asked for.
func TestBlankDiskHasWhatThereIs(t *testing.T) {
	for _, test := range []struct{ room, size int64 }{{64<<20 + 1, 64 << 20}, {60<<20 + 4096, 60 << 20}, {57 << 20, 0}} {
		directory := t.TempDir()
		with := func(o importer.Options) importer.Parts {
			parts := wire(o)
			parts.OpenTarget = func(path string) (importer.Target, error) {
				opened, err := target.Open(path)
				return room{opened, test.room}, err
			}
			return parts
		}
		code := run(t.Context(), []string{"--source", importer.SourceBlank, "--source-format", "raw", "--target", directory, "--target-size", "64Mi", "--progress", "none"}, with)
		if test.size == 0 {
			require.Equal(t, importer.TooLarge.ExitCode(), code)
			continue
		}
		require.Zero(t, code)
		stat, err := os.Stat(filepath.Join(directory, "disk.img"))
		require.NoError(t, err)
		require.Equal(t, test.size, stat.Size())
	}
}

// TestBlankDisk makes blank disks, also where an earlier one has left something.
func TestBlankDisk(t *testing.T) {
	for _, format := range []string{importer.FormatRaw, importer.FormatQcow2} {
		t.Run(format, func(t *testing.T) {
			directory := t.TempDir()
			disk := filepath.Join(directory, "disk.img")
			require.NoError(t, os.WriteFile(disk, bytes.Repeat([]byte("old"), 1<<20), 0o600))
			args := []string{"--source", importer.SourceBlank, "--source-format", "raw", "--target", directory, "--target-size", "64Mi", "--target-format", format, "--progress", "none"}
			require.Zero(t, run(t.Context(), args, wire))
			if format == importer.FormatQcow2 {
				raw := filepath.Join(directory, "raw")
				out, err := exec.CommandContext(t.Context(), "qemu-img", "convert", "-f", "qcow2", "-O", "raw", disk, raw).CombinedOutput()
				require.NoError(t, err, "%s", out)
				disk = raw
			}
			got, err := os.ReadFile(disk)
			require.NoError(t, err)
			require.Len(t, got, 64<<20)
			require.Empty(t, bytes.Trim(got, "\x00"))
		})
	}
}
