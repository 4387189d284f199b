package ext4

import (
	"fmt"
	"time"
)

const (
	extentsFlag = 0x80000
	// extraSize is how many bytes of an inode beyond the first 128 have a meaning of their own.
	extraSize = 32
	extrasAt  = 128 + extraSize
)

// inode is one before it is written. Only what differs from zero is here.
type inode struct {
	number     uint32
	mode       uint16
	links      uint16
	flags      uint32
	size       int64
	blocks     uint64
	attributes Attributes
	block      [60]byte
}

func newInode(number uint32, kind Kind, a Attributes) *inode {
	return &inode{number: number, mode: uint16(kind) | a.Mode&0o7777, links: 1, attributes: a}
}

// setDevice stores a device number: small ones in the old form, as the kernel does.
func (i *inode) setDevice(major, minor uint32) {
	if major < 256 && minor < 256 {
		le.PutUint32(i.block[0:], major<<8|minor)
		return
	}
	le.PutUint32(i.block[4:], minor&0xff|major<<8|minor&^0xff<<12)
}

// writeInode stores an inode and its extended attributes.
func (f *Filler) writeInode(i *inode, extended []attribute) error {
	raw := make([]byte, inodeSize)
	rest := putInline(raw[extrasAt:], extended)
	if len(rest) > 0 {
		block, err := f.writeAttributes(rest)
		if err != nil {
			return err
		}
		i.blocks++
		put48(raw, 0x68, 0x76, block)
	}
	le.PutUint16(raw[0x0:], i.mode)
	put16(raw, 0x2, 0x78, i.attributes.UID)
	put16(raw, 0x18, 0x7a, i.attributes.GID)
	put32(raw, 0x4, 0x6c, uint64(i.size)) //nolint:gosec // never negative
	le.PutUint16(raw[0x1a:], i.links)
	put48(raw, 0x1c, 0x74, i.blocks*(BlockSize/512))
	le.PutUint32(raw[0x20:], i.flags)
	copy(raw[0x28:], i.block[:])
	le.PutUint16(raw[0x80:], extraSize)
	seconds, extra := stamp(i.attributes.Modified)
	for _, at := range [][2]int{{0x8, 0x8c}, {0xc, 0x84}, {0x10, 0x88}, {0x90, 0x94}} {
		le.PutUint32(raw[at[0]:], seconds)
		le.PutUint32(raw[at[1]:], extra)
	}
	return f.storeInode(i.number, raw)
}

// stamp gives a time its two fields: seconds since 1970, and nanoseconds with two more bits of
// seconds.
func stamp(t time.Time) (seconds, extra uint32) {
	const first, last = -1 << 31, 1<<34 - 1<<31 - 1
	s, nanoseconds := t.Unix(), uint32(t.Nanosecond()) //nolint:gosec // below 1e9
	if t.IsZero() {
		s, nanoseconds = 0, 0
	}
	if s < first || s > last {
		s, nanoseconds = min(max(s, first), last), 0
	}
	// The lower half is read as a signed number; the two bits count how often it went round.
	rounds := uint64(s-first) >> 32
	return uint32(s & 0xffffffff), nanoseconds<<2 | uint32(rounds)
}

// storeInode writes the 256 bytes of an inode with their checksum.
func (f *Filler) storeInode(number uint32, raw []byte) error {
	put16(raw, 0x7c, 0x82, 0)
	put16(raw, 0x7c, 0x82, checksum(f.inodeSeed(number), raw))
	_, err := f.storage.WriteAt(raw, f.inodeAt(number))
	return err
}

// inodeSeed begins the checksums of what belongs to an inode. Its generation is zero.
func (f *Filler) inodeSeed(number uint32) uint32 { return checksum(f.seed, le32(number), le32(0)) }

// addLink counts another name of a file.
func (f *Filler) addLink(number uint32) error {
	raw := make([]byte, inodeSize)
	if _, err := f.storage.ReadAt(raw, f.inodeAt(number)); err != nil {
		return err
	}
	links := le.Uint16(raw[0x1a:]) + 1
	if links > maxLinks {
		return fmt.Errorf("%w: more than %d hard links to one file", ErrEntry, maxLinks)
	}
	le.PutUint16(raw[0x1a:], links)
	return f.storeInode(number, raw)
}
