package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/stretchr/testify/require"
)

// shelf is a registry with container images of every kind, and the same in a layout.
type shelf struct {
	host string
	// dir has the layout, its archive, and a registries.conf for the registry, which has no TLS.
	dir string
}

func newShelf(t *testing.T, images map[string][]byte) shelf {
	t.Helper()
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	s := shelf{host: strings.TrimPrefix(server.URL, "http://"), dir: t.TempDir()}
	require.NoError(t, os.WriteFile(filepath.Join(s.dir, "registries.conf"), []byte(fmt.Sprintf("[[registry]]\nlocation = %q\ninsecure = true\n", s.host)), 0o600))
	path, err := layout.Write(filepath.Join(s.dir, "layout"), empty.Index)
	require.NoError(t, err)
	for tag, image := range containerImages(t, images) {
		reference, err := name.ParseReference(s.host+"/disks/"+tag, name.Insecure)
		require.NoError(t, err)
		require.NoError(t, remote.Write(reference, image))
		require.NoError(t, path.AppendImage(image, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": tag})))
	}
	index := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{
		Add: containerImages(t, images)["raw"], Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "s390x"}},
	})
	reference, err := name.ParseReference(s.host+"/disks/index", name.Insecure)
	require.NoError(t, err)
	require.NoError(t, remote.WriteIndex(reference, index))
	out, err := exec.CommandContext(t.Context(), "tar", "-C", filepath.Join(s.dir, "layout"), "-cf", filepath.Join(s.dir, "layout.tar"), ".").CombinedOutput()
	require.NoError(t, err, "%s", out)
	return s
}

// containerImages are a container disk in one layer, one under a layer, two disks, an artifact,
// and a system without a disk.
func containerImages(t *testing.T, images map[string][]byte) map[string]v1.Image {
	t.Helper()
	disk := func(name string) map[string][]byte { return map[string][]byte{"disk/" + name: images[name]} }
	system := map[string][]byte{"etc/hostname": []byte("golden\n"), "usr/bin/true": []byte("#!/bin/sh\n")}
	all := map[string]v1.Image{
		"raw":    image(t, packedLayer(t, disk("disk.raw"), tarball.WithCompressionLevel(1))),
		"system": image(t, packedLayer(t, system), packedLayer(t, map[string][]byte{"etc/.wh.hostname": nil, "etc/motd": []byte("hello\n")})),
		"two":    image(t, packedLayer(t, disk("disk.raw")), packedLayer(t, disk("other.raw"))),
		"artifact": mutate.ConfigMediaType(mutate.MediaType(image(t,
			static.NewLayer(images["disk.raw"], types.MediaType("application/x-raw-disk"))), types.OCIManifestSchema1), "application/vnd.oci.empty.v1+json"),
	}
	if haveQemu() {
		all["qcow2"] = image(t, packedLayer(t, system), packedLayer(t, disk("zlib.qcow2")))
	}
	return all
}

func image(t *testing.T, layers ...v1.Layer) v1.Image {
	t.Helper()
	made, err := mutate.AppendLayers(mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON), layers...)
	require.NoError(t, err)
	return made
}

func packedLayer(t *testing.T, files map[string][]byte, options ...tarball.LayerOption) v1.Layer {
	t.Helper()
	var packed bytes.Buffer
	w := tar.NewWriter(&packed)
	for name, content := range files {
		require.NoError(t, w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))}))
		_, err := w.Write(content)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(packed.Bytes())), nil }, options...)
	require.NoError(t, err)
	return layer
}
