package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/gild-project/gild/test/cluster/daemon"
)

// cluster is the one cluster that lives in a folder.
type cluster struct {
	folders
	daemons daemon.Folder
	steps   *steps
	out     io.Writer
}

func newCluster(f folders, out io.Writer) *cluster {
	return &cluster{folders: f, daemons: daemon.Folder{Path: f.cluster}, steps: &steps{out: out}, out: out}
}

// path joins names below the cluster's folder.
func (c *cluster) path(names ...string) string {
	return filepath.Join(append([]string{c.cluster}, names...)...)
}

// kubeconfig is the file of the cluster's administrator.
func (c *cluster) kubeconfig() string { return c.path("kubeconfig") }

// lock waits until no other run of this program builds into the cache or
// changes the cluster. The returned function ends the wait of the next one.
func (c *cluster) lock() (func(), error) {
	for _, dir := range []string{c.cache, c.cluster} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, fmt.Errorf("making a folder of the cluster: %w", err)
		}
	}
	file, err := os.OpenFile(filepath.Join(c.cache, "cluster.lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("opening the lock: %w", err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
		_ = file.Close() // the lock itself failed
		return nil, fmt.Errorf("locking: %w", err)
	}
	return func() { _ = file.Close() }, nil // closing unlocks
}

// needRoot explains who must run what touches the kernel.
func needRoot(what string) error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("%s needs root: it makes network devices, mounts and control groups", what)
	}
	return nil
}
