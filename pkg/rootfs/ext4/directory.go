package ext4

import (
	"cmp"
	"errors"
	"maps"
	"slices"
)

// directory is one before it is written.
type directory struct {
	number, parent uint32
	subdirectories int
	attributes     Attributes
	entries        map[string]child
	// blocks that it has already on disk.
	blocks []extent
}

type child struct {
	number uint32
	kind   Kind
}

func (d *directory) add(name string, number uint32, kind Kind) {
	d.entries[name] = child{number: number, kind: kind}
}

// existing finds the blocks of a directory that mke2fs made.
func (f *Filler) existing(number, parent uint32) (*directory, error) {
	raw := make([]byte, inodeSize)
	if _, err := f.storage.ReadAt(raw, f.inodeAt(number)); err != nil {
		return nil, err
	}
	tree := raw[0x28:]
	if Kind(le.Uint16(raw))&0xf000 != kindDirectory || le.Uint16(tree) != extentMagic || le.Uint16(tree[6:]) != 0 {
		return nil, errors.New("reading file system: it has no empty directories")
	}
	d := &directory{number: number, parent: parent, entries: map[string]child{}}
	for n := range int(min(le.Uint16(tree[2:]), inInode)) {
		at := tree[(n+1)*extentSize:]
		d.blocks = append(d.blocks, extent{
			logical:  uint64(le.Uint32(at)),
			physical: uint64(le.Uint16(at[6:]))<<32 | uint64(le.Uint32(at[8:])),
			blocks:   uint64(le.Uint16(at[4:])),
		})
	}
	if number == rootInode {
		d.subdirectories = 1
	}
	return d, nil
}

// The checksum of a block of entries is in an entry of its own, at its end.
const (
	entryHeader  = 8
	tailSize     = 12
	tailType     = 0xde
	entriesRoom  = BlockSize - tailSize
	entryAligned = 4
)

// writeDirectory stores the entries of a directory, in the order of their inodes, and its inode.
func (f *Filler) writeDirectory(d *directory) error {
	extended, err := encodeExtended(d.attributes.Extended)
	if err != nil {
		return err
	}
	i := newInode(d.number, kindDirectory, d.attributes)
	i.links = uint16(2 + d.subdirectories) //nolint:gosec // checked below
	if 2+d.subdirectories > maxLinks {
		// More than can be counted.
		i.links = 1
	}
	extents, n := d.blocks, uint64(0)
	for _, e := range d.blocks {
		n += e.blocks
	}
	content := f.listing(d, n)
	i.size = int64(len(content))
	f.wide = f.wide || i.size > BlockSize && d.number != lostFoundInode
	kept := content
	for _, e := range d.blocks {
		if err := f.writeBlock(e.physical, kept[:e.blocks*BlockSize]); err != nil {
			return err
		}
		kept = kept[e.blocks*BlockSize:]
	}
	if extents, err = f.writeRun(extents, n, kept); err != nil {
		return err
	}
	if err := f.mapBlocks(i, extents); err != nil {
		return err
	}
	return f.writeInode(i, extended)
}

// listing is the blocks of a directory, at least the given number of them.
func (f *Filler) listing(d *directory, atLeast uint64) []byte {
	var content, block []byte
	last := 0
	finish := func() {
		// The last entry reaches to the end of the room.
		le.PutUint16(block[last+4:], uint16(entriesRoom-last)) //nolint:gosec // below 4096
		block = append(block, make([]byte, BlockSize-len(block))...)
		tail := block[entriesRoom:]
		tail[4], tail[7] = tailSize, tailType
		le.PutUint32(tail[8:], checksum(f.inodeSeed(d.number), block[:entriesRoom]))
		content = append(content, block...)
		block, last = nil, 0
	}
	put := func(name string, c child) {
		size := (entryHeader + len(name) + entryAligned - 1) &^ (entryAligned - 1)
		if len(block)+size > entriesRoom {
			finish()
		}
		last = len(block)
		block = le.AppendUint32(block, c.number)
		block = le.AppendUint16(block, uint16(size))             //nolint:gosec // below 4096
		block = append(block, byte(len(name)), fileType(c.kind)) //nolint:gosec // maxName
		block = append(block, name...)
		block = append(block, make([]byte, size-entryHeader-len(name))...)
	}
	put(".", child{number: d.number, kind: kindDirectory})
	put("..", child{number: d.parent, kind: kindDirectory})
	for _, name := range slices.SortedFunc(maps.Keys(d.entries), func(a, b string) int {
		return cmp.Or(cmp.Compare(d.entries[a].number, d.entries[b].number), cmp.Compare(a, b))
	}) {
		put(name, d.entries[name])
	}
	finish()
	for uint64(len(content)) < atLeast*BlockSize {
		block = append(block, make([]byte, entryHeader)...)
		finish()
	}
	return content
}

func fileType(kind Kind) byte {
	switch kind {
	case kindRegular:
		return 1
	case kindDirectory:
		return 2
	case CharacterDevice:
		return 3
	case BlockDevice:
		return 4
	case FIFO:
		return 5
	case kindSymlink:
		return 7
	}
	return 0
}
