package ext4

const (
	extentMagic = 0xf30a
	// maxExtent is the most blocks of one extent.
	maxExtent = 1 << 15
	// In an inode and in a block there is room for so many extents, after a header of their size.
	inInode, inBlock = 4, 340
	extentSize       = 12
)

// extent says that blocks of a file follow each other on disk. In the upper levels of a tree
// physical is the block of the level below.
type extent struct {
	logical, physical, blocks uint64
}

// join adds an extent, to the last one if it goes on there.
func join(extents []extent, e extent) []extent {
	if n := len(extents); n > 0 {
		last := &extents[n-1]
		if last.logical+last.blocks == e.logical && last.physical+last.blocks == e.physical && last.blocks+e.blocks <= maxExtent {
			last.blocks += e.blocks
			return extents
		}
	}
	return append(extents, e)
}

// mapBlocks gives an inode the tree of its extents.
func (f *Filler) mapBlocks(i *inode, extents []extent) error {
	for _, e := range extents {
		i.blocks += e.blocks
	}
	i.flags |= extentsFlag
	depth := uint16(0)
	for ; len(extents) > inInode; depth++ {
		var upper []extent
		for len(extents) > 0 {
			n := min(len(extents), inBlock)
			block, err := f.writeExtents(i.number, extents[:n], depth)
			if err != nil {
				return err
			}
			upper = append(upper, extent{logical: extents[0].logical, physical: block})
			i.blocks++
			extents = extents[n:]
		}
		extents = upper
	}
	putExtents(i.block[:], extents, inInode, depth)
	return nil
}

// writeExtents stores one block of a tree.
func (f *Filler) writeExtents(number uint32, extents []extent, depth uint16) (uint64, error) {
	block, _, err := f.takeBlocks(1)
	if err != nil {
		return 0, err
	}
	raw := make([]byte, BlockSize)
	putExtents(raw, extents, inBlock, depth)
	le.PutUint32(raw[BlockSize-4:], checksum(f.inodeSeed(number), raw[:BlockSize-4]))
	return block, f.writeBlock(block, raw)
}

func putExtents(raw []byte, extents []extent, room, depth uint16) {
	le.PutUint16(raw[0:], extentMagic)
	le.PutUint16(raw[2:], uint16(len(extents))) //nolint:gosec // at most room
	le.PutUint16(raw[4:], room)
	le.PutUint16(raw[6:], depth)
	for n, e := range extents {
		at := raw[(n+1)*extentSize:]
		le.PutUint32(at[0:], uint32(e.logical)) //nolint:gosec // maxFile
		if depth > 0 {
			put48(at, 4, 8, e.physical)
			continue
		}
		le.PutUint16(at[4:], uint16(e.blocks)) //nolint:gosec // maxExtent
		put48(at, 8, 6, e.physical)
	}
}
