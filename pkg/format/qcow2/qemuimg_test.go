package qcow2_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// qemuImg runs the oracle.
func qemuImg(t *testing.T, args ...string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "qemu-img", args...).CombinedOutput()
	require.NoError(t, err, "%s: %s", strings.Join(args, " "), out)
}

// guest makes a raw disk: text, noise, zeros, in parts of odd sizes.
func guest(t *testing.T, size int64) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "guest.raw")
	b := make([]byte, size)
	r := rand.New(rand.NewPCG(1, 2))
	for off := 0; off < len(b); {
		n := min(len(b)-off, 1+r.IntN(1<<(3+r.IntN(17))))
		part := b[off : off+n]
		switch r.IntN(4) {
		case 0:
			for i := range part {
				part[i] = byte(r.Uint32())
			}
		case 1, 2:
			for i := range part {
				part[i] = "golden disk images for everybody "[i%33] ^ byte(i/4096)
			}
		}
		off += n
	}
	require.NoError(t, os.WriteFile(name, b, 0o600))
	return name
}

// open returns a file and its size.
func open(t *testing.T, name string) (*os.File, int64) {
	t.Helper()
	f, err := os.Open(name)
	require.NoError(t, err)
	t.Cleanup(func() { f.Close() })
	info, err := f.Stat()
	require.NoError(t, err)
	return f, info.Size()
}

// convert asks qemu-img for the disk of an image.
func convert(t *testing.T, name string) *os.File {
	t.Helper()
	raw := filepath.Join(t.TempDir(), "oracle.raw")
	qemuImg(t, "convert", "-f", "qcow2", "-O", "raw", name, raw)
	f, _ := open(t, raw)
	return f
}

// requireDisk compares a disk with a raw file byte by byte.
func requireDisk(t *testing.T, raw *os.File, got *disk) {
	t.Helper()
	info, err := raw.Stat()
	require.NoError(t, err)
	require.Equal(t, info.Size(), got.size)
	want := &disk{pages: map[int64][]byte{}}
	for at := int64(0); at*page < got.size; at++ {
		b := make([]byte, page)
		_, err := raw.ReadAt(b, at*page)
		if err != io.EOF {
			require.NoError(t, err)
		}
		want.pages[at] = b
	}
	require.NoError(t, got.equal(want))
}

func TestMatrix(t *testing.T) {
	raw := guest(t, 3<<20+512*7)
	for _, version := range []string{"0.10", "1.1"} {
		for _, cluster := range []int{512, 4096, 16384, 65536, 2 << 20} {
			for kind, args := range map[string][]string{
				"plain":        nil,
				"zlib":         {"-c"},
				"zlib-anyhow":  {"-c", "-m16", "-W"},
				"plain-anyhow": {"-m16", "-W"},
				"metadata":     {"-o", "preallocation=metadata"},
				"falloc":       {"-o", "preallocation=falloc"},
				"full":         {"-S", "0"},
				"lazy":         {"-o", "lazy_refcounts=on"},
				"zstd":         {"-c", "-o", "compression_type=zstd"},
				"zstd-anyhow":  {"-c", "-m16", "-W", "-o", "compression_type=zstd"},
				"extl2":        {"-o", "extended_l2=on"},
				"extl2-zlib":   {"-c", "-o", "extended_l2=on"},
				"extl2-zstd":   {"-c", "-o", "extended_l2=on,compression_type=zstd"},
				"extl2-meta":   {"-o", "extended_l2=on,preallocation=metadata"},
			} {
				only3 := strings.HasPrefix(kind, "zstd") || strings.HasPrefix(kind, "extl2") || kind == "lazy"
				if version == "0.10" && (only3 || cluster != 512 && cluster != 65536) || strings.HasPrefix(kind, "extl2") && cluster < 16384 {
					continue
				}
				t.Run(fmt.Sprintf("%s/%d/%s", version, cluster, kind), func(t *testing.T) {
					t.Parallel()
					name := filepath.Join(t.TempDir(), "image.qcow2")
					all := append([]string{"convert", "-f", "raw", "-O", "qcow2", "-o", fmt.Sprintf("compat=%s,cluster_size=%d", version, cluster)}, args...)
					qemuImg(t, append(all, raw, name)...)
					f, size := open(t, name)
					chunks := []int{4093, 65536, 1 << 20}
					if cluster == 65536 && version == "1.1" && len(args) < 2 {
						chunks = append(chunks, 1, 17)
					}
					requireDisk(t, convert(t, name), readAll(t, f, size, chunks...))
				})
			}
		}
	}
}
