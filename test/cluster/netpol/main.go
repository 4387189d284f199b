// Package main enforces the NetworkPolicies of the test cluster's only node with
// nftables. It supports the whole of networking.k8s.io/v1 for IPv4 but named
// ports in egress rules; a rule that uses one allows nothing and is logged.
// There is no IPv6 between pods: it is dropped.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/knftables"
)

func main() {
	var o options
	flag.StringVar(&o.kubeconfig, "kubeconfig", "", "kubeconfig of a user that reads pods, namespaces and policies")
	flag.StringVar(&o.bridge, "bridge", "", "the bridge of the pods")
	flag.StringVar(&o.table, "table", "", "name of the nftables table")
	flag.StringVar(&o.socket, "socket", "", "path of the socket on which new pods are announced")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, o)
	stop()
	if err != nil {
		slog.Error("netpol", "error", err)
		os.Exit(1)
	}
}

// options are the flags.
type options struct{ kubeconfig, bridge, table, socket string }

// run enforces policies until ctx ends.
func run(ctx context.Context, o options) error {
	config, err := clientcmd.BuildConfigFromFlags("", o.kubeconfig)
	if err != nil {
		return fmt.Errorf("reading the kubeconfig: %w", err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("making a client: %w", err)
	}
	tables, err := knftables.New(knftables.InetFamily, o.table)
	if err != nil {
		return fmt.Errorf("opening nftables: %w", err)
	}
	e := &enforcer{tables: tables, bridge: o.bridge, announced: map[string]announcement{}}
	if err := e.watch(ctx, client); err != nil {
		return err
	}
	return e.serve(ctx, o.socket)
}
