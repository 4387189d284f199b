package vmdk_test

import (
	"context"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/pkg/format/vmdk"
)

// hole is a sink that forgets.
type hole struct{}

func (hole) WriteAt(_ context.Context, p []byte, _ int64) (int, error) { return len(p), nil }

func BenchmarkPass(b *testing.B) {
	disk := randomDisk(64<<20, 1)
	source := fromQemu(b, disk, "subformat=streamOptimized")
	for name, workers := range map[string]int{"one": 1, "all": runtime.GOMAXPROCS(0)} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(disk)))
			b.ReportAllocs()
			for b.Loop() {
				p, err := vmdk.NewPass(source[:64<<10], plenty, workers, hole{})
				require.NoError(b, err)
				for off := 0; off < len(source); off += 256 << 10 {
					require.NoError(b, p.Write(b.Context(), source[off:min(len(source), off+256<<10)]))
				}
				_, err = p.End(b.Context())
				require.NoError(b, err)
				p.Close()
			}
		})
	}
}
