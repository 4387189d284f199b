package source

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http/httpproxy"
)

// client sends the requests for one image. It retries only what new certificates may mend.
type client struct {
	proxyFor func(*url.URL) (*url.URL, error)
	guard    *guard
	// start is the URL the user gave.
	start       hop
	credentials http.Header
	login       *login
	accept      string
	pin         Revision
	clock       Clock
	afterFunc   func(d time.Duration, f func()) Timer
	// connections and the timeouts are those of Options.
	connections                 int
	headerTimeout, stallTimeout time.Duration
	caDir                       string
	insecure                    bool
	// fetched counts the bytes of bodies that were read.
	fetched atomic.Int64

	mu sync.Mutex
	// transports are those with the certificates of today, the last one, and of before.
	transports []*http.Transport
	// place is where the image was found, after redirects. It is asked first: another mirror
	// might hold other bytes.
	place hop
}

func newClient(u *url.URL, o Options) *client {
	// A user and password in the URL would be sent by net/http without being asked.
	origin := *u
	origin.User, origin.Fragment = nil, ""
	c := &client{
		guard:         newGuard(cmp.Or(o.Start, NewStart(&origin)), o.HeaderTimeout, o.Resolver),
		start:         hop{url: &origin, secrets: true},
		credentials:   o.Credentials.header,
		login:         newLogin(o.Login),
		accept:        o.Accept,
		pin:           o.Pin,
		clock:         o.Clock,
		afterFunc:     o.AfterFunc,
		connections:   o.Connections,
		headerTimeout: o.HeaderTimeout,
		stallTimeout:  o.StallTimeout,
		caDir:         o.CADir,
		insecure:      o.Insecure,
	}
	c.place = c.start
	c.proxyFor = httpproxy.FromEnvironment().ProxyFunc()
	c.transports = []*http.Transport{c.newTransport(o.CAs)}
	return c
}

// proxy returns the proxy for u, nil for none.
func (c *client) proxy(u *url.URL) (*url.URL, error) {
	proxy, err := c.proxyFor(u)
	if proxy != nil {
		c.guard.trust(proxy)
	}
	return proxy, err
}

// part is a range of bytes to ask for. The zero part is the whole image.
type part struct {
	// first and last are offsets; last -1 means to the end.
	first, last int64
	// etag is the strong validator that the part must belong to; empty before it is known.
	etag string
	// addressed is that of Options: no validator is needed.
	addressed bool
}

func (p part) whole() bool { return p == part{} }

// bounded tells a part with an end, which leaves the connection for the next one.
func (p part) bounded() bool { return p.last > 0 }

// question asks for the part. pinned is the ETag of Options.Pin, for the time before etag is known.
func (p part) question(pinned string) question {
	q := newQuestion(http.MethodGet)
	q.kept = p.bounded()
	if p.etag == "" && strong(pinned) {
		q.header.Set("If-Match", pinned)
	}
	if p.whole() {
		return q
	}
	last := ""
	if p.last >= 0 {
		last = fmt.Sprint(p.last)
	}
	q.header.Set("Range", fmt.Sprintf("bytes=%d-%s", p.first, last))
	if p.etag != "" {
		// A server that knows If-Match need not send the whole of an image that changed.
		q.header.Set("If-Match", p.etag)
		q.header.Set("If-Range", p.etag)
	}
	return q
}

// question is what every address on the way is asked, without secrets.
type question struct {
	method string
	header http.Header
	// kept tells that the connection is good for another one.
	kept bool
}

func newQuestion(method string) question {
	return question{method: method, header: http.Header{"Accept-Encoding": {"identity"}, "User-Agent": {"gild-importer"}}}
}

// get asks and returns the answer behind all redirects, with any status.
func (c *client) get(ctx context.Context, q question) (*http.Response, error) {
	c.mu.Lock()
	place := c.place
	c.mu.Unlock()
	response, end, err := c.walk(ctx, place, q)
	if err == nil && place != c.start && refused(response.StatusCode) {
		// The place was good for a while only, for example a signed URL.
		_ = response.Body.Close()
		response, end, err = c.walk(ctx, c.start, q)
	}
	if err != nil {
		return nil, err
	}
	if response.StatusCode == http.StatusOK || response.StatusCode == http.StatusPartialContent {
		c.mu.Lock()
		c.place = end
		c.mu.Unlock()
	}
	return response, nil
}

func refused(status int) bool {
	return status == http.StatusUnauthorized || status == http.StatusForbidden || status == http.StatusNotFound || status == http.StatusGone
}

// walk follows redirects from h. net/http's own way would hand custom headers on to any
// host, and the query of the last URL as the Referer.
func (c *client) walk(ctx context.Context, h hop, q question) (*http.Response, hop, error) {
	for range maxRedirects + 1 {
		response, err := c.authorized(ctx, h, q)
		if err != nil {
			return nil, hop{}, err
		}
		switch response.StatusCode {
		case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		default:
			return response, h, nil
		}
		_ = response.Body.Close()
		if h, err = h.follow(response.Header.Get("Location")); err != nil {
			return nil, hop{}, err
		}
	}
	return nil, hop{}, fail(RedirectRefused, fmt.Sprintf("%s redirects more than %d times", name(c.start.url), maxRedirects))
}

// authorized asks, and once more after a login when the answer wants one.
func (c *client) authorized(ctx context.Context, h hop, q question) (*http.Response, error) {
	if c.login == nil || !h.secrets {
		return c.ask(ctx, h, q, "")
	}
	used := c.login.current()
	response, err := c.ask(ctx, h, q, used)
	if err != nil || response.StatusCode != http.StatusUnauthorized {
		return response, err
	}
	_ = response.Body.Close()
	renewed, err := c.login.renew(ctx, used, response.Header)
	if err != nil {
		return nil, err
	}
	return c.ask(ctx, h, q, renewed)
}

// ask sends one request to h. authorization is that of Login, empty for none.
func (c *client) ask(ctx context.Context, h hop, q question, authorization string) (*http.Response, error) {
	if err := c.guard.checkURL(h.url); err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, q.method, h.url.String(), http.NoBody)
	if err != nil {
		return nil, fail(SourceRefused, "opening source: not a URL that can be asked for")
	}
	request.Header = q.header.Clone()
	if h.secrets {
		for key, values := range c.credentials {
			request.Header[key] = values
		}
		if authorization != "" {
			request.Header.Set("Authorization", authorization)
		}
	}
	if c.accept != "" {
		request.Header.Set("Accept", c.accept)
	}
	// quietConn cannot see into what a proxy passes on, and only a part is sure to be read to its end.
	proxy, err := c.proxy(h.url)
	request.Close = !q.kept || proxy != nil || err != nil
	for {
		transport := c.transport()
		response, err := c.send(transport, request)
		if err == nil {
			return response, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		err = connectionError(h.url, err, c.clock.Now())
		var e *Error
		if !errors.As(err, &e) || e.reason != CertificateError || !c.renew(transport) {
			return nil, err
		}
	}
}

// send makes one try. It takes HeaderTimeout at most for the connection, and as long again for
// the head of the answer.
func (c *client) send(transport *http.Transport, r *http.Request) (*http.Response, error) {
	// The context is that of the body too: whoever made the one it comes from ends both.
	ctx, cancel := context.WithCancel(r.Context())
	timer := c.afterFunc(c.headerTimeout, cancel)
	response, err := roundTrip(transport, r.WithContext(ctx), func() { timer.Reset(c.headerTimeout) })
	late := !timer.Stop() || ctx.Err() != nil
	switch {
	case late && err == nil:
		_ = response.Body.Close()
		return nil, context.DeadlineExceeded
	case late:
		return nil, context.DeadlineExceeded
	case err != nil:
		cancel()
		return nil, err
	}
	return response, nil
}
