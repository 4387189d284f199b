// Package disk makes disks whose every byte follows from a seed, so that a test
// knows what must arrive without keeping a copy.
package disk

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
)

// blockSize is the grain of data and holes: no smaller than a qcow2 cluster, so
// that holes stay holes in every format.
const blockSize = 64 << 10

// holeEvery is the distance of holes in blocks: every fourth block reads as zero. The second of
// them can be compressed to half its size; the others cannot be compressed at all.
const holeEvery = 4

// Disk is a disk of Size bytes that follows from Seed. It begins with the signature
// of a partitioned disk, or of an ISO 9660 image when ISO is set; of four blocks of
// 64 KiB one is a hole and one can be compressed. It is safe for concurrent use.
type Disk struct {
	Seed uint64 `json:"seed"`
	Size int64  `json:"size"`
	ISO  bool   `json:"iso,omitempty"`
	// Blank has nothing but zeros on it.
	Blank bool `json:"blank,omitempty"`
}

var _ io.ReaderAt = Disk{}

// ReadAt reads the disk's bytes at off, as io.ReaderAt.
func (d Disk) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("reading a disk at %d: offset is negative", off)
	}
	if off >= d.Size {
		return 0, io.EOF
	}
	whole := len(p)
	p = p[:min(int64(whole), d.Size-off)]
	block := make([]byte, blockSize)
	for n := 0; n < len(p); {
		at := off + int64(n)
		d.fill(block, at/blockSize)
		n += copy(p[n:], block[at%blockSize:])
	}
	if len(p) < whole {
		return len(p), io.EOF
	}
	return len(p), nil
}

// NewReader reads the whole disk from its start.
func (d Disk) NewReader() *io.SectionReader {
	return io.NewSectionReader(d, 0, d.Size)
}

// SHA256 returns the digest of the whole disk in hexadecimal.
func (d Disk) SHA256() (string, error) {
	return d.SHA256Grown(d.Size)
}

// SHA256Grown returns the digest in hexadecimal of the disk followed by zeros up to size.
func (d Disk) SHA256Grown(size int64) (string, error) {
	hash := sha256.New()
	if _, err := io.Copy(hash, d.NewReader()); err != nil {
		return "", fmt.Errorf("hashing the disk: %w", err)
	}
	zeros := make([]byte, blockSize)
	for left := size - d.Size; left > 0; left -= int64(len(zeros)) {
		zeros = zeros[:min(int64(len(zeros)), left)]
		hash.Write(zeros)
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

// fill writes block number index of the disk into block.
func (d Disk) fill(block []byte, index int64) {
	if d.Blank {
		clear(block)
		return
	}
	if index%holeEvery == holeEvery-1 {
		clear(block)
	} else {
		var key [32]byte
		binary.LittleEndian.PutUint64(key[0:], d.Seed)
		binary.LittleEndian.PutUint64(key[8:], uint64(index))
		// ChaCha8.Read never fails.
		_, _ = rand.NewChaCha8(key).Read(block)
	}
	if index%holeEvery == 1 {
		for i := range block {
			block[i] &= 0x0f
		}
	}
	if index == 0 {
		d.sign(block)
	}
}

// sign puts the marks into the first block that tell programs what this is. Its
// first sector has no random bytes, lest they look like another format's magic.
func (d Disk) sign(block []byte) {
	clear(block[:512])
	if !d.ISO {
		block[510], block[511] = 0x55, 0xaa
		return
	}
	const sector = 2048
	clear(block[:18*sector])
	descriptor := func(at int, kind byte) {
		block[at] = kind
		copy(block[at+1:], "CD001\x01")
	}
	primary, end := 16*sector, 17*sector
	descriptor(primary, 1)
	copy(block[primary+8:], bytes.Repeat([]byte{' '}, 64))
	copy(block[primary+40:], "GILD")
	blocks := uint32(d.Size / sector)
	binary.LittleEndian.PutUint32(block[primary+80:], blocks)
	binary.BigEndian.PutUint32(block[primary+84:], blocks)
	binary.LittleEndian.PutUint16(block[primary+128:], sector)
	binary.BigEndian.PutUint16(block[primary+130:], sector)
	descriptor(end, 255)
}
