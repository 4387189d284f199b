package inflate_test

import (
	"bytes"
	"compress/flate"
	"compress/zlib"
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/pkg/format/inflate"
)

func TestRoundTrip(t *testing.T) {
	var d inflate.Decoder // one for all: nothing of a call may stay for the next
	for name, plain := range plains() {
		t.Run(name, func(t *testing.T) {
			for level := flate.HuffmanOnly; level <= flate.BestCompression; level++ {
				packed := deflate(t, plain, level)
				// What follows the data must not be taken, nor matter.
				src := append(bytes.Clone(packed), 0xff, 0xff, 0xff)
				for _, room := range []int{0, 1, 7, 300, 1000} {
					dst := make([]byte, len(plain)+room)
					n, used, err := d.Inflate(dst, src)
					require.NoError(t, err)
					require.True(t, bytes.Equal(plain, dst[:n]))
					require.Equal(t, len(packed), used)
				}
				dst := make([]byte, len(plain))
				used, err := d.Fill(dst, packed)
				require.NoError(t, err)
				require.LessOrEqual(t, used, len(packed))
				require.True(t, bytes.Equal(plain, dst))
			}
		})
	}
}

// Output of every size less than the data fills up, and nothing is written behind it.
func TestFullOutput(t *testing.T) {
	var d inflate.Decoder
	for name, plain := range plains() {
		plain = plain[:min(len(plain), 1000)]
		t.Run(name, func(t *testing.T) {
			for _, level := range []int{flate.NoCompression, flate.BestSpeed, flate.BestCompression, flate.HuffmanOnly} {
				packed := deflate(t, plain, level)
				for size := range len(plain) {
					dst := bytes.Repeat([]byte{0xa5}, size+600)
					n, _, err := d.Inflate(dst[:size:size], packed)
					require.ErrorIs(t, err, inflate.ErrOverflow)
					require.Equal(t, size, n)
					require.True(t, bytes.Equal(plain[:size], dst[:size]))
					clear(dst[:size])
					_, err = d.Fill(dst[:size:size], packed)
					require.NoError(t, err)
					require.True(t, bytes.Equal(plain[:size], dst[:size]))
					require.Equal(t, bytes.Repeat([]byte{0xa5}, 600), dst[size:])
				}
				_, err := d.Fill(make([]byte, len(plain)+1), packed)
				require.ErrorIs(t, err, inflate.ErrShort)
			}
		})
	}
}

// What follows the bytes that were asked for is not looked at.
func TestFillStopsEarly(t *testing.T) {
	var d inflate.Decoder
	for name, src := range map[string]string{
		"the block goes on":    "x 00 0300 fcff 6162",
		"a bad block follows":  "x 00 0200 fdff 6162 ff",
		"nothing follows":      "x 00 0200 fdff 6162",
		"a bad symbol follows": "1 10 10010001 10010010 11000110",
	} {
		t.Run(name, func(t *testing.T) {
			dst := make([]byte, 2)
			_, err := d.Fill(dst, parse(t, src))
			require.NoError(t, err)
			require.Equal(t, "ab", string(dst))
		})
	}
}

func TestTruncated(t *testing.T) {
	var d inflate.Decoder
	for name, plain := range plains() {
		plain = plain[:min(len(plain), 1000)]
		t.Run(name, func(t *testing.T) {
			for _, level := range []int{flate.NoCompression, flate.BestSpeed, flate.BestCompression, flate.HuffmanOnly} {
				packed := deflate(t, plain, level)
				dst := make([]byte, len(plain)+300)
				for size := range len(packed) {
					n, used, err := d.Inflate(dst, packed[:size])
					require.ErrorIs(t, err, inflate.ErrTruncated)
					require.LessOrEqual(t, used, size)
					require.True(t, bytes.Equal(plain[:n], dst[:n]))
				}
			}
		})
	}
}

func TestBlocks(t *testing.T) {
	tests := map[string]struct {
		src  string // bits, the first one first; or hexadecimal digits behind "x"
		want string
		err  error
	}{
		"nothing":                     {src: "", err: inflate.ErrTruncated},
		"reserved block":              {src: "1 11", err: inflate.ErrCorrupt},
		"empty stored":                {src: "x 01 0000 ffff"},
		"stored":                      {src: "x 01 0300 fcff 616263", want: "abc"},
		"stored, odd header bits":     {src: "x f9 0300 fcff 616263", want: "abc"},
		"stored, wrong check":         {src: "x 01 0300 fcfe 616263", err: inflate.ErrCorrupt},
		"stored, short":               {src: "x 01 0300 fcff 6162", err: inflate.ErrTruncated},
		"stored, no length":           {src: "x 01 0300 fc", err: inflate.ErrTruncated},
		"two blocks":                  {src: "x 00 0100 feff 61 01 0100 feff 62", want: "ab"},
		"not final":                   {src: "x 00 0100 feff 61", err: inflate.ErrTruncated},
		"fixed, empty":                {src: "1 10 0000000"},
		"fixed, a":                    {src: "1 10 10010001 0000000", want: "a"},
		"fixed, run":                  {src: "1 10 10010001 0000001 00000 0000000", want: "aaaa"},
		"fixed, longest run":          {src: "1 10 10010001 11000101 00000 0000000", want: strings.Repeat("a", 259)},
		"fixed, 258 as 227 and 31":    {src: "1 10 10010001 11000100 11111 00000 0000000", want: strings.Repeat("a", 259)},
		"fixed, length 286":           {src: "1 10 10010001 11000110 00000 0000000", err: inflate.ErrCorrupt},
		"fixed, length 287":           {src: "1 10 10010001 11000111 00000 0000000", err: inflate.ErrCorrupt},
		"fixed, distance 30":          {src: "1 10 10010001 0000001 11110 0000000", err: inflate.ErrCorrupt},
		"fixed, distance 31":          {src: "1 10 10010001 0000001 11111 0000000", err: inflate.ErrCorrupt},
		"fixed, too far":              {src: "1 10 10010001 0000001 00001 0000000", err: inflate.ErrCorrupt},
		"fixed, nothing to copy":      {src: "1 10 0000001 00000 0000000", err: inflate.ErrCorrupt},
		"fixed, no end":               {src: "1 10 10010001", err: inflate.ErrTruncated},
		"dynamic, 287 literals":       {src: "1 01 01111 00000 0000", err: inflate.ErrCorrupt},
		"dynamic, 31 distances":       {src: "1 01 00000 01111 0000", err: inflate.ErrCorrupt},
		"dynamic, no code lengths":    {src: "1 01 00000 00000 0000 000000000000 0000000000", err: inflate.ErrCorrupt},
		"dynamic, repeat of nothing":  {src: "1 01 00000 00000 0000 100 100 000 000 0 00", err: inflate.ErrCorrupt},
		"dynamic, too many zeros":     {src: "1 01 00000 00000 0000 000 000 100 100 1 1111111 1 1111111 0000000000", err: inflate.ErrCorrupt},
		"dynamic, lengths incomplete": {src: "1 01 00000 00000 0000 010 010 010 000 00000000", err: inflate.ErrCorrupt},
		"dynamic, lengths too many":   {src: "1 01 00000 00000 0000 100 100 100 000 00000000", err: inflate.ErrCorrupt},
		"dynamic, end of lengths":     {src: "1 01 00000 00000 0000 100", err: inflate.ErrTruncated},
		"dynamic, end in repeat":      {src: "1 01 00000 00000 0000 000 000 100 100 1 1", err: inflate.ErrTruncated},
		"one distance of one bit":     {src: oneDistance + "0 11 0 10", want: "0000"},
		"one distance, the other bit": {src: oneDistance + "0 11 1 10", err: inflate.ErrCorrupt},
		"no distance, none used":      {src: noDistance + "0 10", want: "0"},
		"no distance, one used":       {src: noDistance + "0 11 0 10", err: inflate.ErrCorrupt},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			src := parse(t, test.src)
			for _, room := range []int{0, 1000} {
				for _, tail := range []int{0, 100} {
					// Near the ends of the buffers and far from them.
					dst := make([]byte, len(test.want)+room)
					if test.err != nil {
						dst = make([]byte, 10+room)
					}
					in := src
					if !errors.Is(test.err, inflate.ErrTruncated) {
						in = append(bytes.Clone(src), make([]byte, tail)...)
					}
					n, err := inflate.Inflate(dst, in)
					if test.err != nil {
						require.ErrorIs(t, err, test.err)
						continue
					}
					require.NoError(t, err)
					require.Equal(t, test.want, string(dst[:n]))
				}
			}
			// The standard library is of the same mind.
			_, err := io.ReadAll(flate.NewReader(bytes.NewReader(src)))
			require.Equal(t, test.err == nil, err == nil, "compress/flate: %v", err)
		})
	}
}

func TestZlib(t *testing.T) {
	plain := []byte(strings.Repeat("grain ", 100))
	var packed bytes.Buffer
	w := zlib.NewWriter(&packed)
	_, err := w.Write(plain)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	good := packed.Bytes()
	var d inflate.Decoder
	dst := make([]byte, len(plain))

	n, used, err := d.Zlib(dst, append(bytes.Clone(good), make([]byte, 512)...))
	require.NoError(t, err)
	require.Equal(t, plain, dst[:n])
	require.Equal(t, len(good), used)

	for size := range good {
		_, used, err := d.Zlib(dst, good[:size])
		require.ErrorIs(t, err, inflate.ErrTruncated, size)
		require.LessOrEqual(t, used, size)
	}
	_, _, err = d.Zlib(dst[:len(dst)-1], good)
	require.ErrorIs(t, err, inflate.ErrOverflow)
	for _, i := range []int{0, 1, len(good) - 4, len(good) - 1} {
		bad := bytes.Clone(good)
		bad[i] ^= 0x20 // in the second byte: the flag of a dictionary, and the check with it
		_, _, err := d.Zlib(dst, bad)
		require.ErrorIs(t, err, inflate.ErrCorrupt, i)
	}
	_, _, err = d.Zlib(dst, append([]byte{0x78, 0xbb}, good[2:]...)) // a dictionary, the check right
	require.ErrorIs(t, err, inflate.ErrCorrupt)
}

func TestNoAllocation(t *testing.T) {
	packed := deflate(t, plains()["text"], flate.DefaultCompression)
	dst := make([]byte, len(plains()["text"]))
	d := new(inflate.Decoder)
	require.Zero(t, testing.AllocsPerRun(10, func() { _, _, _ = d.Inflate(dst, packed) }))
}

// plains are data of different kinds to be compressed.
func plains() map[string][]byte {
	r := rand.New(rand.NewPCG(1, 2))
	random := make([]byte, 70_000)
	for i := range random {
		random[i] = byte(r.Uint32())
	}
	skewed := make([]byte, 70_000)
	for i := range skewed {
		skewed[i] = byte(min(r.ExpFloat64()*9, 255)) // codes of all lengths
	}
	var text strings.Builder
	for text.Len() < 70_000 {
		text.WriteString([]string{"block ", "inode ", "extent ", "superblock ", "\n", "0x"}[r.IntN(6)])
		text.WriteByte(byte(r.IntN(256)))
	}
	var periods bytes.Buffer
	for period := 1; period < 40; period++ {
		periods.Write(bytes.Repeat(random[:period], 300/period+3))
	}
	far := append(append(bytes.Clone(random[:400]), make([]byte, 32768-400)...), random[:400]...)
	return map[string][]byte{
		"empty": {}, "one byte": {7}, "random": random, "skewed": skewed, "text": []byte(text.String()),
		"zeros": make([]byte, 70_000), "periods": periods.Bytes(), "far": far,
	}
}

// Starts of dynamic blocks with a code for the literal 0 (0), the end of the block (10) and the
// length 3 (11), and a code for the distance 1 (0) or for none.
const (
	dynamicCodes = "1 01 10000 00000 0111" + // 258 literals, 1 distance, 18 lengths of codes of lengths
		"000 000 010 010 000 000 000 000 000 000 000 000 000 000 000 010 000 010" + // 0: 00, 1: 01, 2: 10, 18: 11
		"11 1010010 01 11 1111111 11 0101110 10 10" // 48 zeros, 1, 138 and 69 zeros, 2, 2
	oneDistance = dynamicCodes + "01"
	noDistance  = dynamicCodes + "00"
)

// parse reads bits, the first one first, or bytes in hexadecimal digits behind an x.
func parse(t *testing.T, s string) []byte {
	t.Helper()
	s = strings.ReplaceAll(s, " ", "")
	if digits, ok := strings.CutPrefix(s, "x"); ok {
		b, err := hex.DecodeString(digits)
		require.NoError(t, err)
		return b
	}
	b := make([]byte, (len(s)+7)/8)
	for i, bit := range s {
		b[i/8] |= byte(bit-'0') << (i % 8)
	}
	return b
}
