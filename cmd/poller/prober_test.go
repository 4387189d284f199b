package main

import (
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	ociregistry "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/poller"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	etag     = `"6630f093-19adb28"`
	modified = "Tue, 30 Apr 2024 13:22:27 GMT"
	digest   = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
)

// fileServer is a web server that keeps its requests.
type fileServer struct {
	*httptest.Server
	handle http.HandlerFunc

	mu       sync.Mutex
	requests []*http.Request
	// sent counts the bytes of bodies.
	sent int
}

func serve(t *testing.T, start func(http.Handler) *httptest.Server, handle http.HandlerFunc) *fileServer {
	t.Helper()
	s := &fileServer{handle: handle}
	s.Server = start(s)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	t.Cleanup(s.Close)
	return s
}

// counted counts what goes out.
type counted struct {
	http.ResponseWriter
	server *fileServer
}

func (c counted) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	c.server.mu.Lock()
	c.server.sent += n
	c.server.mu.Unlock()
	return n, err
}

func (s *fileServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests = append(s.requests, r)
	s.mu.Unlock()
	s.handle(counted{w, s}, r)
}

func (s *fileServer) last() *http.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests[len(s.requests)-1]
}

// image answers as nginx does.
func image(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("ETag", etag)
	w.Header().Set("Last-Modified", modified)
	if r.Header.Get("If-None-Match") == etag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	w.Header().Set("Content-Length", "7")
	if r.Method == http.MethodGet {
		_, _ = w.Write([]byte("content"))
	}
}

func requireReason(t *testing.T, reason string, err error) {
	t.Helper()
	var reasoned interface{ Reason() string }
	require.ErrorAs(t, err, &reasoned)
	require.Equal(t, reason, reasoned.Reason(), err)
}

func TestProbeHTTP(t *testing.T) {
	s := serve(t, httptest.NewServer, image)
	found, err := prober{}.ProbeHTTP(t.Context(), poller.HTTPRequest{URL: s.URL + "/disk.img"})
	require.NoError(t, err)
	pin := v1alpha1.Pin{ETag: etag, LastModified: modified, Length: 7}
	require.Equal(t, poller.HTTPFound{Pin: pin}, found)
	require.Equal(t, http.MethodHead, s.last().Method)

	found, err = prober{}.ProbeHTTP(t.Context(), poller.HTTPRequest{URL: s.URL + "/disk.img", Known: pin})
	require.NoError(t, err)
	require.True(t, found.NotModified)
	require.Equal(t, modified, s.last().Header.Get("If-Modified-Since"), "the server's own words, and no clock")
	require.Zero(t, s.sent, "nothing of the image was sent")
}

func TestProbeHTTPWhereHEADIsRefused(t *testing.T) {
	s := serve(t, httptest.NewServer, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodHead {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		image(w, r)
	})
	found, err := prober{}.ProbeHTTP(t.Context(), poller.HTTPRequest{URL: s.URL + "/disk.img"})
	require.NoError(t, err)
	require.Equal(t, etag, found.Pin.ETag)
}

func TestProbeHTTPWithSecrets(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	s := serve(t, httptest.NewTLSServer, func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		if user != "reader" || password != "canary" || r.Header.Get("X-Team") != "vms" || r.Header.Get("X-Key") != "canary" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if strings.HasSuffix(r.URL.Path, "SHA256SUMS") {
			_, _ = fmt.Fprintf(w, "%s *disk.img\n", digest)
			return
		}
		image(w, r)
	})
	access := poller.Access{
		Secret: map[string][]byte{
			"accessKeyId": []byte("reader"), "secretKey": []byte("canary"),
			"headers.000": []byte("X-Team: vms"), "headers.001": []byte("X-Key: canary\n"),
		},
		CAs: map[string][]byte{"ca.pem": certificateOf(s.Server)},
	}
	found, err := prober{}.ProbeHTTP(t.Context(), poller.HTTPRequest{URL: s.URL + "/disk.img", Access: access})
	require.NoError(t, err)
	require.Equal(t, etag, found.Pin.ETag)
	sum, err := prober{}.PublishedChecksum(t.Context(), poller.HTTPRequest{URL: s.URL + "/SHA256SUMS", Access: access}, "disk.img")
	require.NoError(t, err)
	require.Equal(t, "sha256:"+digest, sum)

	_, err = prober{}.ProbeHTTP(t.Context(), poller.HTTPRequest{URL: s.URL + "/disk.img"})
	requireReason(t, "CertificateError", err)
	_, err = prober{}.ProbeHTTP(t.Context(), poller.HTTPRequest{URL: s.URL + "/disk.img", Access: poller.Access{CAs: access.CAs}})
	requireReason(t, "AuthenticationFailed", err)
	_, err = prober{}.ProbeHTTP(t.Context(), poller.HTTPRequest{URL: s.URL + "/disk.img", Access: poller.Access{CAs: map[string][]byte{}}})
	requireReason(t, "InvalidCertificates", err)
	_, err = prober{}.ProbeHTTP(t.Context(), poller.HTTPRequest{URL: s.URL + "/disk.img", Access: poller.Access{Secret: map[string][]byte{"username": []byte("canary")}}})
	requireReason(t, "InvalidSecret", err)
	require.NotContains(t, err.Error(), "canary")
	left, err := os.ReadDir(os.TempDir())
	require.NoError(t, err)
	require.Empty(t, left, "secrets are left behind")
}

func TestProbeHTTPFresh(t *testing.T) {
	s := serve(t, httptest.NewServer, image)
	found, err := prober{}.ProbeHTTP(t.Context(), poller.HTTPRequest{URL: s.URL + "/disk.img", Fresh: true})
	require.NoError(t, err)
	require.Equal(t, etag, found.Pin.ETag)
	require.Equal(t, http.MethodGet, s.last().Method)
	require.Equal(t, "bytes=0-0", s.last().Header.Get("Range"))
}

// TestProbeHTTPWithAnyNameOfCA: ConfigMaps have keys of all kinds, and none is a header.
func TestProbeHTTPWithAnyNameOfCA(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	s := serve(t, httptest.NewTLSServer, image)
	for _, key := range []string{"ca.pem", "headers", "headers.crt"} {
		access := poller.Access{CAs: map[string][]byte{key: certificateOf(s.Server)}}
		found, err := prober{}.ProbeHTTP(t.Context(), poller.HTTPRequest{URL: s.URL + "/disk.img", Access: access})
		require.NoError(t, err, key)
		require.Equal(t, etag, found.Pin.ETag)
	}
}

func TestProbeHTTPFailures(t *testing.T) {
	for status, reason := range map[int]string{403: "AuthenticationFailed", 404: "NotFound", 410: "NotFound"} {
		s := serve(t, httptest.NewServer, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
		_, err := prober{}.ProbeHTTP(t.Context(), poller.HTTPRequest{URL: s.URL + "/disk.img?token=canary"})
		requireReason(t, reason, err)
		require.NotContains(t, err.Error(), "canary")
	}
}

// house is a registry that asks for a password, with an index of two platforms.
func house(t *testing.T) (host string, certificate []byte, arm, index v1.Hash) {
	t.Helper()
	inner := ociregistry.New(ociregistry.Logger(log.New(io.Discard, "", 0)))
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "reader" || password != "canary" {
			w.Header().Set("WWW-Authenticate", `Basic realm="house"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		inner.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	host = strings.TrimPrefix(s.URL, "https://")
	all := v1.ImageIndex(empty.Index)
	for _, architecture := range []string{"amd64", "arm64"} {
		one, err := random.Image(64, 1)
		require.NoError(t, err)
		all = mutate.AppendManifests(all, mutate.IndexAddendum{Add: one, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: architecture}}})
		arm, err = one.Digest()
		require.NoError(t, err)
	}
	tag, err := name.NewTag(host + "/disks/fedora:latest")
	require.NoError(t, err)
	require.NoError(t, remote.WriteIndex(tag, all, remote.WithContext(t.Context()), remote.WithTransport(&login{s.Client().Transport})))
	index, err = all.Digest()
	require.NoError(t, err)
	return host, certificateOf(s), arm, index
}

func certificateOf(s *httptest.Server) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
}

// login adds the password.
type login struct{ next http.RoundTripper }

func (l *login) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.SetBasicAuth("reader", "canary")
	return l.next.RoundTrip(r)
}

func TestProbeImage(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	host, certificate, arm, index := house(t)
	certificates := map[string][]byte{"ca.pem": certificate}
	config := fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, host, base64.StdEncoding.EncodeToString([]byte("reader:canary")))
	request := poller.ImageRequest{
		Access:    poller.Access{Secret: map[string][]byte{".dockerconfigjson": []byte(config)}, CAs: certificates},
		Reference: "docker://" + host + "/disks/fedora:latest", Platform: "linux/arm64",
	}
	found, err := prober{}.ProbeImage(t.Context(), request)
	require.NoError(t, err)
	require.Equal(t, poller.ImageFound{Digest: arm.String(), Index: index.String()}, found)

	request.KnownDigest, request.KnownIndex = found.Digest, found.Index
	again, err := prober{}.ProbeImage(t.Context(), request)
	require.NoError(t, err)
	require.Equal(t, found, again)

	request.Reference = "docker://" + host + "/disks/fedora@" + index.String()
	byDigest, err := prober{}.ProbeImage(t.Context(), request)
	require.NoError(t, err)
	require.Equal(t, found, byDigest)

	request.Platform, request.KnownIndex = "linux/s390x", ""
	_, err = prober{}.ProbeImage(t.Context(), request)
	requireReason(t, "PlatformNotFound", err)
	request.Access = poller.Access{CAs: certificates}
	_, err = prober{}.ProbeImage(t.Context(), request)
	requireReason(t, "AuthenticationFailed", err)
	request.Reference = "docker://" + host + "/disks/debian:latest"
	request.Secret = map[string][]byte{"username": []byte("reader"), "password": []byte("canary")}
	_, err = prober{}.ProbeImage(t.Context(), request)
	requireReason(t, "NotFound", err)
	left, err := os.ReadDir(os.TempDir())
	require.NoError(t, err)
	require.Empty(t, left, "secrets are left behind")
}

// TestProbeImageAsRegistriesConfSays asks the mirror that the importer would read, without TLS where the
// administrator allows that, and follows an edit of the file.
func TestProbeImageAsRegistriesConfSays(t *testing.T) {
	mirror := httptest.NewServer(ociregistry.New(ociregistry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(mirror.Close)
	host := strings.TrimPrefix(mirror.URL, "http://")
	image, err := random.Image(64, 1)
	require.NoError(t, err)
	tag, err := name.NewTag(host + "/copies/disks/fedora:latest")
	require.NoError(t, err)
	require.NoError(t, remote.Write(tag, image, remote.WithContext(t.Context()), remote.WithTransport(mirror.Client().Transport)))
	want, err := image.Digest()
	require.NoError(t, err)

	p := prober{registryConfig: t.TempDir()}
	configure := func(text string) {
		require.NoError(t, os.WriteFile(filepath.Join(p.registryConfig, "registries.conf"), []byte(text), 0o600))
	}
	request := poller.ImageRequest{Reference: "docker://images.example/disks/fedora:latest"}
	configure("[[registry]]\nlocation = \"images.example\"\nblocked = true\n")
	_, err = p.ProbeImage(t.Context(), request)
	requireReason(t, "SourceRefused", err)

	configure(fmt.Sprintf("[[registry]]\nlocation = \"images.example\"\n[[registry.mirror]]\nlocation = \"%s/copies\"\ninsecure = true\n", host))
	found, err := p.ProbeImage(t.Context(), request)
	require.NoError(t, err)
	require.Equal(t, poller.ImageFound{Digest: want.String()}, found)
}
