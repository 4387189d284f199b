// Package exporter serves one volume over HTTPS, for reading alone, to whoever has its token.
package exporter

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"golang.org/x/net/netutil"
)

const (
	// headerTimeout bounds the TLS handshake and the head of a request, keepTimeout a connection
	// that nobody uses.
	headerTimeout = 10 * time.Second
	keepTimeout   = time.Minute
	// stopTimeout is what requests under way get when the exporter ends.
	stopTimeout = 3 * time.Second
	maxHeader   = 16 << 10
	// minToken and maxToken bound the token in bytes.
	minToken = 16
	maxToken = 4 << 10
)

// Parts are what the outside gives an Exporter.
type Parts struct {
	Now func() time.Time
	// AfterFunc starts the timer of Options.Idle.
	AfterFunc func(d time.Duration, f func()) Timer
}

// Exporter is one open volume.
type Exporter struct {
	options     Options
	parts       Parts
	volume      *volume
	certificate tls.Certificate
	token       [sha256.Size]byte
}

// Open opens the volume and reads the files that o names. The caller closes it.
func Open(o Options, p Parts) (*Exporter, error) {
	if err := o.Validate(); err != nil {
		return nil, failBy(InvalidOptions, "exporting", err)
	}
	e := &Exporter{options: o, parts: p}
	var err error
	if e.certificate, err = tls.LoadX509KeyPair(o.Certificate, o.Key); err != nil {
		// The error could repeat what the file holds.
		return nil, fail(InvalidSecret, "exporting: --tls-cert and --tls-key name no certificate with its key")
	}
	if e.token, err = readToken(o.TokenFile); err != nil {
		return nil, err
	}
	if e.volume, err = openVolume(o.Target, p.Now()); err != nil {
		return nil, err
	}
	return e, nil
}

// readToken returns the sha256 of the token in a file.
func readToken(path string) (sum [sha256.Size]byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return sum, fail(InvalidSecret, "exporting: --token-file cannot be read")
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, maxToken+1))
	token := strings.TrimRight(string(text), "\r\n")
	if err != nil || len(token) < minToken || len(text) > maxToken || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return sum, fail(InvalidSecret, fmt.Sprintf("exporting: --token-file must hold one token of at least %d printable characters", minToken))
	}
	return sha256.Sum256([]byte(token)), nil
}

// Listen opens the port.
func (e *Exporter) Listen(ctx context.Context) (net.Listener, error) {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", e.options.Listen)
	if err != nil {
		return nil, failBy(InvalidOptions, "listening at --listen", err)
	}
	return l, nil
}

// Serve answers requests that come to l until ctx is over or nobody has asked for a while, and closes l.
func (e *Exporter) Serve(ctx context.Context, l net.Listener) error {
	idle := newIdle(e.options.Idle, e.parts.AfterFunc)
	defer idle.timer.Stop()
	server := &http.Server{
		Handler:           &handler{volume: e.volume, revision: e.options.Revision, token: e.token, idle: idle, now: e.parts.Now},
		ReadHeaderTimeout: headerTimeout,
		// Requests have no bodies that take longer than their heads.
		ReadTimeout:    headerTimeout,
		IdleTimeout:    keepTimeout,
		MaxHeaderBytes: maxHeader,
		// What strangers send is no matter for our log.
		ErrorLog: log.New(io.Discard, "", 0),
		// Ranges come over several connections: HTTP/2 would squeeze them into one.
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){},
	}
	config := &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{e.certificate}, NextProtos: []string{"http/1.1"}}
	ended := make(chan struct{})
	var broken error
	go func() {
		defer close(ended)
		broken = server.Serve(tls.NewListener(netutil.LimitListener(l, e.options.Connections), config))
	}()
	select {
	case <-ended:
		return failBy(SourceRefused, "serving the volume", broken)
	case <-ctx.Done():
	case <-idle.over:
	}
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	err := server.Shutdown(stopping)
	if errors.Is(err, context.DeadlineExceeded) {
		err = server.Close()
	}
	<-ended
	return err
}

// Close closes the volume.
func (e *Exporter) Close() error { return e.volume.file.Close() }
