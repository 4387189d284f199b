package disk_test

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/test/imageserver/disk"
)

func TestDiskReadsTheSameFromEveryOffset(t *testing.T) {
	for name, d := range map[string]disk.Disk{
		"raw":        {Seed: 1, Size: 300_001},
		"iso":        {Seed: 2, Size: 1 << 20, ISO: true},
		"one sector": {Seed: 3, Size: 512},
	} {
		t.Run(name, func(t *testing.T) {
			content, err := io.ReadAll(d.NewReader())
			require.NoError(t, err)
			require.Len(t, content, int(d.Size))
			for off := int64(0); off < d.Size; off += 65_521 {
				for _, n := range []int64{1, 511, 4096, 65_537, 200_000} {
					got := make([]byte, n)
					read, err := d.ReadAt(got, off)
					want := content[off:min(off+n, d.Size)]
					require.Equal(t, len(want), read)
					require.True(t, bytes.Equal(want, got[:read]), "offset %d, length %d", off, n)
					if read < int(n) {
						require.ErrorIs(t, err, io.EOF)
					} else {
						require.NoError(t, err)
					}
				}
			}
			_, err = d.ReadAt(make([]byte, 1), d.Size)
			require.ErrorIs(t, err, io.EOF)
			_, err = d.ReadAt(make([]byte, 1), -1)
			require.ErrorContains(t, err, "negative")
		})
	}
}

func TestDiskFollowsFromItsSeed(t *testing.T) {
	first, err := disk.Disk{Seed: 1, Size: 1 << 20}.SHA256()
	require.NoError(t, err)
	again, err := disk.Disk{Seed: 1, Size: 1 << 20}.SHA256()
	require.NoError(t, err)
	other, err := disk.Disk{Seed: 2, Size: 1 << 20}.SHA256()
	require.NoError(t, err)
	require.Equal(t, first, again)
	require.NotEqual(t, first, other)
}

func TestDiskHasDataHolesAndASignature(t *testing.T) {
	content, err := io.ReadAll(disk.Disk{Seed: 1, Size: 1 << 20}.NewReader())
	require.NoError(t, err)
	require.Equal(t, []byte{0x55, 0xaa}, content[510:512])
	hole := make([]byte, 64<<10)
	require.Equal(t, 4, bytes.Count(content, hole))
	require.NotContains(t, string(content[64<<10:192<<10]), string(hole[:512]))
	packed := func(data []byte) int {
		var stream bytes.Buffer
		writer := gzip.NewWriter(&stream)
		_, err := writer.Write(data)
		require.NoError(t, err)
		require.NoError(t, writer.Close())
		return stream.Len()
	}
	require.Less(t, packed(content[64<<10:128<<10]), 40<<10, "what cannot be compressed makes no compressed cluster")
	require.GreaterOrEqual(t, packed(content[128<<10:192<<10]), 64<<10)

	iso, err := io.ReadAll(disk.Disk{Seed: 1, Size: 1 << 20, ISO: true}.NewReader())
	require.NoError(t, err)
	require.Equal(t, "CD001", string(iso[0x8001:0x8006]))
}

func TestBlankDiskIsAllZeros(t *testing.T) {
	content, err := io.ReadAll(disk.Disk{Size: 300_001, Blank: true}.NewReader())
	require.NoError(t, err)
	require.Equal(t, make([]byte, 300_001), content)
}

func TestSHA256GrownCountsTheZerosBehind(t *testing.T) {
	d := disk.Disk{Seed: 1, Size: 100_000}
	content, err := io.ReadAll(d.NewReader())
	require.NoError(t, err)
	want := sha256.Sum256(append(content, make([]byte, 200_000)...))
	got, err := d.SHA256Grown(300_000)
	require.NoError(t, err)
	require.Equal(t, hex.EncodeToString(want[:]), got)
}
