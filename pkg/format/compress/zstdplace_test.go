package compress

import (
	"bytes"
	"encoding/binary"
	"io"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/stretchr/testify/require"
)

// watched counts what the decoder takes and looks at each of its reads.
type watched struct {
	in    io.Reader
	taken int
	look  func(taken int)
}

func (w *watched) Read(p []byte) (int, error) {
	w.look(w.taken)
	n, err := w.in.Read(p)
	w.taken += n
	return n, err
}

// blocks is a frame with a window of 1 KiB and what is in it. At has its length up to each block.
func blocks(runs int) (packed, plain []byte, at map[int]int) {
	packed, at = []byte{0x28, 0xb5, 0x2f, 0xfd, 4, 0}, map[int]int{}
	block := func(size, last int, repeat bool, value byte) {
		at[len(packed)] = len(plain)
		header, content := last|size<<3, bytes.Repeat([]byte{value}, size)
		plain = append(plain, content...)
		if repeat {
			header, content = header|2, content[:1]
		}
		packed = append(append(packed, byte(header), byte(header>>8), byte(header>>16)), content...)
	}
	for i := range runs {
		block(1000, 0, false, 'd')
		block(700, 0, true, 'r')
		for range 100 + i {
			block(1024, 0, true, 0)
		}
	}
	block(3, 1, false, 'e')
	return binary.LittleEndian.AppendUint32(packed, uint32(xxhash.Sum64(plain))), plain, at
}

// What zeroRuns needs of the library: it takes a block only when all before it was read, however
// little is read at a time.
func TestDecoderTakesOneBlockAtATime(t *testing.T) {
	packed, plain, at := blocks(3)
	for _, size := range []int{1 << 20, 1024, 1023, 100} {
		d, err := newZstd(&origin{r: bytes.NewReader(nil)})
		require.NoError(t, err)
		var got []byte
		seen := 0
		w := &watched{in: bytes.NewReader(packed), look: func(taken int) {
			if want, ok := at[taken]; ok {
				require.Equal(t, want, len(got)) //nolint:testifylint // Len would print all of it
				seen++
			}
		}}
		require.NoError(t, d.in.Reset(w))
		buffer := make([]byte, size)
		for err == nil {
			var n int
			n, err = d.in.Read(buffer)
			got = append(got, buffer[:n]...)
		}
		require.ErrorIs(t, err, io.EOF)
		require.True(t, bytes.Equal(plain, got))
		require.Equal(t, len(at), seen) //nolint:testifylint // as above
		d.stop()
	}
}

// Of each run one window comes to the decoder.
func TestRunsAreTakenOut(t *testing.T) {
	packed, plain, _ := blocks(3)
	d, err := newZstd(&origin{r: bytes.NewReader(packed)})
	require.NoError(t, err)
	defer d.stop()
	w := &watched{in: d.runs, look: func(int) {}}
	require.NoError(t, d.in.Reset(w))
	got, err := io.ReadAll(d)
	require.NoError(t, err)
	require.True(t, bytes.Equal(plain, got))
	require.Equal(t, 6+3*(3+1000+4+4)+3+3, w.taken)
}

// However long a run is, reading it can be stopped.
func TestRunIsTakenOutInParts(t *testing.T) {
	const parts = 3
	packed := []byte{0x28, 0xb5, 0x2f, 0xfd, 4, 7 << 3} // a window of 128 KiB
	for range parts * maxCut / maxBlock {
		packed = append(packed, 2, 0, 0x10, 0)
	}
	source := bytes.NewReader(packed)
	d, err := newZstd(&origin{r: source})
	require.NoError(t, err)
	defer d.stop()
	w := &watched{in: d.runs, look: func(int) { require.LessOrEqual(t, d.runs.zeros, int64(maxCut)) }}
	require.NoError(t, d.in.Reset(w))
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{d}, make([]byte, 1<<20))
	require.Error(t, err)
	require.EqualValues(t, parts*maxCut, n)
	require.Equal(t, 6+4*parts, w.taken)
}
