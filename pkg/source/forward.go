package source

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// readForward reads a source without ranges: one answer from its first byte to its last. When
// it breaks, the rest is asked for once more with the ETag, if that is strong; a server that
// cannot send a rest makes the importer start over.
func (i *httpImage) readForward(ctx context.Context, p []byte) (int, error) {
	for {
		if i.size >= 0 && i.offset == i.size {
			return 0, io.EOF
		}
		if i.size >= 0 {
			p = p[:min(int64(len(p)), i.size-i.offset)]
		}
		stop := context.AfterFunc(ctx, i.stream.cancel)
		n, err := i.stream.read(p)
		stop()
		i.offset += int64(n)
		i.pace.came(n)
		if n > 0 {
			return n, nil
		}
		if errors.Is(err, io.EOF) && i.size < 0 {
			return 0, i.end()
		}
		if err := i.resume(ctx, i.broken(ctx, i.offset, err)); err != nil {
			return 0, err
		}
	}
}

// end judges the end of an image whose length was not known.
func (i *httpImage) end() error {
	if i.offset == 0 {
		return fail(EmptySource, i.Name()+" has no bytes")
	}
	if i.ended > 0 && i.ended != i.offset {
		return &Error{reason: SourceUnstable, message: fmt.Sprintf("%s had %d bytes and now has %d", i.Name(), i.ended, i.offset), startOver: true}
	}
	i.ended = i.offset
	if err := checkPin(i.client.start.url, i.options.Pin, Revision{ETag: i.revision.ETag, LastModified: i.revision.LastModified, Length: i.offset}); err != nil {
		return err
	}
	return io.EOF
}

// resume opens the rest of the image after cause ended the stream.
func (i *httpImage) resume(ctx context.Context, cause error) error {
	i.stream.close()
	if !i.options.Addressed && !strong(i.revision.ETag) && i.offset > 0 {
		return startOver(cause)
	}
	if err := i.pace.fault(i.turn, cause); err != nil {
		return err
	}
	return i.reopen(ctx)
}

// reopen opens the rest of the image, or the whole of it when nothing was read.
func (i *httpImage) reopen(ctx context.Context) error {
	return i.pace.try(ctx, func(t *turn) error {
		i.turn = t
		if i.offset > 0 {
			s, err := i.ask(ctx, i.part(i.offset, -1), i.options)
			if err != nil {
				return known(err)
			}
			i.stream = s
			return nil
		}
		// The first answer has been checked and shown: this one must be the same.
		before := i.facts
		s, r, err := openStream(ctx, i.client, part{}, i.options.StallTimeout)
		if err != nil {
			return known(err)
		}
		if err := i.accept(part{}, r); err != nil {
			s.close()
			return err
		}
		if !before.same(i.facts, i.options.Addressed) {
			i.facts = before
			s.close()
			return &Error{reason: SourceUnstable, message: i.Name() + " changed while it was read", startOver: true}
		}
		i.stream = s
		return nil
	})
}

// startOver marks an error: the image may be opened again, but not resumed.
func startOver(cause error) error {
	var e *Error
	if !errors.As(cause, &e) {
		return cause
	}
	again := *e
	again.message += ", and the server gives no strong ETag to resume with"
	again.startOver = true
	return &again
}
