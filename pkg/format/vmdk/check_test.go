package vmdk_test

import (
	"context"
	"errors"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/pkg/format/refusal"
	"github.com/gild-project/gild/pkg/format/vmdk"
)

// inMemory is an image that can be read at random.
type inMemory []byte

func (m inMemory) ReadAt(_ context.Context, p []byte, off int64) (int, error) {
	n := copy(p, m[min(off, int64(len(m))):])
	if n < len(p) {
		return n, io.ErrUnexpectedEOF
	}
	return n, nil
}

func check(t testing.TB, b []byte) (int64, error) {
	t.Helper()
	return vmdk.Check(t.Context(), inMemory(b), int64(len(b)))
}

func TestCheckTakesWhatQemuWrites(t *testing.T) {
	disk := append(make([]byte, 33<<20), randomDisk(1<<20+512, 4)...)
	copy(disk[len(disk)-512:], "in the last sector")
	copy(disk, "in the first grain")
	for _, options := range []string{"subformat=monolithicSparse", "subformat=monolithicSparse,zeroed_grain=on", "subformat=monolithicSparse,compat6=on"} {
		data, err := check(t, fromQemu(t, disk, options))
		require.NoError(t, err, options)
		require.Equal(t, int64(64<<10+1<<20+512), data, options)
	}
	data, err := check(t, fromQemu(t, make([]byte, 1<<20), "subformat=monolithicSparse"))
	require.NoError(t, err)
	require.Zero(t, data)
}

func TestCheckRefuses(t *testing.T) {
	disk := make([]byte, 33<<20)
	copy(disk, "in the first grain")
	copy(disk[len(disk)-512:], "in the last grain")
	sparse := fromQemu(t, disk, "subformat=monolithicSparse")
	directory := int(le.Uint64(sparse[56:])) * sector
	table := int(le.Uint32(sparse[directory:])) * sector
	for name, c := range map[string]struct {
		off    int
		edit   func([]byte)
		reason string
	}{
		"directory behind the end": {56, put64(0, uint64(len(sparse)/sector)), refusal.TruncatedImage},
		"directory at the end":     {56, put64(0, 1<<64-1), refusal.CorruptImage},
		"directory of 2^55":        {56, put64(0, 1<<55), refusal.CorruptImage},
		"grains behind the end":    {64, put64(0, uint64(len(sparse)/sector)+1), refusal.TruncatedImage},
		"table behind the end":     {directory, put32(0, uint32(len(sparse)/sector)-3), refusal.TruncatedImage},
		"table far behind":         {directory, put32(0, 1<<32-1), refusal.TruncatedImage},
		"grain behind the end":     {table, put32(0, uint32(len(sparse)/sector)-127), refusal.TruncatedImage},
		"grain far behind":         {table, put32(0, 1<<32-1), refusal.TruncatedImage},
		"grain in the header":      {table, put32(0, 1), refusal.CorruptImage},
		"disk larger than tables":  {12, put64(0, 1<<35), refusal.TruncatedImage},
		"parent":                   {sector, func(b []byte) { copy(b, "parentFileNameHint=\"/x\"\n") }, refusal.UnsafeImage},
	} {
		t.Run(name, func(t *testing.T) {
			hostile := append([]byte(nil), sparse...)
			c.edit(hostile[c.off:])
			_, err := check(t, hostile)
			requireReason(t, c.reason, err)
		})
	}
	for _, n := range []int{0, 3, 100, 600, directory + 4, table + 4, len(sparse) / 2, len(sparse) - 512} {
		_, err := check(t, sparse[:n])
		require.Error(t, err, "cut at %d", n)
	}
	_, err := check(t, sparse[:len(sparse)-512])
	requireReason(t, refusal.TruncatedImage, err)
	_, err = check(t, fromQemu(t, disk, "subformat=streamOptimized"))
	require.ErrorContains(t, err, "pass")
}

// TestCheckIsBounded has a directory that names one table 32 Ki times.
func TestCheckIsBounded(t *testing.T) {
	const tables = 32 << 10
	im := make([]byte, (128+tables*4/sector+4)*sector)
	copy(im, sparseHeader(tables*entries*128, 128, 1, 128, 128))
	copy(im[sector:], descriptorFor(tables*entries*128))
	for i := range tables {
		le.PutUint32(im[128*sector+i*4:], uint32(len(im)/sector-4))
	}
	_, err := check(t, im)
	requireReason(t, refusal.CorruptImage, err)
}

type brokenImage struct{ error }

func (b brokenImage) ReadAt(context.Context, []byte, int64) (int, error) { return 0, b.error }

func TestCheckReportsTheSource(t *testing.T) {
	broken := brokenImage{errors.New("connection lost")}
	_, err := vmdk.Check(t.Context(), broken, 1<<20)
	require.ErrorIs(t, err, broken.error)
}
