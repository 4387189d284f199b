package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/stretchr/testify/require"
)

const dockerfile = `FROM scratch
ADD rootfs.tar /
COPY tool /usr/bin/tool
USER 107:107
ENV A=b
ENTRYPOINT ["/usr/bin/tool"]
CMD ["-h"]
`

func TestBuild(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "1000")
	context := buildContext(t, time.Unix(5, 0))
	out := filepath.Join(t.TempDir(), "image.tar")
	digest, err := build(filepath.Join(context, "Dockerfile"), context, "arm64", "tool:test", out)
	require.NoError(t, err)

	img, err := tarball.ImageFromPath(out, nil)
	require.NoError(t, err)
	require.NoError(t, validate.Image(img))
	again, err := img.Digest()
	require.NoError(t, err)
	require.Equal(t, digest, again.String(), "the digest survives the file")

	config, err := img.ConfigFile()
	require.NoError(t, err)
	require.Equal(t, "linux", config.OS)
	require.Equal(t, "arm64", config.Architecture)
	require.Equal(t, int64(1000), config.Created.Unix())
	require.Equal(t, "107:107", config.Config.User)
	require.Equal(t, []string{"A=b"}, config.Config.Env)
	require.Equal(t, []string{"/usr/bin/tool"}, config.Config.Entrypoint)
	require.Equal(t, []string{"-h"}, config.Config.Cmd)

	layers, err := img.Layers()
	require.NoError(t, err)
	require.Len(t, layers, 2)
	require.Equal(t, []string{"etc/ 0755 0 5", "etc/hosts 0644 0 5"}, list(t, layers[0]))
	require.Equal(t, []string{"usr/ 0755 0 1000", "usr/bin/ 0755 0 1000", "usr/bin/tool 0755 0 1000"}, list(t, layers[1]))
}

func TestBuildTwiceGivesOneDigest(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "1000")
	digests := map[string]bool{}
	for _, modified := range []time.Time{time.Unix(5, 0), time.Unix(7, 0)} {
		context := buildContext(t, time.Unix(5, 0))
		require.NoError(t, os.Chtimes(filepath.Join(context, "tool"), modified, modified))
		digest, err := build(filepath.Join(context, "Dockerfile"), context, "amd64", "tool:test", filepath.Join(t.TempDir(), "image.tar"))
		require.NoError(t, err)
		digests[digest] = true
	}
	require.Len(t, digests, 1)
}

func TestBuildRefusesSourcesOutsideTheContext(t *testing.T) {
	context := buildContext(t, time.Unix(5, 0))
	outside := filepath.Join(t.TempDir(), "secret.tar")
	require.NoError(t, os.WriteFile(outside, nil, 0o600))
	require.NoError(t, os.Symlink(outside, filepath.Join(context, "link.tar")))
	for _, instruction := range []string{"COPY ../Dockerfile /a", "COPY link.tar /a", "ADD link.tar /", "COPY . /a", "COPY missing /a", "ADD missing.tar /"} {
		r, err := parse(strings.NewReader("FROM scratch\n" + instruction))
		require.NoError(t, err)
		_, err = assemble(r, context, "amd64", time.Unix(0, 0))
		require.Error(t, err, instruction)
	}
}

// buildContext is a folder with dockerfile, a small root filesystem and a program.
func buildContext(t *testing.T, modified time.Time) string {
	t.Helper()
	var rootfs bytes.Buffer
	w := tar.NewWriter(&rootfs)
	require.NoError(t, w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "etc/", Mode: 0o755, ModTime: modified}))
	require.NoError(t, w.WriteHeader(&tar.Header{Name: "etc/hosts", Mode: 0o644, Size: 2, ModTime: modified}))
	_, err := w.Write([]byte("hi"))
	require.NoError(t, err)
	require.NoError(t, w.Close())

	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(dockerfile), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "rootfs.tar"), rootfs.Bytes(), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "tool"), []byte("#!/bin/sh\n"), 0o600))
	require.NoError(t, os.Chmod(filepath.Join(dir, "tool"), 0o755))
	return dir
}

// list names the files of a layer with mode, owner and time.
func list(t *testing.T, l v1.Layer) []string {
	t.Helper()
	content, err := l.Uncompressed()
	require.NoError(t, err)
	defer content.Close()
	var out []string
	for files := tar.NewReader(content); ; {
		h, err := files.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		require.NoError(t, err)
		out = append(out, fmt.Sprintf("%s %#o %d %d", h.Name, h.Mode, h.Uid, h.ModTime.Unix()))
	}
}
