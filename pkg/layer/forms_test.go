package layer_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha512"
	"encoding/binary"
	"encoding/hex"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/pkg/format/refusal"
	"github.com/gild-project/gild/pkg/layer"
)

// members is gzip data in many members, with the footer of eStargz: an empty member whose header
// says where the index is.
func members(t testing.TB, data []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	for len(data) > 0 {
		n := min(len(data), 1000)
		out.Write(gz(t, data[:n]))
		data = data[n:]
	}
	w, err := gzip.NewWriterLevel(&out, gzip.NoCompression)
	require.NoError(t, err)
	w.Extra = append([]byte{'S', 'G', 22, 0}, "0000000000000000STARGZ"...)
	require.NoError(t, w.Close())
	return out.Bytes()
}

// chunked is zstd data in many frames with skippable ones between and at the end, as zstd:chunked has its index.
func chunked(t testing.TB, data []byte) []byte {
	t.Helper()
	skippable := func(content string) []byte {
		out := binary.LittleEndian.AppendUint32(nil, 0x184d2a50)
		return append(binary.LittleEndian.AppendUint32(out, uint32(len(content))), content...)
	}
	out := skippable("first")
	for len(data) > 0 {
		n := min(len(data), 5000)
		out = append(append(out, zst(t, data[:n])...), skippable("index")...)
		data = data[n:]
	}
	return append(out, skippable("GNUlInUx")...)
}

// program packs by the tool itself.
func program(t testing.TB, name string, data []byte) []byte {
	t.Helper()
	c := exec.CommandContext(t.Context(), name, "-c")
	c.Stdin = bytes.NewReader(data)
	out, err := c.Output()
	require.NoError(t, err)
	return out
}

func TestCompressions(t *testing.T) {
	image := disk(300_000)
	plain := pack(t, file("BZh9", []byte("a name like the magic of bzip2")), file("disk/disk.img", image), file("stargz.index.json", []byte("{}")))
	for name, packed := range map[string][]byte{
		"plain": plain, "gz": gz(t, plain), "zst": zst(t, plain), "eStargz": members(t, plain), "zstd:chunked": chunked(t, plain),
		"bz2": program(t, "bzip2", plain), "xz": program(t, "xz", plain), "gzip": program(t, "gzip", plain), "zstd": program(t, "zstd", plain),
	} {
		t.Run(name, func(t *testing.T) {
			_, data, err := find(t, layerOf(packed))
			require.NoError(t, err)
			require.True(t, bytes.Equal(image, data))
		})
	}
	_, _, err := find(t, layerOf(gz(t, gz(t, plain))))
	requireReason(t, err, refusal.CorruptImage)
	_, _, err = find(t, layerOf(image))
	requireReason(t, err, refusal.CorruptImage)
	_, _, err = find(t, layerOf(append(gz(t, plain), "tail"...)))
	requireReason(t, err, refusal.CorruptImage)
	encrypted := layerOf(plain)
	encrypted.MediaType = "application/vnd.oci.image.layer.v1.tar+gzip+encrypted"
	_, _, err = find(t, encrypted)
	requireReason(t, err, refusal.UnsafeImage)
}

// The checksum of gzip is behind the end of the tar, and so is the digest of its bytes.
func TestChecksumBehindTheTar(t *testing.T) {
	packed := gz(t, pack(t, file("disk/disk.img", disk(5000))))
	packed[len(packed)-6]++
	_, _, err := find(t, layerOf(packed))
	requireReason(t, err, refusal.CorruptImage)
}

func TestSHA512(t *testing.T) {
	packed := pack(t, file("disk/disk.img", disk(5000)))
	sum := sha512.Sum512(packed)
	l := layerOf(packed)
	l.Digest = "sha512:" + hex.EncodeToString(sum[:])
	_, _, err := find(t, l)
	require.NoError(t, err)
	sum[5]++
	l.Digest = "sha512:" + hex.EncodeToString(sum[:])
	_, _, err = find(t, l)
	requireReason(t, err, refusal.DigestMismatch)
	for _, bad := range []string{"", "sha256:", "sha256:00", "sha512:" + hex.EncodeToString(sum[:32]), l.Digest + "00", "sha512:" + string(bytes.ToUpper([]byte(hex.EncodeToString(sum[:]))))} {
		l.Digest = bad
		_, _, err = find(t, l)
		require.Error(t, err, bad)
	}
}

func TestTapeAndTail(t *testing.T) {
	image := disk(5000)
	plain := pack(t, file("disk/disk.img", image))
	for name, tail := range map[string][]byte{
		"padding of a tape": make([]byte, 10240), "another tar": pack(t, file("disk/b.img", image)), "anything": disk(1 << 20),
	} {
		served := append(bytes.Clone(plain), tail...)
		_, data, err := find(t, layerOf(served))
		require.NoError(t, err, name)
		require.True(t, bytes.Equal(image, data), name)
		flipped := bytes.Clone(served)
		flipped[len(flipped)-1] ^= 1
		_, _, err = find(t, lying(served, flipped))
		requireReason(t, err, refusal.DigestMismatch)
		_, _, err = find(t, lying(served, served[:len(served)-1]))
		requireReason(t, err, refusal.TruncatedImage)
		_, _, err = find(t, lying(served[:len(served)-1], served))
		requireReason(t, err, refusal.DigestMismatch)
	}
}

// tool runs an archiver in a folder.
func tool(t testing.TB, folder string, args ...string) []byte {
	t.Helper()
	c := exec.CommandContext(t.Context(), args[0], args[1:]...)
	c.Dir, c.Env = folder, append(os.Environ(), "LC_ALL=C.UTF-8")
	var problems bytes.Buffer
	c.Stderr = &problems
	out, err := c.Output()
	require.NoError(t, err, "%v: %s", args, &problems)
	return out
}

// Layers as the archivers make them, holes in the disk too.
func TestArchivers(t *testing.T) {
	folder := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(folder, "disk"), 0o755))
	const size = 8 << 20
	want := make([]byte, size)
	f, err := os.Create(filepath.Join(folder, "disk", "disk.img"))
	require.NoError(t, err)
	require.NoError(t, f.Truncate(size))
	// More pieces than fit in one header.
	for off := int64(0); off < size; off += 64 << 10 {
		data := disk(8192)
		copy(want[off:], data)
		_, err := f.WriteAt(data, off)
		require.NoError(t, err)
	}
	require.NoError(t, f.Close())

	commands := [][]string{
		{"tar", "-cf-", "disk"}, {"tar", "-cf-", "./disk"}, {"tar", "-cf-", "."}, {"tar", "-cPf-", folder + "/disk", "--transform", "s,^" + folder + ",,"},
		{"tar", "-cf-", "-b", "2048", "disk"},
		{"tar", "-cf-", "--format=v7", "disk"}, {"tar", "-cf-", "--format=ustar", "disk"}, {"tar", "-cf-", "--format=oldgnu", "disk"},
		{"tar", "-cf-", "--format=gnu", "disk"}, {"tar", "-cf-", "--format=posix", "disk"},
		{"tar", "-cSf-", "--format=oldgnu", "disk"}, {"tar", "-cSf-", "--format=gnu", "disk"},
		{"tar", "-cSf-", "--format=posix", "--sparse-version=0.0", "disk"}, {"tar", "-cSf-", "--format=posix", "--sparse-version=0.1", "disk"},
		{"tar", "-cSf-", "--format=posix", "--sparse-version=1.0", "disk"},
		{"tar", "-czf-", "disk"}, {"tar", "-cJf-", "disk"}, {"tar", "-cjf-", "disk"}, {"tar", "-cf-", "--zstd", "disk"},
	}
	if _, err := exec.LookPath("bsdtar"); err == nil {
		commands = append(commands, []string{"bsdtar", "-cf-", "disk"}, []string{"bsdtar", "-cf-", "--format=pax", "disk"},
			[]string{"bsdtar", "-cf-", "--format=ustar", "disk"}, []string{"bsdtar", "-cf-", "--format=gnutar", "disk"}, []string{"bsdtar", "-czf-", "disk"})
	}
	for _, args := range commands {
		packed := tool(t, folder, args...)
		d, err := layer.Find(t.Context(), []layer.Layer{layerOf(packed)}, layer.Options{})
		require.NoError(t, err, args)
		require.EqualValues(t, size, d.Size(), args)
		data, err := read(t.Context(), d)
		require.NoError(t, err, args)
		require.True(t, bytes.Equal(want, data), args)
		require.NoError(t, d.Close())
		if slices.Contains(args, "-cSf-") {
			require.Less(t, len(packed), size/2, "there are no holes in it")
		}
		got, err := merge(t, []layer.Layer{layerOf(packed)})
		require.NoError(t, err, args)
		require.Equal(t, string(want[:9000]), got["disk/disk.img"].content[:9000], args)
	}
}

// A tree with all that GNU tar can store comes out as it went in.
func TestArchiverTree(t *testing.T) {
	folder := t.TempDir()
	at := func(name string) string { return filepath.Join(folder, name) }
	long := filepath.Join("d", string(bytes.Repeat([]byte("l"), 200)))
	require.NoError(t, os.MkdirAll(at(long), 0o750))
	require.NoError(t, os.WriteFile(at("d/file"), []byte("content"), 0o600))
	require.NoError(t, os.WriteFile(at(long+"/Grüße"), nil, 0o644))
	require.NoError(t, os.Chmod(at("d/file"), os.ModeSetuid|os.ModeSticky|0o755))
	require.NoError(t, os.Link(at("d/file"), at("a-link")))
	require.NoError(t, os.Symlink("../nowhere", at("d/sym")))
	for _, format := range []string{"gnu", "posix", "oldgnu"} {
		got, err := merge(t, []layer.Layer{layerOf(tool(t, folder, "tar", "-cf-", "--format="+format, "--hard-dereference", "."))})
		require.NoError(t, err)
		require.Equal(t, &inode{kind: tar.TypeReg, mode: 0o5755, content: "content"}, got["d/file"])
		require.Equal(t, got["d/file"], got["a-link"])
		got, err = merge(t, []layer.Layer{layerOf(tool(t, folder, "tar", "-cf-", "--format="+format, "d", "a-link"))})
		require.NoError(t, err)
		require.Same(t, got["d/file"], got["a-link"])
		require.Equal(t, &inode{kind: tar.TypeSymlink, mode: 0o777, link: "../nowhere"}, got["d/sym"])
		require.Equal(t, &inode{kind: tar.TypeReg, mode: 0o644}, got[long+"/Grüße"])
		require.Equal(t, &inode{kind: tar.TypeDir, mode: 0o750}, got[long])
	}
}

// oddReads serves pieces of any size, some of them empty.
type oddReads struct {
	in io.Reader
	n  int
}

func (o *oddReads) Read(p []byte) (int, error) {
	o.n = (o.n + 7919) % 60_000
	return o.in.Read(p[:min(len(p), o.n)])
}

func TestOddReads(t *testing.T) {
	image := disk(6 << 20)
	packed := zst(t, pack(t, file("disk/disk.img", image)))
	l := layerOf(packed)
	l.Open = func(context.Context) (layer.Blob, error) {
		return &blob{in: &oddReads{in: bytes.NewReader(packed)}}, nil
	}
	_, data, err := find(t, l)
	require.NoError(t, err)
	require.True(t, bytes.Equal(image, data))
}

// A window that is too large is refused as it is for any image.
func TestWindowTooLarge(t *testing.T) {
	var packed bytes.Buffer
	w, err := zstd.NewWriter(&packed, zstd.WithWindowSize(512<<20))
	require.NoError(t, err)
	plain := pack(t, file("disk/disk.img", disk(3<<20)))
	_, err = w.Write(plain[:2<<20])
	require.NoError(t, err)
	require.NoError(t, w.Flush())
	_, err = w.Write(plain[2<<20:])
	require.NoError(t, err)
	require.NoError(t, w.Close())
	_, _, err = find(t, layerOf(packed.Bytes()))
	requireReason(t, err, refusal.UnsupportedFormat)
}
