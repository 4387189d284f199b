package inflate_test

import (
	"bytes"
	"compress/flate"
	"errors"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/pkg/format/inflate"
)

// FuzzInflate holds the decoder against the one of the standard library.
func FuzzInflate(f *testing.F) {
	for _, plain := range plains() {
		for level := flate.HuffmanOnly; level <= flate.BestCompression; level += 2 {
			f.Add(deflate(f, plain[:min(len(plain), 5000)], level))
		}
	}
	f.Add([]byte{3, 0})
	f.Add([]byte{1, 0, 0, 0xff, 0xff})
	var d inflate.Decoder
	f.Fuzz(func(t *testing.T, src []byte) {
		const room = 1 << 18
		in := bytes.NewReader(src)
		want, wantErr := io.ReadAll(io.LimitReader(flate.NewReader(in), room+1))
		dst := make([]byte, room)
		n, used, err := d.Inflate(dst, src)
		switch {
		case len(want) > room:
			require.ErrorIs(t, err, inflate.ErrOverflow)
			want = want[:room]
		case wantErr != nil:
			// Near the end of its input the other one gives up sooner: it waits for the bits of an end of block.
			require.Error(t, err)
			if !errors.Is(err, inflate.ErrCorrupt) {
				require.ErrorIs(t, err, inflate.ErrTruncated)
				require.ErrorIs(t, wantErr, io.ErrUnexpectedEOF)
			}
			require.GreaterOrEqual(t, n, len(want))
			require.True(t, bytes.HasPrefix(dst, want))
			want = dst[:n]
		default:
			require.NoError(t, err)
			require.Equal(t, len(src)-in.Len(), used)
		}
		require.LessOrEqual(t, used, len(src))
		require.True(t, bytes.Equal(want, dst[:n]))

		// The same with no room to spare: the careful part decodes more of it.
		tight := make([]byte, n)
		_, err = d.Fill(tight, src)
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, tight))
	})
}
