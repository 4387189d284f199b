package image

import (
	"archive/tar"
	"bytes"
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
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
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

// writeLayout writes an OCI layout of the images and returns its folder.
func writeLayout(t *testing.T, images ...v1.Image) string {
	t.Helper()
	folder := t.TempDir()
	path, err := layout.Write(folder, empty.Index)
	require.NoError(t, err)
	for _, image := range images {
		config, err := image.ConfigFile()
		require.NoError(t, err)
		platform := v1.Platform{OS: config.OS, Architecture: config.Architecture}
		require.NoError(t, path.AppendImage(image, layout.WithPlatform(platform)))
	}
	return folder
}

// archive packs a folder.
func archive(t *testing.T, folder string) string {
	t.Helper()
	var content bytes.Buffer
	writer := tar.NewWriter(&content)
	require.NoError(t, writer.AddFS(os.DirFS(folder)))
	require.NoError(t, writer.Close())
	path := filepath.Join(t.TempDir(), "image.tar")
	require.NoError(t, os.WriteFile(path, content.Bytes(), 0o644))
	return path
}

func TestReadAndPush(t *testing.T) {
	image := program(t)
	other, err := mutate.ConfigFile(image, &v1.ConfigFile{OS: "linux", Architecture: "other", RootFS: v1.RootFS{Type: "layers"}})
	require.NoError(t, err)
	saved := filepath.Join(t.TempDir(), "saved.tar")
	tag, err := name.NewTag("registry.test/hello:1")
	require.NoError(t, err)
	require.NoError(t, tarball.WriteToFile(saved, tag, image))
	server := httptest.NewServer(registry.New())
	defer server.Close()
	want, err := image.Digest()
	require.NoError(t, err)

	for name, path := range map[string]string{
		"layout":               writeLayout(t, image),
		"layout of two images": writeLayout(t, other, image),
		"archive of a layout":  archive(t, writeLayout(t, image)),
		"archive of docker":    saved,
	} {
		t.Run(name, func(t *testing.T) {
			read, cleanup, err := Read(path)
			require.NoError(t, err)
			defer cleanup()
			reference := strings.TrimPrefix(server.URL, "http://") + "/hello:1"
			require.NoError(t, Push(t.Context(), read, reference))
			pushed := pull(t, reference)
			if strings.HasSuffix(name, "docker") { // it compresses layers anew
				require.Equal(t, configName(t, image), configName(t, pushed))
				return
			}
			got, err := pushed.Digest()
			require.NoError(t, err)
			require.Equal(t, want, got)
		})
	}
}

func pull(t *testing.T, reference string) v1.Image {
	t.Helper()
	parsed, err := name.ParseReference(reference, name.Insecure)
	require.NoError(t, err)
	image, err := remote.Image(parsed)
	require.NoError(t, err)
	return image
}

func configName(t *testing.T, image v1.Image) string {
	t.Helper()
	hash, err := image.ConfigName()
	require.NoError(t, err)
	return hash.String()
}

func TestReadRefuses(t *testing.T) {
	escaping := filepath.Join(t.TempDir(), "escaping.tar")
	var content bytes.Buffer
	writer := tar.NewWriter(&content)
	require.NoError(t, writer.WriteHeader(&tar.Header{Name: "../escaped", Typeflag: tar.TypeReg, Mode: 0o644}))
	require.NoError(t, writer.Close())
	require.NoError(t, os.WriteFile(escaping, content.Bytes(), 0o644))
	image := program(t)
	config, err := image.ConfigFile()
	require.NoError(t, err)
	config = config.DeepCopy()
	config.Architecture = "other"
	other, err := mutate.ConfigFile(image, config)
	require.NoError(t, err)
	config = config.DeepCopy()
	config.Architecture = "another"
	another, err := mutate.ConfigFile(image, config)
	require.NoError(t, err)

	for name, path := range map[string]string{
		"nothing there":              filepath.Join(t.TempDir(), "missing"),
		"no layout":                  t.TempDir(),
		"a name outside the archive": escaping,
		"no image for this machine":  writeLayout(t, other, another),
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := Read(path)
			require.Error(t, err)
		})
	}
	require.NoFileExists(t, filepath.Join(os.TempDir(), "escaped"))
}
