package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

const (
	// controlPlaneFolder is where the control plane lives, in the cache.
	controlPlaneFolder = "control-plane"
	loopback           = "127.0.0.1"
	auditPolicy        = "audit.yaml"
	// stillThere is how often the control plane is looked at while it runs.
	stillThere = time.Second
)

// controlPlane runs etcd and the API server on free ports of the loopback until ctx ends: a
// real API without a node. Nothing is scheduled, bound or collected in it. Each write that
// is not the administrator's is in log/audit.log.
func (c *cluster) controlPlane(ctx context.Context) error {
	needed := slices.DeleteFunc(groups(), func(g group) bool { return g.name != "kubernetes" && g.name != "etcd" })
	if err := c.build(ctx, needed); err != nil {
		return err
	}
	f := c.folders
	f.cluster = filepath.Join(f.cache, controlPlaneFolder)
	alone := newCluster(f, c.out)
	unlock, err := lockNow(f.cluster + ".lock")
	if err != nil {
		return err
	}
	defer unlock()
	if err := alone.removeControlPlane(ctx); err != nil { // of a run that was killed
		return err
	}
	err = alone.runControlPlane(ctx)
	return errors.Join(err, alone.removeControlPlane(context.WithoutCancel(ctx)))
}

func (c *cluster) runControlPlane(ctx context.Context) error {
	if err := os.RemoveAll(c.path("log")); err != nil {
		return fmt.Errorf("removing old logs: %w", err)
	}
	var addresses [3]string
	for i := range addresses {
		var err error
		if addresses[i], err = someAddress(); err != nil {
			return err
		}
	}
	if err := c.makeCertificates(addresses[2]); err != nil {
		return err
	}
	policy, err := render("config/audit.yaml", values{})
	if err != nil {
		return err
	}
	if err := c.writeSecret(auditPolicy, policy); err != nil {
		return err
	}
	_, port, _ := net.SplitHostPort(addresses[2])
	parts := []component{
		c.etcd(addresses[0], addresses[1]),
		c.apiServer(addresses[0], loopback, port,
			"--endpoint-reconciler-type=none",                                                                                        // the loopback is no endpoint
			"--audit-policy-file="+c.path(auditPolicy), "--audit-log-path="+c.path("log", "audit.log"), "--audit-log-maxsize=10000"), // in MB: never begun anew
	}
	for _, p := range parts {
		if err := c.steps.do("started", func() (string, error) { return p.name, c.startOne(ctx, p) }); err != nil {
			return err
		}
	}
	if _, err := fmt.Fprintf(c.out, "the API server runs until this is interrupted; use it with\nexport KUBECONFIG=%s\n", c.kubeconfig()); err != nil {
		return err
	}
	return c.untilInterrupted(ctx, parts)
}

// startOne starts a process and waits until it does its work.
func (c *cluster) startOne(ctx context.Context, p component) error {
	if p.before != nil {
		if err := p.before(ctx); err != nil {
			return err
		}
	}
	command, err := c.command(p)
	if err != nil {
		return err
	}
	if err := c.daemons.Start(command); err != nil {
		return err
	}
	return c.await(ctx, p)
}

// untilInterrupted returns nil when ctx ends, and an error when a part ends before.
func (c *cluster) untilInterrupted(ctx context.Context, parts []component) error {
	tick := time.NewTicker(stillThere)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		for _, p := range parts {
			if !c.daemons.Alive(p.name) {
				return c.explain(p.name, fmt.Errorf("%s ended", p.name))
			}
		}
	}
}

// removeControlPlane stops the processes and removes all but the logs.
func (c *cluster) removeControlPlane(ctx context.Context) error {
	failures := []error{c.daemons.Stop(ctx, "kube-apiserver", defaultGrace), c.daemons.StopAll(ctx, defaultGrace)}
	for _, name := range []string{"etcd", "pki", "apiserver", "run", auditPolicy, "kubeconfig"} {
		failures = append(failures, os.RemoveAll(c.path(name)))
	}
	return errors.Join(failures...)
}

// lockNow fails when another process has the lock.
func lockNow(name string) (func(), error) {
	file, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("opening the lock: %w", err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = file.Close() // the lock itself failed
		return nil, fmt.Errorf("another control plane runs: locking %s: %w", name, err)
	}
	return func() { _ = file.Close() }, nil // closing unlocks
}
