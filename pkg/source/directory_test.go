package source_test

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/pkg/source"
)

func TestDirectory(t *testing.T) {
	file := func(name string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("disk "+name), 0o600))
		}
	}
	for _, c := range []struct {
		name   string
		fill   []func(t *testing.T, dir string)
		reason string
	}{
		{"one file", []func(*testing.T, string){file("disk.qcow2")}, ""},
		{"a name to be escaped", []func(*testing.T, string){file("a disk#1?.img")}, ""},
		{"none", nil, source.NoDisk},
		{"two", []func(*testing.T, string){file("a"), file("b")}, source.SeveralDisks},
		{"a directory", []func(*testing.T, string){func(t *testing.T, dir string) { require.NoError(t, os.Mkdir(filepath.Join(dir, "disk"), 0o700)) }}, source.NoDisk},
		{"a link", []func(*testing.T, string){func(t *testing.T, dir string) {
			require.NoError(t, os.Symlink("/etc/passwd", filepath.Join(dir, "disk")))
		}}, source.NoDisk},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			for _, fill := range c.fill {
				fill(t, dir)
			}
			if c.reason != "" {
				require.Equal(t, c.reason, failure(t, "file://"+dir, source.Options{}).Reason())
				return
			}
			i, err := source.Open(t.Context(), "file://"+dir, source.Options{})
			require.NoError(t, err)
			defer func() { require.NoError(t, i.Close()) }()
			got := make([]byte, 100)
			n, err := i.Read(t.Context(), got)
			require.NoError(t, err)
			require.Contains(t, string(got[:n]), "disk ")
			_, err = i.Read(t.Context(), got)
			require.Equal(t, io.EOF, err)
		})
	}
}
