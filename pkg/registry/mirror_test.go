package registry_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	distribution "github.com/docker/distribution/configuration"
	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/pkg/registry"
)

// mirrored is a registries.conf for a registry nobody reaches, with mirrors.
func mirrored(mirrors ...*house) string {
	var b strings.Builder
	b.WriteString("[[registry]]\nprefix = \"images.example/vm\"\nlocation = \"" + mirrors[len(mirrors)-1].host() + "/own\"\ninsecure = true\n")
	for _, m := range mirrors[:len(mirrors)-1] {
		fmt.Fprintf(&b, "[[registry.mirror]]\nlocation = \"%s/mirror\"\ninsecure = true\n", m.host())
	}
	return b.String()
}

func TestMirrors(t *testing.T) {
	const ref = "docker://images.example/vm/disk:1"
	layers := [][]byte{random(3 * mib), random(1000)}
	status := func(code int, part string) func(w http.ResponseWriter, r *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			hit := strings.Contains(r.URL.Path, part)
			if hit {
				w.WriteHeader(code)
			}
			return hit
		}
	}
	for name, c := range map[string]struct {
		pushed bool
		spoil  func(w http.ResponseWriter, r *http.Request) bool
		// from is where manifest and layers must come from.
		manifest, blob string
		waits          int
	}{
		"has all":        {true, nil, "mirror", "mirror", 0},
		"has nothing":    {false, nil, "own", "own", 0},
		"manifest 503":   {true, status(503, "/manifests/"), "own", "own", 2},
		"manifest 403":   {true, status(403, "/manifests/"), "own", "own", 0},
		"blob missing":   {true, status(404, "/blobs/"), "mirror", "own", 0},
		"blob forbidden": {true, status(403, "/blobs/"), "mirror", "own", 0},
	} {
		t.Run(name, func(t *testing.T) {
			mirror, own := newHouse(t, distribution.Auth{}), newHouse(t, distribution.Auth{})
			own.pushImage(t, "own/disk", "1", layers...)
			if c.pushed {
				mirror.pushImage(t, "mirror/disk", "1", layers...)
			}
			mirror.spoil = c.spoil
			o, clock := options(t)
			o.ConfigDir = configured(t, mirrored(mirror, own))
			image := open(t, ref, o)
			for n, l := range image.Layers() {
				require.True(t, bytes.Equal(layers[n], read(t, image, l)))
			}
			require.Equal(t, c.manifest == "own", len(own.asked("/manifests/")) > 0)
			require.Equal(t, c.blob == "own", len(own.asked("/blobs/")) > 0)
			require.Len(t, clock.waits, c.waits, "a mirror is given up sooner than a registry")
		})
	}
}

// TestTheMirrorWithTheManifestGetsEveryTry: it is known to have the image.
func TestTheMirrorWithTheManifestGetsEveryTry(t *testing.T) {
	mirror, own := newHouse(t, distribution.Auth{}), newHouse(t, distribution.Auth{})
	mirror.pushImage(t, "mirror/disk", "1", random(1000))
	left := 6
	mirror.spoil = func(w http.ResponseWriter, r *http.Request) bool {
		busy := strings.Contains(r.URL.Path, "/blobs/") && left > 0
		if busy {
			left--
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		return busy
	}
	o, clock := options(t)
	o.ConfigDir = configured(t, mirrored(mirror, own))
	image := open(t, "docker://images.example/vm/disk:1", o)
	require.Equal(t, random(1000), read(t, image, image.Layers()[0]))
	require.Empty(t, own.asked(""))
	require.Len(t, clock.waits, 6)
}

// TestMirrorsGetNoForeignSecret: a user and password are for the registry of the reference.
func TestMirrorsGetNoForeignSecret(t *testing.T) {
	mirror, own := newHouse(t, htpasswd(t)), newHouse(t, distribution.Auth{})
	own.pushImage(t, "own/disk", "1", random(1000))
	mirror.pushImage(t, "mirror/disk", "1", random(1000))
	o, _ := options(t)
	o.ConfigDir, o.Credentials = configured(t, mirrored(mirror, own)), password(t)
	open(t, "docker://images.example/vm/disk:1", o)
	for _, r := range append(mirror.asked(""), own.asked("")...) {
		require.Empty(t, r.Header.Get("Authorization"))
	}
	// Those for the mirror itself are used.
	o.Credentials = secret(t, dockerConfig(map[string]string{mirror.host(): user + ":" + canary}))
	before := len(own.asked(""))
	open(t, "docker://images.example/vm/disk:1", o)
	require.Len(t, own.asked(""), before)
}

func TestMirrorsThatAllFail(t *testing.T) {
	mirror, own := newHouse(t, htpasswd(t)), newHouse(t, distribution.Auth{})
	o, _ := options(t)
	o.ConfigDir = configured(t, mirrored(mirror, own))
	failure(t, "docker://images.example/vm/disk:1", o, "NotFound")
	mirror.spoil = func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	}
	failure(t, "docker://images.example/vm/disk:1", o, "ServerError")
}

func TestBlockedRegistry(t *testing.T) {
	h := newHouse(t, distribution.Auth{})
	o, _ := options(t)
	o.ConfigDir = configured(t, fmt.Sprintf("[[registry]]\nlocation = %q\nblocked = true\n", h.host()))
	failure(t, "docker://"+h.host()+"/disk:1", o, "SourceRefused")
	require.Empty(t, h.asked(""))
	o.ConfigDir = configured(t, "[[registry]\n")
	failure(t, "docker://"+h.host()+"/disk:1", o, "InvalidOptions")
}

// TestWithoutConfiguration has no file of containers/image at all.
func TestWithoutConfiguration(t *testing.T) {
	h, caDir := newTLSHouse(t, distribution.Auth{})
	h.pushImage(t, "disk", "1", random(1000))
	o, _ := options(t)
	o.ConfigDir, o.CADir = filepath.Join(t.TempDir(), "gone"), caDir
	image := open(t, "docker://"+h.host()+"/disk:1", o)
	require.Equal(t, random(1000), read(t, image, image.Layers()[0]))
}

// TestDropInConfiguration reads registries.conf.d too.
func TestDropInConfiguration(t *testing.T) {
	h := newHouse(t, distribution.Auth{})
	h.pushImage(t, "own/disk", "1", random(1000))
	o, _ := options(t)
	dir := filepath.Join(o.ConfigDir, "registries.conf.d")
	require.NoError(t, os.Mkdir(dir, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "50-house.conf"), []byte(mirrored(h)), 0o600))
	open(t, "docker://images.example/vm/disk:1", o)
}

func TestInterrupted(t *testing.T) {
	h := newHouse(t, distribution.Auth{})
	h.pushImage(t, "disk", "1", random(1000))
	ctx, cancel := context.WithCancel(t.Context())
	h.spoil = func(_ http.ResponseWriter, r *http.Request) bool {
		cancel()
		<-r.Context().Done()
		return true
	}
	o, _ := options(t, h.host())
	_, err := registry.Open(ctx, "docker://"+h.host()+"/disk:1", o)
	require.ErrorIs(t, err, context.Canceled)
}
