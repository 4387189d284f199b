package source_test

import (
	"bytes"
	"crypto/tls"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"github.com/gild-project/gild/pkg/source"
)

// TestServerErrorsInMidRun are faults N2 and N3 behind a broken connection of the forward way.
func TestServerErrorsInMidRun(t *testing.T) {
	for name, c := range map[string]struct {
		answer func(w http.ResponseWriter)
		times  int
		waits  []time.Duration
	}{
		"10 x 503": {func(w http.ResponseWriter) { w.WriteHeader(http.StatusServiceUnavailable) }, 10, []time.Duration{1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60}},
		"Retry-After": {func(w http.ResponseWriter) {
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(http.StatusTooManyRequests)
		}, 2, []time.Duration{1, 7, 7}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, random(4*mib))
			s.spoil = func(n int, w http.ResponseWriter, r *http.Request) bool {
				switch {
				case n == 0:
					r.Header.Del("Range")
					s.serve(&cutWriter{ResponseWriter: w, left: 2 * mib, reset: true}, r)
				case n <= c.times:
					c.answer(w)
				default:
					return false
				}
				return true
			}
			clock := newClock()
			image := open(t, s.url(), options(clock))
			require.False(t, image.Ranged())
			got, err := readAll(t.Context(), image, 64<<10)
			require.NoError(t, err)
			require.True(t, bytes.Equal(s.body, got))
			require.Equal(t, c.times+2, s.count())
			require.Equal(t, c.waits, inSeconds(clock.waits))
			require.EqualValues(t, len(s.body), image.Fetched())
		})
	}
}

// TestRangesThatAreLost has a server that proves its ranges and later sends the whole image, of
// the same revision, for some parts or all.
func TestRangesThatAreLost(t *testing.T) {
	for name, c := range map[string]struct {
		// lost tells whether the range of the n-th request is lost, which asks for what begins at first and was asked for before.
		lost func(n, first int, before bool) bool
		ends bool
	}{
		"now and then": {func(n, first int, before bool) bool { return n > 0 && !before && first/mib%3 == 0 }, false},
		"one part":     {func(_, first int, _ bool) bool { return first == 8*mib }, true},
		"all parts":    {func(n, _ int, _ bool) bool { return n > 0 }, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, random(24*mib))
			var lost atomic.Int32
			var before sync.Map
			s.spoil = func(n int, _ http.ResponseWriter, r *http.Request) bool {
				first, _ := asked(r, len(s.body))
				if _, again := before.LoadOrStore(first, true); c.lost(n, first, again) {
					lost.Add(1)
					r.Header.Del("Range")
				}
				return false
			}
			clock := newClock()
			o := options(clock)
			o.History = &source.History{}
			image := open(t, s.url(), o)
			require.True(t, image.Ranged())
			got, err := readAll(t.Context(), image, mib)
			if !c.ends {
				require.NoError(t, err)
				require.True(t, bytes.Equal(s.body, got))
				require.Greater(t, lost.Load(), int32(2))
				return
			}
			var e *source.Error
			require.ErrorAs(t, err, &e)
			require.True(t, e.StartOver())
			require.True(t, bytes.HasPrefix(s.body, got))
			require.Less(t, clock.total(), time.Minute)

			again := open(t, s.url(), o)
			require.False(t, again.Ranged(), "it is not believed a second time")
			got, err = readAll(t.Context(), again, mib)
			require.NoError(t, err)
			require.True(t, bytes.Equal(s.body, got))
		})
	}
}

// TestRenewedCertificates is fault N12: server and CA directory change while an image is read.
func TestRenewedCertificates(t *testing.T) {
	before, after := newAuthority(t, "before"), newAuthority(t, "after")
	local, now := net.ParseIP("127.0.0.1"), newClock().now
	certificates := map[bool]tls.Certificate{
		false: before.sign(t, local, now.Add(-time.Hour), now.Add(time.Hour)), true: after.sign(t, local, now.Add(-time.Hour), now.Add(time.Hour)),
	}
	for way, spoil := range ways() {
		for _, renewed := range []bool{true, false} {
			t.Run(map[bool]string{true: "in time, ", false: "never, "}[renewed]+way, func(t *testing.T) {
				dir := mounted(t, map[string][]byte{"ca.crt": encoded(before)})
				s := newSite(t, random(24*mib))
				var rotated atomic.Bool
				var secure *httptest.Server
				s.spoil = func(n int, w http.ResponseWriter, r *http.Request) bool {
					spoil(r)
					if n != map[string]int{"ranged": 1, "forward": 0}[way] {
						return false
					}
					rotated.Store(true)
					if renewed {
						rotate(t, dir, map[string][]byte{"ca.crt": encoded(after)})
					}
					s.serve(&cutWriter{ResponseWriter: w, left: mib}, r)
					return true
				}
				secure = httptest.NewUnstartedServer(s)
				secure.Config.ErrorLog = quiet()
				secure.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
					return &tls.Config{Certificates: []tls.Certificate{certificates[rotated.Load()]}, MinVersion: tls.VersionTLS12}, nil
				}}
				secure.StartTLS()
				defer secure.Close()
				o := options(newClock())
				o.CADir = dir
				// Several connections may have been made before the renewal.
				o.Connections = 1
				image := open(t, secure.URL, o)
				got, err := readAll(t.Context(), image, mib)
				if renewed {
					require.NoError(t, err)
					require.True(t, bytes.Equal(s.body, got))
					return
				}
				var e *source.Error
				require.ErrorAs(t, err, &e)
				require.Equal(t, source.CertificateError, e.Reason())
				require.ErrorContains(t, err, `issuer "CN=after"`)
			})
		}
	}
	t.Run("bad directory", func(t *testing.T) {
		o := options(newClock())
		o.CADir = t.TempDir()
		require.Equal(t, source.InvalidCertificates, failure(t, "https://127.0.0.1:1/", o).Reason())
	})
}

func encoded(a authority) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.certificate.Raw})
}

// rotate replaces what mounted has made, as the kubelet does: by one rename.
func rotate(t *testing.T, dir string, files map[string][]byte) {
	t.Helper()
	dated := filepath.Join(dir, "..2026_11_21_01_00_00.987654321")
	require.NoError(t, os.Mkdir(dated, 0o700))
	for name, content := range files {
		require.NoError(t, os.WriteFile(filepath.Join(dated, name), content, 0o400))
	}
	require.NoError(t, os.Symlink(filepath.Base(dated), filepath.Join(dir, "..data_tmp")))
	require.NoError(t, os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
}

// TestBlackHole is fault N13: the host has an IPv6 address too, where nobody ever answers.
func TestBlackHole(t *testing.T) {
	s := newSite(t, random(mib))
	hole := blackHole(t, port(t, s.URL))
	o := options(newClock())
	o.Resolver = nameServer(t, func(_ int, q dnsmessage.Question, reply *dnsmessage.Message) {
		address(q, [4]byte{127, 0, 0, 1}, reply)
		if q.Type == dnsmessage.TypeAAAA {
			reply.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 1}, Body: &dnsmessage.AAAAResource{AAAA: hole}}}
		}
	})
	clock := newClock()
	o.Clock = clock
	got, err := readAll(t.Context(), open(t, "http://images.example.:"+port(t, s.URL)+"/disk", o), mib)
	require.NoError(t, err)
	require.True(t, bytes.Equal(s.body, got))
	require.Empty(t, clock.waits, "not even a retry")
}

// blackHole makes a port of the IPv6 loopback that drops what comes: a queue for connections that
// is full.
func blackHole(t *testing.T, port string) [16]byte {
	t.Helper()
	number, err := net.LookupPort("tcp", port)
	require.NoError(t, err)
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Skip("SKIPPED: needs IPv6")
	}
	t.Cleanup(func() { require.NoError(t, unix.Close(fd)) })
	require.NoError(t, unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1))
	to := &unix.SockaddrInet6{Port: number, Addr: [16]byte{15: 1}}
	if unix.Bind(fd, to) != nil {
		t.Skip("SKIPPED: needs an IPv6 loopback")
	}
	require.NoError(t, unix.Listen(fd, 0))
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", net.JoinHostPort("::1", port))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	return to.Addr
}

// TestContentEncoding is fault N9: bytes are those that the server stores or sends, never unpacked.
func TestContentEncoding(t *testing.T) {
	for name, c := range map[string]struct {
		encoding string
		taken    bool
	}{
		"gzip": {"gzip", true}, "old name": {"X-Gzip", true}, "zstd": {"zstd", true}, "none": {"identity", true},
		"brotli": {"br", false}, "deflate": {"deflate", false}, "two": {"gzip, br", false},
	} {
		for way, spoil := range ways() {
			t.Run(name+", "+way, func(t *testing.T) {
				s := newSite(t, append([]byte("\x1f\x8b"), random(5*mib)...))
				s.spoil = func(_ int, w http.ResponseWriter, r *http.Request) bool {
					spoil(r)
					require.Equal(t, "identity", r.Header.Get("Accept-Encoding"))
					w.Header().Set("Content-Encoding", c.encoding)
					return false
				}
				if !c.taken {
					e := failure(t, s.url(), options(newClock()))
					require.Equal(t, source.SourceRefused, e.Reason())
					require.ErrorContains(t, e, "Content-Encoding")
					return
				}
				var told string
				o := options(newClock())
				o.Notice = func(message string) { told = message }
				got, err := readAll(t.Context(), open(t, s.url(), o), mib)
				require.NoError(t, err)
				require.True(t, bytes.Equal(s.body, got))
				require.Equal(t, c.encoding != "identity", told != "")
			})
		}
	}
	t.Run("changes", func(t *testing.T) {
		s := newSite(t, random(5*mib))
		s.spoil = func(n int, w http.ResponseWriter, _ *http.Request) bool {
			if n > 0 {
				w.Header().Set("Content-Encoding", "gzip")
			}
			return false
		}
		e := failure(t, s.url(), options(newClock()))
		require.Equal(t, source.SourceUnstable, e.Reason())
		require.True(t, e.StartOver())
	})
}

// TestEndlessBody is fault N15: nothing is read ahead of what the importer asks for, and answers
// that bring nothing are not read to their end.
func TestEndlessBody(t *testing.T) {
	endless := func(w http.ResponseWriter) {
		p := make([]byte, 64<<10)
		for {
			if _, err := w.Write(p); err != nil {
				return
			}
		}
	}
	// What the kernel holds for a connection that nobody reads, generously.
	const buffers = 32 * mib
	t.Run("image", func(t *testing.T) {
		s := newSite(t, nil)
		s.spoil = func(_ int, w http.ResponseWriter, _ *http.Request) bool { endless(w); return true }
		image := open(t, s.url(), options(newClock()))
		require.EqualValues(t, -1, image.Size())
		_, err := io.ReadFull(reader{t.Context(), image}, make([]byte, 3*mib))
		require.NoError(t, err)
		require.LessOrEqual(t, image.Fetched(), int64(3*mib))
		require.NoError(t, image.Close())
		s.Close()
		require.Less(t, s.bytes(), int64(3*mib+buffers))
	})
	for name, answer := range map[string]func(w http.ResponseWriter){
		"server error": func(w http.ResponseWriter) { w.WriteHeader(http.StatusServiceUnavailable) },
		"redirect": func(w http.ResponseWriter) {
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(http.StatusFound)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, random(mib))
			s.spoil = func(n int, w http.ResponseWriter, _ *http.Request) bool {
				if n > 0 {
					return false
				}
				answer(w)
				endless(w)
				return true
			}
			got, err := readAll(t.Context(), open(t, s.url(), options(newClock())), mib)
			require.NoError(t, err)
			require.True(t, bytes.Equal(s.body, got))
			s.Close()
			require.Less(t, s.bytes(), int64(mib+buffers))
		})
	}
}
