package source_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/pkg/source"
)

// TestAddressed has servers whose ETag proves nothing: the digest in the URL does.
func TestAddressed(t *testing.T) {
	const size = 12 * mib
	for name, etag := range map[string]func(n int) string{
		"none":    func(int) string { return "" },
		"weak":    func(int) string { return `W/"one"` },
		"strong":  func(int) string { return `"one"` },
		"changes": func(n int) string { return fmt.Sprintf(`"%d"`, n) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, random(size))
			s.etag = ""
			s.spoil = func(n int, w http.ResponseWriter, _ *http.Request) bool {
				if etag(n) != "" {
					w.Header().Set("ETag", etag(n))
				}
				return false
			}
			o := options(newClock())
			o.Addressed = true
			image := open(t, s.url(), o)
			require.True(t, image.Ranged())
			require.Equal(t, int64(size), image.Size())
			tail, err := image.Tail(t.Context(), 512)
			require.NoError(t, err)
			require.Equal(t, s.body[size-512:], tail)
			got, err := readAll(t.Context(), image, mib)
			require.NoError(t, err)
			require.True(t, bytes.Equal(s.body, got))
			require.Greater(t, s.count(), 4, "in pieces")
			for _, r := range s.requests {
				require.Empty(t, r.Header.Get("If-Match")+r.Header.Get("If-Range"))
			}
		})
	}
}

// TestAddressedPartsThatLie is TestPartsThatLie for a URL with a digest.
func TestAddressedPartsThatLie(t *testing.T) {
	const size = 4 * mib
	lie := func(first, last, total int) func(w http.ResponseWriter, s *site, at int) {
		return func(w http.ResponseWriter, s *site, at int) {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", at+first, last, total))
			w.Header().Set("Content-Length", strconv.Itoa(last-at-first+1))
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(s.body[at+first : last+1])
		}
	}
	for name, c := range map[string]struct {
		answer func(w http.ResponseWriter, s *site, at int)
		want   string
	}{
		"larger total":  {lie(0, size-1, size+1), source.SourceUnstable},
		"smaller total": {lie(0, size-2, size-1), source.SourceUnstable},
		"wrong start":   {lie(-1, size-1, size), source.SourceUnstable},
		"no range":      {func(w http.ResponseWriter, _ *site, _ int) { w.WriteHeader(http.StatusPartialContent) }, source.SourceUnstable},
		"416":           {func(w http.ResponseWriter, _ *site, _ int) { w.WriteHeader(416) }, source.SourceUnstable},
		"whole image":   {func(w http.ResponseWriter, s *site, _ int) { _, _ = w.Write(s.body) }, source.ConnectionFailed},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, random(size))
			s.etag = ""
			s.spoil = func(n int, w http.ResponseWriter, r *http.Request) bool {
				if n == 0 {
					s.serve(w, r)
					return true
				}
				var at int
				_, _ = fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &at)
				c.answer(w, s, at)
				return true
			}
			o := options(newClock())
			o.Addressed, o.Connections = true, 1
			e := failure(t, s.url(), o)
			require.Equal(t, c.want, e.Reason(), e)
			require.True(t, e.StartOver())
		})
	}
}

func TestAddressedRewindForward(t *testing.T) {
	s := newSite(t, random(mib))
	s.etag = ""
	s.spoil = func(n int, w http.ResponseWriter, r *http.Request) bool {
		r.Header.Del("Range")
		w.Header().Set("ETag", strconv.Itoa(n))
		return false
	}
	o := options(newClock())
	o.Addressed = true
	image := open(t, s.url(), o)
	require.False(t, image.Ranged())
	for range 2 {
		got, err := readAll(t.Context(), image, 64<<10)
		require.NoError(t, err)
		require.True(t, bytes.Equal(s.body, got))
		require.NoError(t, image.Rewind(t.Context()))
	}
}

func TestTriesAndAccept(t *testing.T) {
	s := newSite(t, []byte("body"))
	s.spoil = func(_ int, w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	}
	for _, tries := range []int{1, 3} {
		before := s.count()
		clock := newClock()
		o := options(clock)
		o.OpenTries, o.Accept = tries, "application/json"
		require.Equal(t, source.ServerError, failure(t, s.url(), o).Reason())
		require.Equal(t, tries, s.count()-before)
		require.Len(t, clock.waits, tries-1)
	}
	require.Equal(t, "application/json", s.requests[0].Header.Get("Accept"))
}

func TestInsecureTakesAnyCertificate(t *testing.T) {
	secure := httptest.NewUnstartedServer(newSite(t, []byte("body")))
	secure.Config.ErrorLog = quiet()
	secure.StartTLS()
	defer secure.Close()
	o := options(newClock())
	o.Insecure = true
	got, err := readAll(t.Context(), open(t, secure.URL, o), mib)
	require.NoError(t, err)
	require.Equal(t, []byte("body"), got)
}
