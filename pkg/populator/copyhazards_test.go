package populator

import (
	"fmt"
	"testing"

	snapshotv1 "github.com/kubernetes-csi/external-snapshotter/client/v8/apis/volumesnapshot/v1"
	"github.com/stretchr/testify/require"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/golden"
	"github.com/gild-project/gild/pkg/importer"
)

// pulledRevision is one whose image the nodes pull.
func pulledRevision() *golden.Revision {
	revision := revisionA()
	revision.Source = v1alpha1.DiskSource{Registry: &v1alpha1.RegistrySource{
		URL: "docker://registry.example.org/disk@" + revision.Digest, PullMethod: v1alpha1.PullMethodNode}}
	return revision
}

// asBlock makes volumes, their claims and their snapshots those of block devices.
func asBlock(objects []client.Object) []client.Object {
	for _, o := range objects {
		switch o := o.(type) {
		case *corev1.PersistentVolumeClaim:
			o.Spec.VolumeMode = ptr.To(corev1.PersistentVolumeBlock)
		case *corev1.PersistentVolume:
			o.Spec.VolumeMode = ptr.To(corev1.PersistentVolumeBlock)
		case *snapshotv1.VolumeSnapshotContent:
			o.Spec.SourceVolumeMode = ptr.To(corev1.PersistentVolumeBlock)
		}
	}
	return objects
}

// TestCopyOfWhatNodesPull needs no image any more, neither to copy nor to complete a restored volume.
func TestCopyOfWhatNodesPull(t *testing.T) {
	t.Run("copied", func(t *testing.T) {
		held := heldClaim(pulledRevision())
		w := newWorld(t, testDataSource(ofHeld()), testCron(nil, pulledRevision()), sourceClaim(), held, volumeFor(held), fastClass())
		w.settle(w.bound)
		require.Equal(t, v1alpha1.StrategyCopy, w.findImport().Status.Strategy)
	})
	t.Run("restored", func(t *testing.T) {
		held, claim := heldClaim(pulledRevision()), sourceClaim()
		claim.Spec.Resources.Requests[corev1.ResourceStorage] = resource.MustParse("8Gi")
		w := newWorld(t, asBlock(append([]client.Object{testDataSource(ofHeld()), testCron(nil, pulledRevision()), claim, held, volumeFor(held), fastClass(), snapshotClass()},
			keptSnapshot(held.UID, "vms/"+held.Name)...))...)
		w.storage.roomy = "8Gi"
		var job *batchv1.Job
		w.admit = func(made *batchv1.Job) error { job = made.DeepCopy(); return nil }
		w.settle(func() bool { return job != nil })
		require.Empty(t, nodeImage(&job.Spec.Template.Spec))
	})
}

// TestTailOfASourceThatHasGrown since its snapshot was taken is cleared all the same.
func TestTailOfASourceThatHasGrown(t *testing.T) {
	held, claim := heldClaim(revisionA()), sourceClaim()
	claim.Spec.Resources.Requests[corev1.ResourceStorage] = resource.MustParse("10Gi")
	volume := volumeFor(held)
	volume.Spec.Capacity[corev1.ResourceStorage] = resource.MustParse("10Gi")
	w := newWorld(t, asBlock(append([]client.Object{testDataSource(ofHeld()), testCron(nil, revisionA()), claim, held, volume, fastClass(), snapshotClass()},
		keptSnapshot(held.UID, "vms/"+held.Name)...))...)
	w.storage.roomy = "10Gi"
	args := w.seeArgs()
	w.settle(w.bound)
	require.Equal(t, v1alpha1.StrategySnapshot, w.findImport().Status.Strategy)
	require.Contains(t, *args, "--disk-end=4Gi")
}

// TestCopyIsMadeAgain after somebody has written to the volume while it was read, and after its exporter was away.
func TestCopyIsMadeAgain(t *testing.T) {
	for reason, exit := range map[importer.Reason]int32{importer.SourceChanged: importer.ExitVerification, importer.HostNotFound: importer.ExitSource} {
		t.Run(string(reason), func(t *testing.T) {
			w := copyWorld(t, "vms")
			good := w.end
			w.end = func(n int32) (int32, string) {
				if n == 1 {
					return exit, fmt.Sprintf(`{"reason":%q,"message":"it is not what it was"}`, reason)
				}
				return good(n)
			}
			w.settle(w.bound)
			require.EqualValues(t, 2, w.findImport().Status.Attempts)
		})
	}
}

// TestSnapshotOfAnotherClaimOfTheName is not restored: the storage is given a name and cuts whatever has it.
func TestSnapshotOfAnotherClaimOfTheName(t *testing.T) {
	w := handMadeWorld(t, "vms")
	w.storage.uncut = true
	w.settle(func() bool { return len(w.snapshotNames()) == 1 })
	first := &corev1.PersistentVolumeClaim{}
	require.True(t, w.find(first, "vms", "by-hand"))
	first.Finalizers = nil
	require.NoError(t, w.store.Update(t.Context(), first))
	require.NoError(t, w.store.Delete(t.Context(), first))
	second := handMade("vms")
	second.UID, second.Spec.VolumeName = "another-uid", "another-pv"
	require.NoError(t, w.store.Create(t.Context(), second))
	require.NoError(t, w.store.Create(t.Context(), volumeFor(second)))
	w.storage.uncut = false
	w.settle(func() bool { return ended(w.findImport()) })
	require.Equal(t, reasonNoStrategy, w.findImport().Status.LastFailure.Reason)
	require.False(t, w.bound())
}

// TestForgedStatusCopiesNothing has somebody who may write the status of imports in his namespace write what he likes.
func TestForgedStatusCopiesNothing(t *testing.T) {
	w := handMadeWorld(t, "golden")
	waits := func() bool { reason, _ := w.ready(); return reason == reasonNotGranted }
	w.settle(waits)
	for _, strategy := range []v1alpha1.Strategy{v1alpha1.StrategySnapshot, v1alpha1.StrategyCopy} {
		imp := w.findImport()
		imp.Status.Strategy = strategy
		require.NoError(t, w.store.Status().Update(t.Context(), imp))
		w.settle(waits)
		w.ticks(20)
		require.Empty(t, w.snapshotNames(), "no snapshot is taken")
		require.Empty(t, w.jobs)
	}
	imp := w.findImport()
	imp.Status.Phase = v1alpha1.PhaseSucceeded
	require.NoError(t, w.store.Status().Update(t.Context(), imp))
	w.ticks(20)
	require.False(t, w.bound())
}
