package layer_test

import (
	"archive/tar"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/pkg/format/refusal"
	"github.com/gild-project/gild/pkg/layer"
)

// headers are the entries of a merged tree by name, with the content of files.
func headers(t testing.TB, layers ...layer.Layer) (map[string]*tar.Header, map[string]string) {
	t.Helper()
	all, contents := map[string]*tar.Header{}, map[string]string{}
	for e, err := range layer.Merged(t.Context(), layers, layer.Options{}) {
		require.NoError(t, err)
		all[e.Header.Name] = e.Header
		if e.Content != nil {
			data, err := io.ReadAll(e.Content)
			require.NoError(t, err)
			contents[e.Header.Name] = string(data)
		}
	}
	return all, contents
}

func TestMetadata(t *testing.T) {
	when := time.Unix(1700000000, 123000000)
	records := map[string]string{"SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x00", "SCHILY.xattr.user.x": "y", "LIBARCHIVE.xattr.user.x": "eQ", "comment": "no"}
	kept := map[string]string{"SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x00", "SCHILY.xattr.user.x": "y"}
	owned := func(h tar.Header) tar.Header {
		h.Uid, h.Gid, h.Uname, h.Gname, h.ModTime, h.PAXRecords, h.Format = 3_000_000, 4_000_000, "ann", "staff", when, records, tar.FormatPAX
		return h
	}
	want := map[string]tar.Header{
		".":            {Typeflag: tar.TypeDir, Mode: 0o700},
		"dir":          {Typeflag: tar.TypeDir, Mode: 0o2775},
		"dir/su":       {Typeflag: tar.TypeReg, Mode: 0o6755, Size: 4},
		"dir/sym":      {Typeflag: tar.TypeSymlink, Linkname: "/etc/../passwd", Mode: 0o777},
		"dev":          {Typeflag: tar.TypeDir, Mode: 0o755},
		"dev/null":     {Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3, Mode: 0o666},
		"dev/sda":      {Typeflag: tar.TypeBlock, Devmajor: 8, Mode: 0o660},
		"dev/initctl":  {Typeflag: tar.TypeFifo, Mode: 0o600},
		"implied":      {Typeflag: tar.TypeDir, Mode: 0o755},
		"implied/file": {Typeflag: tar.TypeReg, Mode: 0o600},
	}
	var packed []byte
	w := tar.NewWriter(writer(func(p []byte) { packed = append(packed, p...) }))
	for name, h := range want {
		if name == "implied" {
			continue
		}
		h.Name = "./" + name
		h = owned(h)
		require.NoError(t, w.WriteHeader(&h))
		if h.Size > 0 {
			_, err := w.Write([]byte("root"))
			require.NoError(t, err)
		}
	}
	require.NoError(t, w.Close())
	got, contents := headers(t, layerOf(packed))
	require.Len(t, got, len(want))
	for name, h := range want {
		h.Name = name
		if name != "implied" {
			h = owned(h)
			h.PAXRecords, h.Format = kept, 0
		}
		require.True(t, h.ModTime.Equal(got[name].ModTime), name)
		h.ModTime = got[name].ModTime
		require.Equal(t, &h, got[name])
	}
	require.Equal(t, map[string]string{"dir/su": "root", "implied/file": ""}, contents)
}

type writer func([]byte)

func (w writer) Write(p []byte) (int, error) {
	w(p)
	return len(p), nil
}

// Files that only a hard link is left of come under its name, with their own metadata.
func TestLinksLeft(t *testing.T) {
	original := file("bin/a", []byte("one"))
	original.h.Mode = 0o4755
	link := func(name, target string) item { return special(tar.TypeLink, name, target) }
	base := []item{original, link("bin/b", "bin/a"), link("bin/c", "./bin/b"), file("sym-target", nil),
		special(tar.TypeSymlink, "sym", "x"), link("sym2", "sym"), special(tar.TypeFifo, "fifo", ""), link("fifo2", "/fifo")}
	got, contents := headers(t, packAll(t, [][]item{base, {file("bin/.wh.a", nil), file(".wh.sym", nil), file(".wh.fifo", nil)}})...)
	require.NotContains(t, got, "bin/a")
	require.EqualValues(t, 0o4755, got["bin/b"].Mode)
	require.Equal(t, &tar.Header{Typeflag: tar.TypeLink, Name: "bin/c", Linkname: "bin/b"}, got["bin/c"])
	require.Equal(t, map[string]string{"bin/b": "one", "sym-target": ""}, contents)
	require.Equal(t, byte(tar.TypeSymlink), got["sym2"].Typeflag)
	require.Equal(t, "x", got["sym2"].Linkname)
	require.Equal(t, byte(tar.TypeFifo), got["fifo2"].Typeflag)

	// The name they came with has other content now.
	got, contents = headers(t, packAll(t, [][]item{base, {file("bin/a", []byte("two"))}})...)
	require.Equal(t, map[string]string{"bin/a": "two", "bin/b": "one", "sym-target": ""}, contents)
	require.Equal(t, "bin/b", got["bin/c"].Linkname)
}

func TestMergedRefusals(t *testing.T) {
	plain := func(i item) []byte { return pack(t, i) }
	odd := plain(file("x", nil))
	odd[156] = 'Z'
	negative := plain(file("x", nil))
	copy(negative[108:], "\xff\xff\xff\xff\xff\xff\xff\xff")
	for name, c := range map[string]struct {
		layers [][]byte
		reason string
	}{
		"link to nothing":    {[][]byte{plain(special(tar.TypeLink, "a", "b"))}, refusal.CorruptImage},
		"link to directory":  {[][]byte{plain(dir("b")), plain(special(tar.TypeLink, "a", "b"))}, refusal.CorruptImage},
		"link out":           {[][]byte{plain(special(tar.TypeLink, "a", "../b"))}, refusal.UnsafeImage},
		"below a link":       {[][]byte{pack(t, special(tar.TypeSymlink, "a", "/etc"), file("a/passwd", nil))}, refusal.UnsafeImage},
		"below a file":       {[][]byte{pack(t, file("a", nil), dir("a/b"))}, refusal.UnsafeImage},
		"symlink to nothing": {[][]byte{plain(special(tar.TypeSymlink, "a", ""))}, refusal.CorruptImage},
		"symlink too long":   {[][]byte{plain(special(tar.TypeSymlink, "a", string(make4096())))}, refusal.CorruptImage},
		"unknown type":       {[][]byte{summed(odd)}, refusal.UnsupportedFormat},
		"negative owner":     {[][]byte{summed(negative)}, refusal.CorruptImage},
		"root is a file":     {[][]byte{plain(file(".", nil))}, refusal.CorruptImage},
		"no tar":             {[][]byte{disk(3000)}, refusal.CorruptImage},
	} {
		t.Run(name, func(t *testing.T) {
			var layers []layer.Layer
			for _, packed := range c.layers {
				layers = append(layers, layerOf(packed))
			}
			_, err := merge(t, layers)
			requireReason(t, err, c.reason)
		})
	}
	got, err := merge(t, nil)
	require.NoError(t, err)
	require.Empty(t, got)
	// Beside that, a link of a lower layer gives way to a directory that an upper one has by that name.
	got, err = merge(t, packAll(t, [][]item{{special(tar.TypeSymlink, "lib", "usr/lib")}, {file("lib/x", []byte("x"))}}))
	require.NoError(t, err)
	require.Equal(t, byte(tar.TypeDir), got["lib"].kind)
}

func make4096() []byte {
	out := make([]byte, 4096)
	for i := range out {
		out[i] = 'l'
	}
	return out
}

// summed puts the checksum of the first header right.
func summed(packed []byte) []byte {
	copy(packed[148:], "        ")
	sum := 0
	for _, b := range packed[:512] {
		sum += int(b)
	}
	for i := range 6 {
		packed[148+5-i] = byte('0' + sum>>(3*i)&7)
	}
	packed[154] = 0
	return packed
}

// Content is verified in the pass that it comes from, which is the second one.
func TestMergedVerifiesWhatItGives(t *testing.T) {
	good := pack(t, file("a", []byte("good")), dir("b"))
	bad := pack(t, file("a", []byte("evil")), dir("b"))
	opened := 0
	l := layerOf(good)
	evil := lying(good, bad).Open
	first := l.Open
	l.Open = counted(layer.Layer{Open: first}, &opened).Open
	_, err := merge(t, []layer.Layer{l})
	require.NoError(t, err)
	require.Equal(t, 2, opened)
	l.Open = second(first, evil)
	_, err = merge(t, []layer.Layer{l})
	requireReason(t, err, refusal.DigestMismatch)
}
