package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"syscall"

	"github.com/gild-project/gild/test/cluster/leftover"
)

// reflinkVariable asks for volumes on a file system whose copies share blocks, as the
// snapshots of most storage do: copying takes no time and no room. Without it a copy
// is a whole one wherever the machine's own file system cannot share.
const reflinkVariable = "GILD_CLUSTER_REFLINK"

// volumesFolder is where the driver that can copy keeps its volumes.
const volumesFolder = "volumes"

func reflinkPackages() []debianPackage {
	return []debianPackage{{"xfsprogs", "mkfs.xfs: volumes whose copies share blocks"}}
}

// shareBlocks puts an XFS under the folder of the volumes if that is wanted and not
// there yet. It is as large as what the machine has left. Down finds the mount and its
// loop device by the cluster's folder.
func (c *cluster) shareBlocks(ctx context.Context) error {
	if os.Getenv(reflinkVariable) != "1" {
		return nil
	}
	folder, image := c.path(volumesFolder), c.path(volumesFolder+".xfs")
	mounts, err := leftover.Mounts(c.cluster)
	if err != nil || slices.Contains(mounts, folder) {
		return err
	}
	if err := c.installPackages(ctx, reflinkPackages()); err != nil {
		return err
	}
	var facts syscall.Statfs_t
	if err := syscall.Statfs(c.cluster, &facts); err != nil {
		return fmt.Errorf("measuring what the volumes may take: %w", err)
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return fmt.Errorf("making the folder of the volumes: %w", err)
	}
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		return fmt.Errorf("making the file system of the volumes: %w", err)
	}
	if err := os.Truncate(image, int64(facts.Bavail)*facts.Bsize); err != nil {
		return fmt.Errorf("making the file system of the volumes: %w", err)
	}
	for _, t := range []tool{
		{path: "mkfs.xfs", args: []string{"-q", "-K", "-m", "reflink=1", image}},
		{path: "mount", args: []string{"-t", "xfs", "-o", "loop,discard", image, folder}}, // discard: what volumes free is free for all
	} {
		if _, err := t.output(ctx); err != nil {
			return err
		}
	}
	return nil
}
