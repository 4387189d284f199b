package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

// serve answers on the CSI socket, and on the kubelet's registration socket if
// there is one, until ctx ends.
func serve(ctx context.Context, o options, volumes, snapshots *store) error {
	plugin := grpc.NewServer(grpc.UnaryInterceptor(logFailures))
	csi.RegisterIdentityServer(plugin, &identity{name: o.name})
	csi.RegisterControllerServer(plugin, &controller{
		volumes: volumes, snapshots: snapshots, pools: pools{folder: o.pools}, now: time.Now,
	})
	csi.RegisterNodeServer(plugin, &node{name: o.node, volumes: volumes})
	servers := map[string]*grpc.Server{o.endpoint: plugin}
	if o.registration != "" {
		registrar := grpc.NewServer()
		registration.RegisterRegistrationServer(registrar, &registrationServer{name: o.name, endpoint: o.endpoint})
		servers[filepath.Join(o.registration, o.name+"-reg.sock")] = registrar
	}
	ended := make(chan error, len(servers))
	for path, server := range servers {
		listener, err := listen(ctx, path)
		if err != nil {
			return err
		}
		go func() { ended <- server.Serve(listener) }()
	}
	var failures []error
	running := len(servers)
	select {
	case <-ctx.Done():
	case err := <-ended:
		running--
		failures = append(failures, err)
	}
	for _, server := range servers {
		server.GracefulStop()
	}
	for range running {
		failures = append(failures, <-ended)
	}
	return errors.Join(failures...)
}

// listen listens on a unix socket, in place of one that a killed process left.
func listen(ctx context.Context, path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("making the folder of a socket: %w", err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("removing an old socket: %w", err)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("listening: %w", err)
	}
	return listener, nil
}

// logFailures logs each request that fails, for whoever reads why a test failed.
func logFailures(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	reply, err := handler(ctx, request)
	if err != nil {
		slog.Warn("request failed", "method", info.FullMethod, "error", err)
	}
	return reply, err
}
