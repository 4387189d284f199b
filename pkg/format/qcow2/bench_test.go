package qcow2_test

import (
	"bytes"
	"context"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/pkg/format/qcow2"
)

// nowhere is a sink that costs nothing.
type nowhere struct{}

func (nowhere) WriteAt(_ context.Context, p []byte, _ int64) (int, error) { return len(p), nil }

// images are 64 MiB of data in clusters of 64 KiB, plain and compressed to about a half.
func images() map[string]plan {
	all := map[string]plan{}
	for kind, pack := range map[string]func([]byte) []byte{"plain": nil, "zlib": deflate, "zstd": frame} {
		p := plan{bits: 16, size: 64 << 20, zstd: kind == "zstd", words: map[int64]uint64{}}
		text := noise(1 << 16)
		for i := range text {
			if i/24%2 == 0 {
				text[i] = "golden disk images "[i%19]
			}
		}
		for i := range p.size >> 16 {
			at := uint64(p.dataAt() + int64(len(p.data)))
			text[i%100]++
			if pack == nil {
				p.words[i] = at
				p.data = append(p.data, text...)
				continue
			}
			packed := pack(text)
			p.words[i] = 1<<62 | uint64(len(packed)+511)/512<<54 | at
			p.data = append(p.data, packed...)
		}
		p.data = append(p.data, make([]byte, 1024)...)
		all[kind] = p
	}
	return all
}

func BenchmarkPlace(b *testing.B) {
	for kind, p := range images() {
		image := p.build()
		im, err := qcow2.Open(b.Context(), source{bytes.NewReader(image)}, int64(len(image)), math.MaxInt64)
		require.NoError(b, err)
		b.Run(kind, func(b *testing.B) {
			b.SetBytes(im.DataBytes)
			b.ReportAllocs()
			for b.Loop() {
				for piece, err := range im.Pieces(b.Context(), 0, false) {
					require.NoError(b, err)
					require.NoError(b, im.Place(b.Context(), piece, image[piece.Off:piece.Off+piece.Len], nowhere{}))
				}
			}
		})
	}
}

func BenchmarkPass(b *testing.B) {
	for kind, p := range images() {
		image := p.build()
		b.Run(kind, func(b *testing.B) {
			b.SetBytes(p.size)
			b.ReportAllocs()
			for b.Loop() {
				pass, err := qcow2.NewPass(image, math.MaxInt64, 2, nowhere{})
				require.NoError(b, err)
				require.NoError(b, pass.Write(b.Context(), image))
				_, err = pass.End(b.Context())
				require.NoError(b, err)
			}
		})
	}
}
