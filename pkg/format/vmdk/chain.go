package vmdk

import (
	"bytes"
	"context"
	"encoding/binary"
)

// Types of a sector that says what follows.
const (
	markEnd       = 0
	markTable     = 1
	markDirectory = 2
	markFooter    = 3
)

// step looks at the part that was filled. pos is the byte of the source behind it.
func (p *Pass) step(ctx context.Context, pos int64) error {
	switch p.state {
	case directory:
		return p.directoryPart(ctx, pos)
	case table:
		return p.grainTable(ctx, pos)
	case footer:
		return p.footer(ctx)
	case compressed:
		return p.added(ctx)
	default:
		return p.marker(ctx, pos)
	}
}

// skipTo goes on at the byte to, from pos.
func (p *Pass) skipTo(ctx context.Context, pos, to int64) error {
	if p.skip = to - pos; p.skip > 0 {
		return nil
	}
	return p.skipped(ctx)
}

// skipped says what comes where the skipped bytes end.
func (p *Pass) skipped(ctx context.Context) error {
	switch {
	case p.header.tablesFirst() && p.directoryAt < 0:
		p.expectDirectory()
	case p.index < int64(len(p.tables.ahead)):
		p.expect(table, p.small[:])
	default:
		return p.expectMarker(ctx)
	}
	return nil
}

func (p *Pass) expectDirectory() {
	p.expect(directory, p.small[:min(int64(len(p.small)), (p.header.tables-p.index)*4)])
}

// directoryPart reads a part of the directory.
func (p *Pass) directoryPart(ctx context.Context, pos int64) error {
	for i := 0; i < len(p.part); i += 4 {
		at := binary.LittleEndian.Uint32(p.part[i:])
		switch {
		case at == 0:
		case p.header.tablesFirst():
			p.tables.expect(p.index, at)
		default:
			if err := p.tables.bind(p.index, at); err != nil {
				return err
			}
		}
		p.index++
	}
	if p.index < p.header.tables {
		p.expectDirectory()
		return nil
	}
	p.index = 0
	p.directoryAt = (pos - p.header.tables*4) / sector
	if !p.header.tablesFirst() {
		return p.skipTo(ctx, pos, p.directoryEnd)
	}
	if err := p.tables.sortAhead((pos-1)/sector+1, p.grainsAt()/sector); err != nil {
		return err
	}
	return p.skipTo(ctx, pos, p.nextTable())
}

// grainsAt is the byte where the grains start.
func (p *Pass) grainsAt() int64 { return int64(p.header.fields.overhead) * sector } //nolint:gosec // at most 2^41

// nextTable is the byte where the next table at the start is, or the first grain behind them.
func (p *Pass) nextTable() int64 {
	if p.index < int64(len(p.tables.ahead)) {
		return int64(p.tables.ahead[p.index].sector) * sector
	}
	return p.grainsAt()
}

func (p *Pass) grainTable(ctx context.Context, pos int64) error {
	if p.header.tablesFirst() {
		if err := p.tables.tableAhead(int64(p.tables.ahead[p.index].index), p.part); err != nil {
			return err
		}
		p.index++
		return p.skipTo(ctx, pos, p.nextTable())
	}
	at, err := sectorOf(pos - tableBytes)
	if err != nil {
		return err
	}
	if err := p.tables.tableBehind(at, p.part); err != nil {
		return err
	}
	return p.expectMarker(ctx)
}

// expectMarker waits for an idle cell: what comes may be a grain.
func (p *Pass) expectMarker(ctx context.Context) error {
	if err := p.takeCell(ctx); err != nil {
		return err
	}
	p.expect(marker, p.cell.source[p.cell.used:p.cell.used+sector])
	return p.failure()
}

func (p *Pass) takeCell(ctx context.Context) error {
	if p.cell != nil {
		return nil
	}
	select {
	case p.cell = <-p.idle:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// marker looks at the first sector of a grain, or at one that says what follows.
func (p *Pass) marker(ctx context.Context, pos int64) error {
	value := binary.LittleEndian.Uint64(p.part)
	size := binary.LittleEndian.Uint32(p.part[8:])
	if size > 0 {
		return p.grain(ctx, pos-sector, value, size)
	}
	kind := binary.LittleEndian.Uint32(p.part[12:])
	if kind == markEnd {
		return p.endMark(value, pos)
	}
	if p.header.tablesFirst() || p.footerSeen {
		return unsupported("it has a mark of type %d in sector %d, where grains are expected", kind, pos/sector-1)
	}
	return p.metadata(kind, value, pos)
}

// metadata starts to read what a mark announces, which takes the given number of sectors.
func (p *Pass) metadata(kind uint32, sectors uint64, pos int64) error {
	needed := uint64((p.header.tables*4-1)/sector + 1) //nolint:gosec // at least 1
	const slack = 128                                  // a writer may align what follows to a grain
	switch {
	case kind == markTable && sectors == tableBytes/sector && p.directoryAt < 0:
		p.expect(table, p.small[:])
	case kind == markDirectory && sectors >= needed && sectors <= needed+slack && p.directoryAt < 0:
		p.directoryEnd = pos + int64(sectors)*sector //nolint:gosec // at most 2^21
		p.expectDirectory()
	case kind == markFooter && sectors == 1 && p.directoryAt >= 0:
		p.expect(footer, p.small[:sector])
	default:
		return corrupt("it has a mark of type %d for %d sectors in sector %d, where it makes no sense", kind, sectors, pos/sector-1)
	}
	return nil
}

// grain reads the rest of a grain of the given compressed size that starts at the byte from.
func (p *Pass) grain(ctx context.Context, from int64, lba uint64, size uint32) error {
	at, err := sectorOf(from)
	if err != nil {
		return err
	}
	switch {
	case p.directoryAt >= 0 && !p.header.tablesFirst():
		return corrupt("it has a grain in sector %d, behind its directory", at)
	case lba >= p.header.fields.capacity || lba%p.header.fields.grain != 0:
		return corrupt("its grain in sector %d is for sector %d of its disk, which has %d", at, lba, p.header.fields.capacity)
	case int64(size) > 2*p.header.grain-markerHead: // qemu reads no more
		return corrupt("its grain in sector %d has %d bytes, more than twice the usual", at, size)
	}
	if err := p.tables.arrive(int64(lba/p.header.fields.grain), at); err != nil { //nolint:gosec // less than capacity
		return err
	}
	p.next.disk, p.next.size = int64(lba)*sector, int(size) //nolint:gosec // less than capacity
	p.next.total = (markerHead + p.next.size + sector - 1) / sector * sector
	if !p.cell.fits(p.header.grain, p.next.disk, p.next.total) {
		first := p.part
		p.start(ctx)
		if err := p.takeCell(ctx); err != nil {
			return err
		}
		copy(p.cell.source, first)
	}
	if p.next.total > sector {
		p.expect(compressed, p.cell.source[p.cell.used+sector:p.cell.used+p.next.total])
		return nil
	}
	return p.added(ctx)
}

// added goes on behind a grain that is there as a whole.
func (p *Pass) added(ctx context.Context) error {
	p.cell.add(p.next.disk, p.next.size, p.next.total)
	if p.cell.full(p.header.grain) {
		p.start(ctx)
	}
	return p.expectMarker(ctx)
}

// endMark looks at the mark of the end, which is a sector of zeros.
func (p *Pass) endMark(value uint64, pos int64) error {
	switch {
	case value != 0:
		return corrupt("its mark of the end in sector %d has a size", pos/sector-1)
	case p.header.tablesFirst() || p.footerSeen:
	case p.header.fields.directory == atEnd:
		return corrupt("its end in sector %d comes before its footer", pos/sector-1)
	case p.directoryAt < 0 || uint64(p.directoryAt) != p.header.fields.directory:
		return corrupt("its end in sector %d comes before its directory in sector %d", pos/sector-1, p.header.fields.directory)
	}
	p.state = padding
	return nil
}

// footer compares the footer with the header: readers that can seek take the disk's size and all
// else from it.
func (p *Pass) footer(ctx context.Context) error {
	f := readFields(p.part)
	same := f
	same.descriptor, same.descriptorSize = p.header.fields.descriptor, p.header.fields.descriptorSize
	same.directory, same.overhead = p.header.fields.directory, p.header.fields.overhead
	switch {
	case string(p.part[:4]) != "KDMV" || same != p.header.fields:
		return corrupt("its footer contradicts its header")
	case f.directory != uint64(p.directoryAt): //nolint:gosec // not negative here
		return corrupt("its footer says that its directory is in sector %d, and it is in %d", f.directory, p.directoryAt)
	case p.header.fields.directory != atEnd && p.header.fields.directory != f.directory:
		return corrupt("its footer and its header say that its directory is in sectors %d and %d", f.directory, p.header.fields.directory)
	}
	p.footerSeen = true
	return p.expectMarker(ctx)
}

// finish takes the last bytes and compares what came with the tables.
func (p *Pass) finish(ctx context.Context) error {
	if err := p.lastPart(ctx); err != nil {
		return err
	}
	switch {
	case p.state == padding:
	case p.state == marker && p.filled == 0 && p.skip == 0 && p.header.tablesFirst():
	default:
		return truncated("it ends at byte %d", p.at)
	}
	// Tables behind the grains show that all came up to them.
	return p.tables.settle(!p.header.tablesFirst())
}

// lastPart takes a part of a sector at the end. It may only lack padding, and only when the tables
// came first: they know what there must be.
func (p *Pass) lastPart(ctx context.Context) error {
	have := p.filled
	switch {
	case have == 0 || p.skip > 0 || !p.header.tablesFirst() || p.state != marker && p.state != compressed:
		return nil
	case p.state == compressed:
		have += sector
	case isZero(p.part[:have]):
		p.state = padding
		return nil
	}
	if have < markerHead || int64(have-markerHead) < int64(binary.LittleEndian.Uint32(p.cell.source[p.cell.used+8:])) {
		return truncated("it ends within a grain at byte %d", p.at)
	}
	p.filled = 0
	return p.step(ctx, (p.at/sector+1)*sector)
}

// isZero tells that there are only zeros in b.
func isZero(b []byte) bool { return len(bytes.TrimLeft(b, "\x00")) == 0 }

// sectorOf is the sector of a byte of the file, which tables can only name up to 2 TiB.
func sectorOf(pos int64) (uint32, error) {
	if pos/sector >= maxSectors {
		return 0, corrupt("it is larger than its tables can say")
	}
	return uint32(pos / sector), nil //nolint:gosec // checked above
}
