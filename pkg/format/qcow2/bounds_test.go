package qcow2_test

import (
	"bytes"
	"context"
	"io"
	"math"
	"os"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/pkg/format/qcow2"
	"github.com/gild-project/gild/pkg/format/refusal"
)

func TestManyClustersAreReadInSlices(t *testing.T) {
	const clusters = 2 << 20
	b := shared(clusters)
	im, err := qcow2.Open(t.Context(), source{bytes.NewReader(b)}, int64(len(b)), math.MaxInt64)
	require.NoError(t, err)
	require.Equal(t, 3, im.Slices())
	require.Equal(t, int64(clusters*512), im.DataBytes)
	got, err := random(t.Context(), bytes.NewReader(b), int64(len(b)), math.MaxInt64, true)
	require.NoError(t, err)
	got.check(t)
	want := bytes.Repeat(noise(512), page/512)
	require.Len(t, got.pages, clusters*512/page)
	for at, have := range got.pages {
		require.True(t, bytes.Equal(want, have), "page %d", at)
	}

	_, _, err = forward(t.Context(), bytes.NewReader(b), int64(len(b)), math.MaxInt64, 1<<20)
	require.Equal(t, refusal.ScratchRequired, reason(t, err))
}

func TestManyClustersBeforeTheirTables(t *testing.T) {
	b := shared(1 << 20)
	l1, length := l1Offset(b), 1<<20/64*8
	end := (len(b) + 40<<20) &^ 511
	moved := make([]byte, end+length)
	copy(moved, b)
	copy(moved[end:], b[l1:l1+length])
	put64(moved, 40, uint64(end))
	want, err := random(t.Context(), bytes.NewReader(moved), int64(len(moved)), math.MaxInt64, false)
	require.NoError(t, err)
	got, passes, err := forward(t.Context(), bytes.NewReader(moved), int64(len(moved)), math.MaxInt64, 1<<20)
	require.NoError(t, err)
	require.Equal(t, 2, passes)
	require.NoError(t, want.equal(got))
}

func TestSlicesThatChangeAreFound(t *testing.T) {
	b := shared(1 << 20)
	im, err := qcow2.Open(t.Context(), source{bytes.NewReader(b)}, int64(len(b)), math.MaxInt64)
	require.NoError(t, err)
	require.Equal(t, 2, im.Slices())
	put64(b, l1Offset(b)+8, 0)
	var last error
	for _, err := range im.Pieces(t.Context(), 0, false) {
		last = err
	}
	require.ErrorIs(t, last, qcow2.Changed{})
}

func TestDigestIsOfTheTables(t *testing.T) {
	digest := func(b []byte) string {
		im, err := qcow2.Open(t.Context(), source{bytes.NewReader(b)}, int64(len(b)), math.MaxInt64)
		require.NoError(t, err)
		return im.Digest()
	}
	require.Len(t, digest(tiny()), 64)
	require.Equal(t, digest(tiny()), digest(with(func(b []byte) { b[5*512]++ })))
	require.NotEqual(t, digest(tiny()), digest(with(func(b []byte) { put64(b, 24, 8192-512) })))
	require.NotEqual(t, digest(tiny()), digest(with(func(b []byte) { put64(b, 4*512, 6*512) })))
	require.NotEqual(t, digest(tiny()), digest(with(func(b []byte) { put64(b, 3*512, 0) })))
}

// An honest disk of 4 TiB in clusters of 4 KiB has a first table of 16 MiB, here almost empty.
func TestVastEmptyDisk(t *testing.T) {
	b := with(func(b []byte) {
		put32(b, 20, 12)
		put64(b, 24, 4<<40)
		put32(b, 36, 2<<20)
		put64(b, 40, 1<<20)
		put64(b, 48, 4096)
	})[:512]
	image := make([]byte, 1<<20+16<<20+3*4096)
	copy(image, b)
	l2 := 17 << 20
	put64(image, 1<<20+8*(2<<20-1), uint64(l2))
	put64(image, l2+8*511, uint64(l2+4096))
	copy(image[l2+4096:], noise(4096))

	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	got, err := random(t.Context(), bytes.NewReader(image), int64(len(image)), math.MaxInt64, false)
	runtime.ReadMemStats(&after)
	require.NoError(t, err)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(8<<20))
	require.Len(t, got.pages, 1)
	require.Equal(t, noise(4096), got.pages[4<<40/page-1][page-4096:])

	pass, passes, err := forward(t.Context(), bytes.NewReader(image), int64(len(image)), math.MaxInt64, 1<<20)
	require.NoError(t, err)
	require.Equal(t, 1, passes)
	require.NoError(t, got.equal(pass))
}

func TestSharedTablesDoNotMultiplyTheWork(t *testing.T) {
	// 4 MiB of first table, every entry the same second table: 16 TiB to read again and again.
	b := append(tiny(), make([]byte, 4<<20)...)
	put32(b, 36, 4<<20/8)
	put64(b, 40, 7*512)
	put64(b, 24, (4<<20/8)*64*512)
	for off := 7 * 512; off < len(b); off += 8 {
		put64(b, off, 4*512)
	}
	_, err := check(t, b)
	require.Equal(t, refusal.CorruptImage, reason(t, err))
}

func TestLargeDiskIsNotWalked(t *testing.T) {
	b := tiny()
	_, err := qcow2.Open(t.Context(), source{bytes.NewReader(b)}, int64(len(b)), 8191)
	require.Equal(t, refusal.UnsupportedFormat, reason(t, err))
	_, err = qcow2.NewPass(b, 8191, 1, nil)
	require.Equal(t, refusal.UnsupportedFormat, reason(t, err))
}

func TestCheckStops(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := qcow2.Open(ctx, source{bytes.NewReader(tiny())}, 7*512, math.MaxInt64)
	require.ErrorIs(t, err, context.Canceled)
}

// sparseImage answers any offset, as a hostile server with a huge file would.
type sparseImage struct{ head []byte }

func (s sparseImage) ReadAt(p []byte, off int64) (int, error) {
	clear(p)
	if off < int64(len(s.head)) {
		copy(p, s.head[off:])
	}
	return len(p), nil
}

var _ io.ReaderAt = sparseImage{}

func TestMemoryIsBounded(t *testing.T) {
	for name, b := range map[string][]byte{
		"largest clusters": with(func(b []byte) { put32(b, 20, 21); put64(b, 40, 1<<21); put64(b, 48, 1<<21) }),
		"largest first table": with(func(b []byte) {
			put32(b, 20, 21)
			put32(b, 36, 4<<20)
			put64(b, 40, 1<<21)
			put64(b, 48, 1<<21)
			put64(b, 24, 1<<60)
		}),
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := qcow2.Open(t.Context(), source{sparseImage{b[:512]}}, 1<<60, math.MaxInt64)
			runtime.ReadMemStats(&after)
			require.NoError(t, err)
			require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(5<<20))
		})
	}
}

func TestReadErrorIsNoTruncation(t *testing.T) {
	closed, err := os.CreateTemp(t.TempDir(), "")
	require.NoError(t, err)
	require.NoError(t, closed.Close())
	_, err = qcow2.Open(t.Context(), source{closed}, 4096, math.MaxInt64)
	require.ErrorIs(t, err, os.ErrClosed)
}
