package image

import (
	"archive/tar"
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/stretchr/testify/require"
)

func program(t *testing.T) v1.Image {
	t.Helper()
	path := filepath.Join(t.TempDir(), "hello")
	require.NoError(t, os.WriteFile(path, []byte("not really a program"), 0o755))
	image, err := OfProgram(path)
	require.NoError(t, err)
	return image
}

func TestOfProgram(t *testing.T) {
	image := program(t)
	config, err := image.ConfigFile()
	require.NoError(t, err)
	require.Equal(t, "linux", config.OS)
	require.Equal(t, runtime.GOARCH, config.Architecture)
	require.Equal(t, []string{"/program"}, config.Config.Entrypoint)

	content := tar.NewReader(mutate.Extract(image))
	header, err := content.Next()
	require.NoError(t, err)
	require.Equal(t, "program", header.Name)
	require.Equal(t, int64(0o755), header.Mode)
	body, err := io.ReadAll(content)
	require.NoError(t, err)
	require.Equal(t, "not really a program", string(body))
}

func TestPush(t *testing.T) {
	image := program(t)
	server := httptest.NewServer(registry.New())
	defer server.Close()
	reference := strings.TrimPrefix(server.URL, "http://") + "/hello:1"
	require.NoError(t, Push(t.Context(), image, reference))
	want, err := image.Digest()
	require.NoError(t, err)
	got, err := pull(t, reference).Digest()
	require.NoError(t, err)
	require.Equal(t, want, got)
}

func pull(t *testing.T, reference string) v1.Image {
	t.Helper()
	parsed, err := name.ParseReference(reference, name.Insecure)
	require.NoError(t, err)
	image, err := remote.Image(parsed)
	require.NoError(t, err)
	return image
}
