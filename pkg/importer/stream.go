package importer

import (
	"bytes"
	"context"
	"fmt"
	"io"
)

// stream is an image in the order of its bytes: the source, hashed, and unpacked if it is
// compressed.
type stream struct {
	io.Reader
	flow   *flow
	unpack io.Closer
	hashes hashes
}

// openStream starts to read the source at its first byte. head was read from it before.
func (r *run) openStream(ctx context.Context, i *inspected, head []byte) (*stream, error) {
	s := &stream{hashes: newHashes(r.expected)}
	if etag, _ := i.source.Validators(); len(s.hashes) == 0 && !strong(etag) && !i.source.Ranged() && !i.image.Flat {
		// Nothing but a digest tells whether a second reading brings the same bytes. A flat disk needs none.
		s.hashes = newHashes([]Checksum{unknown()})
	}
	r.report.pass()
	s.flow = startFlow(ctx, i.source, i.hangUp, head, s.hashes)
	s.Reader = s.flow
	if i.compression == "" {
		return s, nil
	}
	unpacked, err := r.parts.Formats.Decompress(ctx, i.compression, s.flow)
	if err != nil {
		s.flow.close()
		return nil, err
	}
	s.Reader, s.unpack = unpacked, unpacked
	return s, nil
}

// unread gives back what was read first.
func (s *stream) unread(head []byte) { s.Reader = io.MultiReader(bytes.NewReader(head), s.Reader) }

// drain reads what is left of the source: its checksum is of all bytes.
func (s *stream) drain() error {
	_, err := io.Copy(io.Discard, s.flow)
	return err
}

func (s *stream) close() {
	// The source first: unpacking may wait for it.
	s.flow.end()
	if s.unpack != nil {
		_ = s.unpack.Close()
	}
	s.flow.close()
}

// verify compares length and checksums of the bytes as served.
func (r *run) verify(i *inspected, length int64, h hashes) error {
	r.report.phase(Verifying, "")
	if pinned := r.options.Pin.Length; pinned != 0 && pinned != length {
		return &Error{Reason: SourceChanged, Err: fmt.Errorf("%s has %d bytes, pinned is %d", i.source.Name(), length, pinned)}
	}
	for n, want := range r.expected {
		got := h[n].sum()
		switch {
		case want.matches(got):
		case r.origin.Expected == want.String():
			return &Error{Reason: DigestMismatch, Err: fmt.Errorf("%s has the digest %s, its manifest names %s: push the image again", i.source.Name(), got, want)}
		default:
			return &Error{Reason: ChecksumMismatch, Err: fmt.Errorf("%s has the checksum %s, expected is %s: the image changed, or the checksum is of another one", i.source.Name(), got, want)}
		}
	}
	if len(r.expected) > 0 && r.origin.Digest == "" {
		r.result.Digest = h[0].sum()
	}
	return nil
}

// digestAll reads the whole source for its checksum alone, where the image is read at random.
func (r *run) digestAll(ctx context.Context, i *inspected) error {
	if len(r.expected) == 0 {
		return nil
	}
	if err := i.source.Rewind(ctx); err != nil {
		return err
	}
	s, err := r.openStream(ctx, i, nil)
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.drain(); err != nil {
		return err
	}
	return r.verify(i, s.flow.length, s.hashes)
}

// fill reads until p is full. ended tells that the reader is at its end. io.ReadFull is no use here: it
// says ErrUnexpectedEOF for an end, which a broken stream may say too.
func fill(r io.Reader, p []byte) (n int, ended bool, err error) {
	for n < len(p) {
		m, err := r.Read(p[n:])
		n += m
		if isEnd(err) {
			return n, true, nil
		}
		if err != nil {
			return n, false, err
		}
	}
	return n, false, nil
}
