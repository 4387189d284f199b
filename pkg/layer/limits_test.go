package layer_test

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/pkg/format/refusal"
	"github.com/gild-project/gild/pkg/layer"
)

// written is a layer that a function writes, each time it is opened. It may be larger than memory.
func written(t testing.TB, write func(io.Writer) error) layer.Layer {
	t.Helper()
	h := sha256.New()
	count := &counter{}
	require.NoError(t, write(io.MultiWriter(h, count)))
	name := "sha256:" + hex.EncodeToString(h.Sum(nil))
	return layer.Layer{Name: name, Digest: name, Size: count.n, Open: func(context.Context) (layer.Blob, error) {
		r, w := io.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			w.CloseWithError(write(w))
		}()
		return &piped{PipeReader: r, done: done}, nil
	}}
}

type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}

type piped struct {
	*io.PipeReader
	done chan struct{}
}

func (p *piped) Read(ctx context.Context, b []byte) (int, error) {
	defer context.AfterFunc(ctx, func() { p.CloseWithError(context.Cause(ctx)) })()
	return p.PipeReader.Read(b)
}

func (p *piped) Close() error {
	err := p.PipeReader.Close()
	<-p.done
	return err
}

// bomb is a zstd layer with zeros in a file of its own, which unpack to a million times its size.
func bomb(t testing.TB, name string, size int64, after []byte) []byte {
	t.Helper()
	var head bytes.Buffer
	require.NoError(t, tar.NewWriter(&head).WriteHeader(&tar.Header{Name: name, Size: size, Mode: 0o644}))
	var frame bytes.Buffer
	w, err := zstd.NewWriter(&frame)
	require.NoError(t, err)
	const part = 32 << 20
	for range part >> 20 {
		_, err := w.Write(make([]byte, 1<<20))
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	out := zst(t, head.Bytes())
	out = append(out, bytes.Repeat(frame.Bytes(), int(size/part))...)
	return append(out, zst(t, after)...)
}

func TestBombs(t *testing.T) {
	image := disk(3000)
	after := pack(t, file("disk/disk.img", image))
	before := heap()
	for name, c := range map[string]struct {
		packed []byte
		max    int64
		reason string
	}{
		"before the disk":         {packed: bomb(t, "etc/bomb", 256<<20, after), max: 128 << 20, reason: refusal.UnsupportedFormat},
		"before it, within limit": {packed: bomb(t, "etc/bomb", 128<<20, after), max: 128<<20 + 1<<20},
		"below disk, hidden":      {packed: bomb(t, "disk.old/bomb", 256<<20, after), max: 128 << 20, reason: refusal.UnsupportedFormat},
		"behind the tar":          {packed: append(zst(t, after), bomb(t, "etc/bomb", 128<<20, nil)...), reason: refusal.UnsupportedFormat},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := layer.Find(t.Context(), []layer.Layer{layerOf(c.packed)}, layer.Options{MaxUnpacked: c.max})
			if err == nil {
				_, err = read(t.Context(), d)
				require.Less(t, heap()-before, int64(80<<20))
				require.NoError(t, d.Close())
			}
			if c.reason != "" {
				requireReason(t, err, c.reason)
				return
			}
			require.NoError(t, err)
		})
	}
	// The disk itself is as large as it says: whoever reads it knows how much there is room for.
	d, err := layer.Find(t.Context(), []layer.Layer{layerOf(bomb(t, "disk/disk.img", 128<<20, nil))}, layer.Options{MaxUnpacked: 1 << 20})
	require.NoError(t, err)
	require.EqualValues(t, 128<<20, d.Size())
	buffer, total := make([]byte, 1<<20), 0
	for err == nil {
		var n int
		n, err = d.Read(t.Context(), buffer)
		total += n
	}
	require.ErrorIs(t, err, io.EOF)
	require.Equal(t, 128<<20, total)
	require.Less(t, heap()-before, int64(80<<20))
	require.NoError(t, d.Close())
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// manyFiles is a layer of empty files and then a disk.
func manyFiles(t testing.TB, n int, name func(i int) string) layer.Layer {
	t.Helper()
	return written(t, func(out io.Writer) error {
		buffered := bufio.NewWriterSize(out, 1<<20)
		w := tar.NewWriter(buffered)
		for i := range n {
			if err := w.WriteHeader(&tar.Header{Name: name(i), Mode: 0o644, ModTime: time.Unix(1, 0)}); err != nil {
				return err
			}
		}
		if err := w.WriteHeader(&tar.Header{Name: "disk/disk.img", Size: 4, Mode: 0o644}); err != nil {
			return err
		}
		if _, err := w.Write([]byte("disk")); err != nil {
			return err
		}
		return errors.Join(w.Close(), buffered.Flush())
	})
}

func TestManyEntries(t *testing.T) {
	few := manyFiles(t, 30_000, func(i int) string { return fmt.Sprintf("usr/share/%03d/%d", i/1000, i) })
	_, data, err := find(t, few)
	require.NoError(t, err)
	require.Equal(t, "disk", string(data))
	names := 0
	before := heap()
	for e, err := range layer.Merged(t.Context(), []layer.Layer{few}, layer.Options{}) {
		require.NoError(t, err)
		if names++; e.Header.Name == "disk/disk.img" {
			require.Less(t, heap()-before, int64(80<<20))
		}
	}
	require.Equal(t, 30_000+1+30+3, names)

	part := bytes.Repeat(pack(t, file("x", nil))[:512], 4096)
	tooMany := layerOf(bytes.Repeat(zst(t, part), 1<<20/4096+1))
	_, _, err = find(t, tooMany)
	requireReason(t, err, refusal.UnsupportedFormat)

	// Directories take the most memory: paths of nothing but them.
	deep := manyFiles(t, 1000, func(i int) string { return fmt.Sprintf("%d/", i) + strings.Repeat("d/", 1500) + "file" })
	_, err = merge(t, []layer.Layer{deep})
	requireReason(t, err, refusal.UnsupportedFormat)
	_, data, err = find(t, deep)
	require.NoError(t, err)
	require.Equal(t, "disk", string(data))
}

func TestNames(t *testing.T) {
	for name, reason := range map[string]string{
		"../x": refusal.UnsafeImage, "a/../x": refusal.UnsafeImage, "/..": refusal.UnsafeImage, "disk/..": refusal.UnsafeImage,
		strings.Repeat("d/", 2048) + "x": refusal.CorruptImage, ".wh.": refusal.CorruptImage, "d/.wh..": refusal.CorruptImage, "d/.wh...": refusal.CorruptImage,
	} {
		_, err := merge(t, packAll(t, [][]item{{file(name, nil)}}))
		requireReason(t, err, reason)
		_, _, err = find(t, packAll(t, [][]item{{file(name, nil), file("disk/disk.img", disk(100))}})...)
		requireReason(t, err, reason)
	}
	for name, want := range map[string]string{"./a": "a", "/a": "a", "//a//b": "a/b", "a/./b": "a/b", "..a/b..": "..a/b..", "./a\nb": "a\nb", "a\\..\\b": "a\\..\\b"} {
		got, err := merge(t, packAll(t, [][]item{{file(name, nil)}}))
		require.NoError(t, err)
		require.Contains(t, got, want)
	}
}
