package layer_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/pkg/layer"
)

// blob serves bytes from memory in pieces of odd sizes.
type blob struct {
	in     io.Reader
	closed bool
}

func (b *blob) Read(ctx context.Context, p []byte) (int, error) {
	if b.closed {
		return 0, os.ErrClosed
	}
	if err := context.Cause(ctx); err != nil {
		return 0, err
	}
	return b.in.Read(p)
}

func (b *blob) Close() error {
	b.closed = true
	return nil
}

// layerOf is a layer of these bytes, under their own digest.
func layerOf(served []byte) layer.Layer {
	return lying(served, served)
}

// lying is a layer that promises other bytes than it serves.
func lying(promised, served []byte) layer.Layer {
	sum := sha256.Sum256(promised)
	name := "sha256:" + hex.EncodeToString(sum[:])
	return layer.Layer{Name: name, Digest: name, Size: int64(len(promised)), Open: func(context.Context) (layer.Blob, error) {
		return &blob{in: bytes.NewReader(served)}, nil
	}}
}

// item is an entry of a tar.
type item struct {
	h    tar.Header
	data []byte
}

func dir(name string) item {
	return item{h: tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o555}}
}

func file(name string, data []byte) item {
	return item{h: tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o444, Size: int64(len(data))}, data: data}
}

func special(kind byte, name, link string) item {
	return item{h: tar.Header{Typeflag: kind, Name: name, Linkname: link, Mode: 0o444}}
}

// pack is a tar of these items.
func pack(t testing.TB, items ...item) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, i := range items {
		h := i.h
		h.Uid, h.Gid = 107, 107
		if h.ModTime.IsZero() {
			h.ModTime = time.Unix(1700000000, 0)
		}
		require.NoError(t, w.WriteHeader(&h))
		_, err := w.Write(i.data)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return out.Bytes()
}

func gz(t testing.TB, data []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, gzip.BestSpeed)
	require.NoError(t, err)
	_, err = w.Write(data)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return out.Bytes()
}

func zst(t testing.TB, data []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest))
	require.NoError(t, err)
	out := w.EncodeAll(data, nil)
	require.NoError(t, w.Close())
	return out
}

// disk is data like that of a disk: some of it random, some text, some zeros.
func disk(size int) []byte {
	out, random, text := make([]byte, size), noise(size), bytes.Repeat([]byte("linux "), 4096/6+1)
	for off := 0; off < size; off += 4096 {
		part := out[off:min(size, off+4096)]
		switch off / 4096 % 3 {
		case 0:
			copy(part, random[off:])
		case 1:
			copy(part, text)
		}
	}
	return out
}

// noise looks random and stays as large when it is packed. It is AES in counter mode: the race detector does
// not slow down its assembly.
func noise(size int) []byte {
	out := make([]byte, size)
	if key, err := aes.NewCipher([]byte("sixteen bytes 16")); err == nil {
		cipher.NewCTR(key, make([]byte, aes.BlockSize)).XORKeyStream(out, out)
	}
	return out
}

// read reads a disk to its end.
func read(ctx context.Context, d *layer.Disk) ([]byte, error) {
	out, buffer := make([]byte, 0, min(d.Size(), 16<<20)), make([]byte, 100<<10)
	for {
		n, err := d.Read(ctx, buffer)
		out = append(out, buffer[:n]...)
		if err == io.EOF { //nolint:errorlint // only the bare one is an end
			return out, nil
		}
		if err != nil {
			return out, err
		}
	}
}

// find finds a disk and reads it to its end.
func find(t testing.TB, layers ...layer.Layer) (name string, data []byte, err error) {
	t.Helper()
	d, err := layer.Find(t.Context(), layers, layer.Options{})
	if err != nil {
		return "", nil, err
	}
	data, err = read(t.Context(), d)
	require.NoError(t, d.Close())
	return d.Name(), data, err
}

func requireReason(t testing.TB, err error, reason string) {
	t.Helper()
	var refused interface{ Reason() string }
	require.ErrorAs(t, err, &refused)
	require.Equal(t, reason, refused.Reason(), "%v", err)
}

// second opens by first the first time, and by then every other time.
func second(first, then func(context.Context) (layer.Blob, error)) func(context.Context) (layer.Blob, error) {
	opened := false
	return func(ctx context.Context) (layer.Blob, error) {
		if opened {
			return then(ctx)
		}
		opened = true
		return first(ctx)
	}
}
