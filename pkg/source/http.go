package source

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"

	"golang.org/x/net/http/httpproxy"
)

// client sends the requests for one image. It never retries.
type client struct {
	// transport is used without an http.Client, which would follow redirects by rules of its
	// own and repeat whole URLs in its errors.
	transport *http.Transport
	tls       *tls.Config
	proxyFor  func(*url.URL) (*url.URL, error)
	guard     *guard
	// start is the URL the user gave.
	start       hop
	credentials http.Header
	pin         Revision
	clock       Clock

	mu sync.Mutex
	// place is where the image was found, after redirects. It is asked first: another mirror
	// might hold other bytes.
	place hop
}

func newClient(u *url.URL, o Options) *client {
	// A user and password in the URL would be sent by net/http without being asked.
	origin := *u
	origin.User, origin.Fragment = nil, ""
	c := &client{
		guard:       newGuard(&origin, o.HeaderTimeout, o.Resolver),
		start:       hop{url: &origin, secrets: true},
		credentials: o.Credentials.header,
		pin:         o.Pin,
		clock:       o.Clock,
	}
	c.place = c.start
	c.proxyFor = httpproxy.FromEnvironment().ProxyFunc()
	c.tls = &tls.Config{RootCAs: o.CAs, MinVersion: tls.VersionTLS12, Time: o.Clock.Now}
	c.transport = &http.Transport{
		Proxy:                  func(r *http.Request) (*url.URL, error) { return c.proxy(r.URL) },
		DialContext:            quietly(c.guard.dial),
		DialTLSContext:         quietly(c.dialTLS),
		TLSClientConfig:        c.tls,
		TLSHandshakeTimeout:    o.HeaderTimeout,
		ResponseHeaderTimeout:  o.HeaderTimeout,
		MaxResponseHeaderBytes: 256 << 10,
		// Connections are kept between parts; a request for a whole image closes its own.
		MaxConnsPerHost:     o.Connections,
		MaxIdleConnsPerHost: o.Connections,
		IdleConnTimeout:     o.StallTimeout,
		// The bytes must be those that the server stores: the checksum is of them.
		DisableCompression: true,
		OnProxyConnectResponse: func(_ context.Context, _ *url.URL, _ *http.Request, answer *http.Response) error {
			return proxyError(answer)
		},
	}
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

// dialTLS connects without a proxy, or to one that speaks TLS itself.
func (c *client) dialTLS(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := c.guard.dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	config := c.tls.Clone()
	config.ServerName, _, _ = net.SplitHostPort(address)
	ctx, cancel := context.WithTimeout(ctx, c.guard.dialer.Timeout)
	defer cancel()
	secure := tls.Client(conn, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return secure, nil
}

func proxyError(answer *http.Response) error {
	switch {
	case answer.StatusCode == http.StatusOK:
		return nil
	case answer.StatusCode == http.StatusProxyAuthRequired:
		return fail(AuthenticationFailed, "the proxy refuses its credentials (407): check the user and password in the proxy settings")
	case answer.StatusCode >= 500:
		return fail(ServerError, fmt.Sprintf("the proxy answers %d", answer.StatusCode))
	}
	return fail(SourceRefused, fmt.Sprintf("the proxy answers %d", answer.StatusCode))
}

// part is a range of bytes to ask for. The zero part is the whole image.
type part struct {
	// first and last are offsets; last -1 means to the end.
	first, last int64
	// etag is the strong validator that the part must belong to; empty before it is known.
	etag string
}

func (p part) whole() bool { return p == part{} }

// bounded tells a part with an end, which leaves the connection for the next one.
func (p part) bounded() bool { return p.last > 0 }

func (p part) header() http.Header {
	h := http.Header{"Accept-Encoding": {"identity"}, "User-Agent": {"gild-importer"}}
	if p.whole() {
		return h
	}
	last := ""
	if p.last >= 0 {
		last = fmt.Sprint(p.last)
	}
	h.Set("Range", fmt.Sprintf("bytes=%d-%s", p.first, last))
	if p.etag != "" {
		// A server that knows If-Match need not send the whole of an image that changed.
		h.Set("If-Match", p.etag)
		h.Set("If-Range", p.etag)
	}
	return h
}

// get asks for a part and returns the answer behind all redirects, with any status.
func (c *client) get(ctx context.Context, p part) (*http.Response, error) {
	c.mu.Lock()
	place := c.place
	c.mu.Unlock()
	response, end, err := c.walk(ctx, place, p)
	if err == nil && place != c.start && refused(response.StatusCode) {
		// The place was good for a while only, for example a signed URL.
		_ = response.Body.Close()
		response, end, err = c.walk(ctx, c.start, p)
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
func (c *client) walk(ctx context.Context, h hop, p part) (*http.Response, hop, error) {
	for range maxRedirects + 1 {
		response, err := c.ask(ctx, h, p)
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

func (c *client) ask(ctx context.Context, h hop, p part) (*http.Response, error) {
	if err := c.guard.checkURL(h.url); err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, h.url.String(), http.NoBody)
	if err != nil {
		return nil, fail(SourceRefused, "opening source: not a URL that can be asked for")
	}
	request.Header = p.header()
	if p.etag == "" && strong(c.pin.ETag) {
		request.Header.Set("If-Match", c.pin.ETag)
	}
	if h.secrets {
		for key, values := range c.credentials {
			request.Header[key] = values
		}
	}
	// quietConn cannot see into what a proxy passes on, and only a part is sure to be read to its end.
	proxy, err := c.proxy(h.url)
	request.Close = !p.bounded() || proxy != nil || err != nil
	response, err := roundTrip(c.transport, request)
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, connectionError(h.url, err, c.clock.Now())
	}
	return response, nil
}

func (c *client) close() { c.transport.CloseIdleConnections() }
