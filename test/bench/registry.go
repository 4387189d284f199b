package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// repository holds the container disks, one tag for each packing.
const repository = "bench/disk"

// registry serves the disk as container disks: distribution's registry as fast as it can, and a proxy of
// our own before it that limits each connection.
type registry struct {
	process *exec.Cmd
	slow    *http.Server
	// hosts are the addresses by link.
	hosts map[string]string
	// layers are the digests of the layers by the file that they were made of.
	layers map[string]string
}

// startRegistry starts the program and pushes the disks below root that are not there yet.
func startRegistry(ctx context.Context, program, dir, root string) (*registry, error) {
	r := &registry{hosts: map[string]string{}, layers: map[string]string{}}
	if err := r.start(ctx, program, dir); err != nil {
		return nil, errors.Join(err, r.stop())
	}
	for _, k := range kinds() {
		if k.layer == "" {
			continue
		}
		if err := r.push(ctx, k, filepath.Join(root, k.file)); err != nil {
			return nil, errors.Join(fmt.Errorf("pushing %s: %w", k.file, err), r.stop())
		}
	}
	return r, nil
}

func (r *registry) start(ctx context.Context, program, dir string) error {
	free, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("finding a port for the registry: %w", err)
	}
	r.hosts[loopback] = free.Addr().String()
	if err := errors.Join(free.Close(), os.MkdirAll(dir, 0o755)); err != nil {
		return fmt.Errorf("starting the registry: %w", err)
	}
	r.process = exec.CommandContext(ctx, program, "--dir", dir, "--control", r.hosts[loopback])
	r.process.Cancel = func() error { return r.process.Process.Signal(syscall.SIGTERM) }
	if err := r.process.Start(); err != nil {
		return fmt.Errorf("starting the registry: %w", err)
	}
	if err := answers(ctx, r.hosts[loopback]); err != nil {
		return fmt.Errorf("starting the registry: %w", err)
	}
	slow, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("starting the limited registry: %w", err)
	}
	r.hosts[limited] = slow.Addr().String()
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: r.hosts[loopback]})
	r.slow = &http.Server{Handler: proxy, ReadHeaderTimeout: time.Minute}
	go func() { _ = r.slow.Serve(bucketListener{slow, limitedRate}) }()
	return nil
}

// answers waits until something listens on address.
func answers(ctx context.Context, address string) error {
	for range 100 {
		connection, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		if err == nil {
			return connection.Close()
		}
		time.Sleep(50 * time.Millisecond)
	}
	return errors.New("it does not answer")
}

func (r *registry) stop() error {
	var err error
	if r.slow != nil {
		err = r.slow.Close()
	}
	if r.process != nil && r.process.Process != nil {
		err = errors.Join(err, r.process.Process.Signal(syscall.SIGTERM))
		_ = r.process.Wait()
	}
	return err
}

// push makes a container disk of one layer.
func (r *registry) push(ctx context.Context, k kind, path string) error {
	digest, err := sum(path)
	if err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	layer, err := partial.CompressedToLayer(fileLayer{path: path, size: info.Size(), digest: v1.Hash{Algorithm: "sha256", Hex: digest}, mediaType: types.MediaType(k.layer)})
	if err != nil {
		return err
	}
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	image, err := mutate.AppendLayers(base, layer)
	if err != nil {
		return err
	}
	reference, err := name.ParseReference(r.hosts[loopback]+"/"+repository+":"+k.tag(), name.Insecure)
	if err != nil {
		return err
	}
	r.layers[k.file] = "sha256:" + digest
	return remote.Write(reference, image, remote.WithContext(ctx))
}

// reference of the container disk of a cell, and the URL of its layer.
func (r *registry) reference(c cell) (image, blob string) {
	host := r.hosts[c.link]
	return host + "/" + repository + ":" + c.kind.tag(), "http://" + host + "/v2/" + repository + "/blobs/" + r.layers[c.kind.file]
}

// configure writes a registries.conf into dir that allows our registries without TLS.
func (r *registry) configure(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var text strings.Builder
	for _, host := range r.hosts {
		_, _ = fmt.Fprintf(&text, "[[registry]]\nlocation = %s\ninsecure = true\n", strconv.Quote(host))
	}
	return os.WriteFile(filepath.Join(dir, "registries.conf"), []byte(text.String()), 0o644)
}

// fileLayer is a layer in a file.
type fileLayer struct {
	path      string
	size      int64
	digest    v1.Hash
	mediaType types.MediaType
}

// Digest implements partial.CompressedLayer, as the others do.
func (l fileLayer) Digest() (v1.Hash, error) { return l.digest, nil }

// Size is that of the file.
func (l fileLayer) Size() (int64, error) { return l.size, nil }

// MediaType tells the packing.
func (l fileLayer) MediaType() (types.MediaType, error) { return l.mediaType, nil }

// Compressed opens the file.
func (l fileLayer) Compressed() (io.ReadCloser, error) { return os.Open(l.path) }
