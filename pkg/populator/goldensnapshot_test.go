package populator

import (
	"testing"

	snapshotv1 "github.com/kubernetes-csi/external-snapshotter/client/v8/apis/volumesnapshot/v1"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
)

func rollWorld(t *testing.T) *world {
	t.Helper()
	return newWorld(t, testCron(revisionA(), nil), goldenClaim(revisionA()), fastClass(), snapshotClass())
}

const goldenOfWorld = "golden-0c1a"

func TestRollKeepsItsSnapshot(t *testing.T) {
	w := rollWorld(t)
	early := false
	w.settle(func() bool {
		imp := w.findImport()
		early = early || imp != nil && len(w.snapshotNames()) > 0 && imp.Status.Result == nil
		return w.bound()
	})
	require.False(t, early, "the snapshot was taken before the disk was there")
	taken := &snapshotv1.VolumeSnapshot{}
	require.True(t, w.find(taken, systemNamespace, goldenOfWorld))
	require.Equal(t, primeName("0c1a"), *taken.Spec.Source.PersistentVolumeClaimName)
	require.Equal(t, "vms/web-1", taken.Annotations[annotationClaim])
	require.Equal(t, "0c1a", taken.Labels[labelGoldenUID])
	require.NotEmpty(t, taken.Annotations[annotationVouched])
	w.ticks(4)
	require.Equal(t, []string{"gild-system/" + goldenOfWorld}, w.snapshotNames())
	claim := w.findClaim()
	claim.Finalizers = nil
	require.NoError(t, w.store.Update(t.Context(), claim))
	require.NoError(t, w.store.Delete(t.Context(), claim))
	w.ticks(4)
	require.Empty(t, w.snapshotNames(), "it goes with its claim")
}

func TestOnlyGoldenClaimsHaveSnapshots(t *testing.T) {
	for name, w := range map[string]*world{
		"claim of an image": newWorld(t, testImage(), testClaim(), fastClass(), snapshotClass()),
		"claim of a cron":   newWorld(t, testCron(nil, revisionA()), cronClaim(), fastClass(), snapshotClass()),
		"no class":          newWorld(t, testCron(revisionA(), nil), goldenClaim(revisionA()), fastClass()),
	} {
		w.settle(w.bound)
		require.Empty(t, w.snapshotNames(), name)
	}
}

func TestSnapshotThatIsNotTakenHoldsNothingUp(t *testing.T) {
	w := rollWorld(t)
	w.storage.uncut = true
	began := w.clock.Now()
	w.settle(w.bound)
	require.Less(t, w.clock.Since(began), 2*snapshotPatience)
	require.True(t, w.told(eventNoSnapshot, "has not taken a snapshot"))
	w.ticks(4)
	require.Empty(t, w.snapshotNames())
}

// TestSnapshotThatNobodyVouchesForIsNotUsed: one that was cut after the hand-over may hold anything.
func TestSnapshotThatNobodyVouchesForIsNotUsed(t *testing.T) {
	w := goldenWorld(t)
	kept := &snapshotv1.VolumeSnapshot{}
	require.True(t, w.find(kept, systemNamespace, "golden-held-uid"))
	delete(kept.Annotations, annotationVouched)
	require.NoError(t, w.store.Update(t.Context(), kept))
	var used []string
	w.settle(func() bool {
		if from := w.primeSource(); from != "" {
			used = append(used, from)
		}
		return w.bound()
	})
	require.NotContains(t, used, "VolumeSnapshot/golden-held-uid")
	require.Equal(t, v1alpha1.StrategySnapshot, w.findImport().Status.Strategy)
}

func TestSnapshotOfADroppedVolumeIsTakenAnew(t *testing.T) {
	w := rollWorld(t)
	w.lazy = true
	w.settle(w.phase(v1alpha1.PhaseSucceeded))
	first := &snapshotv1.VolumeSnapshot{}
	require.True(t, w.find(first, systemNamespace, goldenOfWorld))
	prime := &corev1.PersistentVolumeClaim{}
	require.True(t, w.find(prime, systemNamespace, primeName("0c1a")))
	pv := &corev1.PersistentVolume{}
	require.True(t, w.find(pv, "", prime.Spec.VolumeName))
	require.NoError(t, w.store.Delete(t.Context(), prime))
	require.NoError(t, w.store.Delete(t.Context(), pv))
	w.lazy = false
	w.settle(w.bound)
	second := &snapshotv1.VolumeSnapshot{}
	require.True(t, w.find(second, systemNamespace, goldenOfWorld))
	require.Equal(t, string(w.findImport().Status.TargetUID), second.Annotations[annotationTargetUID])
	require.NotEqual(t, first.Annotations[annotationTargetUID], second.Annotations[annotationTargetUID])
}
