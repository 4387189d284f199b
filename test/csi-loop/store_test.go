package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOpenStoreMendsWhatACrashLeft(t *testing.T) {
	folder := t.TempDir()
	s, err := openStore(folder)
	require.NoError(t, err)
	whole := volume{ID: identify("whole"), Name: "whole", Size: mebibyte}
	require.NoError(t, s.put(whole, mebibyte))
	for _, name := range []string{"vol-half" + imageSuffix, "vol-half" + factsSuffix + ".unfinished"} {
		require.NoError(t, os.WriteFile(filepath.Join(folder, name), nil, 0o600))
	}
	// A crash between removing the data and the facts.
	dying := volume{ID: identify("dying"), Name: "dying", Size: mebibyte}
	require.NoError(t, s.put(dying, mebibyte))
	require.NoError(t, os.Remove(s.image(dying.ID)))

	s, err = openStore(folder)
	require.NoError(t, err)
	found, err := s.get(whole.ID)
	require.NoError(t, err)
	require.Equal(t, whole, found)
	require.NoError(t, s.remove(dying.ID))
	entries, err := os.ReadDir(folder)
	require.NoError(t, err)
	require.Len(t, entries, 2, "the data and the facts of the whole volume")
}

func TestStoreKeepsToItsFolder(t *testing.T) {
	outside := t.TempDir()
	s, err := openStore(filepath.Join(outside, "volumes"))
	require.NoError(t, err)
	victim := filepath.Join(outside, "victim"+imageSuffix)
	require.NoError(t, os.WriteFile(victim, nil, 0o600))
	require.NoError(t, s.remove("../victim"))
	require.FileExists(t, victim)
}

func TestIdentify(t *testing.T) {
	require.Equal(t, "vol-f2868e1aa7cab669", identify("pvc-1"), "volumes on disk are found by it after a restart")
	require.NotEqual(t, identify("pvc-1"), identify("pvc-2"))
}

func TestUsed(t *testing.T) {
	s, err := openStore(t.TempDir())
	require.NoError(t, err)
	for _, v := range []volume{
		{ID: "vol-1", Pool: "a", Size: 1}, {ID: "vol-2", Pool: "a", Size: 2}, {ID: "vol-3", Pool: "b", Size: 4}, {ID: "vol-4", Size: 8},
	} {
		require.NoError(t, s.put(v, mebibyte))
	}
	for pool, want := range map[string]int64{"a": 3, "b": 4, "": 8, "none": 0} {
		used, err := s.used(pool)
		require.NoError(t, err)
		require.Equal(t, want, used, pool)
	}
}

func TestIsMount(t *testing.T) {
	for path, want := range map[string]bool{"/proc": true, "/proc/self/status": false, t.TempDir(): false, "/no/such/path": false} {
		got, err := isMount(path)
		require.NoError(t, err)
		require.Equal(t, want, got, path)
	}
}

func TestFormatted(t *testing.T) {
	blank := filepath.Join(t.TempDir(), "blank")
	require.NoError(t, os.WriteFile(blank, make([]byte, 4096), 0o600))
	done, err := formatted(blank)
	require.NoError(t, err)
	require.False(t, done)
	content := make([]byte, 4096)
	copy(content[magicOffset:], []byte{0x53, 0xef})
	require.NoError(t, os.WriteFile(blank, content, 0o600))
	done, err = formatted(blank)
	require.NoError(t, err)
	require.True(t, done)
}

func TestPutCopy(t *testing.T) {
	s, err := openStore(t.TempDir())
	require.NoError(t, err)
	source := sparse(t, 2*mebibyte, 0)
	require.NoError(t, s.putCopy(volume{ID: "vol-short", Size: 3 * mebibyte}, mebibyte, source))
	info, err := os.Stat(s.image("vol-short"))
	require.NoError(t, err)
	require.Equal(t, int64(2*mebibyte), info.Size(), "no byte of the source is lost")

	require.ErrorIs(t, s.putCopy(volume{ID: "vol-none"}, mebibyte, filepath.Join(t.TempDir(), "none")), os.ErrNotExist)
	_, err = s.get("vol-none")
	require.ErrorIs(t, err, errNoVolume)
}

func TestReserve(t *testing.T) {
	s, err := openStore(t.TempDir())
	require.NoError(t, err)
	making := volume{ID: "vol-1", Pool: "a", Size: 5}
	require.True(t, s.reserve(making))
	require.False(t, s.reserve(making))
	for range 2 { // with and without its facts, it is counted once
		used, err := s.used("a")
		require.NoError(t, err)
		require.Equal(t, int64(5), used)
		require.NoError(t, s.put(making, mebibyte))
	}
	s.release(making.ID)
	used, err := s.used("a")
	require.NoError(t, err)
	require.Equal(t, int64(5), used)
	require.True(t, s.reserve(making))
}
