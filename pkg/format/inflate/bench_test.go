package inflate_test

import (
	"bytes"
	"compress/flate"
	"io"
	"os"
	"testing"

	kflate "github.com/klauspost/compress/flate"
	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/pkg/format/inflate"
)

const clusterSize = 64 << 10

// clusters are the compressed clusters of a program: this test.
func clusters(b *testing.B) [][]byte {
	b.Helper()
	name := os.Getenv("GILD_BENCH_DISK")
	if name == "" {
		var err error
		name, err = os.Executable()
		require.NoError(b, err)
	}
	f, err := os.Open(name)
	require.NoError(b, err)
	defer f.Close()
	var found [][]byte
	cluster := make([]byte, clusterSize)
	for len(found) < 200 {
		if _, err := io.ReadFull(f, cluster); err != nil {
			break
		}
		if bytes.Count(cluster, []byte{0}) < clusterSize {
			found = append(found, deflate(b, cluster, flate.DefaultCompression))
		}
	}
	return found
}

func BenchmarkClusters(b *testing.B) {
	compressed := clusters(b)
	run := func(name string, decode func(dst, src []byte) error) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(clusterSize)
			dst := make([]byte, clusterSize)
			i := 0
			for b.Loop() {
				if err := decode(dst, compressed[i%len(compressed)]); err != nil {
					b.Fatal(err)
				}
				i++
			}
		})
	}
	var d inflate.Decoder
	run("ours", func(dst, src []byte) error {
		_, err := d.Fill(dst, src)
		return err
	})
	stream := func(r io.ReadCloser) func(dst, src []byte) error {
		in := bytes.NewReader(nil)
		return func(dst, src []byte) error {
			in.Reset(src)
			if err := r.(flate.Resetter).Reset(in, nil); err != nil {
				return err
			}
			_, err := io.ReadFull(r, dst)
			return err
		}
	}
	run("klauspost", stream(kflate.NewReader(nil)))
	run("std", stream(flate.NewReader(nil)))
}

func deflate(t testing.TB, data []byte, level int) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := flate.NewWriter(&out, level)
	require.NoError(t, err)
	_, err = w.Write(data)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return out.Bytes()
}
