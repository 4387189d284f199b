package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// assemble makes the image a recipe describes from the files below the folder context.
// Times in the layers and the configuration are created, names are sorted and owners
// are root, so the same files always give the same digest.
func assemble(r recipe, context, arch string, created time.Time) (v1.Image, error) {
	files, err := os.OpenRoot(context)
	if err != nil {
		return nil, fmt.Errorf("opening build context: %w", err)
	}
	defer files.Close()

	var add []mutate.Addendum
	for _, l := range r.layers {
		content, err := l.open(files, context, created)
		if err != nil {
			return nil, fmt.Errorf("making layer %q: %w", l.instruction, err)
		}
		add = append(add, mutate.Addendum{
			Layer:   content,
			History: v1.History{CreatedBy: l.instruction, Created: v1.Time{Time: created}},
		})
	}
	img, err := mutate.Append(empty.Image, add...)
	if err != nil {
		return nil, fmt.Errorf("joining layers: %w", err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	config.OS, config.Architecture, config.Created = "linux", arch, v1.Time{Time: created}
	config.Config.User = r.user
	config.Config.Env = r.env
	config.Config.Entrypoint = r.entrypoint
	config.Config.Cmd = r.cmd
	config.Config.WorkingDir = "/"
	return mutate.ConfigFile(img, config)
}

// open reads a layer's source. The root keeps a source path from leaving the context.
func (l layer) open(files *os.Root, context string, created time.Time) (v1.Layer, error) {
	if l.unpack {
		if _, err := files.Stat(l.source); err != nil {
			return nil, err
		}
		return tarball.LayerFromFile(filepath.Join(context, l.source))
	}
	packed, err := pack(files, l, created)
	if err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(packed)), nil
	})
}

// pack makes the tar of a COPY: the folders above the file, as Docker makes them, and
// the file.
func pack(files *os.Root, l layer, created time.Time) ([]byte, error) {
	f, err := files.Open(l.source)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", l.source)
	}

	var out bytes.Buffer
	w := tar.NewWriter(&out)
	name := strings.TrimPrefix(path.Clean(l.target), "/")
	for i, c := range name {
		if c != '/' {
			continue
		}
		folder := &tar.Header{Typeflag: tar.TypeDir, Name: name[:i+1], Mode: 0o755, ModTime: created}
		if err := w.WriteHeader(folder); err != nil {
			return nil, err
		}
	}
	header := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: int64(info.Mode().Perm()), Size: info.Size(), ModTime: created}
	if err := w.WriteHeader(header); err != nil {
		return nil, err
	}
	if _, err := io.Copy(w, f); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
