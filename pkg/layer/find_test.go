package layer_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/pkg/format/refusal"
	"github.com/gild-project/gild/pkg/layer"
)

// counted counts how often a layer is opened.
func counted(l layer.Layer, opened *int) layer.Layer {
	open := l.Open
	l.Open = func(ctx context.Context) (layer.Blob, error) {
		*opened++
		return open(ctx)
	}
	return l
}

func TestFindInSeveralLayers(t *testing.T) {
	image, small, other := disk(200_000), disk(600), []byte("other")
	opaque, hideDir := file("disk/.wh..wh..opq", nil), file(".wh.disk", nil)
	filler := func(size int) item { return file("opt/filler", disk(size)) }
	link := special(tar.TypeSymlink, "disk/link", "disk.img")
	for name, c := range map[string]struct {
		layers [][]item
		// opened is how often each layer is read.
		opened []int
		disk   []byte
		reason string
	}{
		"in the largest, below":     {layers: [][]item{{file("disk/disk.img", image)}, {file("etc/x", nil)}}, opened: []int{1, 1}, disk: image},
		"in the largest, above":     {layers: [][]item{{file("etc/x", nil)}, {file("disk/disk.img", image)}}, opened: []int{1, 1}, disk: image},
		"in a small one":            {layers: [][]item{{file("disk/disk.img", small)}, {filler(90_000)}}, opened: []int{2, 1}, disk: small},
		"replaced":                  {layers: [][]item{{file("disk/disk.img", image)}, {file("disk/disk.img", small)}}, opened: []int{1, 2}, disk: small},
		"replaced by larger":        {layers: [][]item{{file("disk/disk.img", small)}, {file("disk/disk.img", image)}}, opened: []int{1, 1}, disk: image},
		"moved":                     {layers: [][]item{{file("disk/a", image)}, {file("disk/b", small), file("disk/.wh.a", nil)}}, opened: []int{1, 2}, disk: small},
		"opaque above the largest":  {layers: [][]item{{file("disk/a", image)}, {file("disk/b", small), opaque}}, opened: []int{0, 2}, disk: small},
		"opaque in the largest":     {layers: [][]item{{file("disk/a", small)}, {opaque, file("disk/b", image)}}, opened: []int{1, 1}, disk: image},
		"whiteout after the disk":   {layers: [][]item{{file("disk/a", small)}, {file("disk/b", image), file("disk/.wh.a", nil)}}, opened: []int{1, 1}, disk: image},
		"opaque root":               {layers: [][]item{{file("disk/a", image)}, {file(".wh..wh..opq", nil), file("disk/b", small)}}, opened: []int{0, 2}, disk: small},
		"whiteout of the directory": {layers: [][]item{{file("disk/a", image)}, {hideDir, file("disk/b", small)}}, opened: []int{0, 2}, disk: small},
		"middle cuts off below":     {layers: [][]item{{file("disk/a", small)}, {hideDir}, {file("disk/b", image)}}, opened: []int{0, 1, 1}, disk: image},
		"link hidden":               {layers: [][]item{{link, file("disk/disk.img", image)}, {file("disk/.wh.link", nil)}}, opened: []int{1, 1}, disk: image},
		"link hidden from above":    {layers: [][]item{{link}, {file("disk/.wh.link", nil), file("disk/disk.img", image)}}, opened: []int{1, 1}, disk: image},
		"two in two layers":         {layers: [][]item{{file("disk/a", image)}, {file("disk/b", small)}}, opened: []int{1, 1}, reason: refusal.SeveralDisks},
		"second after the first":    {layers: [][]item{{file("disk/a", image), file("etc/x", nil), file("disk/b", small)}}, opened: []int{1}, reason: refusal.SeveralDisks},
		"link after the disk":       {layers: [][]item{{file("disk/disk.img", image), link}}, opened: []int{1}, reason: refusal.UnsafeImage},
		"directory after the disk":  {layers: [][]item{{file("disk/disk.img", image), dir("disk/sub")}}, opened: []int{1}, reason: refusal.UnexpectedContent},
		"deeper file":               {layers: [][]item{{file("disk/sub/disk.img", image)}}, opened: []int{1}, reason: refusal.UnexpectedContent},
		"twice":                     {layers: [][]item{{file("disk/a", image), file("disk/a", small)}}, opened: []int{1}, reason: refusal.CorruptImage},
		"directory becomes a link":  {layers: [][]item{{file("disk/a", image), special(tar.TypeSymlink, "disk", "/etc")}}, opened: []int{1}, reason: refusal.UnsafeImage},
		"directory becomes a file":  {layers: [][]item{{file("disk/a", image)}, {file("disk", other)}}, opened: []int{0, 1}, reason: refusal.NoDisk},
		"all hidden":                {layers: [][]item{{file("disk/a", image)}, {file("disk/.wh.a", nil)}}, opened: []int{1, 1}, reason: refusal.NoDisk},
		"bad whiteout":              {layers: [][]item{{file("disk/a", image)}, {file("disk/.wh...", nil)}}, opened: []int{0, 1}, reason: refusal.CorruptImage},
		"below a whiteout":          {layers: [][]item{{file("disk/a", image)}, {file("disk/.wh.a/b", nil)}}, opened: []int{0, 1}, reason: refusal.CorruptImage},
		"notes of AUFS":             {layers: [][]item{{dir(".wh..wh.plnk"), file(".wh..wh.plnk/7.8", other), file("disk/.wh..wh.aufs", nil), file("disk/a", image)}}, opened: []int{1}, disk: image},
		"many names below":          {layers: [][]item{manyBelow(600)}, opened: []int{1}, reason: refusal.UnsupportedFormat},
		"none":                      {reason: refusal.NoDisk},
	} {
		t.Run(name, func(t *testing.T) {
			layers, opened := packAll(t, c.layers), make([]int, len(c.layers))
			for i := range layers {
				layers[i] = counted(layers[i], &opened[i])
			}
			_, data, err := find(t, layers...)
			if c.opened != nil {
				require.Equal(t, c.opened, opened)
			}
			if c.reason != "" {
				requireReason(t, err, c.reason)
				return
			}
			require.NoError(t, err)
			require.True(t, bytes.Equal(c.disk, data))
		})
	}
}

func manyBelow(n int) []item {
	var items []item
	for i := range n {
		items = append(items, special(tar.TypeFifo, "disk/"+string(rune('a'+i%26))+string(rune('a'+i/26)), ""))
	}
	return items
}

// The bytes of the disk come whole before the refusal of what follows, but never io.EOF.
func TestFindRefusesBeforeTheEnd(t *testing.T) {
	image := disk(3 << 20)
	d, err := layer.Find(t.Context(), packAll(t, [][]item{{file("disk/a", image), file("disk/b", nil)}}), layer.Options{})
	require.NoError(t, err)
	data, err := read(t.Context(), d)
	requireReason(t, err, refusal.SeveralDisks)
	require.True(t, bytes.Equal(image, data))
	_, again := d.Read(t.Context(), make([]byte, 1))
	require.Equal(t, err, again)
	require.NoError(t, d.Close())
}

func TestRewind(t *testing.T) {
	image := disk(4 << 20)
	packed := gz(t, pack(t, dir("disk"), file("disk/disk.img", image), file("etc/x", disk(9000))))
	opened := 0
	d, err := layer.Find(t.Context(), []layer.Layer{counted(layerOf(packed), &opened)}, layer.Options{})
	require.NoError(t, err)
	require.EqualValues(t, len(image), d.Size())
	require.Equal(t, "disk/disk.img", d.Name())
	_, err = d.Read(t.Context(), make([]byte, 100))
	require.NoError(t, err)
	for range 3 {
		require.NoError(t, d.Rewind(t.Context()))
		data, err := read(t.Context(), d)
		require.NoError(t, err)
		require.True(t, bytes.Equal(image, data))
	}
	require.NoError(t, d.Close())
	require.NoError(t, d.Close())
	_, err = d.Read(t.Context(), make([]byte, 1))
	require.Error(t, err)
	require.Equal(t, 4, opened)
}

// What is read again is verified again.
func TestRewindVerifies(t *testing.T) {
	good := pack(t, file("disk/disk.img", disk(4000)))
	for name, c := range map[string]struct {
		second []byte
		reason string
	}{
		"other content": {second: pack(t, file("disk/disk.img", make([]byte, 4000))), reason: refusal.DigestMismatch},
		"other name":    {second: pack(t, file("disk/disk.raw", disk(4000))), reason: refusal.DigestMismatch},
		"cut":           {second: good[:3000], reason: refusal.TruncatedImage},
		"no disk":       {second: pack(t, file("dosk/disk.img", disk(4000))), reason: refusal.DigestMismatch},
	} {
		t.Run(name, func(t *testing.T) {
			l := layerOf(good)
			first := l.Open
			open := first
			l.Open = func(ctx context.Context) (layer.Blob, error) { return open(ctx) }
			d, err := layer.Find(t.Context(), []layer.Layer{l}, layer.Options{})
			require.NoError(t, err)
			_, err = read(t.Context(), d)
			require.NoError(t, err)
			open = lying(good, c.second).Open
			if err = d.Rewind(t.Context()); err == nil {
				_, err = read(t.Context(), d)
			}
			requireReason(t, err, c.reason)
			open = first
			require.NoError(t, d.Rewind(t.Context()), "the right bytes help again")
			_, err = read(t.Context(), d)
			require.NoError(t, err)
			require.NoError(t, d.Close())
		})
	}
}

// cutError is how a source tells that it must be opened anew.
type cutError struct{}

func (cutError) Error() string   { return "connection broke" }
func (cutError) Reason() string  { return "SourceUnstable" }
func (cutError) StartOver() bool { return true }

func TestErrorsOfBlobsComeThrough(t *testing.T) {
	plain := pack(t, file("etc/first", disk(5000)), file("disk/disk.img", disk(300_000)), file("etc/last", disk(5000)))
	for name, packed := range map[string][]byte{"plain": plain, "gz": gz(t, plain), "zst": zst(t, plain)} {
		t.Run(name, func(t *testing.T) {
			for at := 0; at <= len(packed); at += max(1, len(packed)/50) {
				l := layerOf(packed)
				l.Open = func(context.Context) (layer.Blob, error) {
					return &blob{in: io.MultiReader(bytes.NewReader(packed[:at]), broken{})}, nil
				}
				_, _, err := find(t, l)
				var over interface{ StartOver() bool }
				require.ErrorAs(t, err, &over)
				requireReason(t, err, "SourceUnstable")
				_, err = merge(t, []layer.Layer{l})
				require.ErrorAs(t, err, &over)
			}
			l := layerOf(packed)
			l.Open = func(context.Context) (layer.Blob, error) { return nil, cutError{} }
			_, _, err := find(t, l)
			requireReason(t, err, "SourceUnstable")
		})
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, cutError{} }

// Whatever byte a layer ends at, its disk never ends well.
func TestCutAnywhere(t *testing.T) {
	plain := pack(t, dir("disk"), file("disk/disk.img", disk(600)), file("etc/x", nil))
	for name, packed := range map[string][]byte{"plain": plain, "gz": gz(t, plain), "zst": zst(t, plain)} {
		t.Run(name, func(t *testing.T) {
			for n := range packed {
				_, _, err := find(t, lying(packed, packed[:n]))
				requireReason(t, err, refusal.TruncatedImage)
				_, err = merge(t, []layer.Layer{lying(packed, packed[:n])})
				requireReason(t, err, refusal.TruncatedImage)
				// Cut before it was pushed: the digest is right.
				if _, _, err = find(t, layerOf(packed[:n])); err == nil {
					require.Equal(t, "plain", name)
					require.GreaterOrEqual(t, n, 512+512+600, "the disk is not whole")
				}
			}
		})
	}
}

// Whatever bit flips, the disk never ends well, and the digest is what is blamed unless
// what came is refused anyway.
func TestFlipAnywhere(t *testing.T) {
	plain := pack(t, dir("disk"), file("disk/disk.img", disk(600)), file("etc/x", nil))
	for name, packed := range map[string][]byte{"plain": plain, "gz": gz(t, plain), "zst": zst(t, plain)} {
		t.Run(name, func(t *testing.T) {
			blamed := 0
			for n := range packed {
				served := bytes.Clone(packed)
				served[n] ^= 1 << (n % 8)
				_, _, err := find(t, lying(packed, served))
				var refused interface{ Reason() string }
				require.ErrorAs(t, err, &refused, "byte %d", n)
				if refused.Reason() == refusal.DigestMismatch {
					blamed++
				}
			}
			require.Greater(t, blamed, len(packed)*9/10)
		})
	}
}

func TestCloseInTheMiddle(t *testing.T) {
	// More than is read ahead, packed or not.
	plain := pack(t, file("disk/disk.img", noise(7<<20)))
	for name, packed := range map[string][]byte{"plain": plain, "gz": gz(t, plain), "zst": zst(t, plain)} {
		t.Run(name, func(t *testing.T) {
			d, err := layer.Find(t.Context(), []layer.Layer{layerOf(packed)}, layer.Options{})
			require.NoError(t, err)
			_, err = d.Read(t.Context(), make([]byte, 1000))
			require.NoError(t, err)
			require.NoError(t, d.Close())
			for e, err := range layer.Merged(t.Context(), []layer.Layer{layerOf(packed)}, layer.Options{}) {
				require.NoError(t, err)
				if e.Content != nil {
					break
				}
			}
		})
	}
}

// stuck gives some bytes and then nothing until the context ends.
type stuck struct {
	in      io.Reader
	waiting chan struct{}
}

func (s *stuck) Read(ctx context.Context, p []byte) (int, error) {
	n, err := s.in.Read(p)
	if err == nil {
		return n, nil
	}
	close(s.waiting)
	<-ctx.Done()
	return 0, errors.New("hung up")
}

func (s *stuck) Close() error { return nil }

func TestCancelled(t *testing.T) {
	plain := pack(t, file("etc/first", noise(3<<19)), file("disk/disk.img", noise(3<<19)), file("etc/last", noise(3<<19)))
	for name, packed := range map[string][]byte{"plain": plain, "gz": gz(t, plain), "zst": zst(t, plain)} {
		for _, part := range []int{0, 1, 2} {
			t.Run(name, func(t *testing.T) {
				s := &stuck{in: bytes.NewReader(packed[:len(packed)*(2*part+1)/6]), waiting: make(chan struct{})}
				l := layerOf(packed)
				l.Open = func(context.Context) (layer.Blob, error) { return s, nil }
				cause := errors.New("enough")
				ctx, cancel := context.WithCancelCause(t.Context())
				go func() {
					<-s.waiting
					cancel(cause)
				}()
				d, err := layer.Find(ctx, []layer.Layer{l}, layer.Options{})
				if err == nil {
					_, err = read(ctx, d)
					require.NoError(t, d.Close())
				}
				require.ErrorIs(t, err, cause)
			})
		}
	}
}

// The end of the context that Find had does not end the disk.
func TestDiskOutlivesTheContextOfFind(t *testing.T) {
	image := disk(6 << 20)
	ctx, cancel := context.WithCancel(t.Context())
	d, err := layer.Find(ctx, packAll(t, [][]item{{file("disk/disk.img", image)}}), layer.Options{})
	require.NoError(t, err)
	cancel()
	data, err := read(t.Context(), d)
	require.NoError(t, err)
	require.True(t, bytes.Equal(image, data))
	require.NoError(t, d.Close())
}

func diskNames() []string {
	return []string{"disk", "disk/a", "disk/b", "disk/a/x", "x", "disk/c", "disk/a", "disk/b"}
}

// requireFound compares with the oracle.
func requireFound(t testing.TB, layers [][]item) {
	t.Helper()
	merged, err := naive(layers)
	if err != nil {
		return
	}
	_, data, err := find(t, packAll(t, layers)...)
	var want, below []*inode
	for name, node := range merged {
		if path.Dir(name) == "disk" {
			below = append(below, node)
			if node.kind == tar.TypeReg {
				want = append(want, node)
			}
		}
	}
	if err == nil {
		require.Len(t, below, 1)
		require.Len(t, want, 1)
		require.Equal(t, want[0].content, string(data))
		return
	}
	var refused interface{ Reason() string }
	require.ErrorAs(t, err, &refused)
	if slices.ContainsFunc(layers, contradictory) {
		return
	}
	switch refused.Reason() {
	case refusal.NoDisk:
		require.Empty(t, below)
	case refusal.SeveralDisks:
		require.Greater(t, len(want), 1)
	case refusal.UnexpectedContent, refusal.UnsafeImage:
		// A hard link is refused wherever it leads.
		linked := func(i item) bool { return i.h.Typeflag == tar.TypeLink }
		require.True(t, len(below) != 1 || len(want) != 1 || slices.ContainsFunc(slices.Concat(layers...), linked))
	default:
		require.Fail(t, "unexpected refusal", "%v", err)
	}
}

// contradictory layers say something and then something else about a name. Any refusal is right.
func contradictory(items []item) bool {
	for n, i := range items {
		for _, other := range items[n+1:] {
			if i.h.Name == other.h.Name && (i.h.Typeflag != tar.TypeDir || other.h.Typeflag != tar.TypeDir) ||
				strings.HasPrefix(i.h.Name, other.h.Name+"/") && other.h.Typeflag != tar.TypeDir {
				return true
			}
		}
	}
	return false
}

func TestFindRandom(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 2))
	for range 1500 {
		data := make([]byte, 3*(1+r.IntN(12)))
		for i := range data {
			data[i] = byte(r.Uint32())
		}
		requireFound(t, possible(layersFrom(data, diskNames())))
	}
}

// FuzzFindLayers compares the disk in small layers with the one in the naive merge of them.
func FuzzFindLayers(f *testing.F) {
	f.Add([]byte{0, 1, 0, 11, 0, 0, 8, 1, 0, 0, 2, 0})
	f.Add([]byte{0, 1, 0, 11, 0, 0, 10, 1, 0, 0, 2, 0})
	f.Fuzz(func(t *testing.T, data []byte) { requireFound(t, possible(layersFrom(data, diskNames()))) })
}

// FuzzFind reads arbitrary bytes as a layer, and as one that promised other bytes.
func FuzzFind(f *testing.F) {
	plain := pack(f, dir("disk"), file("disk/disk.img", disk(700)), file("etc/x", []byte("x")))
	for _, packed := range [][]byte{plain, gz(f, plain), zst(f, plain), nil, []byte("QFI\xfb")} {
		f.Add(packed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		options := layer.Options{MaxUnpacked: 1 << 20}
		d, err := layer.Find(t.Context(), []layer.Layer{layerOf(data)}, options)
		if err == nil {
			err = readSome(t, d)
			require.NoError(t, d.Close())
		}
		if err != nil {
			var refused interface{ Reason() string }
			require.ErrorAs(t, err, &refused)
		}
		for e, err := range layer.Merged(t.Context(), []layer.Layer{layerOf(data)}, options) {
			if err != nil || e.Header.Size > 1<<20 {
				break
			}
		}
		_, _, err = find(t, lying(plain, data))
		if !bytes.Equal(plain, data) {
			require.Error(t, err)
		}
	})
}

// readSome reads a disk, but no endless one.
func readSome(t testing.TB, d *layer.Disk) error {
	t.Helper()
	buffer := make([]byte, 64<<10)
	for range 200 {
		_, err := d.Read(t.Context(), buffer)
		if err == io.EOF { //nolint:errorlint // only the bare one is an end
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}
