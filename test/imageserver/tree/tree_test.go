package tree

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOf(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "bin"), 0o755))
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "lost+found"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "bin", "sh"), []byte("a shell"), 0o755))
	require.NoError(t, os.Link(filepath.Join(dir, "bin", "sh"), filepath.Join(dir, "bin", "bash")))
	require.NoError(t, os.Symlink("bin/sh", filepath.Join(dir, "run")))
	entries, err := Of(dir)
	require.NoError(t, err)
	require.Equal(t, map[string]Entry{
		"bin":      {Kind: "d"},
		"bin/sh":   {Kind: "-", Text: "a shell", Executable: true, Links: 2},
		"bin/bash": {Kind: "-", Text: "a shell", Executable: true, Links: 2},
		"run":      {Kind: "L", Text: "bin/sh", Links: 1},
	}, entries)
	_, err = Of(filepath.Join(dir, "none"))
	require.Error(t, err)
}
