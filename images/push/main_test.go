package main

import (
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/stretchr/testify/require"
)

func TestPush(t *testing.T) {
	server := httptest.NewServer(registry.New())
	t.Cleanup(server.Close)
	ref, err := name.NewTag(strings.TrimPrefix(server.URL, "http://") + "/gild/tool:test")
	require.NoError(t, err)

	img, err := random.Image(1024, 2)
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "image.tar")
	require.NoError(t, tarball.WriteToFile(file, ref, img))
	require.NoError(t, run(t.Context(), []string{file, ref.String()}))

	// The file format gives an image Docker's media types, so compare what it is made of.
	pulled, err := remote.Image(ref)
	require.NoError(t, err)
	want, err := img.ConfigName()
	require.NoError(t, err)
	got, err := pulled.ConfigName()
	require.NoError(t, err)
	require.Equal(t, want, got)
}

func TestPushSaysWhatIsWrong(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing.tar")
	require.ErrorContains(t, run(t.Context(), nil), "usage")
	require.ErrorContains(t, run(t.Context(), []string{missing, "127.0.0.1:1/a:b"}), "reading image")
}
