package source

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// Found is what a probe has found.
type Found struct {
	// Unchanged tells that the source is at the known revision still.
	Unchanged bool
	// Revision is what the server says of the source, the known one when Unchanged. Without an
	// ETag and a Last-Modified nothing tells this state from the next one.
	Revision Revision
}

// Probe asks an http or https server for the state of the source at ref, and never reads its
// bytes. known is the state of an earlier answer, or zero. It goes the way of Open, with its
// rules for redirects, secrets, certificates and addresses; Options.Pin does not count.
//
// The first question is a HEAD with the ETag and the Last-Modified of known, as the server gave
// them. A server that refuses it is asked by GET, whose answer is left behind its headers: an
// import sends GET too, so that only this refusal counts, and a signed URL is good for nothing
// else. Faults that may pass are met by three tries with waits of a few seconds, or
// Options.OpenTries. Error.RetryAfter is what the server asks for beyond that. ctx bounds it all.
func Probe(ctx context.Context, ref string, known Revision, o Options) (Found, error) {
	return run(ctx, ref, &probe{known: known}, o)
}

// ProbeFresh is Probe for servers whose answers to HEAD or to conditions are not to be believed: it
// asks by GET and unconditionally, as an import does.
func ProbeFresh(ctx context.Context, ref string, o Options) (Found, error) {
	return run(ctx, ref, &probe{headed: true}, o)
}

// Prove asks as ProbeFresh does, and fails with SourceChanged unless the source is at Options.Pin.
func Prove(ctx context.Context, ref string, o Options) error {
	found, err := ProbeFresh(ctx, ref, o)
	if err != nil {
		return err
	}
	u, _, err := prepare(ref, o)
	if err != nil {
		return err
	}
	return checkPin(u, o.Pin, found.Revision)
}

func run(ctx context.Context, ref string, p *probe, o Options) (Found, error) {
	b, err := newBrief(ref, o)
	if err != nil {
		return Found{}, err
	}
	defer b.client.close()
	p.brief = b
	var found Found
	err = b.try(ctx, func() error {
		found, err = p.once(ctx)
		return err
	})
	return found, err
}

// probe is one Probe under way.
type probe struct {
	*brief
	known Revision
	// headed tells that HEAD was tried or is not to be, doubted that a 304 was not believed.
	headed, doubted bool
}

// once makes one try. All but the first ask by GET at once: a server may be broken for HEAD alone.
func (p *probe) once(ctx context.Context) (Found, error) {
	if !p.headed {
		p.headed = true
		r, err := p.ask(ctx, http.MethodHead, "")
		if err != nil {
			return Found{}, err
		}
		found, err := p.judge(r)
		var e *Error
		passes := errors.As(err, &e) && Transient(e.reason) && r.StatusCode != http.StatusNotImplemented
		if err == nil && found.Revision.known() || passes {
			return found, err
		}
	}
	// A server that knows ranges has one byte to send in vain.
	r, err := p.ask(ctx, http.MethodGet, "bytes=0-0")
	if err == nil && r.StatusCode == http.StatusRequestedRangeNotSatisfiable && !isEmpty(r) {
		r, err = p.ask(ctx, http.MethodGet, "")
	}
	if err != nil {
		return Found{}, err
	}
	return p.judge(r)
}

// ask sends one question with the known validators, as they are. A 304 counts when it repeats
// one of them: servers that do not know If-None-Match look at the time alone, and most of them
// take an older file for no change.
func (p *probe) ask(ctx context.Context, method, span string) (*http.Response, error) {
	q := newQuestion(method)
	if span != "" {
		q.header.Set("Range", span)
	}
	if !p.doubted {
		for name, value := range map[string]string{"If-None-Match": p.known.ETag, "If-Modified-Since": p.known.LastModified} {
			if value != "" && httpguts.ValidHeaderFieldValue(value) {
				q.header.Set(name, value)
			}
		}
	}
	r, err := p.head(ctx, q)
	if err != nil || r.StatusCode != http.StatusNotModified || p.doubted || !p.known.known() || p.known.agrees(served(r)) {
		return r, err
	}
	p.doubted = true
	return p.ask(ctx, method, span)
}

// judge reads the headers of an answer.
func (p *probe) judge(r *http.Response) (Found, error) {
	u := p.client.start.url
	if isEmpty(r) {
		return Found{}, fail(EmptySource, name(u)+" has no bytes")
	}
	now := served(r)
	unchanged := p.known.agrees(now)
	if r.StatusCode != http.StatusNotModified || !unchanged {
		if err := checkStatus(u, r, p.options.Clock.Now()); err != nil {
			return Found{}, err
		}
		if err := checkEncoding(u, encoding(r)); err != nil {
			return Found{}, err
		}
		if r.StatusCode == http.StatusOK && r.ContentLength == 0 {
			return Found{}, fail(EmptySource, name(u)+" has no bytes")
		}
	}
	if unchanged {
		return Found{Unchanged: true, Revision: p.known}, nil
	}
	return Found{Revision: now}, nil
}

// served is the revision that an answer tells of.
func served(r *http.Response) Revision {
	now := Revision{ETag: r.Header.Get("ETag"), LastModified: r.Header.Get("Last-Modified")}
	switch r.StatusCode {
	case http.StatusOK:
		now.Length = max(r.ContentLength, 0)
	case http.StatusPartialContent:
		if c, ok := parseContentRange(r.Header.Get("Content-Range")); ok {
			now.Length = max(c.total, 0)
		}
	}
	return now
}

// known tells that there is something to compare.
func (r Revision) known() bool { return r.ETag != "" || r.LastModified != "" }

// agrees tells that both are one state of a source: what both say is the same, and there is a
// validator among it. ETags are compared as servers compare those of If-None-Match, whether weak
// or not (RFC 9110 section 13.1.2). One that only one side has may be a mirror's habit.
func (r Revision) agrees(other Revision) bool {
	mine, others := strings.TrimPrefix(r.ETag, "W/"), strings.TrimPrefix(other.ETag, "W/")
	tagged := mine != "" && others != ""
	dated := r.LastModified != "" && other.LastModified != ""
	switch {
	case tagged && mine != others,
		dated && r.LastModified != other.LastModified,
		r.Length != 0 && other.Length != 0 && r.Length != other.Length:
		return false
	}
	return tagged || dated
}
