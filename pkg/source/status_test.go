package source_test

import (
	"net"
	"net/http"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/pkg/source"
)

func TestFinalStatus(t *testing.T) {
	for status, want := range map[int]string{
		401: source.AuthenticationFailed, 403: source.AuthenticationFailed, 407: source.AuthenticationFailed, 404: source.NotFound, 410: source.NotFound,
		400: source.SourceRefused, 405: source.SourceRefused, 451: source.SourceRefused, 300: source.SourceRefused, 304: source.SourceRefused, 416: source.SourceRefused,
		412: source.SourceChanged, 204: source.EmptySource, 205: source.EmptySource,
	} {
		t.Run(strconv.Itoa(status), func(t *testing.T) {
			s := newSite(t, nil)
			s.spoil = func(_ int, w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(status); return true }
			clock := newClock()
			o := options(clock)
			o.Credentials = secrets(t)
			require.Equal(t, want, failure(t, s.url(), o).Reason())
			attempts := 1
			if status == http.StatusRequestedRangeNotSatisfiable {
				// The opening request asks for a part; the server may have the whole.
				attempts = 2
			}
			require.Equal(t, attempts, s.count(), "no more attempts than needed")
			require.Empty(t, clock.waits)
		})
	}
}

func TestRefusalInMidRunIsFinal(t *testing.T) {
	for status, want := range map[int]string{401: source.AuthenticationFailed, 404: source.NotFound, 412: source.SourceUnstable} {
		s := newSite(t, random(mib))
		s.spoil = func(n int, w http.ResponseWriter, r *http.Request) bool {
			if n == 0 {
				s.serve(&cutWriter{ResponseWriter: w, left: 1000}, r)
				return true
			}
			w.WriteHeader(status)
			return true
		}
		e := failure(t, s.url(), options(newClock()))
		require.Equal(t, want, e.Reason())
		require.Equal(t, status == http.StatusPreconditionFailed, e.StartOver(), "another revision may be read from its first byte")
		require.Equal(t, 2, s.count())
	}
}

func TestPinIsSentAndChecked(t *testing.T) {
	s := newSite(t, []byte("body"))
	o := options(newClock())
	o.Pin.ETag = `"one"`
	open(t, s.url(), o)
	require.Equal(t, `"one"`, s.requests[0].Header.Get("If-Match"))

	o.Pin.ETag = `"two"`
	require.Equal(t, source.SourceChanged, failure(t, s.url(), o).Reason())

	// A server that does not know If-Match.
	s.spoil = func(_ int, w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("ETag", `"one"`)
		_, _ = w.Write(s.body)
		return true
	}
	require.Equal(t, source.SourceChanged, failure(t, s.url(), o).Reason())

	o.Pin.ETag = `W/"one"`
	before := s.count()
	require.Equal(t, source.SourceChanged, failure(t, s.url(), o).Reason())
	require.Empty(t, s.requests[before].Header.Get("If-Match"), "a weak ETag never matches there")
}

func TestNobodyListens(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := listener.Addr().String()
	require.NoError(t, listener.Close())
	clock := newClock()
	require.Equal(t, source.ConnectionFailed, failure(t, "http://"+address+"/disk?sig="+canary, options(clock)).Reason())
	require.Len(t, clock.waits, 11)
}

func TestNoHTTPAtAll(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, listener.Close()) }()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte("SSH-2.0-OpenSSH_9.2\r\n"))
			_ = conn.Close()
		}
	}()
	require.Equal(t, source.ConnectionFailed, failure(t, "http://"+listener.Addr().String()+"/disk?sig="+canary, options(newClock())).Reason())
}
