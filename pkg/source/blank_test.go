package source

import (
	"bytes"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestBlank(t *testing.T) {
	image, err := Open(t.Context(), "blank:", Options{})
	require.NoError(t, err)
	defer func() { require.NoError(t, image.Close()) }()
	for range 2 {
		var got []byte
		for {
			p := bytes.Repeat([]byte{1}, 300)
			n, err := image.Read(t.Context(), p)
			got = append(got, p[:n]...)
			if err != nil {
				require.ErrorIs(t, err, io.EOF)
				break
			}
		}
		require.Equal(t, make([]byte, 512), got)
		require.NoError(t, image.Rewind(t.Context()))
	}
	p := bytes.Repeat([]byte{1}, 100)
	n, err := image.ReadAt(t.Context(), p, 450)
	require.ErrorIs(t, err, io.EOF)
	require.Equal(t, 62, n)
	require.Equal(t, make([]byte, 62), p[:n])
	_, err = image.ReadAt(t.Context(), p, 1000)
	require.ErrorIs(t, err, io.EOF)
	_, err = image.ReadAt(t.Context(), p, -1)
	require.ErrorContains(t, err, "negative")
	tail, err := image.Tail(t.Context(), 1000)
	require.NoError(t, err)
	require.Equal(t, make([]byte, 512), tail)
	require.EqualValues(t, 512, image.Size())
}
