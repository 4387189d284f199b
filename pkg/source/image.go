package source

import (
	"context"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
)

// headSize is what the opening request asks for, in bytes: more than the importer looks at
// before it decides, and little to throw away when it then leaves.
const headSize = 256 << 10

// httpImage reads one image over HTTP: in pieces over several connections when the server
// has proved that it sends them, else over one connection from the first byte to the last.
type httpImage struct {
	client  *client
	options Options
	pace    *pace
	facts
	// offset is where Read is.
	offset int64
	// offered is where the server says that its extents are, data what they are. nil means that
	// all may be data.
	offered string
	data    []extent

	// head is the answer to the opening request and stays; nil when there are no ranges.
	head []byte
	// window reads ahead behind head. It is nil until Read gets there.
	window *window

	// stream is the one answer when there are no ranges, and turn the try that opened it.
	stream *stream
	turn   *turn
	// ended is the length that the end of the answer showed, 0 before.
	ended int64
}

// facts are what the opening answer says about the image.
type facts struct {
	size        int64
	framed      bool
	revision    Revision
	contentType string
	// encoding is the Content-Encoding, empty for none.
	encoding string
}

var _ Image = (*httpImage)(nil)

// same tells that an answer is of the image that was opened with f. A digest in the URL leaves
// the server its choice of headers.
func (f facts) same(now facts, addressed bool) bool {
	if addressed {
		return f.size == now.size && f.encoding == now.encoding
	}
	return f == now
}

// openHTTP asks for the first bytes of the image. The answer proves whether the server can
// send parts; Accept-Ranges only claims it. A server without ranges sends the whole image,
// which Read then reads, so that nothing was asked in vain. Only one that sends a part
// without a strong ETag to tell its revision is asked a second time.
func openHTTP(ctx context.Context, u *url.URL, o Options) (*httpImage, error) {
	i := &httpImage{client: newClient(u, o), options: o, pace: newPace(o)}
	if err := i.open(ctx); err != nil {
		i.client.close()
		return nil, err
	}
	i.pace.opened()
	i.learnExtents(ctx)
	return i, nil
}

func (i *httpImage) open(ctx context.Context) error {
	asked := i.part(0, headSize-1)
	if i.options.History.forward.Load() {
		asked = part{}
	}
	var s *stream
	err := i.pace.try(ctx, func(t *turn) error {
		i.turn = t
		var r *http.Response
		var err error
		if s, r, err = openStream(ctx, i.client, asked, i.options.StallTimeout); err != nil {
			return err
		}
		if unproved(asked, r) {
			s.close()
			if isEmpty(r) {
				return fail(EmptySource, i.Name()+" has no bytes")
			}
			asked = part{}
			if s, r, err = openStream(ctx, i.client, asked, i.options.StallTimeout); err != nil {
				return err
			}
		}
		if err := i.accept(asked, r); err != nil {
			s.close()
			return err
		}
		if r.StatusCode == http.StatusPartialContent {
			i.head = make([]byte, min(headSize, i.size))
		}
		return nil
	})
	if err != nil {
		return err
	}
	if i.encoding != "" {
		i.options.Notice(fmt.Sprintf("%s sends its bytes with Content-Encoding %s although nobody asked for it: they are taken as they come", i.Name(), i.encoding))
	}
	if i.Ranged() {
		return i.fetch(ctx, i.head, 0, s, nil)
	}
	i.stream = s
	return nil
}

// part is a range of the image; last -1 means to the end.
func (i *httpImage) part(first, last int64) part {
	return part{first: first, last: last, etag: i.revision.ETag, addressed: i.options.Addressed}
}

// accept takes what an opening answer says about the image.
func (i *httpImage) accept(asked part, r *http.Response) error {
	u := i.client.start.url
	if err := checkStatus(u, r, i.options.Clock.Now()); err != nil {
		return err
	}
	size := r.ContentLength
	if r.StatusCode == http.StatusPartialContent {
		if asked.whole() {
			return fail(SourceRefused, name(u)+" sends a part of the image when asked for the whole")
		}
		c, _ := parseContentRange(r.Header.Get("Content-Range"))
		size = c.total
	}
	i.size = size
	// Without a length and without chunks the end of the connection is the end of the image.
	i.framed = i.size >= 0 || len(r.TransferEncoding) > 0 || r.ProtoMajor > 1
	i.revision = Revision{Length: max(i.size, 0)}
	if !i.options.Addressed {
		i.revision.ETag, i.revision.LastModified = r.Header.Get("ETag"), r.Header.Get("Last-Modified")
	}
	i.offered = r.Header.Get(headerExtents)
	i.contentType, _, _ = mime.ParseMediaType(r.Header.Get("Content-Type"))
	i.encoding = encoding(r)
	if i.size == 0 {
		return fail(EmptySource, name(u)+" has no bytes")
	}
	if err := checkEncoding(u, i.encoding); err != nil {
		return err
	}
	return checkPin(u, i.options.Pin, i.revision)
}

// learn takes the length that a part names, when it was not known.
func (i *httpImage) learn(size int64) {
	if i.size < 0 {
		i.size = size
	}
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
	if !i.Ranged() {
		return i.readForward(ctx, p)
	}
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	if i.offset == i.size {
		return 0, io.EOF
	}
	if i.offset < int64(len(i.head)) {
		n := copy(p, i.head[i.offset:])
		i.offset += int64(n)
		return n, nil
	}
	if i.window == nil {
		i.window = &window{size: i.size, fetch: func(ctx context.Context, p []byte, off int64, arrived func(n int)) error {
			return i.fetch(ctx, p, off, nil, arrived)
		}}
		i.window.start(ctx, i.offset, i.options.Connections)
	}
	n, err := i.window.read(ctx, p)
	i.offset += int64(n)
	return n, err
}

// Rewind implements Image.
func (i *httpImage) Rewind(ctx context.Context) error {
	i.offset = 0
	if i.Ranged() {
		i.stopWindow()
		return nil
	}
	i.stream.close()
	return i.reopen(ctx)
}

func (i *httpImage) stopWindow() {
	if i.window != nil {
		i.window.stop()
		i.window = nil
	}
}

// Ranged implements Image.
func (i *httpImage) Ranged() bool { return i.head != nil }

// Fetched implements Image.
func (i *httpImage) Fetched() int64 { return i.client.fetched.Load() }

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
	i.stopWindow()
	if i.stream != nil {
		i.stream.close()
	}
	i.client.close()
	return nil
}

// encoding is the Content-Encoding of an answer, empty for none.
func encoding(r *http.Response) string {
	text := strings.ToLower(strings.Join(r.Header.Values("Content-Encoding"), ","))
	if text == "identity" {
		return ""
	}
	return text
}

// checkEncoding lets the encodings pass that are formats of images too. Servers name them for
// files that are compressed where they lie, so that nothing must be undone here; and one that
// compresses on the way sends what the importer unpacks. Bytes of any other would look like a
// raw disk.
func checkEncoding(u *url.URL, encoding string) error {
	switch encoding {
	case "", "gzip", "x-gzip", "zstd":
		return nil
	}
	return fail(SourceRefused, fmt.Sprintf("%s sends its bytes with Content-Encoding %.40q although nobody asked for it: switch it off for images", name(u), encoding))
}

// isMultipart tells an answer that wraps parts in a body of its own, which is never asked for.
func isMultipart(r *http.Response) bool {
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return strings.HasPrefix(kind, "multipart/")
}
