package source

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

const (
	// briefTries bounds the tries of a question about a source: whoever polls comes again anyway.
	briefTries = 3
	// briefWait bounds one wait between them. Whoever polls can wait longer than a request.
	briefWait = 5 * time.Second
)

// brief asks an http or https server about a URL, without a pace and a window.
type brief struct {
	client  *client
	options Options
}

func newBrief(ref string, o Options) (*brief, error) {
	if o.OpenTries <= 0 {
		o.OpenTries = briefTries
	}
	u, o, err := prepare(ref, o)
	if err != nil {
		return nil, err
	}
	if u.Scheme != "http" && u.Scheme != "https" {
		return nil, fail(SourceRefused, fmt.Sprintf("asking the source: the scheme %q is not supported: use http or https", u.Scheme))
	}
	return &brief{client: newClient(u, o), options: o}, nil
}

// try calls f until it succeeds or fails for good. A wait that would be long is the caller's,
// who finds it in the error.
func (b *brief) try(ctx context.Context, f func() error) error {
	for n := 1; ; n++ {
		err := f()
		var e *Error
		if !errors.As(err, &e) {
			return err
		}
		wait, again := nextTry(e, n, b.options.OpenTries, b.options.Jitter())
		if !again || wait > briefWait {
			return err
		}
		b.options.Notice(fmt.Sprintf("%s: %v; next try in %s", e.Reason(), err, wait.Round(100*time.Millisecond)))
		if err := b.options.Clock.Sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// head sends one question and returns the answer without its body, which is not read.
func (b *brief) head(ctx context.Context, q question) (*http.Response, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r, err := b.client.get(ctx, q)
	if err != nil {
		return nil, err
	}
	_ = r.Body.Close()
	return r, nil
}

// Head returns the headers that an http or https server has for ref, by HEAD alone. It makes
// three tries with short waits, or Options.OpenTries. The reason is SourceRefused for a server
// that does not know HEAD.
func Head(ctx context.Context, ref string, o Options) (http.Header, error) {
	b, err := newBrief(ref, o)
	if err != nil {
		return nil, err
	}
	defer b.client.close()
	var header http.Header
	err = b.try(ctx, func() error {
		r, err := b.head(ctx, newQuestion(http.MethodHead))
		if err != nil {
			return err
		}
		header = r.Header
		if r.StatusCode == http.StatusNotImplemented {
			return fail(SourceRefused, name(b.client.start.url)+" does not answer HEAD")
		}
		return checkStatus(b.client.start.url, r, b.options.Clock.Now())
	})
	return header, err
}
