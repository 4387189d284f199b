package main

import (
	"context"

	"github.com/gild-project/gild/test/cluster/image"
)

// pushOwnImages puts the images of the cluster's own pods into its registry.
func (c *cluster) pushOwnImages(ctx context.Context) error {
	for reference, program := range map[string]string{pauseImage: "cluster-pause", dnsImage: "cluster-dns"} {
		path, err := c.binary(program)
		if err != nil {
			return err
		}
		one, err := image.OfProgram(path)
		if err != nil {
			return err
		}
		if err := image.Push(ctx, one, reference); err != nil {
			return err
		}
	}
	return nil
}
