package ext4

import (
	"errors"
	"fmt"
	"io"
)

// Features that the file system must have: no more, because others change what is written. The
// journal and the inode for resizing may be missing.
const (
	featuresCompatible   = 0x3c  // has_journal 4, ext_attr 8, resize_inode 10, dir_index 20
	featuresIncompatible = 0x2c2 // filetype 2, extents 40, 64bit 80, flex_bg 200
	featuresReadOnly     = 0x46b // sparse_super 1, large_file 2, huge_file 8, dir_nlink 20, extra_isize 40, metadata_csum 400
	hasJournal           = 0x4
	resizeInode          = 0x10
)

const (
	superAt        = 1024
	superSize      = 1024
	descriptorSize = 64
	inodeSize      = 256
	magic          = 0xef53
	bitsPerBlock   = 8 * BlockSize
)

// volume is the file system below its inodes: the groups of blocks.
type volume struct {
	storage Storage
	super   []byte
	seed    uint32
	groups  []group

	blocks         uint64
	blocksPerGroup uint64
	inodesPerGroup uint32
	reservedTable  uint64

	freeBlocks uint64
	freeInodes uint32
	nextInode  uint32
	nextBlock  uint64
	// The group that blocks are taken from now, and its bitmap. -1: none is loaded.
	loaded int
	bitmap []byte
}

// group is what its descriptor says. Taken inodes are always the first ones.
type group struct {
	raw         []byte
	blockBitmap uint64
	inodeBitmap uint64
	inodeTable  uint64
	freeBlocks  uint32
	usedInodes  uint32
	directories uint32
	changed     bool
}

const (
	inodesUninitialised = 1
	blocksUninitialised = 2
)

func (v *volume) load() error {
	v.super = make([]byte, superSize)
	if _, err := v.storage.ReadAt(v.super, superAt); err != nil {
		return err
	}
	if err := v.check(); err != nil {
		return err
	}
	v.blocks, v.freeBlocks = v.counts()
	v.freeInodes = le.Uint32(v.super[0x10:])
	v.blocksPerGroup, v.inodesPerGroup = uint64(le.Uint32(v.super[0x20:])), le.Uint32(v.super[0x28:])
	v.reservedTable = uint64(le.Uint16(v.super[0xce:]))
	v.seed = checksum(^uint32(0), v.super[0x68:0x78])
	v.nextInode, v.loaded = lostFoundInode+1, -1

	count := (v.blocks + v.blocksPerGroup - 1) / v.blocksPerGroup
	table := make([]byte, count*descriptorSize)
	if _, err := v.storage.ReadAt(table, BlockSize); err != nil {
		return err
	}
	for ; len(table) > 0; table = table[descriptorSize:] {
		raw := table[:descriptorSize]
		v.groups = append(v.groups, group{
			raw: raw, blockBitmap: get32(raw, 0, 0x20), inodeBitmap: get32(raw, 4, 0x24), inodeTable: get32(raw, 8, 0x28),
			freeBlocks: get16(raw, 0xc, 0x2c), usedInodes: v.inodesPerGroup - get16(raw, 0xe, 0x2e), directories: get16(raw, 0x10, 0x30),
		})
	}
	if v.groups[0].usedInodes != lostFoundInode {
		return errors.New("it is not empty")
	}
	return nil
}

// Used returns how many bytes of a file system are in use.
func Used(storage io.ReaderAt) (int64, error) {
	v := volume{super: make([]byte, superSize)}
	if _, err := storage.ReadAt(v.super, superAt); err != nil {
		return 0, fmt.Errorf("reading file system: %w", err)
	}
	total, free := v.counts()
	return int64(total-free) * BlockSize, nil //nolint:gosec // below 2^63
}

// counts returns the number of blocks, and of free ones.
func (v *volume) counts() (total, free uint64) {
	return get32(v.super, 0x4, 0x150), get32(v.super, 0xc, 0x158)
}

func (v *volume) check() error {
	compatible, incompatible, readOnly := le.Uint32(v.super[0x5c:]), le.Uint32(v.super[0x60:]), le.Uint32(v.super[0x64:])
	switch {
	case le.Uint16(v.super[0x38:]) != magic:
		return errors.New("it is none")
	case compatible|hasJournal|resizeInode != featuresCompatible || incompatible != featuresIncompatible || readOnly != featuresReadOnly:
		return fmt.Errorf("it has the features %#x %#x %#x", compatible, incompatible, readOnly)
	case le.Uint32(v.super[0x18:]) != 2, le.Uint32(v.super[0x20:])-1 >= bitsPerBlock, le.Uint32(v.super[0x28:])-1 >= bitsPerBlock,
		le.Uint16(v.super[0x58:]) != inodeSize, le.Uint16(v.super[0xfe:]) != descriptorSize:
		return errors.New("its blocks, groups, inodes or descriptors have another size")
	}
	return nil
}

// takeInode takes the next inode.
func (v *volume) takeInode(directory bool) (uint32, error) {
	index := int((v.nextInode - 1) / v.inodesPerGroup)
	if index >= len(v.groups) {
		return 0, fmt.Errorf("taking an inode: %w", ErrFull)
	}
	g := &v.groups[index]
	g.usedInodes++
	g.changed = true
	if directory {
		g.directories++
	}
	v.freeInodes--
	v.nextInode++
	return v.nextInode - 1, nil
}

// inodeAt is where an inode is stored.
func (v *volume) inodeAt(number uint32) int64 {
	g := v.groups[(number-1)/v.inodesPerGroup]
	return offset(g.inodeTable) + int64((number-1)%v.inodesPerGroup)*inodeSize
}

// offset is where a block is, in bytes.
func offset(block uint64) int64 { return int64(block * BlockSize) } //nolint:gosec // below 2^60

func (v *volume) writeBlock(block uint64, raw []byte) error {
	_, err := v.storage.WriteAt(raw, offset(block))
	return err
}

// takeBlocks takes up to want free blocks that follow each other.
func (v *volume) takeBlocks(want uint64) (first, n uint64, err error) {
	for ; v.nextBlock < v.blocks; v.nextBlock++ {
		if index := int(v.nextBlock / v.blocksPerGroup); index != v.loaded { //nolint:gosec // small
			if err := v.loadBitmap(index); err != nil {
				return 0, 0, err
			}
		}
		bit := v.nextBlock % v.blocksPerGroup
		if v.bitmap[bit/8]&(1<<(bit%8)) == 0 {
			break
		}
	}
	if v.nextBlock >= v.blocks {
		return 0, 0, fmt.Errorf("taking blocks: %w", ErrFull)
	}
	first = v.nextBlock
	for bit := first % v.blocksPerGroup; n < want && bit < v.blocksPerGroup && v.nextBlock < v.blocks; bit++ {
		if v.bitmap[bit/8]&(1<<(bit%8)) != 0 {
			break
		}
		v.bitmap[bit/8] |= 1 << (bit % 8)
		v.nextBlock++
		n++
	}
	g := &v.groups[v.loaded]
	g.freeBlocks -= uint32(n)
	g.changed = true
	v.freeBlocks -= n
	return first, n, nil
}

// loadBitmap goes on to another group.
func (v *volume) loadBitmap(index int) error {
	if err := v.storeBitmap(); err != nil {
		return err
	}
	g := &v.groups[index]
	v.bitmap = make([]byte, BlockSize)
	v.loaded = index
	if le.Uint16(g.raw[0x12:])&blocksUninitialised == 0 {
		_, err := v.storage.ReadAt(v.bitmap, offset(g.blockBitmap))
		return err
	}
	start := uint64(index) * v.blocksPerGroup //nolint:gosec // not negative
	take := func(from, n uint64) {
		for b := max(from, start); b < min(from+n, start+bitsPerBlock); b++ {
			v.bitmap[(b-start)/8] |= 1 << ((b - start) % 8)
		}
	}
	if hasBackup(index) {
		take(start, 1+v.tableBlocks()+v.reservedTable)
	}
	take(g.blockBitmap, 1)
	take(g.inodeBitmap, 1)
	take(g.inodeTable, uint64(v.inodesPerGroup)*inodeSize/BlockSize)
	// What the bitmap has beyond the group counts as taken.
	take(start+v.blocksPerGroup, bitsPerBlock-v.blocksPerGroup)
	return nil
}

func (v *volume) tableBlocks() uint64 {
	return (uint64(len(v.groups))*descriptorSize + BlockSize - 1) / BlockSize
}

// hasBackup tells whether a group begins with a copy of the superblock: 0, 1 and the powers of
// 3, 5 and 7.
func hasBackup(index int) bool {
	for _, base := range []int{3, 5, 7} {
		for power := 1; power <= index; power *= base {
			if power == index {
				return true
			}
		}
	}
	return index == 0
}

// storeBitmap writes the bitmap of the group that blocks were taken from.
func (v *volume) storeBitmap() error {
	if v.loaded < 0 || !v.groups[v.loaded].changed {
		return nil
	}
	g := &v.groups[v.loaded]
	put16(g.raw, 0x18, 0x38, checksum(v.seed, v.bitmap[:v.blocksPerGroup/8]))
	le.PutUint16(g.raw[0x12:], le.Uint16(g.raw[0x12:])&^blocksUninitialised)
	return v.writeBlock(g.blockBitmap, v.bitmap)
}

// store writes what changed of the bitmaps, the descriptors and the superblock.
func (v *volume) store() error {
	if err := v.storeBitmap(); err != nil {
		return err
	}
	for index := range v.groups {
		if err := v.storeGroup(index); err != nil {
			return err
		}
	}
	put32(v.super, 0xc, 0x158, v.freeBlocks)
	le.PutUint32(v.super[0x10:], v.freeInodes)
	le.PutUint32(v.super[0x3fc:], checksum(^uint32(0), v.super[:0x3fc]))
	_, err := v.storage.WriteAt(v.super, superAt)
	return err
}

func (v *volume) storeGroup(index int) error {
	g := &v.groups[index]
	if !g.changed {
		return nil
	}
	if g.usedInodes > 0 {
		bitmap := make([]byte, BlockSize)
		for i := range uint32(bitsPerBlock) {
			if i < g.usedInodes || i >= v.inodesPerGroup {
				bitmap[i/8] |= 1 << (i % 8)
			}
		}
		if err := v.writeBlock(g.inodeBitmap, bitmap); err != nil {
			return err
		}
		put16(g.raw, 0x1a, 0x3a, checksum(v.seed, bitmap[:v.inodesPerGroup/8]))
		le.PutUint16(g.raw[0x12:], le.Uint16(g.raw[0x12:])&^inodesUninitialised)
	}
	put16(g.raw, 0xc, 0x2c, g.freeBlocks)
	put16(g.raw, 0xe, 0x2e, v.inodesPerGroup-g.usedInodes)
	put16(g.raw, 0x10, 0x30, g.directories)
	put16(g.raw, 0x1c, 0x32, v.inodesPerGroup-g.usedInodes)
	le.PutUint16(g.raw[0x1e:], 0)
	le.PutUint16(g.raw[0x1e:], uint16(checksum(v.seed, le32(uint32(index)), g.raw)&0xffff)) //nolint:gosec // few groups
	_, err := v.storage.WriteAt(g.raw, BlockSize+int64(index)*descriptorSize)
	return err
}
