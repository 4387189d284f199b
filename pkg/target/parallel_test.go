package target

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestDeviceFromManyGoroutines writes in random order to devices that are full of old bytes.
func TestDeviceFromManyGoroutines(t *testing.T) {
	needRoot(t)
	for name, kind := range kinds() {
		for _, granule := range []int{512, 4096, 65536} {
			for _, limit := range []int{maxRanges, 5} {
				if limit == 5 && !kind.worn {
					continue
				}
				t.Run(fmt.Sprintf("%s, granule %d, %d ranges", name, granule, limit), func(t *testing.T) {
					device := kind.make(t)
					dirty(t, device, kind.size)
					target, err := Open(device)
					require.NoError(t, err)
					target.covered.limit = limit
					require.NoError(t, target.Prepare(t.Context(), kind.size, int64(granule)))
					require.Equal(t, granule >= block, target.direct)
					disk := sample(t, 5*mib+1536)
					require.NoError(t, scatter(t, target, disk, granule, uint64(granule)))
					require.Equal(t, !kind.worn || limit == 5, target.Zeroed(), "a full set of ranges is zeroed at once")
					require.NoError(t, target.Commit(t.Context(), int64(len(disk))))
					requireDisk(t, device, kind.size, disk)
				})
			}
		}
	}
}

// TestGapsAreWrittenByManyGoroutines is for devices that cannot zero at all.
func TestGapsAreWrittenByManyGoroutines(t *testing.T) {
	needRoot(t)
	for name, kind := range kinds() {
		for _, granule := range []int{512, 4096} {
			t.Run(fmt.Sprintf("%s, granule %d", name, granule), func(t *testing.T) {
				device := kind.make(t)
				target, err := Open(device)
				require.NoError(t, err)
				require.NoError(t, target.Prepare(t.Context(), kind.size, int64(granule)))
				dirty(t, device, kind.size)
				target.zeroed.Store(false)
				target.noZeroRange = true
				disk := sample(t, 5*mib+1536)
				require.NoError(t, scatter(t, target, disk, granule, 7))
				require.NoError(t, target.Commit(t.Context(), int64(len(disk))))
				requireDisk(t, device, kind.size, disk)
			})
		}
	}
}

func TestFileFromManyGoroutines(t *testing.T) {
	for _, granule := range []int{512, 4096, 65536} {
		for _, known := range []bool{true, false} {
			t.Run(fmt.Sprintf("granule %d, size known %v", granule, known), func(t *testing.T) {
				dir := t.TempDir()
				disk := sample(t, 40*mib+1536)
				target, err := Open(dir)
				require.NoError(t, err)
				size := int64(0)
				if known {
					size = int64(len(disk))
				}
				require.NoError(t, target.Prepare(t.Context(), size, int64(granule)))
				require.NoError(t, scatter(t, target, disk, granule, 8))
				require.NoError(t, target.Sync(t.Context()))
				require.NoError(t, target.Commit(t.Context(), int64(len(disk))))
				got, err := os.ReadFile(filepath.Join(dir, DiskName))
				require.NoError(t, err)
				require.True(t, bytes.Equal(disk, got))
			})
		}
	}
}

// TestUnalignedMemoryOfManyGoroutines shares the few aligned buffers.
func TestUnalignedMemoryOfManyGoroutines(t *testing.T) {
	dir := t.TempDir()
	disk := sample(t, 40*mib+1536)
	shifted := append(make([]byte, 1, len(disk)+1), disk...)[1:]
	target := openPrepared(t, dir)
	require.NoError(t, scatter(t, target, shifted, 65536, 9))
	require.Len(t, target.buffers.free, bufferCount, "all buffers are back")
	require.NoError(t, target.Commit(t.Context(), int64(len(disk))))
	got, err := os.ReadFile(filepath.Join(dir, DiskName))
	require.NoError(t, err)
	require.True(t, bytes.Equal(disk, got))
}

// BenchmarkWriteAt writes chunks of 4 MiB from 4 goroutines to a file.
func BenchmarkWriteAt(b *testing.B) {
	for name, granule := range map[string]int64{"direct": 65536, "buffered": 512} {
		b.Run(name, func(b *testing.B) {
			const chunk, chunks, workers = 4 * mib, 64, 4
			data := alignedBuffer(chunk, block)
			for i := range data {
				data[i] = byte(i>>12) | 1
			}
			b.SetBytes(chunk * chunks)
			b.ReportAllocs()
			for b.Loop() {
				target, err := Open(b.TempDir())
				require.NoError(b, err)
				require.NoError(b, target.Prepare(b.Context(), chunk*chunks, granule))
				require.NoError(b, inParallel(workers, chunks, func(n int) error {
					_, err := target.WriteAt(b.Context(), data, int64(n)*chunk)
					return err
				}))
				require.NoError(b, target.Settle(b.Context(), chunk*chunks))
				require.NoError(b, target.Discard())
			}
		})
	}
}
