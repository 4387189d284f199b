// Package image makes and pushes the images of the test cluster.
package image

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"runtime"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// OfProgram makes an image that holds one static program and starts it.
func OfProgram(path string) (v1.Image, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading a program for an image: %w", err)
	}
	const target = "/program"
	var archive bytes.Buffer
	writer := tar.NewWriter(&archive)
	if err := writer.WriteHeader(&tar.Header{Name: target[1:], Mode: 0o755, Size: int64(len(content))}); err != nil {
		return nil, fmt.Errorf("making an image of %s: %w", path, err)
	}
	if _, err := writer.Write(content); err != nil {
		return nil, fmt.Errorf("making an image of %s: %w", path, err)
	}
	if err := writer.Close(); err != nil {
		return nil, fmt.Errorf("making an image of %s: %w", path, err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(archive.Bytes())), nil
	})
	if err != nil {
		return nil, fmt.Errorf("making an image of %s: %w", path, err)
	}
	image, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return nil, fmt.Errorf("making an image of %s: %w", path, err)
	}
	// containerd passes over an image without a platform.
	file, err := image.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("making an image of %s: %w", path, err)
	}
	file = file.DeepCopy()
	file.OS, file.Architecture = "linux", runtime.GOARCH
	file.Config.Entrypoint = []string{target}
	return mutate.ConfigFile(image, file)
}

// Push writes an image to a registry that speaks plain HTTP.
func Push(ctx context.Context, image v1.Image, reference string) error {
	target, err := name.ParseReference(reference, name.Insecure)
	if err != nil {
		return fmt.Errorf("reading the image's name: %w", err)
	}
	if err := remote.Write(target, image, remote.WithContext(ctx)); err != nil {
		return fmt.Errorf("pushing %s: %w", reference, err)
	}
	return nil
}
