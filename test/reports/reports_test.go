package reports_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/gild-project/gild/test/reports"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMachine(t *testing.T) {
	require.Regexp(t, `^[1-9]\d* cores of \S.*, Linux \d`, reports.Machine())
}

func TestFolder(t *testing.T) {
	for variable, below := range map[string]string{"GILD_CACHE": "scale", "XDG_CACHE_HOME": "gild/scale"} {
		t.Run(variable, func(t *testing.T) {
			cache := t.TempDir()
			t.Setenv("GILD_CACHE", "")
			t.Setenv(variable, cache)
			for range 2 {
				dir, err := reports.Folder("scale")
				require.NoError(t, err)
				require.Equal(t, filepath.Join(cache, below), dir)
				require.DirExists(t, dir)
			}
		})
	}
}

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	var out strings.Builder
	require.NoError(t, reports.Write(&out, dir, "a table\n", map[string]int{"rows": 1}))
	require.Equal(t, "a table\n", out.String())
	for name, want := range map[string]string{"report.txt": "a table\n", "report.json": "{\n \"rows\": 1\n}\n"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		require.Equal(t, want, string(text))
	}
	require.ErrorContains(t, reports.Write(&out, filepath.Join(dir, "none"), "", nil), "writing the report")
}
