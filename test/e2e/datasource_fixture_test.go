//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	snapshotv1 "github.com/kubernetes-csi/external-snapshotter/client/v8/apis/volumesnapshot/v1"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/golden"
)

// plainClass is a class of the test cluster whose driver neither takes snapshots nor clones.
const plainClass = "plain"

// Golden makes a golden image: a cron, its claim and a DataSource of the cron's name.
func (f *fixture) Golden(name string, img image, edit ...func(*cdiv1.DataImportCron)) (claim, *served) {
	f.Helper()
	source := f.Serve(name, img.file)
	f.Cron(name, httpSource(source.URL), edit...)
	return f.WaitRolled(name), source
}

// blockCron has a cron make block devices.
func blockCron(cron *cdiv1.DataImportCron) {
	cron.Spec.Template.Spec.Storage.VolumeMode = ptr.To(corev1.PersistentVolumeBlock)
}

// as gives a claim the size and the volume mode of another one.
func (f *fixture) as(other claim) func(*corev1.PersistentVolumeClaim) {
	f.Helper()
	spec := f.PVC(other).Spec
	return func(pvc *corev1.PersistentVolumeClaim) {
		pvc.Spec.VolumeMode, pvc.Spec.Resources.Requests = spec.VolumeMode, spec.Resources.Requests.DeepCopy()
	}
}

// CopyOf makes a claim of a DataSource.
func (f *fixture) CopyOf(dataSource, name string, edit ...func(*corev1.PersistentVolumeClaim)) claim {
	f.Helper()
	refer := func(pvc *corev1.PersistentVolumeClaim) {
		pvc.Spec.DataSourceRef = &corev1.TypedObjectReference{APIGroup: ptr.To(golden.Group), Kind: golden.DataSourceKind, Name: dataSource}
		ofSize(cronClaimSize)(pvc)
	}
	return f.Claim(name, "", append([]func(*corev1.PersistentVolumeClaim){refer}, edit...)...)
}

// DataSource makes a DataSource by hand.
func (f *fixture) DataSource(name string, source cdiv1.DataSourceSource) {
	f.Helper()
	require.NoError(f, f.Create(f.ctx, &cdiv1.DataSource{ObjectMeta: f.meta(name), Spec: cdiv1.DataSourceSpec{Source: source}}))
}

// Repoint has a DataSource name another claim.
func (f *fixture) Repoint(name string, to claim) {
	f.Helper()
	source := f.ReadDataSource(name)
	before := source.DeepCopy()
	source.Spec.Source = cdiv1.DataSourceSource{PVC: &cdiv1.DataVolumeSourcePVC{Namespace: f.namespace, Name: to.name}}
	require.NoError(f, f.Patch(f.ctx, source, client.MergeFrom(before)))
}

// RequireStrategy waits until a claim is bound and checks how its disk got there, and that the import says so.
func (f *fixture) RequireStrategy(c claim, strategy v1alpha1.Strategy, passedOver ...v1alpha1.Strategy) *v1alpha1.VMDiskImport {
	f.Helper()
	imp := f.RequireBound(c)
	require.Equal(f, strategy, imp.Status.Strategy, "%+v", imp.Status.PassedOver)
	var others []v1alpha1.Strategy
	for _, other := range imp.Status.PassedOver {
		others = append(others, other.Strategy)
		require.NotEmpty(f, other.Message)
	}
	require.Equal(f, passedOver, others, "%+v", imp.Status.PassedOver)
	header, row := firstLines(f.T, f.Kubectl("get", "vmdimp", c.name))
	require.Contains(f, header, "STRATEGY")
	require.Contains(f, row, string(strategy))
	return imp
}

// Snapshots are the names of the snapshots of a claim that Gild keeps in its own namespace.
func (f *fixture) Snapshots(ctx context.Context, c claim) ([]string, error) {
	var list snapshotv1.VolumeSnapshotList
	if err := f.List(ctx, &list, client.InNamespace(systemNamespace), client.MatchingLabels{"gild.dev/golden-uid": c.uid}); err != nil {
		return nil, fmt.Errorf("listing snapshots: %w", err)
	}
	var names []string
	for i := range list.Items {
		names = append(names, list.Items[i].Name)
	}
	return names, nil
}

// RequireSnapshot checks that the roll has kept a snapshot of a golden claim.
func (f *fixture) RequireSnapshot(c claim) {
	f.Helper()
	names, err := f.Snapshots(f.ctx, c)
	require.NoError(f, err)
	require.Equal(f, []string{"golden-" + c.uid}, names)
}

// WaitNoSnapshot waits until there is none any more. The programs of the storage look every 15 s at one that they
// could not take, and need a few looks to let go of it.
func (f *fixture) WaitNoSnapshot(c claim) {
	f.Helper()
	f.Eventually("no snapshot", 3*goneWithin, func(ctx context.Context) (bool, string, error) {
		names, err := f.Snapshots(ctx, c)
		return len(names) == 0, strings.Join(names, ", "), err
	})
}

// Writer makes a pod that could write to a claim's volume.
func (f *fixture) Writer(c claim) *corev1.Pod {
	f.Helper()
	pod := f.newPod(f.namespace, "writer-of-"+c.name, c, "serve", "--dir=/tmp")
	pod.Spec.Containers[0].ReadinessProbe = webProbe()
	require.NoError(f, f.Create(f.ctx, pod))
	require.NoError(f, f.waitPod(f.ctx, client.ObjectKeyFromObject(pod)))
	return pod
}

// exporters are the processes on this machine that export a claim's volume.
func (f *fixture) exporters(c claim) []int {
	f.Helper()
	f.NeedsTestCluster("a node whose processes can be stopped")
	commands, err := filepath.Glob("/proc/[0-9]*/cmdline")
	require.NoError(f, err)
	var pids []int
	for _, command := range commands {
		args, err := os.ReadFile(command)
		if err != nil || !slices.Contains(strings.Split(string(args), "\x00"), "serve") || !bytes.Contains(args, []byte(c.uid)) {
			continue // one that has ended has no arguments
		}
		pid, err := strconv.Atoi(strings.Split(command, "/")[2])
		require.NoError(f, err)
		pids = append(pids, pid)
	}
	return pids
}

// signal sends a signal to what exports a claim's volume. A process may have ended meanwhile.
func (f *fixture) signal(c claim, signal syscall.Signal) {
	f.Helper()
	for _, pid := range f.exporters(c) {
		if err := syscall.Kill(pid, signal); err != nil {
			require.ErrorIs(f, err, syscall.ESRCH)
		}
	}
}

// MidCopy makes a claim that is a copy of a volume on class plain, and stops the exporter of that volume as soon as the
// attempt is made: the importer's pod has not started by then. The copy waits until Resume.
func (f *fixture) MidCopy(dataSource string, source claim, edit ...func(*corev1.PersistentVolumeClaim)) claim {
	f.Helper()
	c := f.CopyOf(dataSource, "copy", append(edit, ofClass(plainClass))...)
	f.WaitImport(c, "an attempt", importWithin, func(imp *v1alpha1.VMDiskImport) bool { return imp.Status.Attempts == 1 })
	require.NotEmpty(f, f.exporters(source))
	f.signal(source, syscall.SIGSTOP)
	f.Cleanup(func() { f.signal(source, syscall.SIGCONT) })
	imp := &v1alpha1.VMDiskImport{}
	require.NoError(f, f.Get(f.ctx, f.key(c.name), imp))
	require.Nil(f, imp.Status.Result, "the copy had ended before its exporter was stopped")
	return c
}

// Resume has a copy go on that MidCopy has stopped.
func (f *fixture) Resume(source claim) {
	f.Helper()
	f.signal(source, syscall.SIGCONT)
}

// Snapshot takes a snapshot of a claim and waits until it is ready.
func (f *fixture) Snapshot(name string, c claim) {
	f.Helper()
	require.NoError(f, f.Create(f.ctx, &snapshotv1.VolumeSnapshot{
		ObjectMeta: f.meta(name), Spec: snapshotv1.VolumeSnapshotSpec{Source: snapshotv1.VolumeSnapshotSource{PersistentVolumeClaimName: &c.name}},
	}))
	f.Eventually("a snapshot that is ready", importWithin, func(ctx context.Context) (bool, string, error) {
		snapshot := &snapshotv1.VolumeSnapshot{}
		err := f.Get(ctx, f.key(name), snapshot)
		status := ptr.Deref(snapshot.Status, snapshotv1.VolumeSnapshotStatus{})
		return ptr.Deref(status.ReadyToUse, false), fmt.Sprintf("%+v", status), err
	})
}
