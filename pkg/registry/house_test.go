package registry_test

import (
	"bytes"
	"context"
	"crypto"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	distribution "github.com/docker/distribution/configuration"
	_ "github.com/docker/distribution/manifest/ocischema" // manifests that the registry takes
	_ "github.com/docker/distribution/registry/auth/htpasswd"
	"github.com/docker/distribution/registry/auth/token"
	"github.com/docker/distribution/registry/handlers"
	"github.com/docker/distribution/registry/storage/driver"
	"github.com/docker/distribution/registry/storage/driver/factory"
	"github.com/docker/distribution/registry/storage/driver/inmemory"
	"github.com/docker/libtrust"
	"github.com/opencontainers/go-digest"
	imgspec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/crypto/bcrypt"

	"github.com/gild-project/gild/pkg/registry"
)

// TestMain keeps the proxies of the machine out and the registry's log quiet, and finds what a
// test leaves behind.
func TestMain(m *testing.M) {
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"} {
		if err := os.Unsetenv(name); err != nil {
			panic(err)
		}
	}
	logrus.SetOutput(io.Discard)
	// The registry has no way to end its notifications.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/docker/distribution/notifications.(*Broadcaster).run"))
}

const (
	mib = 1 << 20
	// canary is in every secret of these tests, and in no message.
	canary = "canary"
	user   = "somebody"
)

// fakeClock waits without waiting and remembers for how long.
type fakeClock struct {
	mu    sync.Mutex
	now   time.Time
	waits []time.Duration
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

func (c *fakeClock) seconds() []int {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := []int{}
	for _, d := range c.waits {
		all = append(all, int(d/time.Second))
	}
	return all
}

// house is a real registry behind a door that a test can spoil.
type house struct {
	*httptest.Server
	// inside takes what is pushed, without asking who comes.
	inside http.Handler
	app    http.Handler

	mu sync.Mutex
	// spoil handles a request and returns true, or leaves it to the registry.
	spoil    func(w http.ResponseWriter, r *http.Request) bool
	requests []*http.Request
}

// newHouse starts a registry. auth is empty for one that lets everybody in.
func newHouse(t *testing.T, auth distribution.Auth) *house {
	t.Helper()
	h := unstarted(t, auth)
	h.Server = httptest.NewServer(h)
	t.Cleanup(h.Close)
	return h
}

// newTLSHouse is one with TLS; its certificate is in caDir.
func newTLSHouse(t *testing.T, auth distribution.Auth) (h *house, caDir string) {
	t.Helper()
	h = unstarted(t, auth)
	h.Server = httptest.NewUnstartedServer(h)
	h.Config.ErrorLog = log.New(io.Discard, "", 0)
	h.StartTLS()
	t.Cleanup(h.Close)
	caDir = t.TempDir()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.Certificate().Raw})
	require.NoError(t, os.WriteFile(filepath.Join(caDir, "ca.pem"), ca, 0o600))
	return h, caDir
}

// shelf is the storage that the two doors of a house share.
type shelf struct{ driver.StorageDriver }

func (s shelf) Create(map[string]any) (driver.StorageDriver, error) { return s.StorageDriver, nil }

func unstarted(t *testing.T, auth distribution.Auth) *house {
	t.Helper()
	kept := shelf{inmemory.New()}
	name := fmt.Sprintf("shelf-%p", kept.StorageDriver)
	factory.Register(name, kept)
	config := &distribution.Configuration{
		Storage: distribution.Storage{
			name:          distribution.Parameters{},
			"maintenance": distribution.Parameters{"uploadpurging": map[any]any{"enabled": false}},
		},
	}
	config.HTTP.Secret = "secret"
	config.Validation.Disabled = true
	inside := handlers.NewApp(t.Context(), config)
	guarded := *config
	guarded.Auth = auth
	return &house{inside: inside, app: handlers.NewApp(t.Context(), &guarded)}
}

func (h *house) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	h.requests = append(h.requests, r.Clone(context.WithoutCancel(r.Context())))
	spoil := h.spoil
	h.mu.Unlock()
	if spoil == nil || !spoil(w, r) {
		h.app.ServeHTTP(w, r)
	}
}

// asked lists the requests whose path holds part.
func (h *house) asked(part string) []*http.Request {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []*http.Request
	for _, r := range h.requests {
		if strings.Contains(r.URL.Path, part) {
			all = append(all, r)
		}
	}
	return all
}

func (h *house) host() string { return h.Listener.Addr().String() }

// send is one request from inside.
func (h *house) send(t *testing.T, method, target, contentType string, body []byte) *http.Response {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, target, bytes.NewReader(body))
	r.Header.Set("Content-Type", contentType)
	w := httptest.NewRecorder()
	h.inside.ServeHTTP(w, r)
	answer := w.Result()
	require.Less(t, answer.StatusCode, 300, "%s %s: %s", method, target, w.Body)
	require.NoError(t, answer.Body.Close())
	return answer
}

// pushBlob stores a blob and returns its descriptor.
func (h *house) pushBlob(t *testing.T, repository, mediaType string, content []byte) imgspec.Descriptor {
	t.Helper()
	d := digest.FromBytes(content)
	at, err := url.Parse(h.send(t, http.MethodPost, "/v2/"+repository+"/blobs/uploads/", "", nil).Header.Get("Location"))
	require.NoError(t, err)
	query := at.Query()
	query.Set("digest", d.String())
	at.RawQuery = query.Encode()
	h.send(t, http.MethodPut, at.RequestURI(), "application/octet-stream", content)
	return imgspec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(content))}
}

// pushManifest stores a manifest under a tag and returns its descriptor.
func (h *house) pushManifest(t *testing.T, repository, tag, mediaType string, content any) imgspec.Descriptor {
	t.Helper()
	raw, ok := content.([]byte)
	if !ok {
		var err error
		raw, err = json.Marshal(content)
		require.NoError(t, err)
	}
	h.send(t, http.MethodPut, "/v2/"+repository+"/manifests/"+tag, mediaType, raw)
	return imgspec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
}

// pushImage stores an OCI image of these layers.
func (h *house) pushImage(t *testing.T, repository, tag string, layers ...[]byte) imgspec.Descriptor {
	t.Helper()
	return h.pushManifest(t, repository, tag, imgspec.MediaTypeImageManifest, h.ociManifest(t, repository, layers...))
}

func (h *house) ociManifest(t *testing.T, repository string, layers ...[]byte) imgspec.Manifest {
	t.Helper()
	m := imgspec.Manifest{MediaType: imgspec.MediaTypeImageManifest}
	m.SchemaVersion = 2
	m.Config = h.pushBlob(t, repository, imgspec.MediaTypeImageConfig, fmt.Appendf(nil, `{"os":"linux","architecture":"amd64","n":%d}`, len(layers)))
	for _, l := range layers {
		m.Layers = append(m.Layers, h.pushBlob(t, repository, imgspec.MediaTypeImageLayerGzip, l))
	}
	return m
}

// htpasswd lets user in, with canary as the password.
func htpasswd(t *testing.T) distribution.Auth {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(canary), bcrypt.MinCost)
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "htpasswd")
	require.NoError(t, os.WriteFile(path, []byte(user+":"+string(hash)+"\n"), 0o600))
	return distribution.Auth{"htpasswd": distribution.Parameters{"realm": "house", "path": path}}
}

// gate is a token server.
type gate struct {
	*httptest.Server
	key libtrust.PrivateKey

	mu sync.Mutex
	// spoil handles a request and returns true, or leaves it to the gate.
	spoil    func(n int, w http.ResponseWriter, r *http.Request) bool
	requests []*http.Request
}

// newGate starts a token server and returns it with the settings of a registry that trusts it.
func newGate(t *testing.T) (*gate, distribution.Auth) {
	t.Helper()
	key, err := libtrust.GenerateECP256PrivateKey()
	require.NoError(t, err)
	certificate, err := libtrust.GenerateCACert(key, key)
	require.NoError(t, err)
	bundle := filepath.Join(t.TempDir(), "roots.pem")
	require.NoError(t, os.WriteFile(bundle, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw}), 0o600))
	g := &gate{key: key}
	g.Server = httptest.NewServer(g)
	t.Cleanup(g.Close)
	return g, distribution.Auth{"token": distribution.Parameters{
		"realm": g.URL + "/token", "service": "house", "issuer": "gate", "rootcertbundle": bundle,
	}}
}

func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	n := len(g.requests)
	g.requests = append(g.requests, r.Clone(context.WithoutCancel(r.Context())))
	spoil := g.spoil
	g.mu.Unlock()
	if spoil != nil && spoil(n, w, r) {
		return
	}
	if name, password, ok := r.BasicAuth(); !ok || name != user || password != canary {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	kind, rest, _ := strings.Cut(r.URL.Query().Get("scope"), ":")
	repository, actions, _ := strings.Cut(rest, ":")
	text, err := g.sign(fmt.Sprint(n), r.URL.Query().Get("service"), &token.ResourceActions{Type: kind, Name: repository, Actions: strings.Split(actions, ",")})
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"token": text, "expires_in": 300})
}

func (g *gate) sign(id, audience string, access *token.ResourceActions) (string, error) {
	jwk, err := g.key.PublicKey().MarshalJSON()
	if err != nil {
		return "", err
	}
	raw := json.RawMessage(jwk)
	head, err := json.Marshal(token.Header{Type: "JWT", SigningAlg: "ES256", RawJWK: &raw})
	if err != nil {
		return "", err
	}
	now := time.Now() //nolint:forbidigo // the registry has no clock to inject
	claims, err := json.Marshal(token.ClaimSet{
		Issuer: "gate", Subject: user, Audience: audience, JWTID: canary + id, Access: []*token.ResourceActions{access},
		Expiration: now.Add(time.Hour).Unix(), NotBefore: now.Add(-time.Hour).Unix(), IssuedAt: now.Unix(),
	})
	if err != nil {
		return "", err
	}
	encode := base64.RawURLEncoding.EncodeToString
	payload := encode(head) + "." + encode(claims)
	signature, _, err := g.key.Sign(strings.NewReader(payload), crypto.SHA256)
	return payload + "." + encode(signature), err
}

func (g *gate) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.requests)
}

// options have a fake clock, no configuration, and hosts without TLS as registries.conf has them.
func options(t *testing.T, insecure ...string) (registry.Options, *fakeClock) {
	t.Helper()
	var conf strings.Builder
	for _, host := range insecure {
		fmt.Fprintf(&conf, "[[registry]]\nlocation = %q\ninsecure = true\n", host)
	}
	clock := &fakeClock{now: time.Date(2026, 7, 8, 9, 10, 11, 0, time.UTC)}
	return registry.Options{Platform: "linux/amd64", ConfigDir: configured(t, conf.String()), Clock: clock, Jitter: func() float64 { return 0 }}, clock
}

// configured is a directory with a registries.conf.
func configured(t *testing.T, conf string) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "registries.conf"), []byte(conf), 0o600))
	return dir
}

// secret is what a directory with these files holds.
func secret(t *testing.T, files map[string]string) registry.Credentials {
	t.Helper()
	c, err := registry.ReadCredentials(secretDir(t, files))
	require.NoError(t, err)
	return c
}

func secretDir(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
	}
	return dir
}

func password(t *testing.T) registry.Credentials {
	t.Helper()
	return secret(t, map[string]string{"username": user, "password": canary})
}

func open(t *testing.T, ref string, o registry.Options) *registry.Image {
	t.Helper()
	image, err := registry.Open(t.Context(), ref, o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, image.Close()) })
	return image
}

// failure opens ref, which must fail with a reason.
func failure(t *testing.T, ref string, o registry.Options, reason string) {
	t.Helper()
	require.Error(t, refused(t, ref, o, reason))
}

// refused is failure for who wants to see the error, whose words hold no secret.
func refused(t *testing.T, ref string, o registry.Options, reason string) error {
	t.Helper()
	var told strings.Builder
	o.Notice = func(message string) { told.WriteString(message) }
	image, err := registry.Open(t.Context(), ref, o)
	if err == nil {
		require.NoError(t, image.Close())
	}
	requireReason(t, err, reason)
	require.NotContains(t, told.String(), canary)
	return err
}

func requireReason(t *testing.T, err error, reason string) {
	t.Helper()
	var e interface {
		error
		Reason() string
	}
	require.ErrorAs(t, err, &e)
	require.Equal(t, reason, e.Reason(), err)
	require.NotContains(t, err.Error(), canary)
	require.Less(t, len(err.Error()), 2000, "readable")
}

// read returns all bytes of a layer.
func read(t *testing.T, image *registry.Image, l registry.Layer) []byte {
	t.Helper()
	b, err := image.Blob(t.Context(), l)
	require.NoError(t, err)
	content, err := readAll(t.Context(), b)
	require.NoError(t, err)
	require.NoError(t, b.Close())
	require.Equal(t, l.Digest, digest.Digest(l.Digest).Algorithm().FromBytes(content).String())
	return content
}

func readAll(ctx context.Context, b registry.Blob) ([]byte, error) {
	return io.ReadAll(readerFunc(func(p []byte) (int, error) { return b.Read(ctx, p) }))
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(n)}).Read(b)
	return b
}
