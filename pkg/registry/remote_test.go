package registry_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/containers/image/v5/manifest"
	distribution "github.com/docker/distribution/configuration"
	"github.com/opencontainers/go-digest"
	imgspec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/pkg/registry"
)

func TestImage(t *testing.T) {
	h := newHouse(t, distribution.Auth{})
	layers := [][]byte{random(5 * mib), random(1000)}
	d := h.pushImage(t, "vm/disk", "1", layers...)
	for _, ref := range []string{"vm/disk:1", "vm/disk@" + d.Digest.String(), "vm/disk:gone@" + d.Digest.String()} {
		o, _ := options(t, h.host())
		image := open(t, "docker://"+h.host()+"/"+ref, o)
		require.Equal(t, d.Digest.String(), image.Digest())
		require.Empty(t, image.IndexDigest())
		require.Equal(t, imgspec.MediaTypeImageConfig, image.ConfigMediaType())
		require.True(t, image.Container())
		require.Len(t, image.Layers(), 2)
		for n, l := range image.Layers() {
			require.Equal(t, imgspec.MediaTypeImageLayerGzip, l.MediaType)
			require.Equal(t, int64(len(layers[n])), l.Size)
			require.True(t, bytes.Equal(layers[n], read(t, image, l)))
		}
		b, err := image.Blob(t.Context(), image.Layers()[0])
		require.NoError(t, err)
		require.True(t, b.Ranged(), "the registry gives ranges")
		require.Equal(t, int64(5*mib), b.Size())
		p := make([]byte, 10)
		_, err = b.ReadAt(t.Context(), p, 4*mib)
		require.NoError(t, err)
		require.Equal(t, layers[0][4*mib:4*mib+10], p)
		require.NoError(t, b.Close())
	}
}

func TestLatestIsTheDefaultTag(t *testing.T) {
	h := newHouse(t, distribution.Auth{})
	d := h.pushImage(t, "disk", "latest", []byte("layer"))
	o, _ := options(t, h.host())
	image := open(t, "docker://"+h.host()+"/disk", o)
	require.Equal(t, d.Digest.String(), image.Digest())
	require.Equal(t, "docker://"+h.host()+"/disk:latest", image.Name())
}

func TestDockerSchema2(t *testing.T) {
	h := newHouse(t, distribution.Auth{})
	config := h.pushBlob(t, "disk", manifest.DockerV2Schema2ConfigMediaType, []byte(`{"os":"linux"}`))
	layer := h.pushBlob(t, "disk", manifest.DockerV2Schema2LayerMediaType, random(1000))
	d := h.pushManifest(t, "disk", "1", manifest.DockerV2Schema2MediaType, map[string]any{
		"schemaVersion": 2, "mediaType": manifest.DockerV2Schema2MediaType, "config": config, "layers": []any{layer},
	})
	o, _ := options(t, h.host())
	image := open(t, "docker://"+h.host()+"/disk:1", o)
	require.Equal(t, d.Digest.String(), image.Digest())
	require.True(t, image.Container())
	require.Equal(t, random(1000), read(t, image, image.Layers()[0]))
}

func TestArtifact(t *testing.T) {
	h := newHouse(t, distribution.Auth{})
	m := h.ociManifest(t, "disk", random(1000))
	m.ArtifactType = "application/vnd.example.disk"
	m.Layers[0].Annotations = map[string]string{imgspec.AnnotationTitle: "disk.qcow2"}
	h.pushManifest(t, "disk", "1", imgspec.MediaTypeImageManifest, m)
	o, _ := options(t, h.host())
	image := open(t, "docker://"+h.host()+"/disk:1", o)
	require.False(t, image.Container())
	require.Equal(t, "application/vnd.example.disk", image.ArtifactType())
	require.Equal(t, "disk.qcow2", image.Layers()[0].Title)
}

// pushIndex stores an index with one image for each platform.
func pushIndex(t *testing.T, h *house, tag string, platforms ...string) map[string]imgspec.Descriptor {
	t.Helper()
	images := map[string]imgspec.Descriptor{}
	index := imgspec.Index{MediaType: imgspec.MediaTypeImageIndex}
	index.SchemaVersion = 2
	for _, text := range platforms {
		d := h.pushImage(t, "disk", strings.ReplaceAll(text, "/", "-"), []byte(text))
		parts := append(strings.Split(text, "/"), "")
		d.Platform = &imgspec.Platform{OS: parts[0], Architecture: parts[1], Variant: parts[2]}
		images[text] = d
		index.Manifests = append(index.Manifests, d)
	}
	images["index"] = h.pushManifest(t, "disk", tag, imgspec.MediaTypeImageIndex, index)
	return images
}

func TestPlatform(t *testing.T) {
	h := newHouse(t, distribution.Auth{})
	images := pushIndex(t, h, "all", "linux/amd64", "linux/arm64/v8", "linux/arm/v6", "linux/arm/v7", "windows/amd64", "unknown/unknown")
	for platform, want := range map[string]string{
		"linux/amd64": "linux/amd64", "linux/arm64": "linux/arm64/v8", "linux/arm64/v8": "linux/arm64/v8", "linux/arm/v7": "linux/arm/v7",
		"linux/arm/v6": "linux/arm/v6", "linux/arm": "linux/arm/v7", "windows/amd64": "windows/amd64",
	} {
		o, _ := options(t, h.host())
		o.Platform = platform
		image := open(t, "docker://"+h.host()+"/disk:all", o)
		require.Equal(t, images[want].Digest.String(), image.Digest(), platform)
		require.Equal(t, images["index"].Digest.String(), image.IndexDigest())
		require.Equal(t, want, image.Platform())
		require.Equal(t, want, string(read(t, image, image.Layers()[0])))
	}
	o, _ := options(t, h.host())
	o.Platform = "linux/s390x"
	err := refused(t, "docker://"+h.host()+"/disk:all", o, "PlatformNotFound")
	require.ErrorContains(t, err, "linux/s390x")
	require.ErrorContains(t, err, "linux/amd64, linux/arm64/v8, linux/arm/v6, linux/arm/v7, windows/amd64")
	require.NotContains(t, err.Error(), "unknown")
	for _, wrong := range []string{"linux", "linux/", "/amd64", "linux/arm/v7/x", "Linux/amd64", "linux/amd64\n"} {
		o.Platform = wrong
		failure(t, "docker://"+h.host()+"/disk:all", o, "InvalidOptions")
	}
}

func TestIndexesInIndexes(t *testing.T) {
	h := newHouse(t, distribution.Auth{})
	images := pushIndex(t, h, "0", "linux/amd64")
	inner := images["index"]
	for n := 1; n <= 4; n++ {
		inner.Platform = &imgspec.Platform{OS: "linux", Architecture: "amd64"}
		index := imgspec.Index{MediaType: imgspec.MediaTypeImageIndex, Manifests: []imgspec.Descriptor{inner}}
		index.SchemaVersion = 2
		inner = h.pushManifest(t, "disk", fmt.Sprint(n), imgspec.MediaTypeImageIndex, index)
	}
	o, _ := options(t, h.host())
	require.Equal(t, images["linux/amd64"].Digest.String(), open(t, "docker://"+h.host()+"/disk:2", o).Digest())
	failure(t, "docker://"+h.host()+"/disk:4", o, "UnsafeImage")
}

func TestPinnedDigest(t *testing.T) {
	h := newHouse(t, distribution.Auth{})
	images := pushIndex(t, h, "1", "linux/amd64", "linux/arm64")
	other := h.pushImage(t, "disk", "other", []byte("other"))
	ref := "docker://" + h.host() + "/disk:1"
	o, _ := options(t, h.host())
	for _, pin := range []string{"index", "linux/amd64"} {
		o.Digest = images[pin].Digest.String()
		require.Equal(t, images["linux/amd64"].Digest.String(), open(t, ref, o).Digest())
	}
	// The tag moves: the pinned image is still found.
	h.pushImage(t, "disk", "1", []byte("new"))
	o.Digest = images["index"].Digest.String()
	require.Equal(t, images["linux/amd64"].Digest.String(), open(t, ref, o).Digest())

	o.Digest = digest.FromString("gone").String()
	failure(t, ref, o, "SourceChanged")
	o.Digest = other.Digest.String()
	failure(t, "docker://"+h.host()+"/disk@"+images["index"].Digest.String(), o, "SourceChanged")
	o.Digest = "md5:d41d8cd98f00b204e9800998ecf8427e"
	failure(t, ref, o, "InvalidOptions")
}

// TestTagMoves between the manifest and the blobs, and between the index and the manifest.
func TestTagMoves(t *testing.T) {
	h := newHouse(t, distribution.Auth{})
	images := pushIndex(t, h, "1", "linux/amd64")
	moved := false
	h.spoil = func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/manifests/sha256:") && !moved {
			moved = true
			h.pushImage(t, "disk", "1", []byte("new"))
		}
		return false
	}
	o, _ := options(t, h.host())
	image := open(t, "docker://"+h.host()+"/disk:1", o)
	require.True(t, moved)
	require.Equal(t, images["linux/amd64"].Digest.String(), image.Digest())
	h.pushImage(t, "disk", "1", []byte("newer"))
	require.Equal(t, "linux/amd64", string(read(t, image, image.Layers()[0])))
	require.Len(t, h.asked("/manifests/1"), 1, "a tag is looked up once")
}

// answer makes the registry serve a manifest of ours, whatever it is.
func answer(h *house, mediaType string, raw []byte) {
	h.spoil = func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/manifests/") {
			return false
		}
		w.Header().Set("Content-Type", mediaType)
		_, _ = w.Write(raw)
		return true
	}
}

func TestManifestsThatAreRefused(t *testing.T) {
	h := newHouse(t, distribution.Auth{})
	good, err := json.Marshal(h.ociManifest(t, "disk", []byte("layer")))
	require.NoError(t, err)
	edit := func(change func(m *imgspec.Manifest)) []byte {
		var m imgspec.Manifest
		require.NoError(t, json.Unmarshal(good, &m))
		change(&m)
		raw, err := json.Marshal(m)
		require.NoError(t, err)
		return raw
	}
	oci, index := imgspec.MediaTypeImageManifest, imgspec.MediaTypeImageIndex
	for name, c := range map[string]struct {
		mediaType string
		raw       []byte
		reason    string
	}{
		"8 MiB":              {oci, edit(func(m *imgspec.Manifest) { m.Annotations = map[string]string{"x": strings.Repeat("a", 8*mib)} }), "UnsafeImage"},
		"many objects":       {index, []byte(`{"schemaVersion":2,"manifests":[{}` + strings.Repeat(",{}", mib) + `]}`), "UnsafeImage"},
		"many layers":        {oci, edit(func(m *imgspec.Manifest) { m.Layers = make([]imgspec.Descriptor, 5000) }), "UnsafeImage"},
		"deep":               {oci, bytes.Repeat([]byte("["), 60000), "CorruptImage"},
		"schema 1":           {manifest.DockerV2Schema1SignedMediaType, []byte(`{"schemaVersion":1,"signatures":[]}`), "UnsupportedFormat"},
		"schema 1, guessed":  {"application/json", []byte(`{"schemaVersion":1,"signatures":[]}`), "UnsupportedFormat"},
		"no JSON":            {oci, []byte("<html>"), "CorruptImage"},
		"no JSON at all":     {"text/html", []byte("<html>"), "UnsupportedFormat"},
		"ambiguous":          {oci, []byte(`{"schemaVersion":2,"config":{},"layers":[],"manifests":[]}`), "CorruptImage"},
		"ambiguous index":    {index, []byte(`{"schemaVersion":2,"config":{},"layers":[],"manifests":[]}`), "CorruptImage"},
		"empty index":        {index, []byte(`{"schemaVersion":2,"manifests":[]}`), "PlatformNotFound"},
		"digest with a path": {oci, edit(func(m *imgspec.Manifest) { m.Layers[0].Digest = "sha256:../../../../etc/passwd" }), "CorruptImage"},
		"md5":                {oci, edit(func(m *imgspec.Manifest) { m.Layers[0].Digest = "md5:d41d8cd98f00b204e9800998ecf8427e" }), "UnsupportedFormat"},
		"short digest":       {oci, edit(func(m *imgspec.Manifest) { m.Layers[0].Digest = "sha256:abc" }), "CorruptImage"},
		"negative size":      {oci, edit(func(m *imgspec.Manifest) { m.Layers[0].Size = -1 }), "CorruptImage"},
		"odd index digest":   {index, []byte(`{"schemaVersion":2,"manifests":[{"digest":"sha256:..","size":1}]}`), "CorruptImage"},
	} {
		t.Run(name, func(t *testing.T) {
			answer(h, c.mediaType, c.raw)
			o, clock := options(t, h.host())
			failure(t, "docker://"+h.host()+"/disk:1", o, c.reason)
			require.Empty(t, clock.waits)
		})
	}
}

func TestDigestsThatLie(t *testing.T) {
	h := newHouse(t, distribution.Auth{})
	images := pushIndex(t, h, "1", "linux/amd64")
	layer := random(1000)
	d := h.pushImage(t, "disk", "2", layer)
	h.spoil = func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/manifests/sha256:") {
			return false
		}
		w.Header().Set("Content-Type", imgspec.MediaTypeImageManifest)
		_, _ = w.Write([]byte(`{"schemaVersion":2,"config":{},"layers":[]}`))
		return true
	}
	o, _ := options(t, h.host())
	failure(t, "docker://"+h.host()+"/disk@"+d.Digest.String(), o, "DigestMismatch")
	failure(t, "docker://"+h.host()+"/disk:1", o, "DigestMismatch")
	o.Digest = images["index"].Digest.String()
	failure(t, "docker://"+h.host()+"/disk:1", o, "DigestMismatch")
}

func TestSizesThatLie(t *testing.T) {
	h := newHouse(t, distribution.Auth{})
	for _, size := range []int64{100, 1e9, 0} {
		m := h.ociManifest(t, "disk", random(1000))
		m.Layers[0].Size = size
		raw, err := json.Marshal(m)
		require.NoError(t, err)
		answer(h, imgspec.MediaTypeImageManifest, raw)
		o, _ := options(t, h.host())
		image := open(t, "docker://"+h.host()+"/disk:1", o)
		_, err = image.Blob(t.Context(), image.Layers()[0])
		requireReason(t, err, "DigestMismatch")
	}
}

func TestForeignLayers(t *testing.T) {
	h := newHouse(t, distribution.Auth{})
	elsewhere := newHouse(t, distribution.Auth{})
	for name, mediaType := range map[string]string{
		"oci":    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
		"docker": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
		"urls":   imgspec.MediaTypeImageLayerGzip,
	} {
		t.Run(name, func(t *testing.T) {
			m := h.ociManifest(t, "disk", random(1000))
			m.Layers = append(m.Layers, imgspec.Descriptor{
				MediaType: mediaType, Digest: digest.FromString("elsewhere"), Size: 9, URLs: []string{elsewhere.URL + "/blob", "http://169.254.169.254/latest/meta-data/"},
			})
			m.Layers[0].URLs = m.Layers[1].URLs
			raw, err := json.Marshal(m)
			require.NoError(t, err)
			answer(h, imgspec.MediaTypeImageManifest, raw)
			o, _ := options(t, h.host())
			image := open(t, "docker://"+h.host()+"/disk:1", o)
			require.Equal(t, random(1000), read(t, image, image.Layers()[0]), "what the registry has can be read")
			_, err = image.Blob(t.Context(), image.Layers()[1])
			requireReason(t, err, "UnsupportedFormat")
			require.Empty(t, elsewhere.asked(""))
		})
	}
}

func TestReferencesThatAreRefused(t *testing.T) {
	o, _ := options(t)
	for _, ref := range []string{
		"docker:host.example/x", "docker://ubuntu", "docker://library/ubuntu:22.04", "docker://", "docker:///x", "docker://host.example/",
		"docker://host.example/UPPER", "docker://host.example/x:", "docker://host.example/x@sha256:abc", "docker://host.example/../x",
		"docker://user:" + canary + "@host.example/x", "docker://host.example/x@md5:d41d8cd98f00b204e9800998ecf8427e",
		"docker://host.example/x?y", "http://host.example/x", "oci:", "oci::tag", "", "host.example/x",
	} {
		image, err := registry.Open(t.Context(), ref, o)
		require.Error(t, err, ref)
		require.NotContains(t, err.Error(), canary)
		require.Nil(t, image)
		var e interface{ Reason() string }
		require.ErrorAs(t, err, &e, ref)
		require.Contains(t, []string{"SourceRefused", "UnsupportedFormat"}, e.Reason(), ref)
	}
}
