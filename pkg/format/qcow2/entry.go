package qcow2

import (
	"cmp"
	"encoding/binary"
	"math"
	"math/bits"
	"slices"
)

// Bits of table entries (docs/interop/qcow2.txt).
const (
	offsetMask      = 0x00fffffffffffe00
	l1Reserved      = 0x7f000000000001ff
	entryCompressed = 1 << 62
	entryLength     = entryCompressed - 1
	entryZero       = 1 << 0
	entryReserved   = 0x3f000000000001fe
	subclusters     = 32
)

// entryBytes is what an entry takes in memory.
const entryBytes = 16

// entry is one cluster of the disk that has data, in 16 bytes. where is the word of the table
// for a compressed cluster; for a plain one it is the offset, and its low 8 bits are the low
// bits of the mask of subclusters. guest is the number of the cluster (40 bits, as the first
// table has at most 2^22 entries and the second 2^18), above the other 24 bits of that mask.
type entry struct {
	where, guest uint64
}

const (
	maskLow  = 8
	maskHigh = subclusters - maskLow
	allSubs  = math.MaxUint32
)

func (e entry) compressed() bool { return e.where&entryCompressed != 0 }

// cluster is the number of the cluster on the disk.
func (e entry) cluster() int64 { return int64(e.guest >> maskHigh) }

// mask has a bit for each subcluster with data.
func (e entry) mask() uint32 {
	return uint32(e.where&(1<<maskLow-1)) | uint32(e.guest&(1<<maskHigh-1))<<maskLow
}

// readEntry checks one entry of a second-level table. ok tells whether it has data.
func (h *Header) readEntry(cluster int64, table []byte) (e entry, ok bool, err error) {
	word := binary.BigEndian.Uint64(table)
	guest := cluster * h.cluster()
	var bitmap uint64
	if h.extL2 {
		bitmap = binary.BigEndian.Uint64(table[8:])
	}
	if word&entryCompressed != 0 {
		e = entry{where: word &^ (1 << 63), guest: uint64(cluster) << maskHigh} //nolint:gosec // a cluster number is not negative
		if off, _ := h.span(e); bitmap != 0 || off == 0 {
			return e, false, corrupt("the compressed cluster for byte %d of the disk contradicts itself", guest)
		}
		return e, true, nil
	}
	off := word & offsetMask
	zero := word&entryZero != 0
	switch {
	case word&entryReserved != 0:
		return e, false, corrupt("the entry for byte %d of the disk has reserved bits set", guest)
	case int64(off)%h.cluster() != 0:
		return e, false, corrupt("the data for byte %d of the disk is at %#x, between clusters", guest, off)
	case zero && (h.version < 3 || h.extL2):
		return e, false, corrupt("the entry for byte %d of the disk has a flag that its version does not know", guest)
	}
	mask := uint64(allSubs)
	if h.extL2 {
		mask = bitmap & allSubs
		if mask&(bitmap>>subclusters) != 0 || off == 0 && mask != 0 {
			return e, false, corrupt("the subclusters for byte %d of the disk contradict themselves", guest)
		}
		mask &= h.visibleMask(cluster)
	}
	e = entry{where: off | mask&(1<<maskLow-1), guest: uint64(cluster)<<maskHigh | mask>>maskLow} //nolint:gosec // a cluster number is not negative
	return e, !zero && off != 0 && mask != 0, nil
}

// visible is how many bytes of a cluster the disk has.
func (h *Header) visible(cluster int64) int64 {
	return min(h.cluster(), h.VirtualSize-cluster*h.cluster())
}

// visibleMask has a bit for each subcluster that the disk has.
func (h *Header) visibleMask(cluster int64) uint64 {
	return 1<<((h.visible(cluster)-1)/h.subcluster()+1) - 1
}

// span is the part of the file that an entry needs.
func (h *Header) span(e entry) (off, length int64) {
	if e.compressed() {
		// A byte offset, and a number of sectors after the one that it is in.
		shift := 62 - (h.clusterBits - 8)
		off = int64(e.where & (1<<shift - 1))              //nolint:gosec // at most 61 bits
		sectors := int64((e.where & entryLength) >> shift) //nolint:gosec // at most 13 bits
		return off, (sectors+1)*512 - off%512
	}
	// Only the bytes that the guest can see must be there.
	end := int64(bits.Len32(e.mask())) * h.cluster() / subclusters
	return int64(e.where & offsetMask), min(end, h.visible(e.cluster()))
}

// data is how much of the disk an entry has data for, in bytes.
func (h *Header) data(e entry) int64 {
	if e.compressed() {
		return h.visible(e.cluster())
	}
	_, length := h.span(e)
	return length
}

// sortByFile orders entries as their data lies in the file.
func (h *Header) sortByFile(entries []entry) {
	slices.SortFunc(entries, func(a, b entry) int {
		aOff, _ := h.span(a)
		bOff, _ := h.span(b)
		return cmp.Or(cmp.Compare(aOff, bOff), cmp.Compare(a.guest, b.guest))
	})
}

// readL1Entry returns where the second-level table is, 0 if there is none.
func (h *Header) readL1Entry(index int64, word uint64) (int64, error) {
	off := int64(word & offsetMask)
	switch {
	case word&l1Reserved != 0:
		return 0, corrupt("entry %d of its first table has reserved bits set", index)
	case off%h.cluster() != 0:
		return 0, corrupt("entry %d of its first table points to %#x, between clusters", index, off)
	}
	return off, nil
}

// readL2 hands the entries with data of the second-level table number index to add.
func (h *Header) readL2(index int64, table []byte, add func(entry) error) error {
	first := index * h.l2Entries()
	for i := range min(h.l2Entries(), (h.VirtualSize-1)/h.cluster()+1-first) {
		e, ok, err := h.readEntry(first+i, table[i*h.l2EntrySize():])
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		if err := add(e); err != nil {
			return err
		}
	}
	return nil
}

// inside refuses what does not lie within a file of size bytes.
func inside(what string, off, length, size int64) error {
	if off > size || length > size-off {
		return truncated(what, off, length, size)
	}
	return nil
}

func errShared(off int64) error {
	return corrupt("its second-level table at %#x is used more than once", off)
}
