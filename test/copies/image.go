package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gild-project/gild/test/imageserver/disk"
)

const (
	mb = 1000 * 1000
	// Of four blocks of the disk one is a hole.
	block     = 64 << 10
	imagePath = "/golden.raw"
	// lastModified is older than any run, and always the same.
	lastModified = "Thu, 01 Jan 2026 00:00:00 GMT"
)

// image is a web server with one raw disk, which counts what it serves.
type image struct {
	url     string
	size    int64
	served  atomic.Int64 // bytes of bodies
	server  *http.Server
	serving sync.WaitGroup
}

// serveImage serves a disk with so many bytes of data, on a free port, until stop is called.
func serveImage(ctx context.Context, address string, data int64) (*image, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		return nil, fmt.Errorf("serving the image where the cluster finds it: %w", err)
	}
	i := &image{url: "http://" + listener.Addr().String() + imagePath, size: (data + 3*block - 1) / (3 * block) * 4 * block}
	content := disk.Disk{Seed: 1, Size: i.size}
	handler := http.NewServeMux()
	handler.HandleFunc(imagePath, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", fmt.Sprintf(`"%d"`, i.size))
		w.Header().Set("Last-Modified", lastModified)
		w.Header().Set("Content-Type", "application/octet-stream")
		http.ServeContent(&counted{ResponseWriter: w, served: &i.served}, r, "", time.Time{}, content.NewReader())
	})
	i.server = &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	i.serving.Go(func() { _ = i.server.Serve(listener) }) // it ends when stop is called
	return i, nil
}

func (i *image) stop() error {
	err := i.server.Close()
	i.serving.Wait()
	if err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("stopping the web server: %w", err)
	}
	return nil
}

// counted counts what is written to a body.
type counted struct {
	http.ResponseWriter
	served *atomic.Int64
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	c.served.Add(int64(n))
	return n, err
}
