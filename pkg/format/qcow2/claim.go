package qcow2

import "github.com/gild-project/gild/pkg/format/refusal"

const (
	// maxClaims bounds what a forward pass knows of the file, in bytes.
	maxClaims = 24 << 20
	// Rough sizes in memory, with what a map adds.
	claimBytes = 128
	seenBytes  = 64
	tableBytes = 16
)

// claim is what the tables say of one block: which tables and which clusters end in it.
type claim struct {
	tables  []tableAt
	entries []entry
}

// claims are the parts of the file that are still to come, or that went by before a table
// claimed them.
type claims struct {
	blocks map[int64]*claim
	// tables is the number of all second-level tables among them.
	tables int
	bytes  int
}

func (c *claims) at(index int64) *claim {
	if c.blocks[index] == nil {
		c.blocks[index] = &claim{}
		c.bytes += claimBytes
	}
	return c.blocks[index]
}

func (c *claims) addTable(index int64, t tableAt) error {
	at := c.at(index)
	before := cap(at.tables)
	at.tables = append(at.tables, t)
	c.tables++
	return c.grow((cap(at.tables) - before) * tableBytes)
}

func (c *claims) addEntry(index int64, e entry) error {
	at := c.at(index)
	before := cap(at.entries)
	at.entries = append(at.entries, e)
	return c.grow((cap(at.entries) - before) * entryBytes)
}

func (c *claims) grow(bytes int) error {
	if c.bytes += bytes; c.bytes > maxClaims {
		return errScratch("its tables are too many to be remembered")
	}
	return nil
}

// take removes the claim on a block.
func (c *claims) take(index int64) claim {
	at := c.blocks[index]
	if at == nil {
		return claim{}
	}
	delete(c.blocks, index)
	c.tables -= len(at.tables)
	c.bytes -= claimBytes + cap(at.tables)*tableBytes + cap(at.entries)*entryBytes
	return *at
}

// takeTables removes the second-level tables from the claim on a block.
func (c *claims) takeTables(index int64) []tableAt {
	at := c.take(index)
	if len(at.entries) > 0 {
		c.blocks[index] = &claim{entries: at.entries}
		c.bytes += claimBytes + cap(at.entries)*entryBytes
	}
	return at.tables
}

func errScratch(why string) error {
	return refusal.New(refusal.ScratchRequired, "the qcow2 image cannot be read in one go, as "+why+": serve it from a server with ranges, or give --scratch-dir")
}
