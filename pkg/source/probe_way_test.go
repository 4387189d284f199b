package source_test

import (
	"context"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/pkg/source"
)

// TestProbeKeepsSecrets: they go to the host of the URL, by HEAD and by GET, and to no other.
func TestProbeKeepsSecrets(t *testing.T) {
	for _, headless := range []bool{false, true} {
		end := newSite(t, random(mib))
		end.spoil = func(_ int, w http.ResponseWriter, r *http.Request) bool {
			refused := headless && r.Method == http.MethodHead
			if refused {
				w.WriteHeader(http.StatusForbidden)
			}
			return refused
		}
		s := redirect(t, func(n int) string {
			if n%2 == 0 {
				return "/next?sig=" + canary
			}
			return end.URL + "/disk"
		})
		o := options(newClock())
		o.Credentials = secrets(t)
		require.EqualValues(t, mib, probed(t, s, source.Revision{}, o).Revision.Length)
		for _, r := range s.requests {
			require.True(t, carriesSecrets(r))
		}
		require.Equal(t, map[bool]string{false: "HEAD", true: "HEAD GET+"}[headless], methods(end))
		for _, r := range end.requests {
			require.False(t, carriesSecrets(r), r.Header)
			require.Empty(t, r.Header.Get("Referer"))
		}
	}
}

func TestProbeOfRefusedPlaces(t *testing.T) {
	for location, want := range map[string]string{
		"file:///etc/passwd?" + canary: source.RedirectRefused, "/again?" + canary: source.RedirectRefused,
		"http://169.254.169.254/latest?" + canary: source.AddressRefused,
	} {
		s := redirect(t, func(int) string { return location })
		clock := newClock()
		require.Equal(t, want, unprobed(t, s.url(), options(clock)).Reason())
		require.Empty(t, clock.waits)
	}
	o := options(newClock())
	require.Equal(t, source.AddressRefused, unprobed(t, "http://169.254.169.254/?"+canary, o).Reason())
}

func TestProbeOverTLS(t *testing.T) {
	good, now := newAuthority(t, "good"), newClock().now
	for name, c := range map[string]struct {
		from, to time.Time
		signer   authority
		reason   string
	}{
		"good":     {now.Add(-time.Hour), now.Add(time.Hour), good, ""},
		"expired":  {now.Add(-2 * time.Hour), now.Add(-time.Hour), good, source.CertificateError},
		"wrong CA": {now.Add(-time.Hour), now.Add(time.Hour), newAuthority(t, "other"), source.CertificateError},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, []byte("body"))
			secure := httptest.NewUnstartedServer(s)
			secure.TLS = &tls.Config{Certificates: []tls.Certificate{c.signer.sign(t, net.ParseIP("127.0.0.1"), c.from, c.to)}}
			secure.Config.ErrorLog = quiet()
			secure.StartTLS()
			defer secure.Close()
			clock := newClock()
			o := options(clock)
			o.CADir = mounted(t, map[string][]byte{"ca.crt": encoded(good)})
			if c.reason == "" {
				found, err := source.Probe(t.Context(), secure.URL, source.Revision{}, o)
				require.NoError(t, err)
				require.Equal(t, `"one"`, found.Revision.ETag)
				return
			}
			require.Equal(t, c.reason, unprobed(t, secure.URL+"/?"+canary, o).Reason())
			require.Empty(t, clock.waits)
			require.Zero(t, s.count())
		})
	}
	o := options(newClock())
	o.CADir = t.TempDir()
	require.Equal(t, source.InvalidCertificates, unprobed(t, "https://images.example/?"+canary, o).Reason())
}

// TestProbeOfASlowHead: a head that comes byte by byte ends with its time.
func TestProbeOfASlowHead(t *testing.T) {
	s, clock := newSite(t, nil), newClock()
	s.spoil = func(_ int, w http.ResponseWriter, _ *http.Request) bool {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return false
		}
		defer func() { _ = conn.Close() }()
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nETag: \"o")
		clock.timers.end(headerTimeout, nil)
		_, _ = io.Copy(io.Discard, conn)
		return true
	}
	require.Equal(t, source.ConnectionFailed, unprobed(t, s.url(), options(clock)).Reason())
	require.Equal(t, "HEAD GET+ GET+", methods(s))
	require.Equal(t, []time.Duration{1, 2}, inSeconds(clock.waits))
}

// TestProbeLogsIn answers a 401 to HEAD as one to GET.
func TestProbeLogsIn(t *testing.T) {
	s := newSite(t, random(mib))
	d := guarded(s)
	o := options(newClock())
	o.Login = d.login
	require.EqualValues(t, mib, probed(t, s, source.Revision{}, o).Revision.Length)
	require.Equal(t, "HEAD HEAD", methods(s))
	require.Equal(t, 1, d.count())
}

// TestProbeReadsNoBody: not the one that HEAD must not have, and not an endless one.
func TestProbeReadsNoBody(t *testing.T) {
	var out lockedBuffer
	before := log.Writer()
	log.SetOutput(&out)
	defer log.SetOutput(before)
	s := newSite(t, nil)
	s.spoil = func(n int, w http.ResponseWriter, _ *http.Request) bool {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return false
		}
		defer func() { _ = conn.Close() }()
		head := "HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n"
		if n > 0 {
			head += "ETag: \"endless\"\r\n"
		}
		_, err = io.WriteString(conn, head+"\r\nHTTP/1.1 200 OK\r\nX-Echo: "+canary+"\r\n\r\n")
		for err == nil {
			_, err = conn.Write(make([]byte, 64<<10)) // until the other side hangs up
		}
		return true
	}
	require.Equal(t, source.Revision{ETag: `"endless"`, Length: 1e12}, probed(t, s, source.Revision{}, options(newClock())).Revision)
	require.Equal(t, "HEAD GET+", methods(s))
	require.Empty(t, out.String())
}

// TestProbeThroughAProxy asks a host that only the proxy knows.
func TestProbeThroughAProxy(t *testing.T) {
	p := proxy(t, func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("ETag", `"`+r.URL.Host+`"`)
		return false
	})
	t.Setenv("HTTP_PROXY", p.URL)
	found, err := source.Probe(t.Context(), "http://images.example/disk", source.Revision{}, options(newClock()))
	require.NoError(t, err)
	require.Equal(t, `"images.example"`, found.Revision.ETag)
	require.Equal(t, "HEAD", methods(p))
}

// TestFlappingValidators: two mirrors behind one name. What they agree on is one state.
func TestFlappingValidators(t *testing.T) {
	s := newSite(t, random(mib))
	s.spoil = func(n int, w http.ResponseWriter, r *http.Request) bool {
		r.Header.Del("If-None-Match")
		if n%2 == 1 { // the one without ETags
			s.mu.Lock()
			w.Header().Set("Last-Modified", s.modified.Format(http.TimeFormat))
			s.mu.Unlock()
			w.Header().Set("Content-Length", "1048576")
			return true
		}
		return false
	}
	first := probed(t, s, source.Revision{}, options(newClock()))
	for range 4 {
		require.Equal(t, source.Found{Unchanged: true, Revision: first.Revision}, probed(t, s, first.Revision, options(newClock())))
	}
}

func TestHead(t *testing.T) {
	s := newSite(t, random(mib))
	o := options(newClock())
	o.Accept = "application/json"
	header, err := source.Head(t.Context(), s.url(), o)
	require.NoError(t, err)
	require.Equal(t, `"one"`, header.Get("ETag"))
	require.Equal(t, "application/json", s.requests[0].Header.Get("Accept"))
	for status, reason := range map[int]string{404: source.NotFound, 405: source.SourceRefused, 501: source.SourceRefused, 503: source.ServerError} {
		s.spoil = func(_ int, w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(status); return true }
		_, err := source.Head(t.Context(), s.url(), options(newClock()))
		var e *source.Error
		require.ErrorAs(t, err, &e)
		require.Equal(t, reason, e.Reason())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = source.Head(ctx, s.url(), o)
	require.ErrorIs(t, err, context.Canceled)
}
