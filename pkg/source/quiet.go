package source

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync"
)

// quietConn gives net/http the bytes of the answers that were asked for and no other: what
// comes before a request or behind an answer ends the connection. net/http writes such bytes
// to the log of the program, so that a server could write there what it likes, for example a
// secret that it was sent.
//
// Behind the head of an answer nothing passes until allow says how long the body is. A
// connection whose first request is no GET belongs to a proxy, or to a HEAD: its bytes pass as they
// are, and it is not kept.
type quietConn struct {
	net.Conn
	buffer *bufio.Reader

	mu    sync.Mutex
	state quietState
	head  headScanner
	// left is how much of the body may pass, -1 for all.
	left int64
	// more tells that something came together with the head that was read last.
	more bool
}

type quietState int

const (
	// quietNew is before the first request, quietIdle behind an answer.
	quietNew quietState = iota
	quietIdle
	quietHead
	quietBody
	quietOpen
	// quietEnded is behind bytes that nobody asked for.
	quietEnded
)

func newQuietConn(c net.Conn) *quietConn {
	return &quietConn{Conn: c, buffer: bufio.NewReader(c)}
}

// Write is how the next request shows.
func (c *quietConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	switch {
	case c.state == quietNew && !bytes.HasPrefix(p, []byte("GET ")):
		c.state = quietOpen
	case c.state == quietNew, c.state == quietIdle:
		c.state, c.head = quietHead, headScanner{}
	}
	ended := c.state == quietEnded
	c.mu.Unlock()
	if ended {
		// net/http takes another connection for a request of which nothing was written.
		return 0, net.ErrClosed
	}
	return c.Conn.Write(p)
}

// Read returns bytes of the answer, or io.EOF instead of bytes that nobody asked for.
func (c *quietConn) Read(p []byte) (int, error) {
	if limit, body := c.body(len(p)); body {
		n, err := c.buffer.Read(p[:limit])
		c.passed(n)
		return n, err
	}
	// While this waits the next request may be written.
	if _, err := c.buffer.Peek(1); err != nil {
		return 0, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state == quietOpen {
		return c.buffer.Read(p)
	}
	if c.state != quietHead {
		return 0, io.EOF
	}
	there, _ := c.buffer.Peek(min(len(p), c.buffer.Buffered()))
	n, end := c.head.scan(there)
	if end {
		c.state, c.left, c.more = quietIdle, 0, c.buffer.Buffered() > n
	}
	return c.buffer.Read(p[:n])
}

// body tells that a body may pass, and how many bytes of at most n.
func (c *quietConn) body(n int) (int, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state == quietBody && c.left >= 0 {
		// The last byte comes through the buffer, which shows what follows it.
		n = int(min(int64(n), max(c.left-1, 1)))
	}
	return n, c.state == quietBody || c.state == quietOpen
}

func (c *quietConn) passed(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state != quietBody || c.left < 0 {
		return
	}
	if c.left -= int64(n); c.left == 0 {
		c.state = quietIdle
		if c.buffer.Buffered() > 0 {
			c.state = quietEnded
		}
	}
}

// allow lets the next n bytes pass as the body of the answer whose head was read; -1 means
// all, for a connection that is not kept.
func (c *quietConn) allow(n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.state == quietIdle && n != 0:
		c.state, c.left = quietBody, n
	case c.state == quietIdle && c.more:
		c.state = quietEnded
	}
}

// headScanner finds the empty line that ends the head of an answer.
type headScanner struct {
	// column counts the bytes of this line; status is the start of the first one.
	column int
	status []byte
}

// scan returns how many of the bytes belong to the head, and whether it ends with them. Heads
// of answers 1xx are only announcements: another one follows.
func (h *headScanner) scan(p []byte) (n int, end bool) {
	for i, b := range p {
		if len(h.status) < len("HTTP/1.1 1") {
			h.status = append(h.status, b)
		}
		switch {
		case b == '\r':
		case b != '\n':
			h.column++
		case h.column > 0:
			h.column = 0
		case bytes.HasPrefix(h.status, []byte("HTTP/1.")) && h.status[len(h.status)-1] == '1':
			h.status = h.status[:0]
		default:
			return i + 1, true
		}
	}
	return len(p), false
}

// roundTrip sends a request and lets the body of its answer pass. connected is called when the
// request has a connection.
func roundTrip(transport *http.Transport, r *http.Request, connected func()) (*http.Response, error) {
	var conn *quietConn
	trace := &httptrace.ClientTrace{GotConn: func(got httptrace.GotConnInfo) {
		conn, _ = got.Conn.(*quietConn)
		connected()
	}}
	response, err := transport.RoundTrip(r.WithContext(httptrace.WithClientTrace(r.Context(), trace)))
	if err == nil && conn != nil {
		conn.allow(response.ContentLength)
	}
	return response, err
}

// quietly makes the connections of a dialler quiet.
func quietly(dial func(ctx context.Context, network, address string) (net.Conn, error)) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return newQuietConn(c), nil
	}
}
