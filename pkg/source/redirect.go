package source

import (
	"fmt"
	"net/url"
	"strings"
)

// maxRedirects is what browsers and Go's client allow.
const maxRedirects = 10

// hop is one address on the way to an image, and whether secrets may go there.
type hop struct {
	url     *url.URL
	secrets bool
}

// follow decides where a redirect leads. Secrets stay only while scheme, host and port stay
// the same; once dropped they never come back, even when the way leads back.
func (h hop) follow(location string) (hop, error) {
	to, err := h.url.Parse(location)
	if err != nil || location == "" {
		return hop{}, fail(RedirectRefused, name(h.url)+" redirects to something that is not a URL")
	}
	switch {
	case to.Scheme != "http" && to.Scheme != "https":
		return hop{}, fail(RedirectRefused, fmt.Sprintf("%s redirects to the scheme %q: only http and https are followed", name(h.url), to.Scheme))
	case to.Hostname() == "":
		return hop{}, fail(RedirectRefused, name(h.url)+" redirects to a URL without a host")
	case h.url.Scheme == "https" && to.Scheme == "http":
		return hop{}, fail(RedirectRefused, fmt.Sprintf("%s redirects from https to http at %s: give an https source, or the http one itself", name(h.url), to.Host))
	}
	// A user and password out of a Location would be sent to where the server likes.
	to.User, to.Fragment = nil, ""
	return hop{url: to, secrets: h.secrets && sameOrigin(h.url, to)}, nil
}

func sameOrigin(a, b *url.URL) bool {
	return a.Scheme == b.Scheme && hostPort(a) == hostPort(b)
}

// hostPort is the address that is dialled for u, as net/http writes it.
func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443", "socks5": "1080", "socks5h": "1080"}[u.Scheme]
	}
	host := strings.ToLower(u.Hostname())
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return host + ":" + port
}

// name is u for people: the query, user, password and fragment may be secret.
func name(u *url.URL) string {
	const limit = 200
	shown := u.Scheme + "://" + u.Host + u.EscapedPath()
	if len(shown) > limit {
		shown = shown[:limit] + "…"
	}
	return shown
}
