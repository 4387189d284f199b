package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/gild-project/gild/test/imageserver/server"
	"github.com/gild-project/gild/test/imageserver/tree"
	"github.com/gild-project/gild/test/imageserver/verify"
)

// serve answers on plain, and on secure when that is not empty, until ctx ends. It
// speaks HTTP/1.1 only, since a test must be able to end one connection.
func serve(ctx context.Context, dir, plain, secure, certDir string) error {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	web := &http.Server{
		Handler:           server.New(dir, log.Printf),
		Protocols:         protocols,
		ReadHeaderTimeout: 30 * time.Second,
	}
	ended := make(chan error, 2)
	listeners := 1
	go func() { ended <- listen(ctx, plain, web.Serve) }()
	if secure != "" {
		listeners++
		cert, key := filepath.Join(certDir, "tls.crt"), filepath.Join(certDir, "tls.key")
		web.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12}
		go func() {
			ended <- listen(ctx, secure, func(l net.Listener) error { return web.ServeTLS(l, cert, key) })
		}()
	}
	select {
	case err := <-ended:
		return errors.Join(err, web.Close())
	case <-ctx.Done():
	}
	err := web.Close()
	for range listeners {
		if end := <-ended; !errors.Is(end, http.ErrServerClosed) {
			err = errors.Join(err, end)
		}
	}
	return err
}

func listen(ctx context.Context, address string, serve func(net.Listener) error) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	log.Printf("serving on %s", listener.Addr())
	return serve(listener)
}

func writeReport(path string, size int64, file string) error {
	report, err := verify.Volume(path, size)
	if err != nil {
		return err
	}
	return writeJSON(file, report)
}

func writeTree(dir, file string) error {
	entries, err := tree.Of(dir)
	if err != nil {
		return err
	}
	return writeJSON(file, entries)
}

func writeJSON(file string, report any) error {
	text, err := json.Marshal(report)
	if err != nil {
		return fmt.Errorf("encoding the report: %w", err)
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	return nil
}

// fill writes a file until its volume is full.
func fill(path string) error {
	file, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("filling the volume: %w", err)
	}
	defer func() { _ = file.Close() }()
	for size := 1 << 20; size > 0; {
		_, err := file.Write(make([]byte, size))
		switch {
		case errors.Is(err, syscall.ENOSPC):
			size /= 2 // what is left is smaller than this
		case err != nil:
			return fmt.Errorf("filling the volume: %w", err)
		}
	}
	return file.Sync()
}

// dial succeeds when address answers within ten seconds.
func dial(ctx context.Context, address string) error {
	conn, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("dialling: %w", err)
	}
	return conn.Close()
}
