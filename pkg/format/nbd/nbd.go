// Package nbd serves one image for reading over the network block device protocol, on one
// connection that already exists. It lets qemu-img read an image that is no file.
//
// Source of the rules: doc/proto.md of github.com/NetworkBlockDevice/nbd.
package nbd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
)

// The limits of a server.
const (
	// maxRequest is the largest read, which is what clients may assume of every server.
	maxRequest = 32 << 20
	// maxMemory is what the replies that are not sent yet take together.
	maxMemory = 32 << 20
	// maxInFlight is the number of reads that are under way at once.
	maxInFlight = 16
)

// Export is the image to serve.
type Export struct {
	// Size in bytes.
	Size int64
	// ReadAt fills p from off or fails. It is called many times at once, with ranges inside
	// Size. It retries by itself: an error is final, and the client is told of an I/O error.
	ReadAt func(ctx context.Context, p []byte, off int64) (int, error)
}

// Serve answers the client on conn until it goes, and closes conn. Reads go through a cache of
// 16 MiB, with read-ahead. The error is the first one of ReadAt: the client learns only that
// there was one. Else it says how the client broke the protocol, or is the cause of ctx.
func Serve(ctx context.Context, conn net.Conn, e Export) error {
	if e.Size < 0 {
		return errors.Join(fmt.Errorf("serving image: it has %d bytes", e.Size), conn.Close())
	}
	inner, cancel := context.WithCancel(ctx)
	// A blocked read or write ends with the connection.
	stop := context.AfterFunc(inner, func() { _ = conn.Close() })
	s := newServer(conn, e)
	err := s.serve(inner)
	// Reads that nobody waits for any more are given up, and then their ends awaited.
	cancel()
	s.reads.Wait()
	s.cache.wait()
	if stop() {
		_ = conn.Close()
	}
	if failed := s.cache.failure(); failed != nil {
		return failed
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func (s *server) serve(ctx context.Context) error {
	ready, err := s.shakeHands()
	if err == nil && ready {
		err = s.transmit(ctx)
	}
	// A client that only goes away has seen all that it wanted.
	for _, gone := range []error{io.EOF, io.ErrClosedPipe, net.ErrClosed, syscall.EPIPE, syscall.ECONNRESET} {
		if errors.Is(err, gone) {
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("serving image: %w", err)
	}
	return nil
}
