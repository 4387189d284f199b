package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const (
	cacheVariable   = "GILD_CACHE"
	clusterVariable = "GILD_CLUSTER_DIR"

	// maxClusterPath keeps the sockets below the cluster's folder within the
	// 107 bytes of unix(7): the longest one, with which a CSI driver registers, adds 53.
	maxClusterPath = 54
)

// folders are the absolute paths this program reads and writes.
type folders struct {
	root    string // the checkout of Gild
	cache   string // what is kept between runs: built programs
	cluster string // the running cluster: state, logs, kubeconfig
}

func findFolders(ctx context.Context) (folders, error) {
	root, err := findRoot(ctx)
	if err != nil {
		return folders{}, err
	}
	cache, err := absolute(os.Getenv(cacheVariable), func() (string, error) {
		dir, err := os.UserCacheDir() // honours XDG_CACHE_HOME
		return filepath.Join(dir, "gild"), err
	})
	if err != nil {
		return folders{}, fmt.Errorf("finding the cache folder (set %s): %w", cacheVariable, err)
	}
	cluster, err := absolute(os.Getenv(clusterVariable), func() (string, error) {
		return filepath.Join(cache, "cluster"), nil
	})
	if err != nil {
		return folders{}, fmt.Errorf("finding the folder of the cluster: %w", err)
	}
	if len(cluster) > maxClusterPath {
		return folders{}, fmt.Errorf("the folder of the cluster, %s, is longer than the %d bytes that leave room for socket names: set %s to a shorter one",
			cluster, maxClusterPath, clusterVariable)
	}
	return folders{root: root, cache: cache, cluster: cluster}, nil
}

func absolute(path string, fallback func() (string, error)) (string, error) {
	if path == "" {
		var err error
		if path, err = fallback(); err != nil {
			return "", err
		}
	}
	return filepath.Abs(path)
}

// findRoot returns the folder of the main module.
func findRoot(ctx context.Context) (string, error) {
	output, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("asking go for the module's folder: %w", err)
	}
	file := strings.TrimSpace(string(output))
	if file == "" || file == os.DevNull {
		return "", errors.New("run this inside a checkout of Gild")
	}
	return filepath.Dir(file), nil
}
