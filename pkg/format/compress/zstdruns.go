package compress

import (
	"encoding/binary"
	"errors"
	"io"
	"math"

	"github.com/cespare/xxhash/v2"
	"github.com/klauspost/compress/zstd"
)

const (
	zstdMagic     = 0xfd2fb528
	skippable     = 0x184d2a50
	skippableMask = 0xfffffff0
	// maxBlock is how much a block decodes to at most (RFC 8878, 3.1.1.2.4).
	maxBlock = 128 << 10
	// maxCut is how many zeros are taken out at once. The reader can be stopped after that many.
	maxCut = 64 << 20
	// sizeUnknown stands for the size of a frame whose header does not have it.
	sizeUnknown = math.MaxUint64
)

// zeroRuns reads a zstd file for the decoder and takes out most of the blocks that are nothing
// but zeros: the library decodes them no faster than data, and a disk is mostly zeros.
//
// A block that is one byte repeated (RFC 8878, 3.1.1.2.2) leaves the tables and the offsets for
// the next blocks alone, it only moves the window. When the window is full of zeros, one more
// block of zeros changes nothing in the decoder. So it can be left out if its zeros are put in
// where it was.
//
// That place is known because the decoder takes a block only when all it decoded was read. The
// checksum of the frame, which is compared here and not by the decoder, proves it: frames
// without one stay as they are.
type zeroRuns struct {
	in io.Reader
	// store is room for the longest header, head the part of it that was read.
	store [18]byte
	head  []byte
	// out is a header that the decoder gets next, body how many bytes of the source come behind it.
	out  []byte
	body int64
	// err is what ended the source, or what is wrong with a frame.
	err error

	// inFrame is true up to the last block, ended from there to the checksum.
	inFrame, ended bool
	// checked frames are those that blocks may be taken out of. The decoder gets them without
	// size and checksum. Of others closing is the length of the checksum.
	checked bool
	closing int64
	window  int64
	size    uint64
	// hash and total are those of the frame so far, tail the number of zeros at its end.
	hash  *xxhash.Digest
	total uint64
	tail  int64
	// zeros is how many were taken out and not put in yet.
	zeros int64
	// empty is a block of zeros to hash.
	empty []byte
}

func newZeroRuns(in io.Reader) *zeroRuns {
	return &zeroRuns{in: in, hash: xxhash.New()}
}

// decoded is told everything that the decoder returns, before it is called again.
func (z *zeroRuns) decoded(p []byte) {
	if !z.checked {
		return
	}
	_, _ = z.hash.Write(p) // never fails
	z.total += uint64(len(p))
	zeros := zerosAtEnd(p)
	if zeros < len(p) {
		z.tail = 0
	}
	z.tail += int64(zeros)
}

func zerosAtEnd(p []byte) int {
	rest := p
	for len(rest) >= 8 && binary.LittleEndian.Uint64(rest[len(rest)-8:]) == 0 {
		rest = rest[:len(rest)-8]
	}
	for len(rest) > 0 && rest[len(rest)-1] == 0 {
		rest = rest[:len(rest)-1]
	}
	return len(p) - len(rest)
}

// Read implements io.Reader for the decoder.
func (z *zeroRuns) Read(p []byte) (int, error) {
	for len(z.out) == 0 && z.body == 0 {
		if z.err != nil {
			return 0, z.err
		}
		z.err = z.next()
	}
	if len(z.out) > 0 {
		n := copy(p, z.out)
		z.out = z.out[n:]
		return n, nil
	}
	n, err := z.in.Read(p[:min(int64(len(p)), z.body)])
	z.body -= int64(n)
	return n, err
}

// next reads the next header. The decoder gets what there is of it even if it is cut short.
func (z *zeroRuns) next() error {
	if z.checked && z.total > z.size {
		return zstd.ErrFrameSizeExceeded
	}
	if z.ended {
		if err := z.end(); err != nil {
			return err
		}
	}
	header := z.frame
	if z.inFrame {
		header = z.block
	}
	err := header()
	z.out = z.head
	return err
}

// take reads n more bytes of a header.
func (z *zeroRuns) take(n int) error {
	start := len(z.head)
	got, err := io.ReadFull(z.in, z.store[start:start+n])
	z.head = z.store[:start+got]
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return io.EOF
	}
	return err
}

// frame reads the header of a frame (RFC 8878, 3.1.1.1) or of a skippable one (3.1.2).
func (z *zeroRuns) frame() error {
	z.head, z.checked, z.closing = z.store[:0], false, 0
	if err := z.take(4); err != nil {
		return err
	}
	switch magic := binary.LittleEndian.Uint32(z.head); {
	case magic&skippableMask == skippable:
		if err := z.take(4); err != nil {
			return err
		}
		z.body = int64(binary.LittleEndian.Uint32(z.head[4:]))
		return nil
	case magic != zstdMagic:
		return nil // the decoder refuses it
	}
	if err := z.take(1); err != nil {
		return err
	}
	descriptor := z.head[4]
	single, checksum := descriptor&(1<<5) != 0, descriptor&(1<<2) != 0
	sizeField := [...]int{0, 2, 4, 8}[descriptor>>6]
	dictionary := [...]int{0, 1, 2, 4}[descriptor&3]
	if single {
		// Its window is all of it, so it is never full of zeros.
		err := z.take(dictionary + max(1, sizeField))
		z.inFrame = true
		if checksum {
			z.closing = 4
		}
		return err
	}
	if err := z.take(1 + dictionary + sizeField); err != nil {
		return err
	}
	z.inFrame = true
	if !checksum {
		return nil
	}
	z.check(sizeField)
	return nil
}

// check begins a frame that blocks may be taken out of: size and checksum are not for the decoder.
func (z *zeroRuns) check(sizeField int) {
	z.checked, z.total, z.tail = true, 0, 0
	z.hash.Reset()
	base := int64(1) << (10 + z.head[5]>>3)
	z.window = base + base/8*int64(z.head[5]&7)
	end := len(z.head) - sizeField
	z.size = sizeUnknown
	switch field := z.head[end:]; sizeField {
	case 2:
		z.size = uint64(binary.LittleEndian.Uint16(field)) + 256
	case 4:
		z.size = uint64(binary.LittleEndian.Uint32(field))
	case 8:
		z.size = binary.LittleEndian.Uint64(field)
	}
	z.head = z.head[:end]
	z.head[4] &^= 3<<6 | 1<<2
}

// block reads the header of a block (RFC 8878, 3.1.1.2), the first that is not taken out.
func (z *zeroRuns) block() error {
	const repeated = 1
	for {
		z.head = z.store[:0]
		if err := z.take(3); err != nil {
			return err
		}
		header := uint32(z.head[0]) | uint32(z.head[1])<<8 | uint32(z.head[2])<<16
		last, kind, size := header&1 != 0, header>>1&3, int64(header>>3)
		if kind == repeated {
			if err := z.take(1); err != nil {
				return err
			}
			if !last && z.head[3] == 0 && z.cut(size) {
				continue
			}
			size = 0
		}
		z.body = size
		if last {
			z.body += z.closing
			z.inFrame, z.ended = false, z.checked
		}
		return nil
	}
}

// cut takes out a block of so many zeros if that is not noticed.
func (z *zeroRuns) cut(size int64) bool {
	// Sizes that the decoder refuses are left to it.
	if !z.checked || z.tail < z.window || size == 0 || size > min(maxBlock, z.window) || z.zeros+size > maxCut {
		return false
	}
	if z.empty == nil {
		z.empty = make([]byte, maxBlock)
	}
	_, _ = z.hash.Write(z.empty[:size]) // never fails
	z.total += uint64(size)             //nolint:gosec // at most 128 KiB
	z.tail += size
	z.zeros += size
	return true
}

// end compares size and checksum of a frame.
func (z *zeroRuns) end() error {
	z.ended, z.head = false, z.store[:0]
	err := z.take(4)
	switch {
	case err == io.EOF: //nolint:errorlint // take returns it bare
		return io.ErrUnexpectedEOF
	case err != nil:
		return err
	case z.size != sizeUnknown && z.total != z.size:
		return zstd.ErrFrameSizeMismatch
	case uint32(z.hash.Sum64()&math.MaxUint32) != binary.LittleEndian.Uint32(z.head):
		return zstd.ErrCRCMismatch
	}
	return nil
}
