package layer

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"

	"github.com/gild-project/gild/pkg/format/refusal"
)

// pass reads one layer from its first entry to its last.
type pass struct {
	layer Layer
	in    *intake
	out   *unpacked
	tar   *tar.Reader
	// count is how many entries came so far.
	count int
	// done tells that the layer was read to its end, and is what the manifest says.
	done   bool
	closed bool
	cancel context.CancelCauseFunc
	cause  func() error
}

// entry is one header of a tar that means something.
type entry struct {
	*tar.Header
	// name is the path of the entry, relative to the root of the image.
	name string
	// hides is set for a whiteout, of which nothing else counts.
	hides *hidden
	// number counts the entries of the layer.
	number int
}

// begin opens a layer. What works for it ends with close, or when a call is cancelled, not with ctx.
func begin(ctx context.Context, l Layer, o Options) (*pass, error) {
	d, err := newDigest(l.Digest)
	switch {
	case err != nil:
	case l.Size < 0 || l.Size > math.MaxInt64/2:
		err = corrupt("the manifest says it has %d bytes: push the image again", l.Size)
	case strings.HasSuffix(l.MediaType, "+encrypted"):
		err = unsafe("it is encrypted: push the image without encryption")
	}
	if err != nil {
		return nil, fmt.Errorf("reading layer %s: %w", l.Name, err)
	}
	blob, err := l.Open(ctx)
	if err != nil {
		return nil, fmt.Errorf("opening layer %s: %w", l.Name, err)
	}
	work, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	p := &pass{layer: l, cancel: cancel, cause: func() error { return context.Cause(work) }}
	defer p.during(ctx)()
	p.in = newIntake(work, cancel, blob, d, l.Size)
	if p.out, err = unpack(work, p.in, o); err != nil {
		p.in.close()
		return nil, fmt.Errorf("reading layer %s: %w", l.Name, err)
	}
	p.tar = tar.NewReader(p.out)
	return p, nil
}

// during makes the end of ctx end the pass, until what it returns is called.
func (p *pass) during(ctx context.Context) func() bool {
	return context.AfterFunc(ctx, func() { p.cancel(context.Cause(ctx)) })
}

// next returns the next entry, io.EOF after the last one when the whole layer is verified.
func (p *pass) next(ctx context.Context) (*entry, error) {
	defer p.during(ctx)()
	for !p.done {
		p.out.metered = true
		h, err := p.tar.Next()
		if err == io.EOF { //nolint:errorlint // an error that wraps it is no end
			err = p.finish()
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) { // cleanName looks at the paths
			return nil, p.explain(err)
		}
		if p.done {
			break
		}
		e, err := p.look(h)
		if err != nil {
			return nil, p.explain(err)
		}
		if e != nil {
			return e, nil
		}
	}
	return nil, io.EOF
}

// look makes an entry of a header, or nil when it means nothing.
func (p *pass) look(h *tar.Header) (*entry, error) {
	p.count++
	if p.count > maxEntries {
		return nil, tooMuch("it has more than %d entries: build the image without what is not needed", maxEntries)
	}
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil, nil //nolint:nilnil // no entry, and nothing wrong with it
	}
	name, err := cleanName(h.Name)
	if err != nil {
		return nil, err
	}
	hides, is, err := whiteout(name)
	if err != nil || is && hides == nil {
		return nil, err
	}
	return &entry{Header: h, name: name, hides: hides, number: p.count}, nil
}

// read reads the content of the entry that next returned last.
func (p *pass) read(ctx context.Context, b []byte) (int, error) {
	defer p.during(ctx)()
	p.out.metered = false
	n, err := p.tar.Read(b)
	if err != nil && err != io.EOF { //nolint:errorlint // an error that wraps it is no end
		err = p.explain(err)
	}
	return n, err
}

// finish reads what follows the tar, for its compression has a checksum at the end and the digest
// is of all bytes.
func (p *pass) finish() error {
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, io.LimitReader(p.out, maxRest+1), make([]byte, 64<<10))
	if err != nil {
		return err
	}
	if n > maxRest {
		return tooMuch("more than %d MiB follow the end of its tar: build the image again", maxRest>>20)
	}
	p.out.stop()
	if err := p.in.drain(); err != nil {
		return err
	}
	p.done = true
	return nil
}

// explain says what an error means, and whose fault it is: bytes that are not those of the manifest
// look like a broken tar.
func (p *pass) explain(err error) error {
	if cause := p.out.failure(); cause != nil {
		err = cause
	}
	if cause := p.cause(); cause != nil {
		return fmt.Errorf("reading layer %s: %w", p.layer.Name, cause)
	}
	var reasoned interface{ Reason() string }
	switch {
	case errors.As(err, &reasoned), p.out.failure() != nil:
	case errors.Is(err, io.ErrUnexpectedEOF):
		err = refusal.By(refusal.TruncatedImage, "its tar ends too early: build and push the image again", err)
	default:
		err = refusal.By(refusal.CorruptImage, "it is no tar, or a damaged one: build and push the image again", err)
	}
	if damaged(err) {
		p.out.stop()
		if verdict := p.in.drain(); verdict != nil {
			err = verdict
		}
	}
	return fmt.Errorf("reading layer %s: %w", p.layer.Name, err)
}

// damaged tells the refusals that other bytes than the right ones may be the reason for.
func damaged(err error) bool {
	var refused *refusal.Error
	return errors.As(err, &refused) && (refused.Reason() == refusal.CorruptImage || refused.Reason() == refusal.TruncatedImage || refused.Reason() == refusal.UnsupportedFormat)
}

// close ends the pass and waits for what works for it.
func (p *pass) close() {
	if p.closed {
		return
	}
	p.closed = true
	p.cancel(os.ErrClosed)
	p.out.stop()
	p.in.close()
}
