package source

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync/atomic"
	"time"
)

// minRate is the slowest that an answer may come, in bytes a second: a server that sends
// less over StallTimeout counts as stalled. 4 KiB/s would need three days for a GiB.
const minRate = 4 << 10

var (
	errStalled = errors.New("stalled")
	errSlow    = errors.New("too slow")
)

// stream is the body of one answer. It ends when nothing comes for a while, or next to
// nothing. Only the time that somebody waits in read counts: a slow target is not a silent
// source.
type stream struct {
	response *http.Response
	cancel   context.CancelFunc
	timer    Timer
	timeout  time.Duration
	client   *client
	stalled  atomic.Bool
	// waited and came are the time and the bytes since the rate was last judged.
	waited time.Duration
	came   int64
}

// openStream asks for a part. The stream ends with ctx.
func openStream(ctx context.Context, c *client, p part, timeout time.Duration) (*stream, *http.Response, error) {
	requestCtx, cancel := context.WithCancel(ctx)
	r, err := c.get(requestCtx, p.question(c.pin.ETag))
	if err != nil {
		cancel()
		return nil, nil, err
	}
	s := &stream{response: r, cancel: cancel, timeout: timeout, client: c}
	s.timer = c.afterFunc(timeout, func() {
		s.stalled.Store(true)
		cancel()
	})
	s.timer.Stop()
	return s, r, nil
}

// read returns bytes, an error, or both when the answer is too slow.
func (s *stream) read(p []byte) (int, error) {
	began := s.client.clock.Now()
	s.timer.Reset(s.timeout)
	n, err := s.response.Body.Read(p)
	s.timer.Stop()
	s.waited += s.client.clock.Now().Sub(began)
	s.came += int64(n)
	s.client.fetched.Add(int64(n))
	if s.waited >= s.timeout {
		if float64(s.came) < minRate*s.waited.Seconds() {
			s.cancel()
			return n, errSlow
		}
		s.waited, s.came = 0, 0
	}
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

func (s *stream) close() {
	s.timer.Stop()
	s.cancel()
	_ = s.response.Body.Close()
}
