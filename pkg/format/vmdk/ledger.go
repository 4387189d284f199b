package vmdk

import (
	"cmp"
	"encoding/binary"
	"hash/maphash"
	"slices"
)

// maxAccounts bounds the tables that name data: 16 TiB of data with usual grains, 40 MiB here.
const maxAccounts = 1 << 19

// ledger proves that the grain tables name exactly the grains that came, each where it came. It
// cannot keep the tables, which have 64 MiB for a disk of 1 TiB. It keeps, of each, the sum of
// hashes of the entries, less that of the grains that came. The hash has a random key: nobody can
// make an image in which wrong entries add up.
type ledger struct {
	seed       maphash.Seed
	zeroGrains bool
	grains     int64
	accounts   []*account
	open       int
	// named and came count grains.
	named, came int64
	// ahead are the places of tables that the directory at the start named, in the file's order.
	ahead []place
	// sheets are tables that came before the directory, in the file's order.
	sheets []sheet
}

// account is what is known of the part of the disk that one table describes.
type account struct {
	balance uint64
	// came has a bit for each grain that came.
	came [entries / 64]uint64
}

// place is where a table is, in sectors, and which one of the directory it is.
type place struct{ sector, index uint32 }

// sheet is the sum of a table, of which only the sector is known.
type sheet struct {
	sum    uint64
	sector uint32
	named  uint32
}

func newLedger(h Header) *ledger {
	return &ledger{seed: maphash.MakeSeed(), zeroGrains: h.fields.flags&flagZeroGrains != 0, grains: h.grains, accounts: make([]*account, h.tables)}
}

func (l *ledger) hash(entry int64, at uint32) uint64 {
	var b [8]byte
	binary.LittleEndian.PutUint32(b[:], uint32(entry)) //nolint:gosec // less than 512
	binary.LittleEndian.PutUint32(b[4:], at)
	return maphash.Bytes(l.seed, b[:])
}

// sum returns the sum of a table's first entries and how many grains they name.
func (l *ledger) sum(table []byte) (sum uint64, named uint32) {
	for i := int64(0); i < int64(len(table)); i += 4 {
		at := binary.LittleEndian.Uint32(table[i:])
		if at == 0 || at == 1 && l.zeroGrains {
			continue
		}
		sum += l.hash(i/4, at)
		named++
	}
	return sum, named
}

// account returns that of a table, which it opens if need be.
func (l *ledger) account(index int64) (*account, error) {
	if l.accounts[index] == nil {
		if l.open++; l.open > maxAccounts {
			return nil, unsupported("it has data in more than %d places", maxAccounts)
		}
		l.accounts[index] = &account{}
	}
	return l.accounts[index], nil
}

// claim takes what the table number index names.
func (l *ledger) claim(index int64, sum uint64, named uint32) error {
	if named == 0 {
		return nil
	}
	a, err := l.account(index)
	if err != nil {
		return err
	}
	a.balance += sum
	l.named += int64(named)
	return nil
}

// tableAhead takes the table number index, of which the entries behind the disk's end mean nothing.
func (l *ledger) tableAhead(index int64, table []byte) error {
	valid := min(entries, l.grains-index*entries)
	sum, named := l.sum(table[:valid*4])
	return l.claim(index, sum, named)
}

// tableBehind takes a table that came before the directory.
func (l *ledger) tableBehind(at uint32, table []byte) error {
	if len(l.sheets) == len(l.accounts) {
		return corrupt("it has more than the %d grain tables of its disk", len(l.accounts))
	}
	sum, named := l.sum(table)
	l.sheets = append(l.sheets, sheet{sum: sum, sector: at, named: named})
	return nil
}

// bind takes an entry of the directory that came behind the tables.
func (l *ledger) bind(index int64, at uint32) error {
	i, found := slices.BinarySearchFunc(l.sheets, at, func(s sheet, at uint32) int { return cmp.Compare(s.sector, at) })
	if !found {
		return corrupt("its directory names a grain table in sector %d, where none is", at)
	}
	return l.claim(index, l.sheets[i].sum, l.sheets[i].named)
}

// expect takes an entry of the directory at the start.
func (l *ledger) expect(index int64, at uint32) {
	l.ahead = append(l.ahead, place{sector: at, index: uint32(index)}) //nolint:gosec // at most maxTables
}

// sortAhead puts the tables into the file's order, and refuses those that overlap or are not
// between the sectors first and end.
func (l *ledger) sortAhead(first, end int64) error {
	slices.SortFunc(l.ahead, func(a, b place) int { return cmp.Compare(a.sector, b.sector) })
	for _, p := range l.ahead {
		if int64(p.sector) < first {
			return corrupt("its grain table %d in sector %d is used twice or comes before its directory", p.index, p.sector)
		}
		first = int64(p.sector) + tableBytes/sector
	}
	if first > end {
		return corrupt("its grain tables go on to sector %d, and its grains start in %d", first, end)
	}
	return nil
}

// arrive takes a grain that came in the given sector.
func (l *ledger) arrive(grain int64, at uint32) error {
	a, err := l.account(grain / entries)
	if err != nil {
		return err
	}
	entry := grain % entries
	word, bit := entry/64, uint64(1)<<(entry%64)
	if a.came[word]&bit != 0 {
		return corrupt("grain %d of its disk comes twice", grain)
	}
	a.came[word] |= bit
	a.balance -= l.hash(entry, at)
	l.came++
	return nil
}

// settle tells whether what the tables name is what came. whole tells that the image is not cut.
func (l *ledger) settle(whole bool) error {
	if l.came < l.named && !whole {
		return truncated("its tables name %d grains and %d came", l.named, l.came)
	}
	for i, a := range l.accounts {
		if a != nil && a.balance != 0 {
			return corrupt("its grain table %d does not name the grains that came", i)
		}
	}
	return nil
}
