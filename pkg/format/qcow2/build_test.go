package qcow2_test

import (
	"bytes"
	"encoding/binary"
)

// plan is an image to be made: where each cluster of the disk is, as words of its tables.
type plan struct {
	bits  uint
	size  int64
	ext   bool
	zstd  bool
	words map[int64]uint64
	masks map[int64]uint64
	data  []byte
}

// dataAt is the offset of the data of a plan, the tables of which are tables clusters long.
func (p plan) dataAt() int64 {
	return (2 + p.l1Clusters() + p.tables()) << p.bits
}

func (p plan) entry() int64 {
	if p.ext {
		return 16
	}
	return 8
}

func (p plan) tables() int64 {
	return (p.size-1)/((1<<p.bits)/p.entry()<<p.bits) + 1
}

func (p plan) l1Clusters() int64 { return (p.tables()*8-1)>>p.bits + 1 }

// build writes header, first table, second-level tables and data, one behind the other.
func (p plan) build() []byte {
	b := make([]byte, p.dataAt()+int64(len(p.data)))
	copy(b, "QFI\xfb")
	put32(b, 4, 3)
	put32(b, 20, uint32(p.bits))
	put64(b, 24, uint64(p.size))
	put32(b, 36, uint32(p.tables()))
	l1 := int64(2) << p.bits
	put64(b, 40, uint64(l1))
	put64(b, 48, 1<<p.bits)
	put32(b, 56, 1)
	put32(b, 96, 4)
	put32(b, 100, 112)
	features := uint64(0)
	if p.ext {
		features |= 16
	}
	if p.zstd {
		features |= 8
		b[104] = 1
	}
	put64(b, 72, features)
	l2 := l1 + p.l1Clusters()<<p.bits
	for i := range p.tables() {
		put64(b, int(l1+i*8), uint64(l2+i<<p.bits))
	}
	for guest, word := range p.words {
		binary.BigEndian.PutUint64(b[l2+guest*p.entry():], word)
	}
	for guest, mask := range p.masks {
		binary.BigEndian.PutUint64(b[l2+guest*p.entry()+8:], mask)
	}
	copy(b[p.dataAt():], p.data)
	return b
}

// shared is an image of which all clusters are the same one of the file.
func shared(clusters int64) []byte {
	p := plan{bits: 9, size: clusters << 9, data: noise(512)}
	b := p.build()
	word := binary.BigEndian.AppendUint64(nil, uint64(p.dataAt()))
	copy(b[(2+p.l1Clusters())<<p.bits:], bytes.Repeat(word, int(clusters)))
	return b
}

// stored is DEFLATE data in blocks of 10 bytes that are not compressed: half as long again.
func stored(b []byte) []byte {
	out := make([]byte, 0, len(b)/10*15+15)
	for len(b) > 0 {
		n := min(10, len(b))
		final := byte(0)
		if n == len(b) {
			final = 1
		}
		out = append(out, final, byte(n), 0, ^byte(n), 0xff)
		out = append(out, b[:n]...)
		b = b[n:]
	}
	return out
}
