//go:build e2e

package e2e

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
)

// midCopy is a copy that runs and waits, of a claim that a DataSource names, and another claim with another disk.
func midCopy(t *testing.T) (f *fixture, source, other, running claim, img image) {
	t.Helper()
	f = start(t)
	img = f.Revision(0)
	f.NeedsTestCluster("a driver that has no snapshots")
	f.VMDiskImage("image", f.Serve("disk", img.file).URL)
	f.VMDiskImage("other", f.Serve("other", f.Revision(1).file).URL)
	source = f.Claim("source", "image", ofSize(cronClaimSize), ofClass(plainClass))
	other = f.Claim("other", "other", ofSize(cronClaimSize), ofClass(plainClass))
	f.RequireBound(source)
	f.RequireBound(other)
	f.DataSource("named", cdiv1.DataSourceSource{PVC: &cdiv1.DataVolumeSourcePVC{Namespace: f.namespace, Name: source.name}})
	return f, source, other, f.MidCopy("named", source, ofSize(2*cronClaimSize)), img
}

// TestCopyOutlivesItsSource repoints the DataSource, and deletes it and its claim, while the claim is copied.
func TestCopyOutlivesItsSource(t *testing.T) {
	t.Parallel()
	f, source, other, running, img := midCopy(t)
	f.Repoint("named", other)
	require.NoError(t, f.Delete(f.ctx, f.PVC(source)))
	require.NoError(t, f.Delete(f.ctx, f.ReadDataSource("named")))
	f.Resume(source)
	f.RequireStrategy(running, v1alpha1.StrategyCopy, v1alpha1.StrategySnapshot)
	f.RequireDisk(running, img.disk)
	f.RequireNothingLeft(running)
	f.WaitGone(source)
}

// TestCopyOutlivesItsExporter kills the exporter while a claim is copied.
func TestCopyOutlivesItsExporter(t *testing.T) {
	t.Parallel()
	f, source, _, running, img := midCopy(t)
	require.NoError(t, f.DeleteAllOf(f.ctx, &corev1.Pod{}, client.InNamespace(f.namespace),
		client.MatchingLabels{claimUIDLabel: running.uid}, client.GracePeriodSeconds(0)))
	f.RequireStrategy(running, v1alpha1.StrategyCopy, v1alpha1.StrategySnapshot)
	f.RequireDisk(running, img.disk)
	f.RequireNothingLeft(running)
	f.Resume(source)
}

// TestCopyWaitsForAWriter neither begins nor ends a copy of a volume that is written to.
func TestCopyWaitsForAWriter(t *testing.T) {
	t.Parallel()
	f, source, _, running, img := midCopy(t)
	writer := f.Writer(source)
	f.Resume(source)
	f.WaitEvent(running, "ImportRetry", "SourceInUse")
	require.NoError(t, f.Delete(f.ctx, writer))
	f.RequireStrategy(running, v1alpha1.StrategyCopy, v1alpha1.StrategySnapshot)
	f.RequireDisk(running, img.disk)
	f.RequireNothingLeft(running)
}

// TestCopyDeletedMidCopy leaves nothing behind in either namespace.
func TestCopyDeletedMidCopy(t *testing.T) {
	t.Parallel()
	f, source, _, running, _ := midCopy(t)
	f.Resume(source)
	f.DeleteClaim(running)
	f.RequireNothingLeft(running)
}

// TestSnapshotGivesWay has a driver that never answers: the claim is copied instead.
func TestSnapshotGivesWay(t *testing.T) {
	t.Parallel()
	f := start(t)
	class, pool := f.poolClass(storagev1.VolumeBindingImmediate, nil)
	img := f.Revision(0)
	gold, source := f.Golden("fedora", img, ofCronClass(class))
	fetched := source.Bytes()
	f.setPool(pool, map[string]any{"copyDelay": "1h"})
	c := f.CopyOf("fedora", "copy", ofClass(class), ofSize(2*cronClaimSize))
	f.WaitReason(c, "Restoring")
	f.Eventually("another strategy", 2*importWithin, func(ctx context.Context) (bool, string, error) {
		imp, err := f.readImport(ctx, c)
		if err != nil {
			return false, "", err
		}
		return imp.Status.Strategy == v1alpha1.StrategyCopy, describeImport(imp), nil
	})
	f.setPool(pool, nil)
	f.RequireStrategy(c, v1alpha1.StrategyCopy, v1alpha1.StrategySnapshot)
	f.RequireDisk(c, img.disk)
	f.RequireNothingLeft(c)
	f.RequireSnapshot(gold)
	require.Equal(t, fetched, source.Bytes())
}

// TestRollWithoutASnapshot has a driver that never cuts one: the golden image is good all the same.
func TestRollWithoutASnapshot(t *testing.T) {
	t.Parallel()
	f := start(t)
	class, pool := f.poolClass(storagev1.VolumeBindingImmediate, nil)
	f.setPool(pool, map[string]any{"refuseSnapshots": "too many"})
	img := f.Revision(0)
	source := f.Serve("fedora", img.file)
	f.Cron("fedora", httpSource(source.URL), ofCronClass(class))
	gold := f.WaitRolled("fedora")
	f.WaitEvent(gold, "SnapshotNotKept", "too many")
	f.RequireDisk(gold, img.disk)
	// What the driver was asked for goes once it answers.
	f.setPool(pool, nil)
	f.WaitNoSnapshot(gold)
}

// TestPopulatorKilledMidRestore kills the populator between the snapshot and the volume that is made of it.
func TestPopulatorKilledMidRestore(t *testing.T) {
	f := start(t)
	class, pool := f.poolClass(storagev1.VolumeBindingImmediate, nil)
	img := f.Revision(0)
	gold, _ := f.Golden("fedora", img, ofCronClass(class))
	f.setPool(pool, map[string]any{"copyDelay": "1h"})
	c := f.CopyOf("fedora", "copy", ofClass(class), f.as(gold))
	f.WaitReason(c, "Restoring")
	for _, pod := range f.populators() {
		require.NoError(t, f.Delete(t.Context(), &pod, client.GracePeriodSeconds(0)))
	}
	f.setPool(pool, nil)
	require.NoError(t, f.waitPopulator(t.Context()))
	f.RequireStrategy(c, v1alpha1.StrategySnapshot)
	f.RequireDisk(c, img.disk)
	f.RequireNothingLeft(c)
}
