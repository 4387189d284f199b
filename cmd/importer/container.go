package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/gild-project/gild/pkg/format/refusal"
	"github.com/gild-project/gild/pkg/importer"
	"github.com/gild-project/gild/pkg/layer"
	"github.com/gild-project/gild/pkg/registry"
)

// container is an image in a registry or a layout, from which the importer takes one thing.
type container struct {
	*registry.Image
	options importer.Options
	opening importer.Opening

	mu sync.Mutex
	// blobs are all that were ever opened. They count their bytes.
	blobs []registry.Blob
}

func openContainer(ctx context.Context, o importer.Options, opening importer.Opening) (*container, error) {
	credentials, err := registry.ReadCredentials(o.SecretDir)
	if err != nil {
		return nil, err
	}
	image, err := registry.Open(ctx, o.Source, registry.Options{
		Platform: o.Platform, Credentials: credentials, CADir: o.CADir, ConfigDir: o.RegistryConfig, Digest: o.Pin.Digest, Notice: opening.Notice,
	})
	if err != nil {
		return nil, err
	}
	return &container{Image: image, options: o, opening: opening}, nil
}

// open finds what Options.Content asks for. The source closes the image.
func (c *container) open(ctx context.Context) (importer.Source, error) {
	source, err := c.find(ctx)
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return source, nil
}

func (c *container) find(ctx context.Context) (importer.Source, error) {
	if c.options.Content == importer.ContentRootfs {
		return c.rootfs(ctx)
	}
	if !c.Container() {
		return c.artifact(ctx)
	}
	disk, err := layer.Find(ctx, c.layers(), layer.Options{})
	if err == nil {
		return &layerDisk{Disk: disk, container: c}, nil
	}
	var refused *refusal.Error
	if c.options.Content == importer.ContentAuto && errors.As(err, &refused) && refused.Reason() == refusal.NoDisk {
		return c.rootfs(ctx)
	}
	return nil, err
}

// artifact is the one layer that is a disk as it is.
func (c *container) artifact(ctx context.Context) (importer.Source, error) {
	l, err := c.Disk()
	if err != nil {
		return nil, err
	}
	blob, err := c.blob(ctx, l)
	if err != nil {
		return nil, err
	}
	return &artifact{Blob: blob, container: c, layer: l}, nil
}

func (c *container) blob(ctx context.Context, l registry.Layer) (registry.Blob, error) {
	b, err := c.Blob(ctx, l)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.blobs = append(c.blobs, b)
	return b, nil
}

// fetched counts the bytes of all blobs, those that were read twice again.
func (c *container) fetched() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	var n int64
	for _, b := range c.blobs {
		n += b.Fetched()
	}
	return n
}

// layers gives pkg/layer what the registry has.
func (c *container) layers() []layer.Layer {
	var all []layer.Layer
	for _, l := range c.Layers() {
		all = append(all, layer.Layer{Name: l.Digest, MediaType: l.MediaType, Size: l.Size, Digest: l.Digest, Open: func(ctx context.Context) (layer.Blob, error) {
			return c.blob(ctx, l)
		}})
	}
	return all
}

// origin tells what was found, and where.
func (c *container) origin(content, found string) importer.Origin {
	const shown = 16
	rows := [][2]string{{"image", c.Digest()}}
	if c.Platform() != "" {
		rows = append(rows, [2]string{"platform", c.Platform()})
	}
	layers := c.Layers()
	for n, l := range layers[:min(len(layers), shown)] {
		rows = append(rows, [2]string{fmt.Sprintf("layer %d", n+1), fmt.Sprintf("%s, %s, %s", l.Digest, importer.Human(l.Size), l.MediaType)})
	}
	if len(layers) > shown {
		rows = append(rows, [2]string{"layers", fmt.Sprintf("%d in all", len(layers))})
	}
	return importer.Origin{Content: content, Digest: c.Digest(), Rows: append(rows, [2]string{"content", content + found})}
}

// size is that of all layers as they are stored.
func (c *container) size() int64 {
	var n int64
	for _, l := range c.Layers() {
		n += l.Size
	}
	return n
}
