package qcow2

import (
	"bytes"
	"encoding/binary"
)

const (
	// maxCandidates bounds the candidates in memory, in bytes: at clusters of 64 KiB their
	// tables describe 96 GiB.
	maxCandidates = 12 << 20
	// maxPlausible is an offset that no file reaches: text and noise soon look like larger ones.
	maxPlausible = 1 << 48
)

// candidates are clusters that went by before the first table came, and that look like tables.
// Resizing an image moves the first table to the end of the file; without candidates, a disk
// whose tables also come after their clusters would have to be read three times.
type candidates struct {
	tables map[int64][]byte
	bytes  int
}

// gather keeps what looks like a table in a block that is about to be forgotten.
func (c *candidates) gather(h *Header, b *block, blockSize int64) {
	for off := int64(0); off+h.cluster() <= int64(len(b.b)); off += h.cluster() {
		table := b.b[off:][:h.cluster()]
		if c.bytes+len(table)+claimBytes > maxCandidates {
			return
		}
		if h.looksLikeTable(table) {
			c.tables[b.index*blockSize+off] = bytes.Clone(table)
			c.bytes += len(table) + claimBytes
		}
	}
}

// drop forgets all of them: the first table is known.
func (c *candidates) drop() { *c = candidates{} }

// looksLikeTable tells whether every entry could be one of a second-level table, and one is.
func (h *Header) looksLikeTable(table []byte) bool {
	found := false
	for ; len(table) > 0; table = table[h.l2EntrySize():] {
		word := binary.BigEndian.Uint64(table)
		off, _ := h.span(entry{where: word})
		switch {
		case word == 0:
			continue
		case off >= maxPlausible:
			return false
		case word&entryCompressed == 0 && (word&entryReserved != 0 || off%h.cluster() != 0):
			return false
		}
		found = true
	}
	return found
}
