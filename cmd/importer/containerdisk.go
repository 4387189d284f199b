package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/gild-project/gild/pkg/importer"
	"github.com/gild-project/gild/pkg/layer"
	"github.com/gild-project/gild/pkg/registry"
)

var errInOrder = errors.New("a layer is read in order only")

// layerDisk is the disk in the layers of a container image. Whoever reads it to its end has
// compared the digest of its layer.
type layerDisk struct {
	*layer.Disk
	container *container
}

var _ importer.Source = (*layerDisk)(nil)

// Ranged implements importer.Source.
func (d *layerDisk) Ranged() bool { return false }

// ReadAt implements importer.Source.
func (d *layerDisk) ReadAt(context.Context, []byte, int64) (int, error) { return 0, errInOrder }

// Tail implements importer.Source.
func (d *layerDisk) Tail(context.Context, int64) ([]byte, error) { return nil, errInOrder }

// Framed implements importer.Source: a cut layer has another digest.
func (d *layerDisk) Framed() bool { return true }

// Validators implements importer.Source. The digest of the layer is as strong as an ETag can be.
func (d *layerDisk) Validators() (etag, lastModified string) { return quoted(d.Layer().Digest), "" }

// ContentType implements importer.Source.
func (d *layerDisk) ContentType() string { return "" }

// Name implements importer.Source.
func (d *layerDisk) Name() string { return d.container.Name() + " " + d.Disk.Name() }

// Fetched implements importer.Source.
func (d *layerDisk) Fetched() int64 { return d.container.fetched() }

// Origin tells the importer where the disk is.
func (d *layerDisk) Origin() importer.Origin {
	return d.container.origin("containerDisk", fmt.Sprintf(": %s in %s", d.Disk.Name(), d.Layer().Name))
}

// Close implements importer.Source.
func (d *layerDisk) Close() error { return errors.Join(d.Disk.Close(), d.container.Close()) }

// artifact is a blob that is a disk image as it is. The importer compares its digest.
type artifact struct {
	registry.Blob
	container *container
	layer     registry.Layer
}

var _ importer.Source = (*artifact)(nil)

// Validators implements importer.Source.
func (a *artifact) Validators() (etag, lastModified string) { return quoted(a.layer.Digest), "" }

// ContentType implements importer.Source. What a registry says of a blob tells nothing.
func (a *artifact) ContentType() string { return "" }

// Name implements importer.Source.
func (a *artifact) Name() string { return a.container.Name() }

// Origin tells the importer what the bytes must be.
func (a *artifact) Origin() importer.Origin {
	found := ": " + a.layer.Digest
	if a.layer.Title != "" {
		found = fmt.Sprintf(": %q in %s", a.layer.Title, a.layer.Digest)
	}
	origin := a.container.origin("artifact", found)
	origin.Expected = a.layer.Digest
	return origin
}

// Close implements importer.Source.
func (a *artifact) Close() error { return errors.Join(a.Blob.Close(), a.container.Close()) }

func quoted(digest string) string { return `"` + digest + `"` }
