package source_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/pkg/source"
)

const modified = "Fri, 02 Jan 2026 03:04:05 GMT"

// probed asks s, whose bodies stay where they are.
func probed(t *testing.T, s *site, known source.Revision, o source.Options) source.Found {
	t.Helper()
	found, err := source.Probe(t.Context(), s.url(), known, o)
	require.NoError(t, err)
	return found
}

// unprobed is a probe that fails, with nothing secret in what it tells.
func unprobed(t *testing.T, url string, o source.Options) *source.Error {
	t.Helper()
	var told strings.Builder
	o.Notice = func(message string) { told.WriteString(message) }
	_, err := source.Probe(t.Context(), url, source.Revision{}, o)
	var e *source.Error
	require.ErrorAs(t, err, &e)
	for _, text := range []string{err.Error(), told.String()} {
		require.NotContains(t, text, canary)
		require.NotContains(t, text, "sig=")
	}
	return e
}

// methods lists how s was asked: HEAD, GET, and GET+ for a part.
func methods(s *site) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for _, r := range s.requests {
		text := r.Method
		if r.Header.Get("Range") != "" {
			text += "+"
		}
		all = append(all, text)
	}
	return strings.Join(all, " ")
}

func TestProbeFindsARevision(t *testing.T) {
	s := newSite(t, random(mib))
	found := probed(t, s, source.Revision{}, options(newClock()))
	require.Equal(t, source.Found{Revision: source.Revision{ETag: `"one"`, LastModified: modified, Length: mib}}, found)
	require.Equal(t, "HEAD", methods(s))
	require.Equal(t, "identity", s.requests[0].Header.Get("Accept-Encoding"))
	require.Empty(t, s.requests[0].Header.Get("If-None-Match"))
	require.Empty(t, s.requests[0].Header.Get("If-Modified-Since"))

	again := probed(t, s, found.Revision, options(newClock()))
	require.Equal(t, source.Found{Unchanged: true, Revision: found.Revision}, again)
	require.Equal(t, "HEAD HEAD", methods(s))
	require.Equal(t, `"one"`, s.requests[1].Header.Get("If-None-Match"))
	require.Equal(t, modified, s.requests[1].Header.Get("If-Modified-Since"))

	s.mu.Lock()
	s.etag = `"two"`
	s.mu.Unlock()
	require.Equal(t, source.Found{Revision: source.Revision{ETag: `"two"`, LastModified: modified, Length: mib}}, probed(t, s, found.Revision, options(newClock())))
	require.Zero(t, s.bytes())
}

// TestProbeFreshAsksAsAnImportDoes: a server whose HEAD has another ETag than its GET.
func TestProbeFreshAsksAsAnImportDoes(t *testing.T) {
	s := newSite(t, random(mib))
	s.spoil = func(_ int, w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodHead {
			w.Header().Set("ETag", `"head"`)
			w.Header().Set("Content-Length", "1048576")
			w.WriteHeader(http.StatusOK)
			return true
		}
		return false
	}
	require.Equal(t, `"head"`, probed(t, s, source.Revision{}, options(newClock())).Revision.ETag)
	found, err := source.ProbeFresh(t.Context(), s.url(), options(newClock()))
	require.NoError(t, err)
	require.Equal(t, source.Found{Revision: source.Revision{ETag: `"one"`, LastModified: modified, Length: mib}}, found)
	require.Equal(t, "HEAD GET+", methods(s))
	require.Equal(t, "bytes=0-0", s.requests[1].Header.Get("Range"))
	require.Empty(t, s.requests[1].Header.Get("If-None-Match"))
	require.Empty(t, s.requests[1].Header.Get("If-Modified-Since"))
}

// TestProbeComparesRevisions is row L3: what is one state, and what is another.
func TestProbeComparesRevisions(t *testing.T) {
	const other = "Fri, 02 Jan 2026 03:04:06 GMT"
	for name, c := range map[string]struct {
		known, served source.Revision
		unchanged     bool
	}{
		"all the same":                {source.Revision{ETag: `"a"`, LastModified: modified, Length: 9}, source.Revision{ETag: `"a"`, LastModified: modified, Length: 9}, true},
		"weak":                        {source.Revision{ETag: `W/"a"`, Length: 9}, source.Revision{ETag: `W/"a"`, Length: 9}, true},
		"turned weak":                 {source.Revision{ETag: `"a"`, Length: 9}, source.Revision{ETag: `W/"a"`, Length: 9}, true},
		"another weak one":            {source.Revision{ETag: `W/"a"`, Length: 9}, source.Revision{ETag: `W/"b"`, Length: 9}, false},
		"another ETag alone":          {source.Revision{ETag: `"a"`, LastModified: modified}, source.Revision{ETag: `"b"`, LastModified: modified, Length: 9}, false},
		"another time":                {source.Revision{LastModified: modified}, source.Revision{LastModified: other, Length: 9}, false},
		"another length":              {source.Revision{ETag: `"a"`, Length: 8}, source.Revision{ETag: `"a"`, Length: 9}, false},
		"length not known":            {source.Revision{ETag: `"a"`}, source.Revision{ETag: `"a"`, Length: 9}, true},
		"time alone":                  {source.Revision{LastModified: modified, Length: 9}, source.Revision{LastModified: modified, Length: 9}, true},
		"time not as we write it":     {source.Revision{LastModified: "Fri, 2 Jan 2026 03:04:05 +0000"}, source.Revision{LastModified: modified, Length: 9}, false},
		"a mirror without ETags":      {source.Revision{ETag: `"a"`, LastModified: modified, Length: 9}, source.Revision{LastModified: modified, Length: 9}, true},
		"nothing in common":           {source.Revision{ETag: `"a"`, Length: 9}, source.Revision{LastModified: modified, Length: 9}, false},
		"no validators":               {source.Revision{Length: 9}, source.Revision{Length: 9}, false},
		"nothing known":               {source.Revision{}, source.Revision{ETag: `"a"`, Length: 9}, false},
		"an ETag that says all match": {source.Revision{ETag: `*`}, source.Revision{ETag: `"a"`, Length: 9}, false},
		"an ETag that is no header":   {source.Revision{ETag: "\"a\"\r\nX: y"}, source.Revision{ETag: `"a"`, Length: 9}, false},
	} {
		// A server that knows conditions, and one that does not.
		for _, knows := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, conditions %t", name, knows), func(t *testing.T) {
				s := newSite(t, []byte("ninebytes"))
				s.etag, s.modified = c.served.ETag, time.Time{}
				if c.served.LastModified != "" {
					at, err := http.ParseTime(c.served.LastModified)
					require.NoError(t, err)
					s.modified = at
				}
				s.spoil = func(_ int, _ http.ResponseWriter, r *http.Request) bool {
					if !knows {
						r.Header.Del("If-None-Match")
						r.Header.Del("If-Modified-Since")
					}
					return false
				}
				found := probed(t, s, c.known, options(newClock()))
				want := source.Found{Revision: c.served}
				if c.unchanged || name == "another length" && knows { // the server's word on its own ETag

					want = source.Found{Unchanged: true, Revision: c.known}
				}
				require.Equal(t, want, found)
				require.LessOrEqual(t, s.bytes(), int64(9))
			})
		}
	}
}

// TestProbeOfAnOlderFile: most servers answer 304 to a file that is older than the one they are
// asked for. An image may be taken back to an earlier state.
func TestProbeOfAnOlderFile(t *testing.T) {
	for _, named := range []bool{true, false} {
		s := newSite(t, []byte("body"))
		s.etag = ""
		older := s.modified.Add(-time.Hour).Format(http.TimeFormat)
		s.spoil = func(_ int, w http.ResponseWriter, r *http.Request) bool {
			if named || r.Header.Get("If-Modified-Since") != "" {
				w.Header().Set("Last-Modified", older)
			}
			if r.Header.Get("If-Modified-Since") != "" {
				if !named {
					w.Header().Del("Last-Modified")
				}
				w.WriteHeader(http.StatusNotModified)
				return true
			}
			w.Header().Set("Last-Modified", older)
			w.Header().Set("Content-Length", "4")
			return true
		}
		require.Equal(t, source.Found{Revision: source.Revision{LastModified: older, Length: 4}}, probed(t, s, source.Revision{LastModified: modified}, options(newClock())))
		require.Equal(t, "HEAD HEAD", methods(s))
	}
}

// TestProbeWithoutHead: a server that refuses HEAD, or does not do it well, is asked as an
// import would ask it. Nothing is read of what it sends.
func TestProbeWithoutHead(t *testing.T) {
	status := func(code int) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) { w.WriteHeader(code) }
	}
	for name, answer := range map[string]func(w http.ResponseWriter){
		"400": status(400), "401": status(401), "403 as for a signed URL": status(403), "404": status(404), "405": status(405), "410": status(410), "501": status(501),
		"200 without validators": func(w http.ResponseWriter) { w.Header().Set("Content-Length", "5") },
		"no bytes": func(w http.ResponseWriter) {
			w.Header().Set("ETag", `"none"`)
			w.Header().Set("Content-Length", "0")
		},
		"an encoding": func(w http.ResponseWriter) {
			w.Header().Set("ETag", `"none"`)
			w.Header().Set("Content-Encoding", "br")
		},
	} {
		for way, c := range map[string]struct {
			whole bool
			after string
		}{"parts": {false, "GET+"}, "no parts": {true, "GET+"}} {
			t.Run(name+", "+way, func(t *testing.T) {
				s := newSite(t, random(8*mib))
				s.spoil = func(_ int, w http.ResponseWriter, r *http.Request) bool {
					if r.Method == http.MethodHead {
						answer(w)
						return true
					}
					if c.whole {
						r.Header.Del("Range")
					}
					return false
				}
				clock := newClock()
				found := probed(t, s, source.Revision{}, options(clock))
				require.Equal(t, source.Revision{ETag: `"one"`, LastModified: modified, Length: 8 * mib}, found.Revision)
				require.True(t, probed(t, s, found.Revision, options(clock)).Unchanged)
				require.Equal(t, "HEAD "+c.after+" HEAD "+c.after, methods(s))
				require.Empty(t, clock.waits)
			})
		}
	}
}

// TestProbeOfAServerThatDislikesParts answers 416 to what it could send.
func TestProbeOfAServerThatDislikesParts(t *testing.T) {
	s := newSite(t, random(mib))
	s.spoil = func(_ int, w http.ResponseWriter, r *http.Request) bool {
		bad := map[bool]int{true: http.StatusForbidden, false: http.StatusRequestedRangeNotSatisfiable}[r.Method == http.MethodHead]
		if r.Method == http.MethodHead || r.Header.Get("Range") != "" {
			w.WriteHeader(bad)
			return true
		}
		return false
	}
	require.EqualValues(t, mib, probed(t, s, source.Revision{}, options(newClock())).Revision.Length)
	require.Equal(t, "HEAD GET+ GET", methods(s))
}

func TestProbeOfWhatHasNoBytes(t *testing.T) {
	s := newSite(t, nil)
	require.Equal(t, source.EmptySource, unprobed(t, s.url(), options(newClock())).Reason())
}

func TestProbeWithoutValidators(t *testing.T) {
	s := newSite(t, []byte("body"))
	s.etag, s.modified = "", time.Time{}
	require.Equal(t, source.Found{Revision: source.Revision{Length: 4}}, probed(t, s, source.Revision{Length: 4}, options(newClock())))
	require.Equal(t, "HEAD GET+", methods(s), "perhaps only HEAD has none")
}

func TestProbesThatFail(t *testing.T) {
	date := newClock().now.Add(90 * time.Minute).Format(http.TimeFormat)
	for name, c := range map[string]struct {
		status     int
		retryAfter string
		encoding   string
		reason     string
		after      time.Duration
		methods    string
		waits      []time.Duration
	}{
		"401":                 {status: 401, reason: source.AuthenticationFailed, methods: "HEAD GET+"},
		"403":                 {status: 403, reason: source.AuthenticationFailed, methods: "HEAD GET+"},
		"404":                 {status: 404, reason: source.NotFound, methods: "HEAD GET+"},
		"418":                 {status: 418, reason: source.SourceRefused, methods: "HEAD GET+"},
		"304 for nothing":     {status: 304, reason: source.SourceRefused, methods: "HEAD GET+"},
		"500":                 {status: 500, reason: source.ServerError, methods: "HEAD GET+ GET+", waits: []time.Duration{1, 2}},
		"503 after 4 s":       {status: 503, retryAfter: "4", reason: source.ServerError, after: 4 * time.Second, methods: "HEAD GET+ GET+", waits: []time.Duration{4, 4}},
		"503 after a minute":  {status: 503, retryAfter: "60", reason: source.ServerError, after: time.Minute, methods: "HEAD"},
		"429":                 {status: 429, reason: source.TooManyRequests, methods: "HEAD GET+ GET+", waits: []time.Duration{1, 2}},
		"429 after an hour":   {status: 429, retryAfter: "3600", reason: source.TooManyRequests, after: time.Hour, methods: "HEAD"},
		"429 until a date":    {status: 429, retryAfter: date, reason: source.TooManyRequests, after: 90 * time.Minute, methods: "HEAD"},
		"an unknown encoding": {status: 200, encoding: "br", reason: source.SourceRefused, methods: "HEAD GET+"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, nil)
			s.spoil = func(_ int, w http.ResponseWriter, _ *http.Request) bool {
				w.Header().Set("Date", newClock().now.Format(http.TimeFormat))
				if c.retryAfter != "" {
					w.Header().Set("Retry-After", c.retryAfter)
				}
				if c.encoding != "" {
					w.Header().Set("Content-Encoding", c.encoding)
				}
				w.WriteHeader(c.status)
				return true
			}
			clock := newClock()
			e := unprobed(t, s.url(), options(clock))
			require.Equal(t, c.reason, e.Reason(), e)
			require.Equal(t, c.after, e.RetryAfter())
			require.Equal(t, c.methods, methods(s))
			require.Equal(t, c.waits, append([]time.Duration(nil), inSeconds(clock.waits)...))
		})
	}
}

// TestProbeGoesOn after a fault that passes.
func TestProbeGoesOn(t *testing.T) {
	s := newSite(t, random(mib))
	s.spoil = func(n int, w http.ResponseWriter, _ *http.Request) bool {
		switch n {
		case 0:
			panic(http.ErrAbortHandler) // ends the connection
		case 1:
			w.WriteHeader(http.StatusBadGateway)
		}
		return n < 2
	}
	clock := newClock()
	require.Equal(t, `"one"`, probed(t, s, source.Revision{}, options(clock)).Revision.ETag)
	require.Equal(t, []time.Duration{1, 2}, inSeconds(clock.waits))
}

func TestProbeEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := newSite(t, nil)
	s.spoil = func(_ int, _ http.ResponseWriter, r *http.Request) bool {
		cancel()
		<-r.Context().Done()
		return true
	}
	_, err := source.Probe(ctx, s.url(), source.Revision{}, options(newClock()))
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, 1, s.count())
}

func TestProbeOfOtherSchemes(t *testing.T) {
	for _, ref := range []string{"file:///etc/passwd", "ftp://host/a", "//host/a", "http://[" + canary} {
		require.Equal(t, source.SourceRefused, unprobed(t, ref, options(newClock())).Reason())
	}
}

func TestProveComparesWithThePin(t *testing.T) {
	for name, test := range map[string]struct {
		pin    source.Revision
		reason string
	}{
		"nothing is pinned": {source.Revision{}, ""},
		"all of it":         {source.Revision{ETag: `"one"`, LastModified: modified, Length: mib}, ""},
		"another ETag":      {source.Revision{ETag: `"two"`}, "SourceChanged"},
		"a weak ETag":       {source.Revision{ETag: `W/"one"`}, "SourceChanged"},
		"another time":      {source.Revision{LastModified: "Thu, 01 Jan 1970 00:00:00 GMT"}, "SourceChanged"},
		"another length":    {source.Revision{ETag: `"one"`, Length: 1}, "SourceChanged"},
		"its length alone":  {source.Revision{Length: mib}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, random(mib))
			o := options(newClock())
			o.Pin = test.pin
			err := source.Prove(t.Context(), s.url(), o)
			require.Equal(t, "GET+", methods(s), "as an import asks, and one byte at most")
			if test.reason == "" {
				require.NoError(t, err)
				return
			}
			var e *source.Error
			require.ErrorAs(t, err, &e)
			require.Equal(t, test.reason, e.Reason())
		})
	}
}
