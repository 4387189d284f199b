// Package main is the name server of the test cluster. It knows the cluster's
// services and the hosts named in one ConfigMap, and says at once that no other
// name exists: a test never waits for, or depends on, a name server of the world.
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
	"k8s.io/client-go/rest"
)

func main() {
	address := flag.String("address", ":53", "IP address and port to listen on, UDP and TCP")
	domain := flag.String("domain", "cluster.local", "domain of the cluster")
	namespace := flag.String("hosts-namespace", "kube-system", "namespace of the ConfigMap with more hosts")
	name := flag.String("hosts-configmap", "gild-test-hosts", "ConfigMap with more hosts: each key is a name, each value its IP addresses")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *address, source{domain: *domain, hostsNamespace: *namespace, hostsName: *name})
	stop()
	if err != nil {
		slog.Error("dns", "error", err)
		os.Exit(1)
	}
}

// run serves names from inside a pod until ctx ends.
func run(ctx context.Context, address string, from source) error {
	config, err := rest.InClusterConfig()
	if err != nil {
		return fmt.Errorf("finding the API server: %w", err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("making a client: %w", err)
	}
	names := &server{}
	if err := from.watch(ctx, client, names.set); err != nil {
		return err
	}
	return names.serve(ctx, address)
}
