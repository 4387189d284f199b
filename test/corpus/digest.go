package corpus

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"iter"
	"os"

	"golang.org/x/sys/unix"
)

const (
	mib = 1 << 20
	// hashAll is the largest disk that is hashed with its holes.
	hashAll = 2 << 30
)

// Content is what a disk holds.
type Content struct {
	// Size of the disk in bytes.
	Size int64
	// SHA256 is of the whole disk, empty above 2 GiB.
	SHA256 string
	// Blocks is the SHA-256 of the offset (8 bytes, big endian) and the bytes of each block of
	// 1 MiB that is not all zero: the same for a disk and its sparse copy, and cheap.
	Blocks string
	// Clean tells that all behind the disk's end is zero.
	Clean bool
}

// ContentOf reads the first size bytes of a volume as a disk, and the rest up to end. data says
// which blocks of 1 MiB are read into buffer; the others are zero.
func ContentOf(volume io.ReaderAt, size, end int64, data iter.Seq2[int64, error], buffer []byte) (Content, error) {
	whole, blocks := sha256.New(), sha256.New()
	zeros := make([]byte, mib)
	c := Content{Size: size, Clean: true}
	next := int64(0)
	skipTo := func(off int64) {
		for ; size <= hashAll && next < min(off, size); next += mib {
			_, _ = whole.Write(zeros[:min(mib, size-next)])
		}
	}
	for off, err := range data {
		if err != nil {
			return c, err
		}
		p := buffer[:min(mib, end-off)]
		if _, err := volume.ReadAt(p, off); err != nil && !errors.Is(err, io.EOF) {
			return c, err
		}
		disk := p[:max(min(size-off, int64(len(p))), 0)]
		c.Clean = c.Clean && bytes.Equal(p[len(disk):], zeros[:len(p)-len(disk)])
		if len(disk) == 0 {
			continue
		}
		skipTo(off)
		next = off + mib
		if size <= hashAll {
			_, _ = whole.Write(disk)
		}
		if !bytes.Equal(disk, zeros[:len(disk)]) {
			_, _ = blocks.Write(binary.BigEndian.AppendUint64(nil, uint64(off)))
			_, _ = blocks.Write(disk)
		}
	}
	skipTo(size)
	if size <= hashAll {
		c.SHA256 = hex.EncodeToString(whole.Sum(nil))
	}
	c.Blocks = hex.EncodeToString(blocks.Sum(nil))
	return c, nil
}

// Every yields all blocks of a volume of end bytes.
func Every(end int64) iter.Seq2[int64, error] {
	return func(yield func(int64, error) bool) {
		for off := int64(0); off < end; off += mib {
			if !yield(off, nil) {
				return
			}
		}
	}
}

// WithData yields the blocks of a file of end bytes that are not holes.
func WithData(f *os.File, end int64) iter.Seq2[int64, error] {
	return func(yield func(int64, error) bool) {
		fd := int(f.Fd())
		for off := int64(0); off < end; off += mib {
			data, err := unix.Seek(fd, off, unix.SEEK_DATA)
			if errors.Is(err, unix.ENXIO) {
				return
			}
			if err == nil {
				off = data / mib * mib
			}
			if !yield(off, err) || err != nil {
				return
			}
		}
	}
}
