package source

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// checkStatus turns an answer that brings no bytes into an error.
func checkStatus(u *url.URL, r *http.Response, now time.Time) error {
	answers := fmt.Sprintf("%s answers %d %s", name(u), r.StatusCode, http.StatusText(r.StatusCode))
	switch code := r.StatusCode; {
	case code == http.StatusOK, code == http.StatusPartialContent:
		return nil
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		return fail(AuthenticationFailed, answers+": check the secret and its rights")
	case code == http.StatusProxyAuthRequired:
		return fail(AuthenticationFailed, answers+": check the user and password in the proxy settings")
	case code == http.StatusNotFound, code == http.StatusGone:
		return fail(NotFound, answers+": check the URL")
	case code == http.StatusPreconditionFailed:
		return fail(SourceChanged, answers+": the source is no longer the pinned revision")
	case code == http.StatusNoContent, code == http.StatusResetContent:
		return fail(EmptySource, answers+": the source has no bytes")
	case code == http.StatusTooManyRequests:
		return &Error{reason: TooManyRequests, message: answers, retryAfter: retryAfter(r.Header, now)}
	case code >= 500, code == http.StatusRequestTimeout, code == http.StatusTooEarly:
		return &Error{reason: ServerError, message: answers, retryAfter: retryAfter(r.Header, now)}
	}
	return fail(SourceRefused, answers)
}

// contentRange is the parsed form of "bytes first-last/total". total is -1 for "*".
type contentRange struct{ first, last, total int64 }

// parseContentRange reads the header by RFC 9110 section 14.4, digits only.
func parseContentRange(text string) (contentRange, bool) {
	var c contentRange
	rest, found := strings.CutPrefix(text, "bytes ")
	span, total, slash := strings.Cut(rest, "/")
	first, last, dash := strings.Cut(span, "-")
	if !found || !slash || !dash {
		return c, false
	}
	number := func(text string) int64 {
		n, err := strconv.ParseUint(text, 10, 63)
		if err != nil {
			return -1
		}
		return int64(n)
	}
	c = contentRange{number(first), number(last), number(total)}
	if c.first < 0 || c.last < c.first || (total != "*" && c.total <= c.last) {
		return c, false
	}
	return c, true
}

// checkPart judges the answer to a request for a part of an image of size bytes (-1 when not
// known). Bytes are never put together unless the server says that they belong together:
// start, end, total and ETag. An error with StartOver means that the image must be read from
// its first byte again.
func checkPart(u *url.URL, p part, r *http.Response, size int64, now time.Time) (contentRange, error) {
	again := func(format string, args ...any) error {
		return &Error{reason: SourceUnstable, message: name(u) + " " + fmt.Sprintf(format, args...), startOver: true}
	}
	etag := r.Header.Get("ETag")
	switch {
	case r.StatusCode == http.StatusOK && (p.addressed || strong(etag) && etag == p.etag):
		return contentRange{}, &Error{reason: ConnectionFailed, message: name(u) + " cannot resume: it sends the whole image instead of a part", startOver: true, whole: true}
	case r.StatusCode == http.StatusOK, r.StatusCode == http.StatusRequestedRangeNotSatisfiable, r.StatusCode == http.StatusPreconditionFailed:
		return contentRange{}, again("changed while it was read")
	}
	if err := checkStatus(u, r, now); err != nil {
		return contentRange{}, err
	}
	if isMultipart(r) {
		return contentRange{}, again("sends several parts when asked for one")
	}
	if !p.addressed && etag != p.etag {
		return contentRange{}, again("changed while it was read")
	}
	c, ok := parseContentRange(r.Header.Get("Content-Range"))
	switch {
	case !ok:
		return contentRange{}, again("answers 206 without a usable Content-Range")
	case c.first != p.first, p.last >= 0 && c.last > p.last:
		return contentRange{}, again("was asked for the bytes from %d and sends %d-%d", p.first, c.first, c.last)
	case c.total < 0:
		return contentRange{}, again("does not say how long the image is")
	case size >= 0 && c.total != size:
		return contentRange{}, again("had %d bytes and now says %d", size, c.total)
	case r.ContentLength != c.last-c.first+1 && (r.ContentLength >= 0 || p.bounded()):
		// Behind chunks without a length the connection could not be kept.
		return contentRange{}, again("sends %d bytes for the range %d-%d", r.ContentLength, c.first, c.last)
	}
	return c, nil
}

// unproved tells that an answer to the opening request for a part does not show that all
// parts to come can be trusted, but is no whole image either. 200 is: a server without
// ranges is asked only once.
func unproved(asked part, r *http.Response) bool {
	switch {
	case asked.whole():
		return false
	case r.StatusCode == http.StatusRequestedRangeNotSatisfiable:
		return true
	case r.StatusCode != http.StatusPartialContent:
		return false
	}
	c, ok := parseContentRange(r.Header.Get("Content-Range"))
	return !ok || isMultipart(r) || c.first != asked.first || c.last > asked.last || c.total < 0 ||
		r.ContentLength != c.last-c.first+1 || !asked.addressed && !strong(r.Header.Get("ETag"))
}

// isEmpty tells a 416 that says so: no part of an empty image can be sent.
func isEmpty(r *http.Response) bool {
	return r.StatusCode == http.StatusRequestedRangeNotSatisfiable && strings.TrimSpace(r.Header.Get("Content-Range")) == "bytes */0"
}

// strong tells that an ETag promises the same bytes (RFC 9110 section 8.8.3). Weak ones,
// and Last-Modified, never serve to put parts together.
func strong(etag string) bool {
	return len(etag) >= 2 && etag[0] == '"' && etag[len(etag)-1] == '"'
}
