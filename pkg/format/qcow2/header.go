// Package qcow2 reads qcow2 images strictly: at random, tables first, or forward in one pass.
package qcow2

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/gild-project/gild/pkg/format/refusal"
)

// HeadSize is how much of the start of an image ReadHeader wants to see.
const HeadSize = headerV3 + 8

// Limits of qemu's own reader (block/qcow2.h).
const (
	minClusterBits   = 9
	maxClusterBits   = 21
	maxL1Bytes       = 32 << 20
	maxRefcountTable = 8 << 20
	maxSnapshots     = 65536
	headerV2         = 72
	headerV3         = 104
	minExtL2Bits     = 14
)

// Incompatible features of a version 3 header (docs/interop/qcow2.txt).
const (
	featureDirty       = 1 << 0
	featureCorrupt     = 1 << 1
	featureDataFile    = 1 << 2
	featureCompression = 1 << 3
	featureExtL2       = 1 << 4
)

// directIO is the alignment that writes around the page cache want.
const directIO = 4096

// Header is a header that passed the gate: no reader has to trust anything in it further.
type Header struct {
	// VirtualSize of the disk in bytes, a multiple of 512.
	VirtualSize int64

	version     uint32
	clusterBits uint
	l1Size      int64
	l1Offset    int64
	extL2       bool
	zstd        bool
	length      int64
}

// ReadHeader is the gate before every other reader of a qcow2 image, ours and qemu's. It needs
// the first HeadSize bytes and refuses all that refers to other files, is encrypted, or has
// numbers out of bounds. Tables and extensions are checked by Open and by a Pass.
func ReadHeader(head []byte) (Header, error) {
	if len(head) < headerV2 {
		return Header{}, refusal.New(refusal.TruncatedImage, "the qcow2 image ends within its header")
	}
	if !bytes.HasPrefix(head, []byte("QFI\xfb")) {
		return Header{}, corrupt("it does not begin as one")
	}
	var padded [HeadSize]byte
	have := copy(padded[:], head)
	be32 := func(off int) uint32 { return binary.BigEndian.Uint32(padded[off:]) }
	be64 := func(off int) uint64 { return binary.BigEndian.Uint64(padded[off:]) }

	h := Header{version: be32(4), clusterBits: uint(be32(20)), length: headerV2}
	if h.version != 2 && h.version != 3 {
		return h, corrupt("it has the version %d: only 2 and 3 exist", h.version)
	}
	if h.clusterBits < minClusterBits || h.clusterBits > maxClusterBits {
		return h, corrupt("its clusters have 2^%d bytes", h.clusterBits)
	}
	if be64(8) != 0 || be32(16) != 0 {
		return h, refusal.New(refusal.UnsafeImage, "the qcow2 image has a backing file, which is never opened: flatten it with qemu-img convert")
	}
	if be32(32) != 0 {
		return h, refusal.New(refusal.UnsafeImage, "the qcow2 image is encrypted: decrypt it with qemu-img convert")
	}
	if h.version == 3 {
		if have < headerV3 {
			return h, refusal.New(refusal.TruncatedImage, "the qcow2 image ends within its header")
		}
		if err := h.readVersion3(padded[:have]); err != nil {
			return h, err
		}
	}
	return h, h.readTables(be64(24), be32(36), be64(40), be64(48), be32(56), be32(60), be64(64))
}

func (h *Header) readVersion3(b []byte) error {
	features := binary.BigEndian.Uint64(b[72:])
	order := binary.BigEndian.Uint32(b[96:])
	h.length = int64(binary.BigEndian.Uint32(b[100:]))
	h.extL2 = features&featureExtL2 != 0
	if int64(len(b)) < min(h.length, HeadSize) {
		return refusal.New(refusal.TruncatedImage, "the qcow2 image ends within its header")
	}
	compression := byte(0)
	if h.length > headerV3 {
		compression = b[headerV3]
	}
	h.zstd = compression == 1
	switch {
	case features&featureDataFile != 0:
		return refusal.New(refusal.UnsafeImage, "the qcow2 image keeps its data in another file, which is never opened: flatten it with qemu-img convert")
	case features&featureCorrupt != 0:
		return corrupt("it is marked as corrupt: repair it with qemu-img check -r all")
	case features&^(featureDirty|featureCompression|featureExtL2) != 0:
		return refusal.New(refusal.UnsupportedFormat, fmt.Sprintf("the qcow2 image needs unknown features (%#x)", features))
	case h.length < headerV3 || h.length > h.cluster():
		return corrupt("its header has %d bytes", h.length)
	case order > 6:
		return corrupt("its reference counts have 2^%d bits", order)
	case compression > 1:
		return refusal.New(refusal.UnsupportedFormat, fmt.Sprintf("the qcow2 image uses the unknown compression %d", compression))
	case (features&featureCompression != 0) != (compression != 0):
		return corrupt("its header contradicts itself about compression")
	case h.extL2 && h.clusterBits < minExtL2Bits:
		return corrupt("it has subclusters in clusters of 2^%d bytes", h.clusterBits)
	}
	return nil
}

func (h *Header) readTables(size uint64, l1Size uint32, l1Offset, refOffset uint64, refClusters, snapshots uint32, snapshotOffset uint64) error {
	const maxOffset = 1 << 62
	mask := uint64(1)<<h.clusterBits - 1
	switch {
	case size == 0:
		return refusal.New(refusal.EmptySource, "the qcow2 image holds a disk of 0 bytes")
	case size >= maxOffset || size%512 != 0:
		return corrupt("its disk has %d bytes, which no disk can have", size)
	case uint64(l1Size)*8 > maxL1Bytes:
		return corrupt("its first table has %d entries", l1Size)
	case l1Offset&mask != 0 || l1Offset == 0 || l1Offset >= maxOffset:
		return corrupt("its first table is at %#x", l1Offset)
	case refOffset&mask != 0 || refOffset == 0 || refOffset >= maxOffset:
		return corrupt("its reference counts are at %#x", refOffset)
	case refClusters == 0 || uint64(refClusters)<<h.clusterBits > maxRefcountTable:
		return corrupt("its table of reference counts has %d clusters", refClusters)
	case snapshots > maxSnapshots:
		return corrupt("it has %d snapshots", snapshots)
	case snapshots > 0 && (snapshotOffset&mask != 0 || snapshotOffset == 0 || snapshotOffset >= maxOffset):
		return corrupt("its snapshots are at %#x", snapshotOffset)
	}
	h.VirtualSize, h.l1Size, h.l1Offset = int64(size), int64(l1Size), int64(l1Offset)
	if h.l1Needed() > h.l1Size {
		return corrupt("its first table has %d entries and its disk needs %d", l1Size, h.l1Needed())
	}
	return nil
}

// Granule is what the offset and the length of every write are a multiple of, in bytes; only
// the write that ends with the disk may be shorter.
func (h *Header) Granule() int64 {
	if h.extL2 {
		return max(h.subcluster(), directIO)
	}
	return h.cluster()
}

// fits refuses a disk that is larger than what the caller takes.
func (h *Header) fits(maxVirtualSize int64) error {
	if h.VirtualSize > maxVirtualSize {
		return refusal.New(refusal.UnsupportedFormat, fmt.Sprintf("the disk has %d bytes, more than the %d that are taken", h.VirtualSize, maxVirtualSize))
	}
	return nil
}

func (h *Header) cluster() int64 { return 1 << h.clusterBits }

func (h *Header) subcluster() int64 { return h.cluster() / subclusters }

// l2Entries is how many clusters one second-level table describes.
func (h *Header) l2Entries() int64 { return h.cluster() / h.l2EntrySize() }

func (h *Header) l2EntrySize() int64 {
	if h.extL2 {
		return 16
	}
	return 8
}

// l1Needed is how many second-level tables the disk has.
func (h *Header) l1Needed() int64 {
	covered := h.cluster() * h.l2Entries()
	return (h.VirtualSize-1)/covered + 1
}

func corrupt(format string, args ...any) error {
	return refusal.New(refusal.CorruptImage, "the qcow2 image is corrupt: "+fmt.Sprintf(format, args...))
}
