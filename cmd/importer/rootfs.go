package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"

	"golang.org/x/sys/unix"

	"github.com/gild-project/gild/pkg/format/refusal"
	"github.com/gild-project/gild/pkg/importer"
	"github.com/gild-project/gild/pkg/layer"
	"github.com/gild-project/gild/pkg/rootfs"
	"github.com/gild-project/gild/pkg/source"
)

// rootfsDisk is the root file system of a container image as a disk in scratch space.
type rootfsDisk struct {
	source.Image
	container *container
	file      *os.File
}

var _ importer.Source = (*rootfsDisk)(nil)

// rootfs makes an ext4 file system of the merged layers. It is a disk like any other then.
func (c *container) rootfs(ctx context.Context) (importer.Source, error) {
	if c.options.ScratchDir == "" {
		return nil, refusal.New(refusal.ScratchRequired, "there is no disk in the image, and making one of its root file system needs scratch space: give --scratch-dir")
	}
	descriptor, err := unix.Open(c.options.ScratchDir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, &importer.Error{Reason: importer.ScratchError, Err: fmt.Errorf("making a file in %s: %w", c.options.ScratchDir, err)}
	}
	file := os.NewFile(uintptr(descriptor), "root file system")
	if err := c.fill(ctx, file); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	image, err := source.File(file, c.Name())
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &rootfsDisk{Image: image, container: c, file: file}, nil
}

func (c *container) fill(ctx context.Context, file *os.File) error {
	c.opening.Notice("there is no disk in the image: making one of its root file system")
	_, err := rootfs.Ext4(ctx, c.entries(ctx, func(int64) {}), file, int64(c.options.TargetSize), rootfs.Options{Notice: c.opening.Notice})
	if errors.Is(err, unix.ENOSPC) {
		return &importer.Error{Reason: importer.NoScratchSpace, Err: fmt.Errorf("writing to %s: %w", c.options.ScratchDir, err)}
	}
	return err
}

// entries are what is visible in the layers. written is told how many bytes of files were read.
func (c *container) entries(ctx context.Context, written func(n int64)) iter.Seq2[rootfs.Entry, error] {
	c.opening.Prepare(c.size(), c.fetched)
	return func(yield func(rootfs.Entry, error) bool) {
		var total int64
		for e, err := range layer.Merged(ctx, c.layers(), layer.Options{}) {
			entry := rootfs.Entry{Header: e.Header}
			if e.Content != nil {
				entry.Content = countedContent{e.Content, func(n int) { total += int64(n); written(total) }}
			}
			if !yield(entry, err) {
				return
			}
		}
	}
}

// countedContent tells how many bytes were read.
type countedContent struct {
	io.Reader
	came func(n int)
}

// Read implements io.Reader.
func (c countedContent) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.came(n)
	return n, err
}

// unpack writes the files of the image into the directory Options.Target.
func (c *container) unpack(ctx context.Context, written func(n int64)) (importer.Origin, error) {
	origin := c.origin("files", "")
	if c.options.DryRun {
		return origin, nil
	}
	return origin, rootfs.Files(ctx, c.entries(ctx, written), c.options.Target, rootfs.Options{Notice: c.opening.Notice})
}

// Origin tells the importer what the disk is.
func (d *rootfsDisk) Origin() importer.Origin {
	origin := d.container.origin("rootfs", ": the root file system as ext4")
	if stat := (unix.Stat_t{}); unix.Fstat(int(d.file.Fd()), &stat) == nil {
		origin.ScratchBytes = stat.Blocks * 512
	}
	return origin
}

// NextData spares the importer the holes, which are most of it.
func (d *rootfsDisk) NextData(off int64) int64 {
	if sparse, ok := d.Image.(interface{ NextData(off int64) int64 }); ok {
		return sparse.NextData(off)
	}
	return off
}

// File is the disk for tools, which need no copy of it.
func (d *rootfsDisk) File() *os.File { return d.file }

// Fetched implements importer.Source: what came from the registry.
func (d *rootfsDisk) Fetched() int64 { return d.container.fetched() }

// Close implements importer.Source.
func (d *rootfsDisk) Close() error { return errors.Join(d.Image.Close(), d.container.Close()) }
