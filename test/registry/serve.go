package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"path/filepath"
	"time"
)

// serve answers on every address that is not empty until ctx ends. It speaks HTTP/1.1 only, since a test must
// be able to end one connection.
func serve(ctx context.Context, p *parts, addresses map[string]*string, certs string) error {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	ended := make(chan error, len(addresses))
	var servers []*http.Server
	for _, way := range ways() {
		address := *addresses[way.name]
		if address == "" {
			continue
		}
		listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
		if err != nil {
			return fmt.Errorf("listening for %s: %w", way.name, err)
		}
		log.Printf("%s on %s", way.name, listener.Addr())
		server := &http.Server{Handler: way.handler(ctx, p), Protocols: protocols, ReadHeaderTimeout: time.Minute}
		servers = append(servers, server)
		go func() {
			if way.tls {
				ended <- server.ServeTLS(listener, filepath.Join(certs, "tls.crt"), filepath.Join(certs, "tls.key"))
				return
			}
			ended <- server.Serve(listener)
		}()
	}
	var err error
	running := len(servers)
	select {
	case err = <-ended:
		running--
	case <-ctx.Done():
	}
	for _, server := range servers {
		err = errors.Join(err, server.Close())
	}
	for range running {
		if end := <-ended; !errors.Is(end, http.ErrServerClosed) {
			err = errors.Join(err, end)
		}
	}
	return err
}
