package inflate

import (
	"encoding/binary"
	"hash/adler32"
)

// Zlib decodes the zlib data (RFC 1950) at the start of src into dst like Inflate, and checks
// its header and its checksum. A preset dictionary is refused as corrupt: no image format has one.
func (d *Decoder) Zlib(dst, src []byte) (n, used int, err error) {
	const (
		headerSize  = 2
		trailerSize = 4
		deflated    = 8
		dictionary  = 1 << 5
	)
	if len(src) < headerSize {
		return 0, len(src), ErrTruncated
	}
	method, flags := src[0], src[1]
	if method&15 != deflated || method>>4 > 7 || (uint(method)<<8|uint(flags))%31 != 0 || flags&dictionary != 0 {
		return 0, 0, ErrCorrupt
	}
	n, used, err = d.Inflate(dst, src[headerSize:])
	used += headerSize
	if err != nil {
		return n, used, err
	}
	if len(src)-used < trailerSize {
		return n, used, ErrTruncated
	}
	if binary.BigEndian.Uint32(src[used:]) != adler32.Checksum(dst[:n]) {
		return n, used, ErrCorrupt
	}
	return n, used + trailerSize, nil
}
