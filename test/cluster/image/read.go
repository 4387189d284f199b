package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Read opens an OCI layout folder, or a tar archive of such a folder or of docker save. The image is valid until
// cleanup is called.
func Read(path string) (image v1.Image, cleanup func(), err error) {
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
