package exporter_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/pkg/source"
)

// sparse is what an image with holes offers.
type sparse interface {
	NextData(off int64) int64
}

func readAll(t *testing.T, image source.Image) []byte {
	t.Helper()
	var all bytes.Buffer
	p := make([]byte, mib)
	for {
		n, err := image.Read(t.Context(), p)
		all.Write(p[:n])
		if errors.Is(err, io.EOF) {
			return all.Bytes()
		}
		require.NoError(t, err)
	}
}

func TestReadFile(t *testing.T) {
	dir, content := newDisk(t, 24*mib+1536, run{0, 4096}, run{5 * mib, 3*mib + 17}, run{24*mib + 512, 1024})
	s := serve(t, options(t, dir))
	image := s.image()
	require.True(t, image.Ranged())
	require.Equal(t, int64(len(content)), image.Size())
	etag, _ := image.Validators()
	require.Regexp(t, `^"sha256:1234-[0-9a-f]+"$`, etag)
	require.True(t, bytes.Equal(content, readAll(t, image)))

	part := make([]byte, 3*mib)
	n, err := image.ReadAt(t.Context(), part, 6*mib-1)
	require.NoError(t, err)
	require.True(t, bytes.Equal(content[6*mib-1:][:n], part[:n]))

	// Holes are told by the MiB.
	next := image.(sparse).NextData
	require.Equal(t, int64(0), next(0))
	require.Equal(t, int64(5*mib), next(mib))
	require.Equal(t, int64(9*mib-1), next(9*mib-1))
	require.Equal(t, int64(24*mib), next(9*mib))
	require.Equal(t, int64(24*mib+1535), next(24*mib+1535))
}

func TestReadEmptyDisk(t *testing.T) {
	dir, content := newDisk(t, 64*mib)
	image := serve(t, options(t, dir)).image()
	require.Equal(t, int64(len(content)), image.(sparse).NextData(0), "a disk without data")
}

func TestReadDevice(t *testing.T) {
	needRoot(t)
	dir, content := newDisk(t, 8*mib, run{mib, mib})
	s := serve(t, options(t, loop(t, filepath.Join(dir, "disk.img"))))
	image := s.image()
	require.Equal(t, int64(len(content)), image.Size())
	require.True(t, bytes.Equal(content, readAll(t, image)))
	require.Equal(t, int64(3*mib), image.(sparse).NextData(3*mib), "the kernel does not know where a device has data")
}

// TestDeviceHasAnotherETagInTheNextExporter: nobody knows what was written to a device in between.
func TestDeviceHasAnotherETagInTheNextExporter(t *testing.T) {
	needRoot(t)
	dir, _ := newDisk(t, 8*mib, run{mib, mib})
	o := options(t, loop(t, filepath.Join(dir, "disk.img")))
	first, _ := serve(t, o).image().Validators()
	second, _ := serve(t, o).image().Validators()
	require.NotEqual(t, first, second)
}

func TestFileHasTheSameETagInTheNextExporter(t *testing.T) {
	dir, _ := newDisk(t, 8*mib, run{mib, mib})
	o := options(t, dir)
	first, _ := serve(t, o).image().Validators()
	second, _ := serve(t, o).image().Validators()
	require.Equal(t, first, second)
}

// TestWrittenWhileRead: a reader never gets bytes of two states of the disk.
func TestWrittenWhileRead(t *testing.T) {
	dir, _ := newDisk(t, 8*mib, run{0, 8 * mib})
	s := serve(t, options(t, dir))
	image := s.image()
	f, err := os.OpenFile(filepath.Join(dir, "disk.img"), os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteAt([]byte("a virtual machine"), 7*mib)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	_, err = image.ReadAt(t.Context(), make([]byte, mib), 4*mib)
	var failure *source.Error
	require.ErrorAs(t, err, &failure)
	require.True(t, failure.StartOver(), "%v", err)
}

// TestReplacedWhileServed: a reader keeps the disk that it began with.
func TestReplacedWhileServed(t *testing.T) {
	dir, content := newDisk(t, 2*mib, run{0, 2 * mib})
	s := serve(t, options(t, dir))
	image := s.image()
	require.NoError(t, os.Remove(filepath.Join(dir, "disk.img")))
	write(t, filepath.Join(dir, "disk.img"), []byte("another one"))
	require.True(t, bytes.Equal(content, readAll(t, image)))
}
