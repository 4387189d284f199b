package source

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// fetch fills p with the bytes from off on, in as many tries as it takes; each goes on where
// the last one broke. s is an answer that begins at off, or nil. arrived, which may be nil,
// is told how many bytes more are there.
func (i *httpImage) fetch(ctx context.Context, p []byte, off int64, s *stream, arrived func(n int)) error {
	done, wholes := 0, 0
	return i.pace.try(ctx, func(t *turn) error {
		at := off + int64(done)
		if s == nil {
			var err error
			if s, err = i.ask(ctx, i.part(at, off+int64(len(p))-1), i.options); err != nil {
				return i.without(known(err), &wholes)
			}
		}
		defer func() { s.close(); s = nil }()
		t.flows()
		for done < len(p) {
			n, err := s.read(p[done:])
			done += n
			i.pace.came(n)
			if arrived != nil && n > 0 {
				arrived(n)
			}
			if err != nil && done < len(p) {
				return i.broken(ctx, off+int64(done), err)
			}
		}
		return nil
	})
}

// ask makes one try to open a part of the opened revision.
func (i *httpImage) ask(ctx context.Context, p part, o Options) (*stream, error) {
	s, r, err := openStream(ctx, i.client, p, o.StallTimeout)
	if err != nil {
		return nil, err
	}
	c, err := checkPart(i.client.start.url, p, r, i.size, o.Clock.Now())
	if err == nil && encoding(r) != i.encoding {
		err = &Error{reason: SourceUnstable, message: i.Name() + " changed its Content-Encoding while it was read", startOver: true}
	}
	if err != nil {
		s.close()
		return nil, err
	}
	// A part may end before the image does: only now is its end known for sure.
	i.learn(c.total)
	return s, nil
}

// maxWholes is how many whole images in place of one part end the reading in parts. The waits
// between them are 7 s, or half a minute when several connections meet them.
const maxWholes = 4

// without judges a whole image that came in place of a part, though the server has sent parts. One
// of many servers behind an address may have no ranges: the others are asked again. If none is
// left, the image must be opened anew, and is then read from its first byte to its last.
func (i *httpImage) without(err error, wholes *int) error {
	var e *Error
	if !errors.As(err, &e) || !e.whole {
		return err
	}
	if *wholes++; *wholes == maxWholes {
		i.options.History.forward.Store(true)
		return err
	}
	again := *e
	again.startOver = false
	return &again
}

// broken says what ended an answer at a byte of the image before it was whole.
func (i *httpImage) broken(ctx context.Context, offset int64, err error) error {
	at := fmt.Sprintf("reading %s at byte %d", i.Name(), offset)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, errStalled):
		return fail(Stalled, fmt.Sprintf("%s: nothing came for %s", at, i.options.StallTimeout))
	case errors.Is(err, errSlow):
		return fail(Stalled, fmt.Sprintf("%s: less than %d bytes a second came for %s", at, minRate, i.options.StallTimeout))
	}
	return failBy(ConnectionFailed, at, plain(err))
}

// known turns a host that does not exist into a name server that errs: the host was there.
func known(err error) error {
	var e *Error
	if !errors.As(err, &e) || e.reason != HostNotFound {
		return err
	}
	return fail(LookupFailed, e.message)
}

// ReadAt implements Image.
func (i *httpImage) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if !i.Ranged() {
		return 0, fail(SourceRefused, i.Name()+" cannot be read at random: the server gives no ranges with a strong ETag")
	}
	if off < 0 {
		return 0, fail(SourceRefused, fmt.Sprintf("reading %s: the offset %d is negative", i.Name(), off))
	}
	wanted := len(p)
	p = p[:max(0, min(int64(wanted), i.size-off))]
	n := 0
	if off < int64(len(i.head)) {
		n = copy(p, i.head[off:])
	}
	if n < len(p) {
		if err := i.fetch(ctx, p[n:], off+int64(n), nil, nil); err != nil {
			return n, err
		}
	}
	if len(p) < wanted {
		return len(p), io.EOF
	}
	return len(p), nil
}
