package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/gild-project/gild/test/cluster/daemon"
	"github.com/gild-project/gild/test/cluster/leftover"
)

// sanity runs csi-sanity against a CSI driver of its own, in a folder of its
// own: a running cluster is not touched.
func (c *cluster) sanity(ctx context.Context) (err error) {
	if err := needRoot("sanity"); err != nil {
		return err
	}
	if err := c.build(ctx, append(groups(), sanityGroup())); err != nil {
		return err
	}
	driver, err := c.binary("csi-loop")
	if err != nil {
		return err
	}
	tests, err := c.binary("csi-sanity")
	if err != nil {
		return err
	}
	folder, err := os.MkdirTemp("", "gild-sanity-")
	if err != nil {
		return fmt.Errorf("making a folder for csi-sanity: %w", err)
	}
	socket := filepath.Join(folder, "csi.sock")
	own := daemon.Folder{Path: folder}
	defer func() {
		ctx := context.WithoutCancel(ctx) // stop the driver after an interrupt too
		err = errors.Join(err, own.Stop(ctx, driverName, defaultGrace), leftover.Unmount(folder),
			leftover.DetachLoops(folder), os.RemoveAll(folder))
	}()
	if err := own.Start(daemon.Command{Name: driverName, Path: driver, Args: []string{
		"--name=" + driverName, "--node=" + nodeName, "--endpoint=" + socket, "--volumes=" + filepath.Join(folder, "volumes"),
	}}); err != nil {
		return err
	}
	waiting, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for ready := acceptsUnix(socket); ready(waiting) != nil; {
		select {
		case <-waiting.Done():
			return errors.New("the CSI driver does not come up")
		case <-time.After(lookAgain):
		}
	}
	for _, access := range []string{"mount", "block"} {
		run := exec.CommandContext(ctx, tests, "--ginkgo.no-color", "--csi.endpoint="+socket, "--csi.testvolumeaccesstype="+access,
			"--csi.stagingdir="+filepath.Join(folder, "staging"), "--csi.mountdir="+filepath.Join(folder, "mount"))
		run.Stdout, run.Stderr = c.out, c.out
		if err := run.Run(); err != nil {
			return fmt.Errorf("running csi-sanity with %s volumes: %w", access, err)
		}
	}
	return nil
}
