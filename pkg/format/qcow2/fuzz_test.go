package qcow2_test

import (
	"bytes"
	"errors"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/pkg/format/qcow2"
	"github.com/gild-project/gild/pkg/format/refusal"
)

// seeds are small images of every kind.
func seeds() [][]byte {
	ext := plan{bits: 14, size: 3 << 14, ext: true, words: map[int64]uint64{}, masks: map[int64]uint64{}, data: noise(2 << 14)}
	ext.words[0], ext.masks[0] = uint64(ext.dataAt()), 0xf0f00f0f
	ext.words[2], ext.masks[2] = uint64(ext.dataAt()+1<<14), 1<<40|1
	return [][]byte{
		tiny(), tiny()[:200], shared(100), ext.build(),
		with(func(b []byte) { put32(b, 4, 2) }),
		with(func(b []byte) { put64(b, 4*512, 1) }),
		with(func(b []byte) { put64(b, 4*512+8, 6*512) }),
		with(func(b []byte) { put64(b, 24, 8192-512*5) }),
		packed(deflate(noise(512))), zstd(packed(frame(noise(512)))), zstd(packed(frame(make([]byte, 512)))),
	}
}

// FuzzReadHeader looks for panics, and for numbers out of bounds that pass the gate.
func FuzzReadHeader(f *testing.F) {
	for _, b := range seeds() {
		f.Add(b[:min(len(b), qcow2.HeadSize)])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := qcow2.ReadHeader(b)
		if err != nil {
			require.NotEmpty(t, reason(t, err))
			return
		}
		require.Positive(t, h.VirtualSize)
		require.Zero(t, h.VirtualSize%512)
		require.GreaterOrEqual(t, h.Granule(), int64(512))
		require.LessOrEqual(t, h.Granule(), int64(2<<20))
	})
}

// FuzzRead looks for panics, for memory out of bounds, and for images that give another disk
// in one order than in the other.
func FuzzRead(f *testing.F) {
	for _, b := range seeds() {
		f.Add(b, uint16(100))
	}
	f.Fuzz(func(t *testing.T, b []byte, chunk uint16) {
		const most, memory = 8 << 20, 96 << 20
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		in, size := bytes.NewReader(b), int64(len(b))
		first, err := random(t.Context(), in, size, most, false)
		second, wholeErr := random(t.Context(), in, size, most, true)
		third, _, passErr := forward(t.Context(), in, size, most, int(chunk)+1)
		runtime.ReadMemStats(&after)
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(memory))
		if err != nil {
			for _, err := range []error{err, wholeErr, passErr} {
				var e *refusal.Error
				require.True(t, errors.As(err, &e), "%v", err)
			}
			return
		}
		require.NoError(t, wholeErr)
		require.NoError(t, passErr)
		require.NoError(t, first.equal(second))
		require.NoError(t, first.equal(third))
	})
}
