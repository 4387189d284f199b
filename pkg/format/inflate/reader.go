package inflate

// reader takes bits from a buffer, the lowest bit of a byte first (RFC 1951, 3.1.1).
type reader struct {
	src []byte
	in  int
	// hold has count bits that were read and not taken, the next one lowest. Bits above them are
	// zero or what the next bytes of src will put there.
	hold  uint64
	count uint
}

// more reads bytes until there are more than 56 bits, or no bytes left.
func (r *reader) more() {
	for r.count <= 56 && r.in < len(r.src) {
		r.hold |= uint64(r.src[r.in]) << (r.count & 63)
		r.count += 8
		r.in++
	}
}

// take returns the next n bits, at most 32.
func (r *reader) take(n uint) (uint, error) {
	r.more()
	if r.count < n {
		return 0, ErrTruncated
	}
	v := uint(r.hold & (1<<n - 1))
	r.drop(n)
	return v, nil
}

// drop takes n bits that are known to be there.
func (r *reader) drop(n uint) {
	r.hold >>= n & 63
	r.count -= n
}

// used is how many bytes of src were taken, a byte of which any bit was taken included.
func (r *reader) used() int { return r.in - int(r.count/8) }

// rest goes to the next whole byte and returns what is left of src from there.
func (r *reader) rest() []byte {
	r.in = r.used()
	r.hold, r.count = 0, 0
	return r.src[r.in:]
}

// skip goes over n bytes of what rest returned.
func (r *reader) skip(n int) { r.in += n }
