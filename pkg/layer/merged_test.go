package layer_test

import (
	"archive/tar"
	"io"
	"math/rand/v2"
	"path"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/pkg/layer"
)

// smallNames are few enough that layers meet.
func smallNames() []string {
	return []string{"a", "b", "c", "a/a", "a/b", "a/c", "b/a", "b/b", "a/a/a", "a/a/b", "b/a/a", "a/b/c"}
}

func packAll(t testing.TB, layers [][]item) []layer.Layer {
	t.Helper()
	var out []layer.Layer
	for _, items := range layers {
		out = append(out, layerOf(pack(t, items...)))
	}
	return out
}

// merge collects all entries and checks their order.
func merge(t testing.TB, layers []layer.Layer) (map[string]*inode, error) {
	t.Helper()
	got := map[string]*inode{}
	stage := 0
	for e, err := range layer.Merged(t.Context(), layers, layer.Options{}) {
		if err != nil {
			return nil, err
		}
		name := e.Header.Name
		require.NotContains(t, got, name, "comes twice")
		require.NotContains(t, path.Base(name), ".wh.")
		require.Equal(t, path.Clean(name), name)
		if up := path.Dir(name); up != "." {
			require.Contains(t, got, up, "comes before its directory")
			require.Equal(t, byte(tar.TypeDir), got[up].kind)
		}
		now := 1
		switch e.Header.Typeflag {
		case tar.TypeDir:
			now = 0
		case tar.TypeLink:
			now = 2
		}
		require.GreaterOrEqual(t, now, stage, name)
		stage = now
		if e.Header.Typeflag == tar.TypeLink {
			require.Contains(t, got, e.Header.Linkname, "comes before its file")
			got[name] = got[e.Header.Linkname]
			continue
		}
		node := &inode{kind: e.Header.Typeflag, mode: e.Header.Mode, link: e.Header.Linkname}
		require.Equal(t, e.Header.Typeflag == tar.TypeReg, e.Content != nil)
		if e.Content != nil {
			data, err := io.ReadAll(e.Content)
			require.NoError(t, err)
			require.Len(t, data, int(e.Header.Size))
			node.content = string(data)
		}
		got[name] = node
	}
	return got, nil
}

// requireMerged compares with the oracle, also which names are one file.
func requireMerged(t testing.TB, layers [][]item) {
	t.Helper()
	want, wantErr := naive(layers)
	got, err := merge(t, packAll(t, layers))
	if wantErr != nil {
		require.Error(t, err, "%v", wantErr)
		return
	}
	require.NoError(t, err)
	require.Equal(t, want, got)
	same := map[*inode]*inode{}
	for name, node := range want {
		if same[node] == nil {
			same[node] = got[name]
		}
		require.Same(t, same[node], got[name], name)
	}
	of := map[*inode]bool{}
	for _, node := range same {
		require.False(t, of[node], "two files became one")
		of[node] = true
	}
}

func TestMergedRandom(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 2))
	for range 1500 {
		data := make([]byte, 3*(1+r.IntN(30)))
		for i := range data {
			data[i] = byte(r.Uint32())
		}
		layers := layersFrom(data, smallNames())
		requireMerged(t, layers)
		requireMerged(t, possible(layers))
	}
}

// FuzzMerged compares small layers with the naive way to lay them on each other.
func FuzzMerged(f *testing.F) {
	f.Add([]byte{0, 0, 0, 6, 1, 0, 11, 0, 0, 8, 0, 0})
	f.Add([]byte{3, 0, 0, 0, 3, 0, 11, 0, 0, 10, 3, 0, 0, 4, 0, 11, 0, 0, 5, 0, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		layers := layersFrom(data, smallNames())
		requireMerged(t, layers)
		requireMerged(t, possible(layers))
	})
}
