package verify_test

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/test/imageserver/verify"
)

func volume(t *testing.T, content []byte) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "lost+found"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "disk.img"), content, 0o640))
	return dir
}

func TestVolumeReportsWhatItHolds(t *testing.T) {
	content := make([]byte, 3<<20)
	copy(content, "a disk")
	dir := volume(t, content)
	const size = 5000
	sum := sha256.Sum256(content[:size])
	want := verify.Report{
		SHA256: hex.EncodeToString(sum[:]), Size: size, Capacity: 3 << 20, TailZero: true, Mode: "-rw-r-----",
	}

	report, err := verify.Volume(dir, size)
	require.NoError(t, err)
	require.Equal(t, want, report)

	report, err = verify.Volume(filepath.Join(dir, "disk.img"), size)
	require.NoError(t, err)
	require.Equal(t, want, report, "a device has no folder")
}

func TestVolumeSeesOneStrayByteBehindTheDisk(t *testing.T) {
	content := make([]byte, 3<<20)
	content[2<<20] = 1
	report, err := verify.Volume(volume(t, content), 2<<20)
	require.NoError(t, err)
	require.False(t, report.TailZero)
}

func TestVolumeSeesOtherFiles(t *testing.T) {
	dir := volume(t, make([]byte, 512))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "scratch"), nil, 0o600))
	report, err := verify.Volume(dir, 512)
	require.NoError(t, err)
	require.Equal(t, []string{"scratch"}, report.Others)
}

func TestVolumeRefusesAShortDisk(t *testing.T) {
	_, err := verify.Volume(volume(t, make([]byte, 512)), 513)
	require.ErrorContains(t, err, "ends after 512 of 513 bytes")
	_, err = verify.Volume(t.TempDir(), 1)
	require.ErrorContains(t, err, "opening the disk")
}
