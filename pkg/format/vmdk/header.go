// Package vmdk reads VMDK images that hold a whole disk in one file: it checks their headers and
// tables, and turns a streamOptimized image into a disk while it is coming in.
//
// The format is that of VMware's "Virtual Disk Format 5.0", hosted sparse extents. Which of its
// freedoms are taken is decided by what qemu-img reads and by what is written in practice.
package vmdk

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/gild-project/gild/pkg/format/refusal"
)

const (
	sector = 512
	// entries is how many grains a grain table describes. No other number is in use.
	entries    = 512
	tableBytes = entries * 4

	minGrain = 8   // sectors
	maxGrain = 128 // sectors

	// maxTables bounds what is kept in memory: a disk of 64 TiB with usual grains, the most that
	// VMware makes. qemu-img stops at 16 times as many.
	maxTables = 1 << 21

	maxSectors = 1 << 32 // table entries have 32 bits
	atEnd      = math.MaxUint64
)

// Flags of a header.
const (
	flagNewlines   = 1 << 0
	flagRedundant  = 1 << 1
	flagZeroGrains = 1 << 2
	flagCompressed = 1 << 16
	flagMarkers    = 1 << 17
	flagsKnown     = flagNewlines | flagRedundant | flagZeroGrains | flagCompressed | flagMarkers
)

// Header is a header that passed the gate: no reader has to trust anything in it further.
type Header struct {
	// VirtualSize of the disk in bytes, a multiple of 512.
	VirtualSize int64
	// Stream tells a streamOptimized image, which NewPass reads. Others are for Check and qemu-img.
	Stream bool

	fields fields
	// grain is the size of a grain in bytes, grains and tables are how many the disk has.
	grain, grains, tables int64
}

// Granule is what offset and length of every write of a Pass are multiples of, in bytes, but for
// the last write, which ends with the disk. It is a power of two from 4096 to 65536.
func (h *Header) Granule() int64 { return h.grain }

// tablesFirst tells that directory and tables come before the grains, as qemu-img writes them.
func (h *Header) tablesFirst() bool { return h.fields.directory < h.fields.overhead }

// fields of the first sector. Sizes and offsets are in sectors.
type fields struct {
	version, flags  uint32
	capacity, grain uint64
	descriptor      uint64
	descriptorSize  uint64
	entries         uint32
	directory       uint64
	overhead        uint64
	newlines        uint32
	compression     uint16
}

func readFields(b []byte) fields {
	le := binary.LittleEndian
	return fields{
		version: le.Uint32(b[4:]), flags: le.Uint32(b[8:]),
		capacity: le.Uint64(b[12:]), grain: le.Uint64(b[20:]),
		descriptor: le.Uint64(b[28:]), descriptorSize: le.Uint64(b[36:]),
		entries:   le.Uint32(b[44:]),
		directory: le.Uint64(b[56:]), overhead: le.Uint64(b[64:]),
		newlines: le.Uint32(b[73:]), compression: le.Uint16(b[77:]),
	}
}

// ReadHeader is the gate before every other reader of a VMDK image, ours and qemu's. head is the
// start of the image: 64 KiB, or all of it. What refers to other files, or has numbers out of
// bounds, is refused. Tables are checked by Check, or while a Pass reads them.
func ReadHeader(head []byte) (Header, error) {
	switch {
	case bytes.HasPrefix(head, []byte("COWD")):
		return Header{}, refusal.New(refusal.UnsupportedFormat, "the vmdk image is of the old kind COWD, which needs a descriptor beside it: convert it to one file with qemu-img convert")
	case !bytes.HasPrefix(head, []byte("KDMV")):
		return Header{}, refusal.New(refusal.UnsafeImage, "the vmdk image is a descriptor that names other files, which are never opened: convert it to one file with qemu-img convert")
	case len(head) < 2*sector:
		return Header{}, refusal.New(refusal.TruncatedImage, "the vmdk image ends within its header: fetch it again")
	}
	h := Header{fields: readFields(head)}
	if err := h.fields.checkKind(); err != nil {
		return Header{}, err
	}
	if err := h.fields.checkPlaces(); err != nil {
		return Header{}, err
	}
	if err := checkDescriptor(head, h.fields.descriptorSize); err != nil {
		return Header{}, err
	}
	h.Stream = h.fields.flags&flagCompressed != 0
	h.VirtualSize = int64(h.fields.capacity) * sector //nolint:gosec // checkPlaces bounds both
	h.grain = int64(h.fields.grain) * sector          //nolint:gosec // the same
	h.grains = (h.VirtualSize-1)/h.grain + 1
	h.tables = (h.grains-1)/entries + 1
	if space := int64(h.fields.overhead-h.fields.directory) * sector; h.Stream && h.tablesFirst() && space < h.tables*4 { //nolint:gosec // at most 2^41
		return Header{}, corrupt("its directory of %d grain tables has only %d bytes", h.tables, space)
	}
	return h, nil
}

func (f *fields) checkKind() error {
	const newlines = 0x0a0d200a
	compressed := f.flags&flagCompressed != 0
	switch {
	case f.version < 1 || f.version > 3:
		return unsupported("it has the version %d: only 1 to 3 exist", f.version)
	case f.flags&^uint32(flagsKnown) != 0:
		return unsupported("it needs unknown features (%#x)", f.flags)
	case f.flags&flagNewlines != 0 && f.newlines != newlines:
		return corrupt("its header was changed by a transfer as text: fetch it again")
	case f.compression > 1:
		return unsupported("it uses the unknown compression %d", f.compression)
	case compressed != (f.compression == 1):
		return corrupt("its header contradicts itself about compression")
	case compressed != (f.flags&flagMarkers != 0):
		return unsupported("its grains are compressed and do not say where they belong")
	case f.entries != entries:
		return corrupt("its grain tables have %d entries: only %d are in use", f.entries, entries)
	case f.grain < minGrain || f.grain > maxGrain || f.grain&(f.grain-1) != 0:
		return corrupt("its grains have %d sectors: only powers of two from %d to %d are in use", f.grain, minGrain, maxGrain)
	}
	return nil
}

func (f *fields) checkPlaces() error {
	stream := f.flags&flagCompressed != 0
	switch {
	case f.capacity == 0:
		return refusal.New(refusal.EmptySource, "the vmdk image holds a disk of 0 bytes")
	case f.capacity > maxTables*entries*f.grain:
		return unsupported("its disk has %d sectors: %d are read at most with grains of %d", f.capacity, maxTables*entries*f.grain, f.grain)
	case f.descriptor != 1:
		// qemu looks for a parent in sector 1, whatever the header says.
		return unsupported("its descriptor is in sector %d: only 1 is in use", f.descriptor)
	case f.descriptorSize == 0 || f.descriptorSize > maxDescriptor/sector:
		return corrupt("its descriptor has %d sectors", f.descriptorSize)
	case f.overhead < 1+f.descriptorSize || f.overhead > maxSectors:
		return corrupt("its grains start in sector %d", f.overhead)
	case f.directory == atEnd && stream:
		return nil
	case f.directory < 1+f.descriptorSize || f.directory > maxSectors:
		return corrupt("its grain directory is in sector %d", f.directory)
	}
	return nil
}

func corrupt(format string, args ...any) error {
	return refusal.New(refusal.CorruptImage, "the vmdk image is corrupt: "+fmt.Sprintf(format, args...))
}

func truncated(format string, args ...any) error {
	return refusal.New(refusal.TruncatedImage, "the vmdk image is cut: "+fmt.Sprintf(format, args...)+": fetch it again")
}

func unsupported(format string, args ...any) error {
	return refusal.New(refusal.UnsupportedFormat, "the vmdk image cannot be read: "+fmt.Sprintf(format, args...)+": convert it to qcow2 with qemu-img convert")
}
