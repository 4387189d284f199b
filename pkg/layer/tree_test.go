package layer

import (
	"archive/tar"
	"fmt"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

// What a tree says it takes is what it takes, or a bit more.
func TestTreeMemory(t *testing.T) {
	for name, at := range map[string]func(i int) *tar.Header{
		"files": func(i int) *tar.Header {
			return &tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("usr/share/%03d/file-%d", i/1000, i)}
		},
		"few in each": func(i int) *tar.Header {
			return &tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("usr/share/%d/file-%d", i/3, i)}
		},
		"implied": func(i int) *tar.Header {
			return &tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("usr/%d/%d/%d/f", i%10, i%1000, i)}
		},
		"directories": func(i int) *tar.Header {
			return &tar.Header{Typeflag: tar.TypeDir, Name: fmt.Sprintf("usr/share/%d", i)}
		},
		"attributes": func(i int) *tar.Header {
			return &tar.Header{Typeflag: tar.TypeDir, Name: fmt.Sprintf("usr/share/%d", i), PAXRecords: map[string]string{"SCHILY.xattr.user.name": fmt.Sprintf("value-%d", i)}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			before := heap()
			tree := newTree()
			for i := range 20_000 {
				h := at(i)
				require.NoError(t, tree.apply(0, &entry{Header: h, name: h.Name, number: i}))
			}
			taken := heap() - before
			t.Logf("%d bytes a name, counted are %d", taken/20_000, tree.used/20_000)
			require.LessOrEqual(t, taken, int64(tree.used)+1<<20)
			require.Greater(t, taken, int64(tree.used/4))
			runtime.KeepAlive(tree)
		})
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestCompression(t *testing.T) {
	for head, want := range map[string]string{
		"": "",
		"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03": "gz",
		"\x1f\x8b\x07\x00\x00\x00\x00\x00\x00\x03": "",
		"\x28\xb5\x2f\xfd":                         "zst",
		"\x28\xb5\x2f":                             "",
		"\x50\x2a\x4d\x18":                         "zst",
		"\x5f\x2a\x4d\x18":                         "zst",
		"\x60\x2a\x4d\x18":                         "",
		"\xfd7zXZ\x00\x00\x04\xe6\xd6":             "xz",
		"BZh9.txt\x00\x00":                         "",
		"BZh9\x31\x41\x59\x26\x53\x59":             "bz2",
		"BZh1\x17\x72\x45\x38\x50\x90":             "bz2",
		"disk/disk.":                               "",
	} {
		require.Equal(t, want, compression([]byte(head)), "%q", head)
	}
}
