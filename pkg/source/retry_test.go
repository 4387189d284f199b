package source

import (
	"net/http"
	"net/netip"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestNextTry(t *testing.T) {
	for name, c := range map[string]struct {
		err      *Error
		tries    int
		from, to time.Duration
		again    bool
	}{
		"first":              {&Error{reason: ServerError}, 1, time.Second, 1250 * time.Millisecond, true},
		"fourth":             {&Error{reason: Stalled}, 4, 8 * time.Second, 10 * time.Second, true},
		"capped":             {&Error{reason: ConnectionFailed}, 9, time.Minute, time.Minute, true},
		"last":               {&Error{reason: ConnectionFailed}, 12, 0, 0, false},
		"final reason":       {&Error{reason: NotFound}, 1, 0, 0, false},
		"unknown host":       {&Error{reason: HostNotFound}, 4, 8 * time.Second, 10 * time.Second, true},
		"still unknown":      {&Error{reason: HostNotFound}, 5, 0, 0, false},
		"asked to wait":      {&Error{reason: TooManyRequests, retryAfter: 40 * time.Second}, 1, 40 * time.Second, 41 * time.Second, true},
		"asked for less":     {&Error{reason: TooManyRequests, retryAfter: time.Second}, 6, 32 * time.Second, 40 * time.Second, true},
		"asked for too much": {&Error{reason: TooManyRequests, retryAfter: 61 * time.Second}, 1, 0, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			for _, jitter := range []float64{0, 0.5, 0.999} {
				wait, again := nextTry(c.err, c.tries, maxTries, jitter)
				require.Equal(t, c.again, again)
				require.GreaterOrEqual(t, wait, c.from, "never earlier than asked")
				require.LessOrEqual(t, wait, c.to)
			}
		})
	}
}

func TestGuard(t *testing.T) {
	for name, c := range map[string]struct {
		origin, to, ip string
		refused        bool
	}{
		"public":                    {"http://a", "a:80", "192.0.2.1", false},
		"private":                   {"http://a", "b:80", "10.1.2.3", false},
		"origin on loopback":        {"http://a", "a:80", "127.0.0.1", false},
		"loopback after redirect":   {"http://a", "b:80", "127.0.0.1", true},
		"other port after redirect": {"http://a", "a:81", "127.0.0.1", true},
		"IPv6 loopback":             {"http://a", "b:80", "::1", true},
		"mapped loopback":           {"http://a", "b:80", "::ffff:127.0.0.1", true},
		"unspecified":               {"http://a", "b:80", "0.0.0.0", true},
		"unspecified IPv6":          {"http://a", "b:80", "::", true},
		"metadata as origin":        {"http://a", "a:80", "169.254.169.254", true},
		"metadata":                  {"http://a", "b:80", "169.254.169.254", true},
		"metadata, mapped":          {"http://a", "b:80", "::ffff:a9fe:a9fe", true},
		"metadata behind NAT64":     {"http://a", "b:80", "64:ff9b::169.254.169.254", true},
		"link-local IPv6":           {"http://a", "b:80", "fe80::1", true},
		"link-local IPv6 with zone": {"http://a", "b:80", "fe80::1%eth0", true},
		"link-local multicast":      {"http://a", "b:80", "224.0.0.1", true},
		"proxy on loopback":         {"http://a", "proxy:3128", "127.0.0.1", false},
		"proxy on link-local":       {"http://a", "proxy:3128", "169.254.1.1", true},
	} {
		t.Run(name, func(t *testing.T) {
			origin, err := url.Parse(c.origin)
			require.NoError(t, err)
			g := newGuard(NewStart(origin), time.Second, nil)
			g.trust(&url.URL{Scheme: "http", Host: "proxy:3128"})
			err = g.check(c.to, netip.MustParseAddr(c.ip))
			require.Equal(t, c.refused, err != nil, err)
		})
	}
}

// FuzzParseContentRange: what passes is a range that makes sense.
func FuzzParseContentRange(f *testing.F) {
	for _, text := range []string{"bytes 0-0/1", "bytes 5-9/*", "bytes +1-2/3", "bytes 1-0/5", "bytes 0-5/5", "bytes 9223372036854775807-9223372036854775807/*", "bits 0-0/1"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, ok := parseContentRange(text)
		if !ok {
			return
		}
		require.GreaterOrEqual(t, c.first, int64(0))
		require.GreaterOrEqual(t, c.last, c.first)
		require.True(t, c.total == -1 || c.total > c.last)
	})
}

func FuzzRetryAfter(f *testing.F) {
	f.Add("7", "")
	f.Add("Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 21 Oct 2015 07:27:00 GMT")
	f.Fuzz(func(t *testing.T, value, date string) {
		got := retryAfter(http.Header{"Retry-After": {value}, "Date": {date}}, time.Unix(0, 0))
		require.GreaterOrEqual(t, got, time.Duration(0))
		require.LessOrEqual(t, got, maxRetryAfter)
	})
}
