package source_test

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/pkg/source"
)

func TestSection(t *testing.T) {
	path := filepath.Join(t.TempDir(), "archive")
	require.NoError(t, os.WriteFile(path, []byte("before.inside.behind"), 0o600))
	f, err := os.Open(path)
	require.NoError(t, err)
	defer func() { require.NoError(t, f.Close(), "the section leaves it open") }()
	stat, err := f.Stat()
	require.NoError(t, err)

	empty := source.Section(f, stat, "nothing", 7, 0)
	_, err = empty.Read(t.Context(), make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
	require.NoError(t, empty.Close())

	s := source.Section(f, stat, "inside", 7, 6)
	for range 2 {
		got, err := readAll(t.Context(), s, 4)
		require.NoError(t, err)
		require.Equal(t, "inside", string(got))
		require.NoError(t, s.Rewind(t.Context()))
	}
	tail, err := s.Tail(t.Context(), 4)
	require.NoError(t, err)
	require.Equal(t, "side", string(tail))
	_, err = s.Tail(t.Context(), 7)
	require.Error(t, err)
	_, err = s.ReadAt(t.Context(), make([]byte, 1), -1)
	require.ErrorContains(t, err, "negative")
	require.EqualValues(t, 16, s.Fetched())

	require.NoError(t, os.Truncate(path, 9))
	_, err = readAll(t.Context(), s, 4)
	var e *source.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, source.SourceUnstable, e.Reason())
	require.True(t, e.StartOver())
	require.NoError(t, s.Close())
}
