package source

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync/atomic"
	"time"
)

var errStalled = errors.New("stalled")

// stream is the body of one answer with a timer that ends it when nothing comes.
type stream struct {
	response *http.Response
	cancel   context.CancelFunc
	timer    *time.Timer
	timeout  time.Duration
	stalled  atomic.Bool
}

// openStream asks for a part. The stream ends with ctx.
func openStream(ctx context.Context, c *client, p part, timeout time.Duration) (*stream, *http.Response, error) {
	requestCtx, cancel := context.WithCancel(ctx)
	r, err := c.get(requestCtx, p)
	if err != nil {
		cancel()
		return nil, nil, err
	}
	s := &stream{response: r, cancel: cancel, timeout: timeout}
	s.timer = time.AfterFunc(timeout, func() {
		s.stalled.Store(true)
		cancel()
	})
	// It runs only while somebody waits in read: a slow target is not a silent source.
	s.timer.Stop()
	return s, r, nil
}

// read returns n > 0 without an error, or 0 with one.
func (s *stream) read(p []byte) (int, error) {
	s.timer.Reset(s.timeout)
	n, err := s.response.Body.Read(p)
	s.timer.Stop()
	switch {
	case n > 0:
		// The next call meets the error again.
		return n, nil
	case err == nil:
		return 0, io.ErrNoProgress
	case s.stalled.Load():
		return 0, errStalled
	}
	return 0, err
}

func (s *stream) body() io.Reader { return readFunc(s.read) }

type readFunc func(p []byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

func (s *stream) close() {
	s.timer.Stop()
	s.cancel()
	_ = s.response.Body.Close()
}
