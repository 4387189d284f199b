package exporter_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	cryptorand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/gild-project/gild/pkg/exporter"
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
	mib   = 1 << 20
	token = "token-canary-0123456789"
)

// timer is that of Options.Idle, which ends when the test says so.
type timer struct {
	mu   sync.Mutex
	f    func()
	left time.Duration
	runs bool
	// resets counts how often it was started.
	resets int
}

func (t *timer) AfterFunc(d time.Duration, f func()) exporter.Timer {
	t.mu.Lock()
	t.f = f
	t.mu.Unlock()
	t.Reset(d)
	return t
}

func (t *timer) Stop() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.runs = false
	return true
}

func (t *timer) Reset(d time.Duration) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.left, t.runs = d, true
	t.resets++
	return true
}

func (t *timer) state() (runs bool, left time.Duration, resets int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.runs, t.left, t.resets
}

// files writes a certificate for the local host, its key and a token into a directory.
func files(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), cryptorand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(cryptorand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	write(t, filepath.Join(dir, "ca", "tls.crt"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	write(t, filepath.Join(dir, "tls.key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
	write(t, filepath.Join(dir, "secret", "token"), []byte(token+"\n"))
	return dir
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, content, 0o600))
}

// options are good ones for target.
func options(t *testing.T, target string) exporter.Options {
	t.Helper()
	dir := files(t)
	return exporter.Options{
		Target: target, Listen: "127.0.0.1:0", Certificate: filepath.Join(dir, "ca", "tls.crt"), Key: filepath.Join(dir, "tls.key"),
		TokenFile: filepath.Join(dir, "secret", "token"), Revision: "sha256:1234", Idle: time.Minute, Connections: 16,
	}
}

// site is an exporter that runs.
type site struct {
	t       *testing.T
	options exporter.Options
	url     string
	timer   *timer
	// stop tells it to end, and ended is closed when it has, with result.
	stop   context.CancelFunc
	ended  chan struct{}
	result error
	// open and most count the connections.
	mu         sync.Mutex
	open, most int
}

func serve(t *testing.T, o exporter.Options) *site {
	t.Helper()
	s := &site{t: t, options: o, timer: &timer{}, ended: make(chan struct{})}
	parts := exporter.System()
	parts.AfterFunc = s.timer.AfterFunc
	e, err := exporter.Open(o, parts)
	require.NoError(t, err)
	l, err := e.Listen(t.Context())
	require.NoError(t, err)
	s.url = "https://" + l.Addr().String()
	ctx, cancel := context.WithCancel(t.Context())
	s.stop = cancel
	go func() {
		defer close(s.ended)
		s.result = e.Serve(ctx, &counted{l, s})
	}()
	t.Cleanup(func() {
		cancel()
		<-s.ended
		require.NoError(t, e.Close())
	})
	return s
}

// counted is a listener that counts what is open.
type counted struct {
	net.Listener
	site *site
}

func (c *counted) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c.site.mu.Lock()
	defer c.site.mu.Unlock()
	c.site.open++
	c.site.most = max(c.site.most, c.site.open)
	return &countedConn{Conn: conn, site: c.site}, nil
}

type countedConn struct {
	net.Conn
	site *site
	once sync.Once
}

func (c *countedConn) Close() error {
	c.once.Do(func() {
		c.site.mu.Lock()
		defer c.site.mu.Unlock()
		c.site.open--
	})
	return c.Conn.Close()
}

// client trusts the site.
func (s *site) client() *http.Client {
	s.t.Helper()
	certificate, err := os.ReadFile(s.options.Certificate)
	require.NoError(s.t, err)
	roots := x509.NewCertPool()
	require.True(s.t, roots.AppendCertsFromPEM(certificate))
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true, ForceAttemptHTTP2: true}
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// image opens the disk as the importer does.
func (s *site) image() source.Image {
	s.t.Helper()
	credentials, err := source.ReadCredentials(filepath.Dir(s.options.TokenFile))
	require.NoError(s.t, err)
	o := source.Options{Credentials: credentials, CADir: filepath.Dir(s.options.Certificate), Extents: true, Jitter: func() float64 { return 0 }}
	image, err := source.Open(s.t.Context(), s.url+"/disk", o)
	require.NoError(s.t, err)
	s.t.Cleanup(func() { require.NoError(s.t, image.Close()) })
	return image
}

// run is data on a disk.
type run struct{ off, length int64 }

// newDisk makes a sparse disk.img of size bytes with data at the places named, and returns its directory
// and its content.
func newDisk(t *testing.T, size int64, runs ...run) (dir string, content []byte) {
	t.Helper()
	dir = t.TempDir()
	content = make([]byte, size)
	f, err := os.Create(filepath.Join(dir, "disk.img"))
	require.NoError(t, err)
	require.NoError(t, f.Truncate(size))
	noise := rand.NewChaCha8([32]byte{7})
	for _, r := range runs {
		_, _ = noise.Read(content[r.off : r.off+r.length])
		_, err := f.WriteAt(content[r.off:r.off+r.length], r.off)
		require.NoError(t, err)
	}
	require.NoError(t, f.Sync())
	require.NoError(t, f.Close())
	return dir, content
}

// needRoot skips what cannot be tested without loop devices.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: needs root for loop devices")
	}
}

// loop makes a read-only block device over a file.
func loop(t *testing.T, backing string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "losetup", "-r", "-f", "--show", backing).CombinedOutput()
	require.NoError(t, err, "%s", out)
	device := strings.TrimSpace(string(out))
	t.Cleanup(func() {
		out, err := exec.Command("losetup", "-d", device).CombinedOutput()
		require.NoError(t, err, "%s", out)
	})
	return device
}
