package layer_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/pkg/format/compress"
	"github.com/gild-project/gild/pkg/layer"
)

// BenchmarkFind reads a disk of 1 GiB out of a layer in memory. Beside it is what must be done at
// least: hashing all bytes, and unpacking them, each alone.
func BenchmarkFind(b *testing.B) {
	const parts, size = 16, 64 << 20
	content := disk(size)
	var head bytes.Buffer
	require.NoError(b, tar.NewWriter(&head).WriteHeader(&tar.Header{Name: "disk/disk.img", Size: parts * size, Mode: 0o644}))
	for _, form := range []struct {
		name, format string
		pack         func(testing.TB, []byte) []byte
	}{{"tar", "", func(_ testing.TB, p []byte) []byte { return p }}, {"gz", "gz", gz}, {"zst", "zst", zst}} {
		first, part, last := form.pack(b, head.Bytes()), form.pack(b, content), form.pack(b, make([]byte, 1024))
		served := func() io.Reader {
			all := []io.Reader{bytes.NewReader(first)}
			for range parts {
				all = append(all, bytes.NewReader(part))
			}
			return io.MultiReader(append(all, bytes.NewReader(last))...)
		}
		h, count := sha256.New(), &counter{}
		_, err := io.Copy(io.MultiWriter(h, count), served())
		require.NoError(b, err)
		l := layer.Layer{Digest: "sha256:" + hex.EncodeToString(h.Sum(nil)), Size: count.n, Open: func(context.Context) (layer.Blob, error) {
			return &blob{in: served()}, nil
		}}
		buffer := make([]byte, 1<<20)
		b.Run(form.name+"/find", func(b *testing.B) {
			b.SetBytes(parts * size)
			for b.Loop() {
				d, err := layer.Find(b.Context(), []layer.Layer{l}, layer.Options{})
				require.NoError(b, err)
				for err == nil {
					_, err = d.Read(b.Context(), buffer)
				}
				require.ErrorIs(b, err, io.EOF)
				require.NoError(b, d.Close())
			}
		})
		b.Run(form.name+"/hash", func(b *testing.B) {
			b.SetBytes(parts * size)
			for b.Loop() {
				_, err := io.CopyBuffer(struct{ io.Writer }{sha256.New()}, served(), buffer)
				require.NoError(b, err)
			}
		})
		if form.format == "" {
			continue
		}
		b.Run(form.name+"/unpack", func(b *testing.B) {
			b.SetBytes(parts * size)
			for b.Loop() {
				in, err := compress.NewReader(b.Context(), form.format, served(), compress.Options{})
				require.NoError(b, err)
				_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, in, buffer)
				require.NoError(b, err)
				require.NoError(b, in.Close())
			}
		})
	}
}
