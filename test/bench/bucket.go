package main

import (
	"net"
	"time"
)

const (
	// bucketSize is what a connection may send at once, in bytes. nginx's limit_rate lets whole
	// small requests burst, which flatters everybody who makes many.
	bucketSize = 256 << 10
	// sip is the most that one write takes out of the bucket.
	sip = 64 << 10
)

// bucket is a token bucket: it holds at most bucketSize bytes and is filled at rate bytes per
// second.
type bucket struct {
	rate float64
	// paid is the time up to which what was sent is paid for.
	paid time.Time
}

// take says how long to wait before n more bytes may be sent.
func (b *bucket) take(now time.Time, n int) time.Duration {
	full := now.Add(-time.Duration(bucketSize / b.rate * float64(time.Second)))
	if b.paid.Before(full) {
		b.paid = full
	}
	b.paid = b.paid.Add(time.Duration(float64(n) / b.rate * float64(time.Second)))
	return b.paid.Sub(now)
}

// bucketListener gives each connection a bucket of its own.
type bucketListener struct {
	net.Listener
	rate float64
}

// Accept implements net.Listener.
func (l bucketListener) Accept() (net.Conn, error) {
	connection, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &bucketConn{Conn: connection, bucket: bucket{rate: l.rate}}, nil
}

type bucketConn struct {
	net.Conn
	bucket bucket
}

// Write implements net.Conn.
func (c *bucketConn) Write(p []byte) (int, error) {
	sent := 0
	for sent < len(p) {
		part := p[sent:min(sent+sip, len(p))]
		time.Sleep(c.bucket.take(time.Now(), len(part)))
		n, err := c.Conn.Write(part)
		sent += n
		if err != nil {
			return sent, err
		}
	}
	return sent, nil
}
