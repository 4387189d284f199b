package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// httpImage reads one image over one connection at a time and resumes when it breaks.
type httpImage struct {
	client  *client
	options Options

	size        int64
	framed      bool
	ranges      bool
	revision    Revision
	contentType string

	offset int64
	stream *stream
	// tries counts failures in a row without progress; mark is the offset at the last one.
	tries int
	mark  int64
}

var _ Image = (*httpImage)(nil)

// openHTTP asks for the image from its first byte; the answer's body is what Read reads.
func openHTTP(ctx context.Context, u *url.URL, o Options) (*httpImage, error) {
	i := &httpImage{client: newClient(u, o), options: o}
	for {
		err := i.start(ctx)
		if err == nil {
			return i, nil
		}
		if err := i.waitAfter(ctx, err); err != nil {
			i.client.close()
			return nil, err
		}
	}
}

// start makes one try to open the whole image.
func (i *httpImage) start(ctx context.Context) error {
	s, r, err := openStream(ctx, i.client, part{}, i.options.StallTimeout)
	if err != nil {
		return err
	}
	if err := i.accept(r); err != nil {
		s.close()
		return err
	}
	i.stream = s
	return nil
}

func (i *httpImage) accept(r *http.Response) error {
	u := i.client.start.url
	if err := checkStatus(u, r, i.options.Clock.Now()); err != nil {
		return err
	}
	if r.StatusCode == http.StatusPartialContent {
		return fail(SourceRefused, name(u)+" sends a part of the image when asked for the whole")
	}
	i.size = r.ContentLength
	// Without a length and without chunks the end of the connection is the end of the image.
	i.framed = i.size >= 0 || len(r.TransferEncoding) > 0 || r.ProtoMajor > 1
	i.ranges = strings.EqualFold(r.Header.Get("Accept-Ranges"), "bytes")
	i.revision = Revision{ETag: r.Header.Get("ETag"), LastModified: r.Header.Get("Last-Modified"), Length: max(i.size, 0)}
	i.contentType, _, _ = mime.ParseMediaType(r.Header.Get("Content-Type"))
	if i.size == 0 {
		return fail(EmptySource, name(u)+" has no bytes")
	}
	return checkPin(u, i.options.Pin, i.revision)
}

// checkPin compares what is served with what is wanted. A length that the server does not
// say is checked by the reader at the end.
func checkPin(u *url.URL, pin, served Revision) error {
	changed := func(what, want, got string) error {
		return fail(SourceChanged, fmt.Sprintf("%s is no longer the pinned revision: its %s is %s, pinned is %s", name(u), what, got, want))
	}
	switch {
	case pin.ETag != "" && pin.ETag != served.ETag:
		return changed("ETag", pin.ETag, served.ETag)
	case pin.LastModified != "" && pin.LastModified != served.LastModified:
		return changed("Last-Modified", pin.LastModified, served.LastModified)
	case pin.Length != 0 && served.Length != 0 && pin.Length != served.Length:
		return changed("length", fmt.Sprint(pin.Length), fmt.Sprint(served.Length))
	}
	return nil
}

// Read implements Image.
func (i *httpImage) Read(ctx context.Context, p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		if i.size >= 0 && i.offset == i.size {
			return 0, io.EOF
		}
		if i.size >= 0 {
			p = p[:min(int64(len(p)), i.size-i.offset)]
		}
		n, err := i.stream.read(p)
		i.offset += int64(n)
		if n > 0 {
			return n, nil
		}
		if errors.Is(err, io.EOF) && i.size < 0 {
			return 0, i.end()
		}
		if err := i.resume(ctx, i.broken(ctx, err)); err != nil {
			return 0, err
		}
	}
}

// end judges the end of an image whose length was not known.
func (i *httpImage) end() error {
	u := i.client.start.url
	if i.offset == 0 {
		return fail(EmptySource, name(u)+" has no bytes")
	}
	if err := checkPin(u, i.options.Pin, Revision{ETag: i.revision.ETag, LastModified: i.revision.LastModified, Length: i.offset}); err != nil {
		return err
	}
	return io.EOF
}

// broken says what ended the stream before the image was whole.
func (i *httpImage) broken(ctx context.Context, err error) error {
	u := i.client.start.url
	at := fmt.Sprintf("reading %s at byte %d", name(u), i.offset)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, errStalled):
		return fail(Stalled, fmt.Sprintf("%s: nothing came for %s", at, i.options.StallTimeout))
	}
	return failBy(ConnectionFailed, at, plain(err))
}

// resume opens the rest of the image after cause ended the stream.
func (i *httpImage) resume(ctx context.Context, cause error) error {
	i.stream.close()
	if i.offset-i.mark >= progressBytes {
		i.tries = 0
	}
	i.mark = i.offset
	if !strong(i.revision.ETag) && i.offset > 0 {
		return startOver(cause)
	}
	for {
		if err := i.waitAfter(ctx, cause); err != nil {
			return err
		}
		err := i.reopen(ctx)
		if err == nil {
			return nil
		}
		cause = known(err)
	}
}

// known turns a host that does not exist into a name server that errs: the host was there.
func known(err error) error {
	var e *Error
	if !errors.As(err, &e) || e.reason != HostNotFound {
		return err
	}
	return fail(LookupFailed, e.message)
}

// reopen makes one try to open the rest of the image.
func (i *httpImage) reopen(ctx context.Context) error {
	p := part{first: i.offset, last: -1, etag: i.revision.ETag}
	if i.offset == 0 {
		// Nothing was read yet, but the first answer has been checked and shown: it must be the same.
		p = part{}
	}
	s, r, err := openStream(ctx, i.client, p, i.options.StallTimeout)
	if err != nil {
		return err
	}
	if err := i.acceptRest(p, r); err != nil {
		s.close()
		return err
	}
	i.stream = s
	return nil
}

func (i *httpImage) acceptRest(p part, r *http.Response) error {
	u := i.client.start.url
	if p.whole() {
		before := *i
		if err := i.accept(r); err != nil {
			return err
		}
		if i.revision != before.revision || i.size != before.size {
			return &Error{reason: SourceUnstable, message: name(u) + " changed while it was read", startOver: true}
		}
		return nil
	}
	if r.StatusCode != http.StatusRequestedRangeNotSatisfiable {
		if err := checkStatus(u, r, i.options.Clock.Now()); err != nil {
			return err
		}
	}
	c, err := checkPart(u, p, r, i.size)
	if err != nil {
		return err
	}
	// A part may end before the image does: only now is its end known for sure.
	i.size = c.total
	return nil
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

// waitAfter counts a failed try and waits before the next one, or returns err as final.
func (i *httpImage) waitAfter(ctx context.Context, err error) error {
	var e *Error
	if !errors.As(err, &e) || e.startOver {
		return err
	}
	i.tries++
	wait, again := nextTry(e, i.tries, i.options.Jitter())
	if !again {
		return err
	}
	i.options.Notice(fmt.Sprintf("%s: %v; next try in %s", e.Reason(), err, wait.Round(100*time.Millisecond)))
	return i.options.Clock.Sleep(ctx, wait)
}

// Size implements Image.
func (i *httpImage) Size() int64 { return i.size }

// Framed implements Image.
func (i *httpImage) Framed() bool { return i.framed }

// Validators implements Image.
func (i *httpImage) Validators() (etag, lastModified string) {
	return i.revision.ETag, i.revision.LastModified
}

// ContentType implements Image.
func (i *httpImage) ContentType() string { return i.contentType }

// Name implements Image.
func (i *httpImage) Name() string { return name(i.client.start.url) }

// Close implements Image.
func (i *httpImage) Close() error {
	i.stream.close()
	i.client.close()
	return nil
}
