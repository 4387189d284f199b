package inflate

import "math/bits"

// Sizes of the alphabets (RFC 1951, 3.2.5 to 3.2.7). The last two symbols of the fixed literal
// and distance alphabets have codes and no meaning.
const (
	maxLiterals  = 286
	maxDistances = 30
	metaSymbols  = 19
	maxCodeBits  = 15
	endOfBlock   = 256

	fixedLiterals  = 288
	fixedDistances = 32

	// A repeat of lengths (RFC 1951, 3.2.7) may reach beyond the last one before it is refused.
	maxLengths = max(maxLiterals+maxDistances+138, fixedLiterals+fixedDistances)
)

// Codes of at most this many bits are looked up at once; the first bits of a longer one lead to
// a second table. The sizes are those that zlib's examples/enough.c finds for these alphabets:
// the first table and the most that second tables can take.
const (
	literalTableBits  = 11
	literalTableSize  = 2342
	distanceTableBits = 8
	distanceTableSize = 402
	metaTableBits     = 7
)

// entry is what the next bits of the input mean.
//
//	bit 31      it is a literal
//	bits 16-30  the literal; the least length or distance; where the second table starts
//	bit 15      it is one of the next three and nothing else
//	bit 14      it leads to a second table
//	bit 13      it ends the block
//	bit 12      it means nothing: the data is corrupt
//	bits 8-11   bits of the code alone; of a second table's index
//	bits 0-7    bits of the code and of the extra bits behind it
type entry uint32

const (
	isLiteral entry = 1 << 31
	isSpecial entry = 1 << 15
	isLink    entry = isSpecial | 1<<14
	isEnd     entry = isSpecial | 1<<13
	isInvalid entry = isSpecial | 1<<12

	valueShift = 16
	codeShift  = 8
)

// literal is the byte that a literal stands for.
func (e entry) literal() byte { return byte(e >> valueShift & 0xff) }

// value is the least length or distance, or where the second table starts.
func (e entry) value() uint { return uint(e >> valueShift & 0x7fff) }

// size is the number of bits to drop.
func (e entry) size() uint { return uint(e & 0xff) }

// codeSize is the number of bits before the extra bits, or of a second table's index.
func (e entry) codeSize() uint { return uint(e >> codeShift & 15) }

// is tells whether all the flags are set.
func (e entry) is(flags entry) bool { return e&flags == flags }

// withCode adds the bits of the code to the entry of a symbol.
func (e entry) withCode(bits uint) entry { return e + entry(bits<<codeShift|bits) } //nolint:gosec // at most 15

// literalEntry is the meaning of a symbol of the literal alphabet (RFC 1951, 3.2.5).
func literalEntry(symbol uint) entry {
	switch {
	case symbol < endOfBlock:
		return isLiteral | entry(symbol<<valueShift)
	case symbol == endOfBlock:
		return isEnd
	case symbol < 265:
		return entry((symbol - 254) << valueShift)
	case symbol < 285:
		extra := (symbol - 261) / 4
		return entry(((4+(symbol-261)%4)<<extra+3)<<valueShift | extra) //nolint:gosec // 11 to 257
	case symbol == 285:
		return 258 << valueShift
	default:
		return isInvalid
	}
}

// distanceEntry is the meaning of a symbol of the distance alphabet (RFC 1951, 3.2.5).
func distanceEntry(symbol uint) entry {
	switch {
	case symbol < 4:
		return entry((symbol + 1) << valueShift)
	case symbol < maxDistances:
		extra := symbol/2 - 1
		return entry(((2+symbol%2)<<extra+1)<<valueShift | extra) //nolint:gosec // 5 to 24577
	default:
		return isInvalid
	}
}

// metaEntry is a symbol of the alphabet of code lengths itself (RFC 1951, 3.2.7).
func metaEntry(symbol uint) entry { return entry(symbol << valueShift) } //nolint:gosec // below 19

// build makes the table of the code with these lengths (RFC 1951, 3.2.2), of which the first
// 1<<tableBits entries are looked up first, and tells whether the code is sound. Like zlib and
// compress/flate it takes a complete code, one code of one bit, and no code at all; what has no
// code is an invalid entry.
func build(table []entry, tableBits uint, lengths []uint8, meaning func(symbol uint) entry) bool {
	var counts [maxCodeBits + 1]uint
	for _, n := range lengths {
		counts[n&maxCodeBits]++
	}
	counts[0] = 0
	var starts [maxCodeBits + 2]uint
	codes := uint(0)
	for n := 1; n <= maxCodeBits; n++ {
		starts[n+1] = starts[n] + counts[n]
		codes = codes<<1 + counts[n]
	}
	used := starts[maxCodeBits+1]
	if used == 0 || used == 1 && counts[1] == 1 {
		buildDegenerate(table[:1<<tableBits], lengths, meaning)
		return true
	}
	if codes != 1<<maxCodeBits {
		return false
	}
	// Codes of a length follow each other in the order of their symbols.
	var sorted [fixedLiterals]uint16
	for symbol, n := range lengths {
		if n != 0 {
			sorted[starts[n&maxCodeBits]] = uint16(symbol)
			starts[n&maxCodeBits]++
		}
	}
	buildComplete(table, tableBits, &counts, sorted[:used], meaning)
	return true
}

// buildDegenerate makes the table of no code, or of one code of one bit, which is 0.
func buildDegenerate(table []entry, lengths []uint8, meaning func(symbol uint) entry) {
	for i := range table {
		table[i] = isInvalid
	}
	for symbol, n := range lengths {
		if n == 0 {
			continue
		}
		for i := 0; i < len(table); i += 2 {
			table[i] = meaning(uint(symbol)).withCode(1)
		}
	}
}

// buildComplete makes the table of a complete code. The table starts as short as the shortest
// code and is doubled on the way to longer ones, so that each code is entered once. Codes stand
// in the input with their first bit lowest, so they are counted up from the highest bit.
func buildComplete(table []entry, tableBits uint, counts *[maxCodeBits + 1]uint, sorted []uint16, meaning func(symbol uint) entry) {
	length := uint(1)
	for counts[length] == 0 {
		length++
	}
	code, filled := uint(0), uint(1)<<min(length, tableBits)
	link, linkBits, end := ^uint(0), uint(0), uint(1)<<tableBits
	for i, symbol := range sorted {
		for counts[length] == 0 {
			length++
			if length <= tableBits {
				copy(table[filled:2*filled], table[:filled])
				filled *= 2
			}
		}
		e := meaning(uint(symbol))
		if length <= tableBits {
			table[code] = e.withCode(length)
		} else {
			if code&(1<<tableBits-1) != link {
				link = code & (1<<tableBits - 1)
				linkBits = secondTableBits(length, tableBits, counts)
				table[link] = isLink | entry(end<<valueShift|linkBits<<codeShift|tableBits) //nolint:gosec // fits its fields
				end += 1 << linkBits
			}
			second := table[end-1<<linkBits : end]
			for j := code >> tableBits; j < uint(len(second)); j += 1 << (length - tableBits) {
				second[j] = e.withCode(length - tableBits)
			}
		}
		counts[length]--
		if i < len(sorted)-1 {
			code = next(code, length)
		}
	}
	for ; filled < 1<<tableBits; filled *= 2 {
		copy(table[filled:2*filled], table[:filled])
	}
}

// next is the code of this length after one, first bit lowest. There is one.
func next(code, length uint) uint {
	highestZero := uint(1) << (bits.Len(code^(1<<length-1)) - 1)
	return code&(highestZero-1) | highestZero
}

// secondTableBits is the size of the second table that the next code of this length starts: as
// many bits as make the codes that follow complete in it.
func secondTableBits(length, tableBits uint, counts *[maxCodeBits + 1]uint) uint {
	n := length - tableBits
	for room := counts[length]; room < 1<<n; {
		n++
		room = room<<1 + counts[tableBits+n]
	}
	return n
}
