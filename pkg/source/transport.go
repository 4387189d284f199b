package source

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/url"
)

// newTransport keeps connections that trust cas. It is used without an http.Client, which would
// follow redirects by rules of its own and repeat whole URLs in its errors.
func (c *client) newTransport(cas *x509.CertPool) *http.Transport {
	config := &tls.Config{RootCAs: cas, MinVersion: tls.VersionTLS12, Time: c.clock.Now, InsecureSkipVerify: c.insecure} //nolint:gosec // only when an administrator calls a registry insecure
	return &http.Transport{
		Proxy:       func(r *http.Request) (*url.URL, error) { return c.proxy(r.URL) },
		DialContext: quietly(c.guard.dial),
		DialTLSContext: quietly(func(ctx context.Context, network, address string) (net.Conn, error) {
			return c.dialTLS(ctx, config, network, address)
		}),
		TLSClientConfig:        config,
		TLSHandshakeTimeout:    c.headerTimeout,
		MaxResponseHeaderBytes: 256 << 10,
		// Connections are kept between parts; a request for a whole image closes its own.
		MaxConnsPerHost:     c.connections,
		MaxIdleConnsPerHost: c.connections,
		IdleConnTimeout:     c.stallTimeout,
		// The bytes must be those that the server stores: the checksum is of them.
		DisableCompression: true,
		OnProxyConnectResponse: func(_ context.Context, _ *url.URL, _ *http.Request, answer *http.Response) error {
			return proxyError(answer)
		},
	}
}

// transport returns the one with the certificates that were read last.
func (c *client) transport() *http.Transport {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.transports[len(c.transports)-1]
}

// renew reads the CA directory again, after a connection of used was not trusted. It tells
// whether there are other certificates now.
func (c *client) renew(used *http.Transport) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.transports[len(c.transports)-1] != used {
		return true
	}
	if c.caDir == "" {
		return false
	}
	cas, err := ReadCAs(c.caDir)
	if err != nil || cas.Equal(used.TLSClientConfig.RootCAs) {
		return false
	}
	c.transports = append(c.transports, c.newTransport(cas))
	return true
}

func (c *client) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, transport := range c.transports {
		transport.CloseIdleConnections()
	}
}

// dialTLS connects without a proxy, or to one that speaks TLS itself.
func (c *client) dialTLS(ctx context.Context, config *tls.Config, network, address string) (net.Conn, error) {
	conn, err := c.guard.dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	config = config.Clone()
	config.ServerName, _, _ = net.SplitHostPort(address)
	ctx, cancel := context.WithTimeout(ctx, c.guard.dialer.Timeout)
	defer cancel()
	secure := tls.Client(conn, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return secure, nil
}

func proxyError(answer *http.Response) error {
	switch {
	case answer.StatusCode == http.StatusOK:
		return nil
	case answer.StatusCode == http.StatusProxyAuthRequired:
		return fail(AuthenticationFailed, "the proxy refuses its credentials (407): check the user and password in the proxy settings")
	case answer.StatusCode >= 500:
		return fail(ServerError, fmt.Sprintf("the proxy answers %d", answer.StatusCode))
	}
	return fail(SourceRefused, fmt.Sprintf("the proxy answers %d", answer.StatusCode))
}
