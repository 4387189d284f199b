package registry_test

import (
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/containers/image/v5/manifest"
	distribution "github.com/docker/distribution/configuration"
	imgspec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/pkg/registry"
)

// pushIndex stores an index of these images as disk:1, by their platforms.
func (h *house) pushIndex(t *testing.T, mediaType string, images map[string]imgspec.Descriptor) imgspec.Descriptor {
	t.Helper()
	index := imgspec.Index{MediaType: mediaType}
	index.SchemaVersion = 2
	for platform, d := range images {
		os, architecture, _ := strings.Cut(platform, "/")
		d.Platform = &imgspec.Platform{OS: os, Architecture: architecture}
		index.Manifests = append(index.Manifests, d)
	}
	return h.pushManifest(t, "disk", "1", mediaType, index)
}

// ways lists how manifests were asked for since the last call.
func (h *house) ways() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []string
	for _, r := range h.requests {
		if strings.Contains(r.URL.Path, "/manifests/") {
			all = append(all, r.Method)
		}
	}
	h.requests = nil
	return strings.Join(all, " ")
}

func probe(t *testing.T, ref string, known registry.Probed, o registry.Options) registry.Probed {
	t.Helper()
	found, err := registry.Probe(t.Context(), ref, known, o)
	require.NoError(t, err)
	return found
}

// unprobed is a probe that fails with a reason, and tells no secret.
func unprobed(t *testing.T, ref string, o registry.Options, reason string) {
	t.Helper()
	require.Error(t, refusedProbe(t, ref, o, reason))
}

// refusedProbe is unprobed for who wants to see the error.
func refusedProbe(t *testing.T, ref string, o registry.Options, reason string) error {
	t.Helper()
	var told strings.Builder
	o.Notice = func(message string) { told.WriteString(message) }
	_, err := registry.Probe(t.Context(), ref, registry.Probed{}, o)
	requireReason(t, err, reason)
	require.NotContains(t, told.String(), canary)
	return err
}

func TestProbeOfAnImage(t *testing.T) {
	h := newHouse(t, distribution.Auth{})
	first := h.pushImage(t, "disk", "1", random(1000))
	o, _ := options(t, h.host())
	ref := "docker://" + h.host() + "/disk:1"
	found := probe(t, ref, registry.Probed{}, o)
	require.Equal(t, registry.Probed{Digest: first.Digest.String()}, found)
	require.Equal(t, "HEAD", h.ways())
	require.Equal(t, found, probe(t, ref, found, o))
	require.Equal(t, "HEAD", h.ways())

	second := h.pushImage(t, "disk", "1", random(2000))
	require.Equal(t, registry.Probed{Digest: second.Digest.String()}, probe(t, ref, found, o))
	require.Equal(t, second.Digest.String(), open(t, ref, o).Digest())
	for _, ref := range []string{"/disk@" + first.Digest.String(), "/disk:1@" + first.Digest.String()} {
		require.Equal(t, found, probe(t, "docker://"+h.host()+ref, registry.Probed{}, o))
	}
	require.Empty(t, h.asked("/blobs/"))
}

func TestProbeOfAnIndex(t *testing.T) {
	for _, mediaType := range []string{imgspec.MediaTypeImageIndex, manifest.DockerV2ListMediaType} {
		t.Run(mediaType, func(t *testing.T) {
			h := newHouse(t, distribution.Auth{})
			mine, other := h.pushImage(t, "disk", "mine", random(1000)), h.pushImage(t, "disk", "other", random(2000))
			index := h.pushIndex(t, mediaType, map[string]imgspec.Descriptor{"linux/amd64": mine, "linux/arm64": other})
			o, _ := options(t, h.host())
			ref := "docker://" + h.host() + "/disk:1"
			found := probe(t, ref, registry.Probed{}, o)
			require.Equal(t, registry.Probed{Digest: mine.Digest.String(), Index: index.Digest.String()}, found)
			require.Equal(t, "HEAD GET GET", h.ways())
			image := open(t, ref, o)
			require.Equal(t, found, registry.Probed{Digest: image.Digest(), Index: image.IndexDigest()})
			h.ways()
			require.Equal(t, found, probe(t, ref, found, o))
			require.Equal(t, "HEAD", h.ways(), "the index stays, and so does the image")
			require.Equal(t, found, probe(t, "docker://"+h.host()+"/disk@"+index.Digest.String(), registry.Probed{}, o))

			// Another architecture alone.
			newer := h.pushImage(t, "disk", "other", random(3000))
			index = h.pushIndex(t, mediaType, map[string]imgspec.Descriptor{"linux/amd64": mine, "linux/arm64": newer})
			again := probe(t, ref, found, o)
			require.Equal(t, registry.Probed{Digest: found.Digest, Index: index.Digest.String()}, again)
			o.Platform = "linux/arm64"
			require.Equal(t, newer.Digest.String(), probe(t, ref, registry.Probed{}, o).Digest)
			o.Platform = "linux/s390x"
			unprobed(t, ref, o, "PlatformNotFound")

			// The tag moves to an image without an index.
			o.Platform = "linux/amd64"
			h.pushManifest(t, "disk", "1", imgspec.MediaTypeImageManifest, h.ociManifest(t, "disk", random(1000)))
			require.Equal(t, registry.Probed{Digest: mine.Digest.String()}, probe(t, ref, again, o))
		})
	}
}

// TestProbeWithoutAGoodHead: the manifest itself says what the head does not.
func TestProbeWithoutAGoodHead(t *testing.T) {
	h := newHouse(t, distribution.Auth{})
	d := h.pushImage(t, "disk", "1", random(1000))
	ref := "docker://" + h.host() + "/disk:1"
	status := func(code int) func(http.ResponseWriter) { return func(w http.ResponseWriter) { w.WriteHeader(code) } }
	with := func(digest, contentType string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) {
			w.Header().Set("Docker-Content-Digest", digest)
			w.Header().Set("Content-Type", contentType)
		}
	}
	good := imgspec.MediaTypeImageManifest
	for name, answer := range map[string]func(w http.ResponseWriter){
		"404": status(404), "405": status(405), "501": status(501), "no digest": with("", good), "no kind": with(d.Digest.String(), ""),
		"no good digest": with("sha256:12", good), "another algorithm": with("sha512:"+strings.Repeat("a", 128), good), "page": with(d.Digest.String(), "text/html"),
	} {
		t.Run(name, func(t *testing.T) {
			h.mu.Lock()
			h.spoil = func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodHead {
					answer(w)
					return true
				}
				return false
			}
			h.mu.Unlock()
			o, clock := options(t, h.host())
			h.ways()
			require.Equal(t, registry.Probed{Digest: d.Digest.String()}, probe(t, ref, registry.Probed{}, o))
			require.Equal(t, "HEAD GET", h.ways())
			require.Empty(t, clock.waits)
			if strings.Contains(name, "digest") {
				require.Equal(t, d.Digest.String(), probe(t, "docker://"+h.host()+"/disk@"+d.Digest.String(), registry.Probed{}, o).Digest)
			}
		})
	}
}

func TestProbeLogsIn(t *testing.T) {
	g, tokens := newGate(t)
	for name, auth := range map[string]distribution.Auth{"basic": htpasswd(t), "token": tokens} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, auth)
			d := h.pushImage(t, "disk", "1", random(1000))
			ref := "docker://" + h.host() + "/disk:1"
			o, clock := options(t, h.host())
			unprobed(t, ref, o, "AuthenticationFailed")
			require.Equal(t, "HEAD", h.ways(), "a login that fails is not tried by GET")
			before := g.count()
			o.Credentials = password(t)
			require.Equal(t, d.Digest.String(), probe(t, ref, registry.Probed{}, o).Digest)
			require.Equal(t, "HEAD HEAD", h.ways())
			require.Equal(t, map[string]int{"basic": 0, "token": 1}[name], g.count()-before)
			require.Empty(t, clock.waits)
		})
	}
}

func TestProbesThatFail(t *testing.T) {
	h := newHouse(t, distribution.Auth{})
	h.pushImage(t, "disk", "1", random(1000))
	for name, c := range map[string]struct {
		status     int
		retryAfter string
		reason     string
		after      time.Duration
		waits      []int
	}{
		"403":                   {status: 403, reason: "AuthenticationFailed", waits: []int{}},
		"404":                   {status: 404, reason: "NotFound", waits: []int{}},
		"429 that asks for 2 h": {status: 429, retryAfter: "7200", reason: "TooManyRequests", after: 2 * time.Hour, waits: []int{}},
		"429":                   {status: 429, reason: "TooManyRequests", waits: []int{1, 2}},
		"503":                   {status: 503, reason: "ServerError", waits: []int{1, 2}},
	} {
		t.Run(name, func(t *testing.T) {
			h.mu.Lock()
			h.spoil = func(w http.ResponseWriter, _ *http.Request) bool {
				w.Header().Set("Retry-After", c.retryAfter)
				w.WriteHeader(c.status)
				return true
			}
			h.mu.Unlock()
			o, clock := options(t, h.host())
			err := refusedProbe(t, "docker://"+h.host()+"/disk:1", o, c.reason)
			var patient interface{ RetryAfter() time.Duration }
			require.ErrorAs(t, err, &patient)
			require.Equal(t, c.after, patient.RetryAfter())
			require.Equal(t, c.waits, clock.seconds())
		})
	}
}

// TestProbeOfABusyIndex: the manifests get no more tries than the head.
func TestProbeOfABusyIndex(t *testing.T) {
	h := newHouse(t, distribution.Auth{})
	h.pushIndex(t, imgspec.MediaTypeImageIndex, map[string]imgspec.Descriptor{"linux/amd64": h.pushImage(t, "disk", "mine", random(1000))})
	h.spoil = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodGet {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		return r.Method == http.MethodGet
	}
	o, clock := options(t, h.host())
	unprobed(t, "docker://"+h.host()+"/disk:1", o, "ServerError")
	require.Equal(t, "HEAD GET GET GET", h.ways())
	require.Equal(t, []int{1, 2}, clock.seconds())
}

func TestProbeOfNobody(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	host := l.Addr().String()
	require.NoError(t, l.Close())
	o, clock := options(t, host)
	unprobed(t, "docker://"+host+"/disk:1", o, "ConnectionFailed")
	require.Equal(t, []int{1, 2}, clock.seconds())

	o, _ = options(t)
	for ref, reason := range map[string]string{
		"oci:/tmp": "SourceRefused", "docker://disk": "SourceRefused", "docker://localhost/disk:1:2": "SourceRefused",
		"docker://" + user + ":" + canary + "@localhost/disk": "SourceRefused",
	} {
		unprobed(t, ref, o, reason)
	}
	o.Platform = "amd64"
	unprobed(t, "docker://"+host+"/disk:1", o, "InvalidOptions")
}

// TestProbeOfMirrors asks them as an import does.
func TestProbeOfMirrors(t *testing.T) {
	const ref = "docker://images.example/vm/disk:1"
	mirror, own := newHouse(t, distribution.Auth{}), newHouse(t, distribution.Auth{})
	here := own.pushImage(t, "own/disk", "1", random(1000))
	o, _ := options(t)
	o.ConfigDir = configured(t, mirrored(mirror, own))
	require.Equal(t, here.Digest.String(), probe(t, ref, registry.Probed{}, o).Digest)
	require.Equal(t, "HEAD HEAD", mirror.ways()+" "+own.ways())

	there := mirror.pushImage(t, "mirror/disk", "1", random(2000))
	require.Equal(t, there.Digest.String(), probe(t, ref, registry.Probed{}, o).Digest)
	require.Equal(t, "HEAD ", mirror.ways()+" "+own.ways())

	o.ConfigDir = configured(t, "[[registry]]\nlocation = \""+own.host()+"\"\nblocked = true\n")
	unprobed(t, "docker://"+own.host()+"/own/disk:1", o, "SourceRefused")
	require.Empty(t, own.ways())
}

func TestProbeOverTLS(t *testing.T) {
	h, caDir := newTLSHouse(t, htpasswd(t))
	d := h.pushImage(t, "disk", "1", random(1000))
	ref := "docker://" + h.host() + "/disk:1"
	o, _ := options(t)
	o.Credentials = password(t)
	unprobed(t, ref, o, "CertificateError")
	require.Empty(t, h.ways())
	o.CADir = caDir
	require.Equal(t, d.Digest.String(), probe(t, ref, registry.Probed{}, o).Digest)
	o, _ = options(t, h.host())
	o.Credentials = password(t)
	require.Equal(t, d.Digest.String(), probe(t, ref, registry.Probed{}, o).Digest, "insecure, with TLS")
}

// TestProbeOfABadManifest: what comes must be what its digest says.
func TestProbeOfABadManifest(t *testing.T) {
	h := newHouse(t, distribution.Auth{})
	d := h.pushImage(t, "disk", "1", random(1000))
	index := h.pushIndex(t, imgspec.MediaTypeImageIndex, map[string]imgspec.Descriptor{"linux/amd64": d})
	o, _ := options(t, h.host())
	h.spoil = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, d.Digest.String()) {
			w.Header().Set("Content-Type", imgspec.MediaTypeImageManifest)
			_, _ = w.Write([]byte(`{"schemaVersion":2}`))
			return true
		}
		return false
	}
	unprobed(t, "docker://"+h.host()+"/disk:1", o, "DigestMismatch")
	unprobed(t, "docker://"+h.host()+"/disk@"+index.Digest.String(), o, "DigestMismatch")
}
