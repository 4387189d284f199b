package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/gild-project/gild/test/cluster/leftover"
)

const (
	// defaultGrace is how long a component may take to end. Nothing is lost by
	// killing one: its data is removed right after.
	defaultGrace = 3 * time.Second
	killLimit    = 30 * time.Second
	// freeLimit is how long the kernel may take to free what nobody uses any more.
	freeLimit = 5 * time.Second
)

// down stops the cluster and removes everything but logs.
func (c *cluster) down(ctx context.Context) error {
	if err := needRoot("down"); err != nil {
		return err
	}
	unlock, err := c.lock()
	if err != nil {
		return err
	}
	defer unlock()
	return c.steps.do("stopped", func() (string, error) { return "the cluster; its logs stay in " + c.path("log"), c.clear(ctx) })
}

// clear stops what runs and removes what is left of a cluster in this folder.
// What fails does not keep the rest from being removed.
func (c *cluster) clear(ctx context.Context) error {
	// The kubelet must not start containers again; containers are then killed
	// while containerd still runs, so that it unmounts what it can.
	var failures []error
	all := c.components()
	for _, p := range slices.Backward(all) {
		if p.name != "containerd" {
			failures = append(failures, c.daemons.Stop(ctx, p.name, defaultGrace))
		}
	}
	killing, cancel := context.WithTimeout(ctx, killLimit)
	defer cancel()
	failures = append(failures,
		leftover.KillGroup(killing, c.id()),
		c.daemons.Stop(ctx, "containerd", defaultGrace),
		c.daemons.StopAll(ctx, defaultGrace),
		// A loop device of the kubelet is found by its file as long as that is
		// mounted; one below a file system is freed once that is not.
		leftover.DetachLoops(c.cluster),
		leftover.Unmount(c.cluster),
		leftover.DetachLoops(c.cluster),
		c.networkDown(ctx),
		c.removeFiles(),
	)
	return errors.Join(append(failures, c.nothingLeft(ctx))...)
}

// nothingLeft makes sure that nothing of a stopped cluster is left. What the
// kernel frees by itself may take a moment.
func (c *cluster) nothingLeft(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, freeLimit)
	defer cancel()
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for {
		found, err := c.left()
		if err != nil || len(found) == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("left behind: %s", strings.Join(found, ", "))
		case <-tick.C:
		}
	}
}

// left lists what is left of the cluster.
func (c *cluster) left() ([]string, error) {
	var found []string
	pids, err := c.daemons.Running()
	if err != nil {
		return nil, err
	}
	for _, pid := range pids {
		found = append(found, fmt.Sprintf("process %d", pid))
	}
	for what, list := range map[string]func() ([]string, error){
		"mount":         func() ([]string, error) { return leftover.Mounts(c.cluster) },
		"loop device":   func() ([]string, error) { return leftover.Loops(c.cluster) },
		"control group": func() ([]string, error) { return leftover.Groups(c.id()) },
	} {
		names, err := list()
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			found = append(found, what+" "+name)
		}
	}
	slices.Sort(found)
	return found, nil
}

// removeFiles removes the state of the cluster. Logs stay until the next up.
func (c *cluster) removeFiles() error {
	mounts, err := leftover.Mounts(c.cluster)
	if err != nil {
		return err
	}
	if len(mounts) > 0 {
		return fmt.Errorf("keeping %s: still mounted below it: %s", c.cluster, strings.Join(mounts, ", "))
	}
	entries, err := os.ReadDir(c.cluster)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("listing the cluster's folder: %w", err)
	}
	for _, entry := range entries {
		if entry.Name() == "log" {
			continue
		}
		if err := os.RemoveAll(c.path(entry.Name())); err != nil {
			return fmt.Errorf("removing the cluster's state: %w", err)
		}
	}
	return removeLogLinks(c.cluster)
}

// kill ends one component without warning, as a crash would.
func (c *cluster) kill(ctx context.Context, name string) error {
	unlock, err := c.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if !slices.ContainsFunc(c.components(), func(p component) bool { return p.name == name }) {
		return fmt.Errorf("no process is named %s: see status", name)
	}
	return c.daemons.Kill(ctx, name)
}
