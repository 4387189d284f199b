package main

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// pushOwnImages puts the images of the cluster's own pods into its registry.
func (c *cluster) pushOwnImages(ctx context.Context) error {
	for reference, program := range map[string]string{pauseImage: "cluster-pause", dnsImage: "cluster-dns"} {
		path, err := c.binary(program)
		if err != nil {
			return err
		}
		image, err := programImage(path)
		if err != nil {
			return err
		}
		if err := pushImage(ctx, image, reference); err != nil {
			return err
		}
	}
	return nil
}

// push puts the image of an OCI layout folder, or of a tar archive of such a
// folder or of docker save, into the cluster's registry.
func (c *cluster) push(ctx context.Context, path, reference string) error {
	image, cleanup, err := readImage(path)
	if err != nil {
		return err
	}
	defer cleanup()
	reference = registryAddress + "/" + reference
	return c.steps.do("pushed", func() (string, error) { return reference, pushImage(ctx, image, reference) })
}

func pushImage(ctx context.Context, image v1.Image, reference string) error {
	target, err := name.ParseReference(reference, name.Insecure)
	if err != nil {
		return fmt.Errorf("reading the image's name: %w", err)
	}
	if err := remote.Write(target, image, remote.WithContext(ctx)); err != nil {
		return fmt.Errorf("pushing %s: %w", reference, err)
	}
	return nil
}

// programImage makes an image that holds one static program and starts it.
func programImage(path string) (v1.Image, error) {
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

// readImage opens a layout folder or a tar archive. The image is valid until
// cleanup is called.
func readImage(path string) (image v1.Image, cleanup func(), err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, nil, fmt.Errorf("opening an image: %w", err)
	}
	nothing := func() {}
	if info.IsDir() {
		image, err = layoutImage(path)
		return image, nothing, err
	}
	if image, err = tarball.ImageFromPath(path, nil); err == nil {
		return image, nothing, nil
	}
	folder, err := os.MkdirTemp("", "gild-image-")
	if err != nil {
		return nil, nil, fmt.Errorf("making a folder to unpack an image: %w", err)
	}
	remove := func() { _ = os.RemoveAll(folder) } // a temporary folder; nothing to do about a failure
	if err := unpack(path, folder); err != nil {
		remove()
		return nil, nil, err
	}
	image, err = layoutImage(folder)
	if err != nil {
		remove()
		return nil, nil, err
	}
	return image, remove, nil
}

// layoutImage returns the only image of an OCI layout, or the one for this
// machine's architecture.
func layoutImage(folder string) (v1.Image, error) {
	index, err := layout.ImageIndexFromPath(folder)
	if err != nil {
		return nil, fmt.Errorf("reading the OCI layout %s: %w", folder, err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, fmt.Errorf("reading the OCI layout %s: %w", folder, err)
	}
	for _, descriptor := range manifest.Manifests {
		platform := descriptor.Platform
		if len(manifest.Manifests) == 1 || platform != nil && platform.OS == "linux" && platform.Architecture == runtime.GOARCH {
			return index.Image(descriptor.Digest)
		}
	}
	return nil, fmt.Errorf("reading the OCI layout %s: no image in it is for linux/%s", folder, runtime.GOARCH)
}

// unpack writes the regular files of a tar archive below folder.
func unpack(path, folder string) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("opening an image archive: %w", err)
	}
	defer func() { _ = file.Close() }() // only read
	root, err := os.OpenRoot(folder)
	if err != nil {
		return fmt.Errorf("opening the folder to unpack into: %w", err)
	}
	defer func() { _ = root.Close() }() // a folder
	reader := tar.NewReader(file)
	for {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading the image archive %s: %w", path, err)
		}
		if header.Typeflag != tar.TypeReg {
			continue
		}
		if err := unpackFile(root, filepath.Clean(header.Name), reader); err != nil {
			return fmt.Errorf("unpacking the image archive %s: %w", path, err)
		}
	}
}

func unpackFile(root *os.Root, name string, content io.Reader) error {
	if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	file, err := root.Create(name)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, content)
	return errors.Join(err, file.Close())
}
