package source_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/gild-project/gild/pkg/source"
)

// TestMain finds goroutines and connections that a test leaves behind, and keeps the proxies
// of the machine out.
func TestMain(m *testing.M) {
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"} {
		if err := os.Unsetenv(name); err != nil {
			panic(err)
		}
	}
	goleak.VerifyTestMain(m)
}

const (
	mib = 1 << 20
	// canary is in every secret and every query of these tests, and in no message.
	canary = "canary"
)

// fakeClock waits without waiting and remembers for how long.
type fakeClock struct {
	mu    sync.Mutex
	now   time.Time
	waits []time.Duration
	// timers belong to options, and end when the test says so.
	timers *timers
}

// newClock starts at an arbitrary time.
func newClock() *fakeClock {
	return &fakeClock{now: time.Date(2026, 7, 8, 9, 10, 11, 0, time.UTC), timers: newTimers()}
}

func (c *fakeClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func (c *fakeClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *fakeClock) Sleep(ctx context.Context, d time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	c.waits = append(c.waits, d)
	return ctx.Err()
}

func (c *fakeClock) total() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	var sum time.Duration
	for _, d := range c.waits {
		sum += d
	}
	return sum
}

// site is a server with one image, whose answers a test can spoil.
type site struct {
	*httptest.Server
	mu       sync.Mutex
	body     []byte
	etag     string
	modified time.Time
	// spoil handles request number n (from 0) and returns true, or leaves it to the site.
	spoil    func(n int, w http.ResponseWriter, r *http.Request) bool
	requests []*http.Request
	sent     int64
}

// noise is what random is cut from, made once. It is AES in counter mode: the race detector does not slow
// down its assembly.
var noise = sync.OnceValue(func() []byte {
	b := make([]byte, 25*mib)
	if key, err := aes.NewCipher([]byte("sixteen bytes 16")); err == nil {
		cipher.NewCTR(key, make([]byte, aes.BlockSize)).XORKeyStream(b, b)
	}
	return b
})

// random is an image of n bytes that nobody may change: all tests read the same ones, because under the race
// detector fresh memory is dear.
func random(n int) []byte { return slices.Clip(noise()[:n]) }

func newSite(t *testing.T, body []byte) *site {
	t.Helper()
	s := &site{body: body, etag: `"one"`, modified: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	n := len(s.requests)
	s.requests = append(s.requests, r.Clone(context.WithoutCancel(r.Context())))
	spoil := s.spoil
	s.mu.Unlock()
	counted := &countingWriter{ResponseWriter: w, site: s}
	if spoil == nil || !spoil(n, counted, r) {
		s.serve(counted, r)
	}
}

// serve answers as a good server does.
func (s *site) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	body, etag, modified := s.body, s.etag, s.modified
	s.mu.Unlock()
	if etag != "" {
		w.Header().Set("ETag", etag)
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", modified, bytes.NewReader(body))
}

func (s *site) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.requests)
}

// bytes counts what was sent of bodies.
func (s *site) bytes() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sent
}

// url is the address of the image, with a secret in its query.
func (s *site) url() string { return s.URL + "/disk.img?sig=" + canary }

type countingWriter struct {
	http.ResponseWriter
	site *site
}

func (w *countingWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.site.mu.Lock()
	w.site.sent += int64(n)
	w.site.mu.Unlock()
	return n, err
}

func (w *countingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// cutWriter ends the connection after some bytes of the body.
type cutWriter struct {
	http.ResponseWriter
	left  int
	reset bool
}

func (w *cutWriter) Write(p []byte) (int, error) {
	if len(p) < w.left {
		w.left -= len(p)
		return w.ResponseWriter.Write(p)
	}
	_, _ = w.ResponseWriter.Write(p[:w.left])
	hangUp(w.ResponseWriter, w.reset)
	return 0, errors.New("cut")
}

func (w *cutWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// hangUp ends the connection: with a reset, or in good order.
func hangUp(w http.ResponseWriter, reset bool) {
	controller := http.NewResponseController(w)
	_ = controller.Flush()
	conn, _, err := controller.Hijack()
	if err != nil {
		return
	}
	if tcp, ok := conn.(*net.TCPConn); ok && reset {
		drain(tcp)
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// drain waits until the other side has all that was sent, or is gone: a reset drops what is on
// the way, and a test could not say how much came.
func drain(conn *net.TCPConn) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return
	}
	for left := 1; left > 0; runtime.Gosched() {
		if raw.Control(func(fd uintptr) {
			if left, err = unix.IoctlGetInt(int(fd), unix.TIOCOUTQ); err != nil {
				left = 0
			}
			const established = 1 // TCP_ESTABLISHED: nobody takes the rest in any other state
			if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err != nil || info.State != established {
				left = 0
			}
		}) != nil {
			return
		}
	}
}

// cutAt makes every answer end after n bytes of its body.
func (s *site) cutAt(n int, reset bool) {
	s.spoil = func(_ int, w http.ResponseWriter, r *http.Request) bool {
		s.serve(&cutWriter{ResponseWriter: w, left: n, reset: reset}, r)
		return true
	}
}

// options are quick and steady: a fake clock and timers, without jitter.
func options(clock *fakeClock) source.Options {
	return source.Options{
		Clock: clock, Jitter: func() float64 { return 0 },
		HeaderTimeout: headerTimeout, StallTimeout: stallTimeout, AfterFunc: clock.timers.AfterFunc,
	}
}

// readAll reads an image as the importer does.
func readAll(ctx context.Context, image source.Image, chunk int) ([]byte, error) {
	all := make([]byte, 0, max(image.Size(), 0)+int64(chunk))
	for {
		all = slices.Grow(all, chunk)
		n, err := image.Read(ctx, all[len(all):][:chunk:chunk])
		all = all[:len(all)+n]
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return all, err
		}
	}
}

func open(t *testing.T, url string, o source.Options) source.Image {
	t.Helper()
	image, err := source.Open(t.Context(), url, o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, image.Close()) })
	return image
}

// failure opens and reads url until it fails, checks that nothing secret is told, and returns
// the error.
func failure(t *testing.T, url string, o source.Options) *source.Error {
	t.Helper()
	var told strings.Builder
	o.Notice = func(message string) { told.WriteString(message) }
	image, err := source.Open(t.Context(), url, o)
	if err == nil {
		_, err = readAll(t.Context(), image, 64<<10)
		require.NoError(t, image.Close())
	}
	var e *source.Error
	require.ErrorAs(t, err, &e)
	for _, text := range []string{err.Error(), told.String()} {
		require.NotContains(t, text, canary)
		require.NotContains(t, text, "sig=")
	}
	return e
}

// secrets are credentials of every kind that may be sent together.
func secrets(t *testing.T) source.Credentials {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "headers"), 0o700))
	for name, value := range map[string]string{
		"token": "token-" + canary, "headers/a": "X-Auth-Token: xauth-" + canary + "\nX-Custom: custom-" + canary + "\n", "headers/b": "Cookie: c=" + canary,
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(value), 0o600))
	}
	c, err := source.ReadCredentials(dir)
	require.NoError(t, err)
	return c
}

// carriesSecrets tells whether a request brought any of them.
func carriesSecrets(r *http.Request) bool {
	for name, values := range r.Header {
		if strings.Contains(name+strings.Join(values, ""), canary) {
			return true
		}
	}
	return false
}

func tlsVersions(from, to uint16) *tls.Config { return &tls.Config{MinVersion: from, MaxVersion: to} }

// quiet drops what a test server says about our deliberate faults.
func quiet() *log.Logger { return log.New(io.Discard, "", 0) }
