// Package main is a CSI driver for tests: its volumes are files on loop devices.
//
// It serves the identity, controller and node services on one socket, and
// registers itself with the kubelet. Pools give volumes limits and faults.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

func main() {
	var o options
	flag.StringVar(&o.name, "name", "loop.csi.gild.dev", "name of the driver")
	flag.StringVar(&o.node, "node", "", "name of the node")
	flag.StringVar(&o.endpoint, "endpoint", "", "path of the socket to serve CSI on")
	flag.StringVar(&o.volumes, "volumes", "", "folder of the volumes")
	flag.StringVar(&o.pools, "pools", "", "folder of the pools' settings, one NAME.json each, read at every request")
	flag.StringVar(&o.registration, "registration", "", "the kubelet's folder for plugin sockets; empty: do not register")
	flag.BoolVar(&o.plain, "plain", false, "offer neither snapshots nor clones")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, o)
	stop()
	if err != nil {
		slog.Error("csi-loop", "error", err)
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	name, node, endpoint, volumes, pools, registration string
	plain                                              bool
}

// run serves until ctx ends.
func run(ctx context.Context, o options) error {
	volumes, err := openStore(o.volumes)
	if err != nil {
		return fmt.Errorf("opening the volumes: %w", err)
	}
	if o.plain {
		return serve(ctx, o, volumes, nil)
	}
	if err := volumes.thaw(); err != nil {
		return fmt.Errorf("opening the volumes: %w", err)
	}
	snapshots, err := openStore(filepath.Join(o.volumes, "snapshots"))
	if err != nil {
		return fmt.Errorf("opening the snapshots: %w", err)
	}
	return serve(ctx, o, volumes, snapshots)
}
