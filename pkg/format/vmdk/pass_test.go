package vmdk_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestPassReadsWhatQemuWrites has disks that end within a grain, with it, and within a table.
func TestPassReadsWhatQemuWrites(t *testing.T) {
	disks := map[string][]byte{
		"zero":   make([]byte, 3<<20),
		"full":   bytes.Repeat([]byte("full"), 1<<18),
		"dense":  randomDisk(5<<20, 7),
		"sparse": append(make([]byte, 33<<20), 1),
	}
	for _, size := range []int{512, 1024, 65024, 65536, 66048, 1 << 20, 2<<20 + 512} {
		disks[fmt.Sprint(size)] = randomDisk(size, uint64(size))
	}
	disks["sparse"] = padded(disks["sparse"])
	for name, disk := range disks {
		t.Run(name, func(t *testing.T) {
			source := fromQemu(t, disk, "subformat=streamOptimized")
			for _, size := range []int{1, 17, 4093, 65536, 4 << 20} {
				if size < 4093 && len(source) > 1<<20 {
					continue // minutes, and nothing new
				}
				got, err := read(t, source, size)
				require.NoError(t, err, "pieces of %d", size)
				require.True(t, bytes.Equal(disk, got), "pieces of %d", size)
			}
		})
	}
}

// TestPassReadsGrainsInAnyOrder lets qemu-img write out of order.
func TestPassReadsGrainsInAnyOrder(t *testing.T) {
	disk := randomDisk(10<<20, 3)
	source := fromQemu(t, disk, "subformat=streamOptimized", "-m", "16", "-W")
	got, err := read(t, source, 1<<20)
	require.NoError(t, err)
	require.True(t, bytes.Equal(disk, got))
}

// TestPassReadsEveryLayout compares with qemu-img what it reads of layouts that it does not write.
func TestPassReadsEveryLayout(t *testing.T) {
	disk := append(make([]byte, 5<<20), randomDisk(1<<20+1536, 11)...)
	copy(disk, randomDisk(1<<20, 12)) // with a table that names nothing behind it
	for name, l := range map[string]layout{
		"tables first":                   {},
		"footer":                         {footer: true},
		"footer, last grain full":        {footer: true, fullLast: true},
		"footer, backwards":              {footer: true, reverse: true},
		"footer, small grains":           {footer: true, grain: 8},
		"tables first, small grains":     {grain: 16, reverse: true},
		"directory behind, header knows": {footer: true, directoryKnown: true},
	} {
		t.Run(name, func(t *testing.T) {
			im := build(t, disk, l)
			want, err := byQemu(t, im.data)
			require.NoError(t, err)
			require.True(t, bytes.Equal(disk, want), "the image is wrong")
			for _, size := range []int{4093, 1 << 20} {
				got, err := read(t, im.data, size)
				require.NoError(t, err)
				require.True(t, bytes.Equal(disk, got))
			}
		})
	}
}
