package compress_test

import (
	"bytes"
	stdgzip "compress/gzip"
	"errors"
	"io"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/pkg/format/compress"
	"github.com/gild-project/gild/pkg/format/refusal"
)

// fuzzLimit is how much is read of what comes out, as a volume has a size.
const fuzzLimit = 1 << 20

func FuzzGzip(f *testing.F) {
	fuzz(f, readers()["gz"], func(t *testing.T, packed, plain []byte) {
		z, err := stdgzip.NewReader(bytes.NewReader(packed))
		require.NoError(t, err)
		want, err := io.ReadAll(z)
		if !errors.Is(err, stdgzip.ErrHeader) && !errors.Is(err, io.ErrUnexpectedEOF) { // zeros behind the end
			require.NoError(t, err)
		}
		require.True(t, bytes.Equal(want, plain))
	})
}

func FuzzBzip2(f *testing.F) { fuzz(f, readers()["bz2"], nil) }

func FuzzZstd(f *testing.F) { fuzz(f, readers()["zst"], nil) }

// FuzzXZ is for the library: the program is in a process of its own.
func FuzzXZ(f *testing.F) { fuzz(f, readers()["xz library"], nil) }

// fuzz reads anything. It must end in data or in a refusal, within a bounded memory.
func fuzz(f *testing.F, r reader, check func(t *testing.T, packed, plain []byte)) {
	for _, size := range []int{0, 1, 1000, 200_000} {
		packed := r.pack(f, disk(size))
		f.Add(packed)
		f.Add(append(bytes.Clone(packed), packed...))
		f.Add(append(bytes.Clone(packed), 0, 0, 0, 0))
		f.Add(packed[:len(packed)*2/3])
	}
	f.Fuzz(func(t *testing.T, packed []byte) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		in, err := compress.NewReader(t.Context(), r.format, bytes.NewReader(packed), r.options)
		require.NoError(t, err)
		plain, err := io.ReadAll(io.LimitReader(in, fuzzLimit))
		require.NoError(t, in.Close())
		runtime.ReadMemStats(&after)
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(256<<20))
		if err != nil {
			requireReason(t, err, refusal.CorruptImage, refusal.TruncatedImage, refusal.UnsupportedFormat)
		} else if check != nil && len(plain) < fuzzLimit {
			check(t, packed, plain)
		}
	})
}
