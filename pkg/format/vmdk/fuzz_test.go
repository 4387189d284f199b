package vmdk_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/gild-project/gild/pkg/format/vmdk"
)

// seeds are small images of every layout, and those of a folder when the environment names one.
func seeds(f *testing.F) {
	f.Helper()
	disk := threeTables()[2<<20-8192:]
	for _, l := range []layout{{grain: 8, footer: true}, {grain: 8}, {grain: 16, footer: true, directoryKnown: true}} {
		f.Add(build(f, disk, l).data)
	}
	f.Add(fromQemu(f, make([]byte, 1<<20), "subformat=monolithicSparse"))
	names, _ := filepath.Glob(filepath.Join(os.Getenv("GILD_FUZZ_SEEDS"), "*.vmdk"))
	for _, name := range names {
		if b, err := os.ReadFile(name); err == nil && len(b) < 1<<20 {
			f.Add(b)
		}
	}
}

// FuzzPass wants no panic, no write outside the disk or twice, and the same result for all
// sizes of pieces.
func FuzzPass(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, source []byte) {
		h, err := vmdk.ReadHeader(source[:min(len(source), 64<<10)])
		if err != nil || h.VirtualSize > 64<<20 || !h.Stream {
			return
		}
		whole, wholeErr := read(t, source, len(source))
		parts, partsErr := read(t, source, 509)
		if (wholeErr == nil) != (partsErr == nil) || string(whole) != string(parts) {
			t.Fatalf("whole: %v; in parts: %v", wholeErr, partsErr)
		}
	})
}

// FuzzCheck wants no panic and no more data than the disk has.
func FuzzCheck(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, source []byte) {
		data, err := check(t, source)
		if err != nil {
			return
		}
		if h, err := vmdk.ReadHeader(source[:min(len(source), 64<<10)]); err != nil || h.Stream || data > h.VirtualSize {
			t.Fatalf("%d bytes of data, %+v, %v", data, h, err)
		}
	})
}
