package main

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
)

const (
	driverName = "loop.csi.gild.dev"
	// plainDriverName is the driver that takes no snapshots and copies no volumes.
	plainDriverName = "plain.csi.gild.dev"
)

// storage lists the processes that make volumes and take snapshots of them.
func (c *cluster) storage() []component {
	socket, plainSocket := c.path("csi.sock"), c.path("csi-plain.sock")
	snapshotter := c.path("pki", "snapshotter.conf")
	return []component{
		c.loopDriver("csi-loop", driverName, socket, volumesFolder),
		c.loopDriver("csi-plain", plainDriverName, plainSocket, "plain-"+volumesFolder, "--plain"),
		c.provisioner("csi-provisioner", socket),
		c.provisioner("csi-plain-provisioner", plainSocket),
		{name: "snapshot-controller", before: c.defineKinds, args: append(manyAtOnce(), "--kubeconfig="+snapshotter,
			"--feature-gates=CSIVolumeGroupSnapshot=false")}, // it ends when the kinds of that are missing
		{name: "csi-snapshotter", args: append(manyAtOnce(), "--kubeconfig="+snapshotter, "--csi-address="+socket,
			"--feature-gates=CSIVolumeGroupSnapshot=false")},
	}
}

// loopDriver is a CSI driver with a folder of volumes.
func (c *cluster) loopDriver(name, driver, socket, volumes string, more ...string) component {
	return component{name: name, program: "csi-loop", args: append([]string{
		"--name=" + driver, "--node=" + nodeName, "--endpoint=" + socket, "--volumes=" + c.path(volumes),
		"--pools=" + c.path("pools"), "--registration=" + c.path("kubelet/plugins_registry"),
	}, more...), ready: acceptsUnix(socket)}
}

// provisioner asks the driver at the socket for the volumes of claims.
func (c *cluster) provisioner(name, socket string) component {
	return component{name: name, program: "csi-provisioner", args: append(manyAtOnce(),
		"--kubeconfig="+c.path("pki", "provisioner.conf"), "--csi-address="+socket,
		"--feature-gates=Topology=false", "--extra-create-metadata", "--default-fstype=ext4",
	)}
}

// manyAtOnce are the arguments that make Kubernetes' own storage programs quick enough for many tests
// at once. They wait up to 5 minutes after failures by default; tests mend what fails and then look.
func manyAtOnce() []string {
	return []string{"--leader-election=false", "--retry-interval-max=15s", "--kube-api-qps=50", "--kube-api-burst=100"}
}

// kinds are the definitions of kinds that modules bring along: the kinds of snapshots, for which their
// programs look when they start, and ReferenceGrant, which Gild reads.
func kinds() []struct{ group, module, pattern string } {
	return []struct{ group, module, pattern string }{
		{"snapshotter", "github.com/kubernetes-csi/external-snapshotter/client/v8", "config/crd/snapshot.storage.k8s.io_*.yaml"},
		{"provisioner", "sigs.k8s.io/gateway-api", "config/crd/standard/gateway.networking.k8s.io_referencegrants.yaml"},
	}
}

// defineKinds brings the kinds to the API server and waits until it serves them.
func (c *cluster) defineKinds(ctx context.Context) error {
	var apply, wait []string
	for _, k := range kinds() {
		files, err := c.moduleFiles(ctx, k.group, k.module, k.pattern)
		if err != nil {
			return err
		}
		for _, file := range files {
			apply = append(apply, "--filename="+file)
		}
	}
	wait = append([]string{"wait", "--for=condition=Established", "--timeout=60s"}, apply...)
	apply = append([]string{"apply", "--server-side", "--force-conflicts"}, apply...)
	if err := c.kubectl(ctx, apply...); err != nil {
		return c.explain("kube-apiserver", err)
	}
	return c.kubectl(ctx, wait...)
}

// moduleFiles returns files of a module that a nested module of test/cluster requires.
func (c *cluster) moduleFiles(ctx context.Context, nestedModule, module, pattern string) ([]string, error) {
	output, err := tool{path: "go", args: []string{"mod", "download", "-json", module},
		env: []string{"GOWORK=off"}, dir: filepath.Join(c.root, nested(nestedModule).module)}.output(ctx)
	if err != nil {
		return nil, err
	}
	var found struct{ Dir string }
	if err := json.Unmarshal([]byte(output), &found); err != nil {
		return nil, fmt.Errorf("finding the files of %s: %w", module, err)
	}
	files, err := filepath.Glob(filepath.Join(found.Dir, pattern))
	if err == nil && len(files) == 0 {
		err = fmt.Errorf("no file is named %s", pattern)
	}
	if err != nil {
		return nil, fmt.Errorf("finding the files of %s: %w", module, err)
	}
	return slices.Sorted(slices.Values(files)), nil
}
