// Package inflate decodes DEFLATE data (RFC 1951) from one buffer into another.
//
// Disk images hold millions of small compressed clusters, each wholly in memory and of a known
// size. A decoder for a stream has to stop at every byte and to keep a window of its own; this
// one reads its input eight bytes at a time and copies matches within its output.
package inflate

import "errors"

// problem is why data cannot be decoded. It is a constant, so that nobody can change it.
type problem string

func (p problem) Error() string { return string(p) }

// What can be wrong with compressed data.
const (
	// ErrCorrupt: the data breaks a rule of the format.
	ErrCorrupt problem = "deflate data is corrupt"
	// ErrTruncated: the input ended before the data did.
	ErrTruncated problem = "deflate data ends early"
	// ErrOverflow: the data decodes to more than the output has room for.
	ErrOverflow problem = "deflate data is longer than expected"
	// ErrShort: the data decodes to less than the output that Fill was to fill.
	ErrShort problem = "deflate data is shorter than expected"
)

// errFull ends decoding when the output is full. Callers see ErrOverflow or nothing.
const errFull problem = "output is full"

// Kinds of blocks (RFC 1951, 3.2.3).
const (
	blockStored = iota
	blockFixed
	blockDynamic
)

// Decoder decodes one buffer after another. It holds the code tables, about 12 KiB, so that no
// call allocates. The zero value is ready. It must not be used by two goroutines at once.
type Decoder struct {
	bits reader
	// dst is the output and out the number of bytes in it. A decoder holds buffers only during a call.
	dst []byte
	out int
	// fill ends the data at the end of the output.
	fill bool
	// fixed tells that the tables hold the fixed code (RFC 1951, 3.2.6).
	fixed bool

	literals  [literalTableSize]entry
	distances [distanceTableSize]entry
	meta      [1 << metaTableBits]entry
	lengths   [maxLengths]uint8
}

// Inflate decodes src into dst with a new Decoder. See Decoder.Inflate.
func Inflate(dst, src []byte) (int, error) {
	n, _, err := new(Decoder).Inflate(dst, src)
	return n, err
}

// Inflate decodes the DEFLATE data at the start of src into dst. It returns the number of bytes
// decoded and how many bytes of src the data took; what follows in src is left alone. Bytes of
// dst behind the decoded ones may change. The error is ErrCorrupt, ErrTruncated or ErrOverflow.
func (d *Decoder) Inflate(dst, src []byte) (n, used int, err error) {
	n, used, err = d.decode(dst, src, false)
	if errors.Is(err, errFull) {
		err = ErrOverflow
	}
	return n, used, err
}

// Fill decodes src until dst is full and looks no further: the data may go on, end there or be
// followed by anything. QEMU reads a compressed cluster like that, for it knows the cluster's
// size but the size of its data only in sectors. The error is ErrCorrupt, ErrTruncated, or
// ErrShort when the data ends first. used is how many bytes of src were needed.
func (d *Decoder) Fill(dst, src []byte) (used int, err error) {
	n, used, err := d.decode(dst, src, true)
	if errors.Is(err, errFull) {
		return used, nil
	}
	if err == nil && n < len(dst) {
		err = ErrShort
	}
	return used, err
}

func (d *Decoder) decode(dst, src []byte, fill bool) (n, used int, err error) {
	d.bits = reader{src: src}
	d.dst, d.out, d.fill = dst, 0, fill
	for final := false; !final && err == nil; {
		final, err = d.block()
	}
	n, used = d.out, d.bits.used()
	d.bits, d.dst = reader{}, nil
	return n, used, err
}

// block decodes one block (RFC 1951, 3.2.3) and tells whether it is the last one.
func (d *Decoder) block() (final bool, err error) {
	if d.fill && d.out == len(d.dst) {
		return false, errFull
	}
	header, err := d.bits.take(3)
	if err != nil {
		return false, err
	}
	switch header >> 1 {
	case blockStored:
		err = d.stored()
	case blockFixed:
		d.fixedTables()
		err = d.codes()
	case blockDynamic:
		if err = d.dynamicTables(); err == nil {
			err = d.codes()
		}
	default:
		err = ErrCorrupt
	}
	return header&1 == 1, err
}

// stored copies a block without compression (RFC 1951, 3.2.4).
func (d *Decoder) stored() error {
	rest := d.bits.rest()
	const header = 4
	if len(rest) < header {
		return ErrTruncated
	}
	length := int(rest[0]) | int(rest[1])<<8
	if check := int(rest[2]) | int(rest[3])<<8; check != length^0xffff {
		return ErrCorrupt
	}
	rest = rest[header:]
	n := copy(d.dst[d.out:], rest[:min(length, len(rest))])
	d.out += n
	d.bits.skip(header + n)
	switch {
	case n == length:
		return nil
	case d.out == len(d.dst):
		return errFull
	default:
		return ErrTruncated
	}
}
