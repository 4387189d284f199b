package main

import "context"

// command is one sub-command of this program.
type command struct {
	name      string
	usage     string
	help      string
	arguments int // exactly so many
	run       func(ctx context.Context, c *cluster, args []string) error
}

func commands() []command {
	return []command{
		{"build", "build", "compile every program of the cluster into the cache", 0,
			func(ctx context.Context, c *cluster, _ []string) error { return c.build(ctx, groups()) }},
		{"up", "up", "start the cluster, or what is missing of it", 0,
			func(ctx context.Context, c *cluster, _ []string) error { return c.up(ctx) }},
		{"down", "down", "stop the cluster and leave nothing but its logs", 0,
			func(ctx context.Context, c *cluster, _ []string) error { return c.down(ctx) }},
		{"status", "status", "list the processes and where kubeconfig is", 0,
			func(_ context.Context, c *cluster, _ []string) error { return c.status() }},
		{"control-plane", "control-plane", "run etcd and the API server alone until this is interrupted; needs no root", 0,
			func(ctx context.Context, c *cluster, _ []string) error { return c.controlPlane(ctx) }},
		{"pool", "pool NAME JSON|off", "set the limits and faults of a pool of volumes", 2,
			func(_ context.Context, c *cluster, args []string) error { return c.setPool(args[0], args[1]) }},
		{"kill", "kill PROCESS", "kill a process of the cluster at once; up starts it again", 1,
			func(ctx context.Context, c *cluster, args []string) error { return c.kill(ctx, args[0]) }},
		{"sanity", "sanity", "run csi-sanity against the CSI driver", 0,
			func(ctx context.Context, c *cluster, _ []string) error { return c.sanity(ctx) }},
		{"versions", "versions", "print the version of every program", 0,
			func(ctx context.Context, c *cluster, _ []string) error { return c.versions(ctx) }},
	}
}
