package format

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/gild-project/gild/pkg/format/refusal"
)

// Limits of qemu's own reader (block/qcow2.h).
const (
	minClusterBits    = 9
	maxClusterBits    = 21
	maxL1Bytes        = 32 << 20
	maxRefcountTable  = 8 << 20
	maxSnapshots      = 65536
	qcow2HeaderV2     = 72
	qcow2HeaderV3     = 104
	minExtL2Bits      = 14
	qcow2HeaderMinLen = qcow2HeaderV3 + 8
)

// Incompatible features of a version 3 header (docs/interop/qcow2.txt).
const (
	featureDirty       = 1 << 0
	featureCorrupt     = 1 << 1
	featureDataFile    = 1 << 2
	featureCompression = 1 << 3
	featureExtL2       = 1 << 4
)

// Header extensions that change where data comes from.
const (
	extensionEnd      = 0
	extensionDataFile = 0x44415441
	extensionCrypto   = 0x0537be77
)

// Qcow2Header is a header that passed the gate: no reader has to trust anything in it further.
type Qcow2Header struct {
	// VirtualSize of the disk in bytes, a multiple of 512.
	VirtualSize int64

	version     uint32
	clusterBits uint
	l1Size      int64
	l1Offset    int64
	extL2       bool
	length      int64
}

// ReadQcow2Header is the gate before every other reader of a qcow2 image, ours and qemu's.
// It needs the first 112 bytes and refuses all that refers to other files, is encrypted, or
// has numbers out of bounds. Tables and extensions are checked by CheckQcow2.
func ReadQcow2Header(head []byte) (Qcow2Header, error) {
	if len(head) < qcow2HeaderV2 {
		return Qcow2Header{}, refusal.New(refusal.TruncatedImage, "the qcow2 image ends within its header")
	}
	var padded [qcow2HeaderMinLen]byte
	have := copy(padded[:], head)
	be32 := func(off int) uint32 { return binary.BigEndian.Uint32(padded[off:]) }
	be64 := func(off int) uint64 { return binary.BigEndian.Uint64(padded[off:]) }

	h := Qcow2Header{version: be32(4), clusterBits: uint(be32(20)), length: qcow2HeaderV2}
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
		if have < qcow2HeaderV3 {
			return h, refusal.New(refusal.TruncatedImage, "the qcow2 image ends within its header")
		}
		if err := h.readVersion3(padded[:have]); err != nil {
			return h, err
		}
	}
	return h, h.readTables(be64(24), be32(36), be64(40), be64(48), be32(56), be32(60), be64(64))
}

func (h *Qcow2Header) readVersion3(b []byte) error {
	features := binary.BigEndian.Uint64(b[72:])
	order := binary.BigEndian.Uint32(b[96:])
	h.length = int64(binary.BigEndian.Uint32(b[100:]))
	h.extL2 = features&featureExtL2 != 0
	if int64(len(b)) < min(h.length, qcow2HeaderMinLen) {
		return refusal.New(refusal.TruncatedImage, "the qcow2 image ends within its header")
	}
	compression := byte(0)
	if h.length > qcow2HeaderV3 {
		compression = b[qcow2HeaderV3]
	}
	switch {
	case features&featureDataFile != 0:
		return refusal.New(refusal.UnsafeImage, "the qcow2 image keeps its data in another file, which is never opened: flatten it with qemu-img convert")
	case features&featureCorrupt != 0:
		return corrupt("it is marked as corrupt: repair it with qemu-img check -r all")
	case features&^(featureDirty|featureCompression|featureExtL2) != 0:
		return refusal.New(refusal.UnsupportedFormat, fmt.Sprintf("the qcow2 image needs unknown features (%#x)", features))
	case h.length < qcow2HeaderV3 || h.length > h.cluster():
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

func (h *Qcow2Header) readTables(size uint64, l1Size uint32, l1Offset, refOffset uint64, refClusters, snapshots uint32, snapshotOffset uint64) error {
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

// readExtensions checks the extensions, which fill the first cluster.
func (h *Qcow2Header) readExtensions(image io.ReaderAt) error {
	for off := h.length; off+8 <= h.cluster(); {
		var ext [8]byte
		if err := readFull(image, ext[:], off); err != nil {
			return err
		}
		kind, length := binary.BigEndian.Uint32(ext[:]), int64(binary.BigEndian.Uint32(ext[4:]))
		off += 8
		switch {
		case kind == extensionEnd:
			return nil
		case kind == extensionDataFile:
			return refusal.New(refusal.UnsafeImage, "the qcow2 image names another file for its data, which is never opened: flatten it with qemu-img convert")
		case kind == extensionCrypto:
			return refusal.New(refusal.UnsafeImage, "the qcow2 image is encrypted: decrypt it with qemu-img convert")
		case length > h.cluster()-off:
			return corrupt("an extension of its header has %d bytes", length)
		}
		off += (length + 7) &^ 7
	}
	return nil
}

func (h *Qcow2Header) cluster() int64 { return 1 << h.clusterBits }

// l2Entries is how many clusters one second-level table describes.
func (h *Qcow2Header) l2Entries() int64 { return h.cluster() / h.l2EntrySize() }

func (h *Qcow2Header) l2EntrySize() int64 {
	if h.extL2 {
		return 16
	}
	return 8
}

// l1Needed is how many second-level tables the disk has.
func (h *Qcow2Header) l1Needed() int64 {
	covered := h.cluster() * h.l2Entries()
	return (h.VirtualSize-1)/covered + 1
}

func corrupt(format string, args ...any) error {
	return refusal.New(refusal.CorruptImage, "the qcow2 image is corrupt: "+fmt.Sprintf(format, args...))
}
