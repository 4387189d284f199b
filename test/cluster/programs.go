package main

import "path/filepath"

const snapshotterModule = "github.com/kubernetes-csi/external-snapshotter/v8"

// group is a folder of Go code and the programs that are built from it
// together. Programs that are not ours are pinned by the go.mod of a nested
// module, so that their requirements do not touch Gild's.
type group struct {
	name     string
	dir      string // below the checkout; its files are part of the cache's key
	module   string // the folder of the go.mod that applies, below the checkout
	static   bool   // built without cgo, to run in an image without libc
	tags     string
	flags    []string // linker flags; {module/path} stands for that module's version
	programs []program
	after    string // a group that shares packages and is built first
}

// program is a program of a group.
type program struct{ name, pkg string }

// nested describes a group that is a nested module of test/cluster.
func nested(name string) group {
	dir := filepath.Join("test/cluster", name)
	return group{name: name, dir: dir, module: dir}
}

// own describes a group that is one program of ours, in the main module.
func own(name string) group {
	return group{
		name: name, dir: filepath.Join("test/cluster", name), module: ".", static: true,
		programs: []program{{"cluster-" + name, "./test/cluster/" + name}},
	}
}

// groups lists everything that is built, the longest build first.
func groups() []group {
	const kubernetesModule = "k8s.io/kubernetes"
	kubernetes := nested("kubernetes")
	for _, name := range []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet", "kubectl"} {
		kubernetes.programs = append(kubernetes.programs, program{name, kubernetesModule + "/cmd/" + name})
	}
	for _, pkg := range []string{"k8s.io/component-base/version", "k8s.io/client-go/pkg/version"} {
		kubernetes.flags = append(kubernetes.flags, "-X="+pkg+".gitVersion={"+kubernetesModule+"}")
	}

	const containerdModule = "github.com/containerd/containerd/v2"
	containerd := nested("containerd")
	for _, name := range []string{"containerd", "containerd-shim-runc-v2"} {
		containerd.programs = append(containerd.programs, program{name, containerdModule + "/cmd/" + name})
	}
	containerd.flags = []string{"-X=" + containerdModule + "/version.Version={" + containerdModule + "}"}

	const runcModule = "github.com/opencontainers/runc"
	runc := containerd
	runc.name, runc.tags = "runc", "seccomp"
	runc.programs = []program{{"runc", runcModule}}
	runc.flags = []string{"-X=main.version={" + runcModule + "}"}

	etcd := nested("etcd")
	etcd.programs = []program{{"etcd", "go.etcd.io/etcd/server/v3"}}

	const provisionerModule = "github.com/kubernetes-csi/external-provisioner/v5"
	provisioner := nested("provisioner")
	provisioner.after = kubernetes.name
	provisioner.programs = []program{{"csi-provisioner", provisionerModule + "/cmd/csi-provisioner"}}
	provisioner.flags = []string{"-X=main.version={" + provisionerModule + "}"}

	snapshotter := nested("snapshotter")
	snapshotter.programs = []program{
		{"csi-snapshotter", snapshotterModule + "/cmd/csi-snapshotter"},
		{"snapshot-controller", snapshotterModule + "/cmd/snapshot-controller"},
	}
	snapshotter.flags = []string{"-X=main.version={" + snapshotterModule + "}"}

	loop := group{name: "csi-loop", dir: "test/csi-loop", module: "test/csi-loop", after: kubernetes.name,
		programs: []program{{"csi-loop", "."}}}

	return []group{kubernetes, containerd, runc, etcd, own("pause"), own("registry"), own("dns"), own("netpol"), own("announce"),
		provisioner, snapshotter, loop}
}

// sanityGroup is built only when it is asked for.
func sanityGroup() group {
	const module = "github.com/kubernetes-csi/csi-test/v5"
	sanity := nested("sanity")
	sanity.programs = []program{{"csi-sanity", module + "/cmd/csi-sanity"}}
	sanity.flags = []string{"-X=main.version={" + module + "}"}
	return sanity
}
