package source_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/pkg/source"
)

// redirect sends every request to where next says, and counts.
func redirect(t *testing.T, next func(n int) string) *site {
	t.Helper()
	s := newSite(t, nil)
	s.spoil = func(n int, w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Location", next(n))
		w.WriteHeader([]int{301, 302, 303, 307, 308}[n%5])
		return true
	}
	return s
}

func TestRedirectsAreFollowed(t *testing.T) {
	end := newSite(t, random(mib))
	for hops := range 11 {
		s := redirect(t, func(n int) string {
			if n+1 < hops {
				return fmt.Sprintf("/hop/%d?sig=%s", n, canary)
			}
			return end.url()
		})
		url := s.url()
		if hops == 0 {
			url = end.url()
		}
		got, err := readAll(t.Context(), open(t, url, options(newClock())), mib)
		require.NoError(t, err)
		require.True(t, bytes.Equal(end.body, got))
		require.Equal(t, hops, s.count())
	}
}

func TestRedirectsThatAreRefused(t *testing.T) {
	for name, c := range map[string]struct{ location, want string }{
		"loop":            {"/again?sig=" + canary, source.RedirectRefused},
		"file":            {"file:///etc/passwd?" + canary, source.RedirectRefused},
		"ftp":             {"ftp://host/" + canary, source.RedirectRefused},
		"javascript":      {"javascript:" + canary, source.RedirectRefused},
		"nowhere":         {"", source.RedirectRefused},
		"no URL":          {"http://[" + canary, source.RedirectRefused},
		"control":         {"http://host/%zz" + canary, source.RedirectRefused},
		"no host":         {"http:///" + canary, source.RedirectRefused},
		"metadata":        {"http://169.254.169.254/latest/meta-data/?" + canary, source.AddressRefused},
		"metadata mapped": {"http://[::ffff:169.254.169.254]/latest?" + canary, source.AddressRefused},
		"metadata nat64":  {"http://[64:ff9b::a9fe:a9fe]/latest?" + canary, source.AddressRefused},
		"link-local":      {"http://[fe80::1]/?" + canary, source.AddressRefused},
	} {
		t.Run(name, func(t *testing.T) {
			s := redirect(t, func(int) string { return c.location })
			clock := newClock()
			o := options(clock)
			o.Credentials = secrets(t)
			require.Equal(t, c.want, failure(t, s.url(), o).Reason())
			require.Empty(t, clock.waits, "a refusal is final")
			require.LessOrEqual(t, s.count(), 11)
		})
	}
}

func TestLinkLocalIsRefusedAtOnce(t *testing.T) {
	for _, host := range []string{"169.254.169.254", "[fe80::1]", "[fd00:ec2::254]", "[::ffff:169.254.1.1]", "[fe80::1%25lo]"} {
		require.Equal(t, source.AddressRefused, failure(t, "http://"+host+"/"+"?"+canary, options(newClock())).Reason(), host)
	}
}

// TestSecretsStayWithTheirHost redirects in every way and looks at what arrives.
func TestSecretsStayWithTheirHost(t *testing.T) {
	end := newSite(t, []byte("body"))
	other := strings.Replace(end.URL, "127.0.0.1", "localhost", 1)
	t.Run("same scheme, host and port", func(t *testing.T) {
		s := newSite(t, []byte("body"))
		s.spoil = func(n int, w http.ResponseWriter, _ *http.Request) bool {
			if n == 0 {
				http.Redirect(w, &http.Request{Method: http.MethodGet}, s.URL+"/moved", http.StatusFound)
			}
			return n == 0
		}
		o := options(newClock())
		o.Credentials = secrets(t)
		open(t, s.url(), o)
		require.Equal(t, "Bearer token-"+canary, s.requests[1].Header.Get("Authorization"))
		require.Equal(t, "xauth-"+canary, s.requests[1].Header.Get("X-Auth-Token"))
		require.Equal(t, "custom-"+canary, s.requests[1].Header.Get("X-Custom"))
		require.Empty(t, s.requests[1].Header.Get("Referer"))
	})
	for name, location := range map[string]string{"other port": end.URL + "/x", "other host": other + "/x"} {
		t.Run(name, func(t *testing.T) {
			s := redirect(t, func(int) string { return location })
			o := options(newClock())
			o.Credentials = secrets(t)
			before := end.count()
			open(t, s.url(), o)
			require.True(t, carriesSecrets(s.requests[0]))
			require.Equal(t, before+1, end.count())
			require.False(t, carriesSecrets(end.requests[before]), "%v", end.requests[before].Header)
		})
	}
	t.Run("and back", func(t *testing.T) {
		start, away := newSite(t, []byte("body")), newSite(t, nil)
		start.spoil = func(n int, w http.ResponseWriter, _ *http.Request) bool {
			if n == 0 {
				w.Header().Set("Location", away.URL+"/x")
				w.WriteHeader(http.StatusFound)
			}
			return n == 0
		}
		away.spoil = func(_ int, w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Location", start.URL+"/chosen-by-another")
			w.WriteHeader(http.StatusFound)
			return true
		}
		o := options(newClock())
		o.Credentials = secrets(t)
		open(t, start.url(), o)
		require.True(t, carriesSecrets(start.requests[0]))
		require.False(t, carriesSecrets(start.requests[1]), "another host must not spend our secrets")
	})
	t.Run("https to http", func(t *testing.T) {
		secure := httptest.NewTLSServer(http.RedirectHandler(end.URL+"/?"+canary, http.StatusFound))
		defer secure.Close()
		o := options(newClock())
		o.CAs = pool(secure.Certificate())
		o.Credentials = secrets(t)
		before := end.count()
		require.Equal(t, source.RedirectRefused, failure(t, secure.URL, o).Reason())
		require.Equal(t, before, end.count())
	})
	t.Run("http to https", func(t *testing.T) {
		secure := httptest.NewTLSServer(end)
		defer secure.Close()
		s := redirect(t, func(int) string { return secure.URL })
		o := options(newClock())
		o.CAs = pool(secure.Certificate())
		o.Credentials = secrets(t)
		before := end.count()
		open(t, s.url(), o)
		require.False(t, carriesSecrets(end.requests[before]))
	})
	t.Run("user in the location", func(t *testing.T) {
		s := redirect(t, func(int) string { return strings.Replace(end.URL, "http://", "http://user:pw@", 1) })
		before := end.count()
		open(t, s.url(), options(newClock()))
		require.Empty(t, end.requests[before].Header.Get("Authorization"))
	})
	t.Run("when resuming", func(t *testing.T) {
		mirror := newSite(t, random(4*mib))
		mirror.spoil = func(n int, w http.ResponseWriter, r *http.Request) bool {
			if n == 0 {
				mirror.serve(&cutWriter{ResponseWriter: w, left: 2 * mib}, r)
			}
			return n == 0
		}
		s := redirect(t, func(int) string { return mirror.url() })
		o := options(newClock())
		o.Credentials = secrets(t)
		got, err := readAll(t.Context(), open(t, s.url(), o), 64<<10)
		require.NoError(t, err)
		require.True(t, bytes.Equal(mirror.body, got))
		for _, r := range mirror.requests {
			require.False(t, strings.Contains(fmt.Sprint(r.Header), canary))
		}
	})
}

func TestResumesAtTheSameMirror(t *testing.T) {
	mirror := newSite(t, random(4*mib))
	mirror.spoil = func(n int, w http.ResponseWriter, r *http.Request) bool {
		if n == 0 {
			mirror.serve(&cutWriter{ResponseWriter: w, left: 2 * mib}, r)
		}
		return n == 0
	}
	s := redirect(t, func(int) string { return mirror.url() })
	got, err := readAll(t.Context(), open(t, s.url(), options(newClock())), 64<<10)
	require.NoError(t, err)
	require.True(t, bytes.Equal(mirror.body, got))
	require.Equal(t, 1, s.count(), "another mirror might hold other bytes")
}

func TestExpiredPlaceIsAskedForAgain(t *testing.T) {
	mirror := newSite(t, random(4*mib))
	mirror.spoil = func(n int, w http.ResponseWriter, r *http.Request) bool {
		switch n {
		case 0:
			mirror.serve(&cutWriter{ResponseWriter: w, left: 2 * mib}, r)
		case 1:
			w.WriteHeader(http.StatusForbidden)
		}
		return n < 2
	}
	s := redirect(t, func(n int) string { return fmt.Sprintf("%s&n=%d", mirror.url(), n) })
	got, err := readAll(t.Context(), open(t, s.url(), options(newClock())), 64<<10)
	require.NoError(t, err)
	require.True(t, bytes.Equal(mirror.body, got))
	require.Equal(t, 2, s.count())
}
