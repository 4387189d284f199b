package inflate

import "encoding/binary"

const (
	// inputSlack is how far codesFast reads ahead in a round: it reads 8 bytes twice and goes on by at most 7 in between.
	inputSlack = 16
	// outputSlack is how much codesFast writes in a round: two literals, or a literal and a longest match,
	// in steps of 8 bytes.
	outputSlack = 2 + 258 + 8

	literalMask  = 1<<literalTableBits - 1
	distanceMask = 1<<distanceTableBits - 1
)

// codes decodes the codes of a block up to its end (RFC 1951, 3.2.3).
func (d *Decoder) codes() error {
	end, err := d.codesFast()
	for !end && err == nil {
		end, err = d.code()
	}
	return err
}

// codesFast decodes while input and output are so far from their ends that neither need be
// looked at, and tells whether the block ended.
func (d *Decoder) codesFast() (end bool, err error) {
	// All in variables of its own, for the compiler to keep in registers.
	src, in := d.bits.src, d.bits.in
	dst, out := d.dst, d.out
	hold, count := d.bits.hold, d.bits.count
	literals, distances := &d.literals, &d.distances
	lastIn, lastOut := len(src)-inputSlack, len(dst)-outputSlack

	for in <= lastIn && out <= lastOut {
		// At least 56 bits. The bits above count are those of the next bytes already or zero.
		hold |= binary.LittleEndian.Uint64(src[in:]) << (count & 63)
		in += int((63 - count) >> 3)
		count |= 56

		e := literals[hold&literalMask]
		if e.is(isLiteral) {
			// Up to three literals of at most 11 bits each leave 23 for a length: 15 and 5.
			hold >>= e.size() & 63
			count -= e.size()
			dst[out] = e.literal()
			out++
			e = literals[hold&literalMask]
			if e.is(isLiteral) {
				hold >>= e.size() & 63
				count -= e.size()
				dst[out] = e.literal()
				out++
				e = literals[hold&literalMask]
				if e.is(isLiteral) {
					hold >>= e.size() & 63
					count -= e.size()
					dst[out] = e.literal()
					out++
					continue
				}
			}
		}
		if e.is(isSpecial) {
			if e.is(isLink) {
				hold >>= literalTableBits
				count -= literalTableBits
				e = literals[e.value()+uint(hold)&(1<<e.codeSize()-1)]
				if e.is(isLiteral) {
					hold >>= e.size() & 63
					count -= e.size()
					dst[out] = e.literal()
					out++
					continue
				}
			}
			if e.is(isEnd) {
				hold >>= e.size() & 63
				count -= e.size()
				end = true
				break
			}
			if e.is(isInvalid) {
				err = ErrCorrupt
				break
			}
		}
		length := int(e.value() + uint(hold)&(1<<(e.size()&63)-1)>>(e.codeSize()&63))
		hold >>= e.size() & 63
		count -= e.size()

		// A distance is at most 15 and 13 bits.
		hold |= binary.LittleEndian.Uint64(src[in:]) << (count & 63)
		in += int((63 - count) >> 3)
		count |= 56
		e = distances[hold&distanceMask]
		if e.is(isSpecial) {
			if e.is(isLink) {
				hold >>= distanceTableBits
				count -= distanceTableBits
				e = distances[e.value()+uint(hold)&(1<<e.codeSize()-1)]
			}
			if e.is(isInvalid) {
				err = ErrCorrupt
				break
			}
		}
		distance := int(e.value() + uint(hold)&(1<<(e.size()&63)-1)>>(e.codeSize()&63))
		hold >>= e.size() & 63
		count -= e.size()
		if distance > out {
			err = ErrCorrupt
			break
		}
		copyFast(dst, out, distance, length)
		out += length
	}
	d.bits.in, d.bits.hold, d.bits.count = in, hold, count
	d.out = out
	return end, err
}

// copyFast copies a match within dst to out. It writes up to 7 bytes too many, for which there must be room.
func copyFast(dst []byte, out, distance, length int) {
	end := out + length
	from := out - distance
	switch {
	case distance >= 8:
		for ; out < end; out, from = out+8, from+8 {
			binary.LittleEndian.PutUint64(dst[out:], binary.LittleEndian.Uint64(dst[from:]))
		}
	case distance == 1:
		run := uint64(dst[from]) * 0x0101010101010101
		for ; out < end; out += 8 {
			binary.LittleEndian.PutUint64(dst[out:], run)
		}
	default:
		// The first distance bytes of each 8 are right, the next 8 start behind them.
		for ; out < end; out, from = out+distance, from+distance {
			binary.LittleEndian.PutUint64(dst[out:], binary.LittleEndian.Uint64(dst[from:]))
		}
	}
}

// code decodes one code and looks at the ends of input and output.
func (d *Decoder) code() (end bool, err error) {
	if d.fill && d.out == len(d.dst) {
		return false, errFull
	}
	e, extra, err := d.symbol(d.literals[:], literalTableBits)
	switch {
	case err != nil:
		return false, err
	case e.is(isEnd):
		return true, nil
	case d.out == len(d.dst):
		return false, errFull
	case e.is(isLiteral):
		d.dst[d.out] = e.literal()
		d.out++
		return false, nil
	}
	length := int(e.value() + extra)
	e, extra, err = d.symbol(d.distances[:], distanceTableBits)
	if err != nil {
		return false, err
	}
	distance := int(e.value() + extra)
	if distance > d.out {
		return false, ErrCorrupt
	}
	room := len(d.dst) - d.out
	for range min(length, room) {
		d.dst[d.out] = d.dst[d.out-distance]
		d.out++
	}
	if length > room {
		return false, errFull
	}
	return false, nil
}

// symbol takes the next symbol and its extra bits.
func (d *Decoder) symbol(table []entry, tableBits uint) (e entry, extra uint, err error) {
	r := &d.bits
	r.more()
	// Bits behind the end of the input look like zeros here. No code is shorter for that.
	e = table[r.hold&(1<<tableBits-1)]
	first := uint(0)
	if e.is(isLink) {
		first = tableBits
		e = table[e.value()+uint(r.hold>>tableBits)&(1<<e.codeSize()-1)]
	}
	if first+e.size() > r.count {
		return 0, 0, ErrTruncated
	}
	if e.is(isInvalid) {
		return 0, 0, ErrCorrupt
	}
	r.drop(first)
	extra = uint(r.hold) & (1<<e.size() - 1) >> e.codeSize()
	r.drop(e.size())
	return e, extra, nil
}
