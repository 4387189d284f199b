package inflate

// fixedTables makes the tables of the fixed code (RFC 1951, 3.2.6).
func (d *Decoder) fixedTables() {
	if d.fixed {
		return
	}
	lengths := d.lengths[:fixedLiterals+fixedDistances]
	for i := range lengths {
		switch {
		case i < 144:
			lengths[i] = 8
		case i < 256:
			lengths[i] = 9
		case i < 280:
			lengths[i] = 7
		case i < fixedLiterals:
			lengths[i] = 8
		default:
			lengths[i] = 5
		}
	}
	// The fixed code is complete.
	_ = build(d.literals[:], literalTableBits, lengths[:fixedLiterals], literalEntry)
	_ = build(d.distances[:], distanceTableBits, lengths[fixedLiterals:], distanceEntry)
	d.fixed = true
}

// dynamicTables makes the tables of a code that the block describes (RFC 1951, 3.2.7).
func (d *Decoder) dynamicTables() error {
	d.fixed = false
	counts, err := d.bits.take(5 + 5 + 4)
	if err != nil {
		return err
	}
	literals := int(counts&31) + 257
	distances := int(counts>>5&31) + 1
	if literals > maxLiterals || distances > maxDistances {
		return ErrCorrupt
	}
	if err := d.metaTable(int(counts>>10) + 4); err != nil {
		return err
	}
	if err := d.codeLengths(literals + distances); err != nil {
		return err
	}
	if !build(d.literals[:], literalTableBits, d.lengths[:literals], literalEntry) ||
		!build(d.distances[:], distanceTableBits, d.lengths[literals:literals+distances], distanceEntry) {
		return ErrCorrupt
	}
	return nil
}

// metaTable makes the table of the code that the lengths of the other two codes are written in.
func (d *Decoder) metaTable(n int) error {
	order := [metaSymbols]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}
	var lengths [metaSymbols]uint8
	for _, symbol := range order[:n] {
		length, err := d.bits.take(3)
		if err != nil {
			return err
		}
		lengths[symbol] = uint8(length) //nolint:gosec // at most 7
	}
	if !build(d.meta[:], metaTableBits, lengths[:], metaEntry) {
		return ErrCorrupt
	}
	return nil
}

// codeLengths reads the lengths of n codes.
func (d *Decoder) codeLengths(n int) error {
	r := &d.bits
	for i := 0; i < n; {
		// A symbol and its extra bits are at most 14 bits.
		if r.count < 14 {
			r.more()
		}
		e := d.meta[r.hold&(1<<metaTableBits-1)]
		if e.is(isInvalid) {
			return ErrCorrupt
		}
		if e.size() > r.count {
			return ErrTruncated
		}
		r.drop(e.size())
		symbol := e.value()
		if symbol < 16 {
			d.lengths[i] = uint8(symbol)
			i++
			continue
		}
		var length uint8
		repeat, extra := 3, uint(2)
		switch symbol {
		case 16:
			if i == 0 {
				return ErrCorrupt
			}
			length = d.lengths[i-1]
		case 17:
			extra = 3
		default:
			repeat, extra = 11, 7
		}
		if extra > r.count {
			return ErrTruncated
		}
		repeat += int(r.hold & (1<<extra - 1)) //nolint:gosec // at most 127
		r.drop(extra)
		if i+repeat > n {
			return ErrCorrupt
		}
		for range repeat {
			d.lengths[i] = length
			i++
		}
	}
	return nil
}
