package populator

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
)

// TestCrashAtEveryWriteOfSharedImports crashes the populator at each of its writes, before and after it is applied.
func TestCrashAtEveryWriteOfSharedImports(t *testing.T) {
	run := func(t *testing.T, crashAt int, applied bool) int {
		c := newCrowd(t, nil)
		c.crashAt, c.applied = crashAt, applied
		c.settle(c.boundAll)
		require.LessOrEqual(t, len(c.read), 2, "an attempt that was not recorded goes on beside another one")
		require.Len(t, c.restored, 3-len(c.read))
		c.requireCleared()
		return c.writes
	}
	writes := run(t, 0, false)
	require.Greater(t, writes, 30)
	for k := 1; k <= writes; k++ {
		for _, applied := range []bool{false, true} {
			t.Run(fmt.Sprintf("write %d, applied %v", k, applied), func(t *testing.T) {
				t.Parallel()
				run(t, k, applied)
			})
		}
	}
}

// TestRestartsForgetNothing: the records say who leads.
func TestRestartsForgetNothing(t *testing.T) {
	c := newCrowd(t, nil)
	c.settle(func() bool {
		if c.running == 1 {
			c.restart()
		}
		return c.boundAll()
	})
	c.requireShared("web-1")
}

func TestLeaderThatFailsIsFollowedByAnother(t *testing.T) {
	c := newCrowd(t, nil)
	c.reading = func(claim string, _ int32) (int32, string) {
		if claim == "web-1" {
			return 12, `{"reason":"NoSpace","message":"full"}`
		}
		return 0, crowdRead
	}
	c.settle(func() bool {
		c.boundAll()
		return c.claimNamed("web-2").Spec.VolumeName != "" && c.claimNamed("web-3").Spec.VolumeName != ""
	})
	require.True(t, c.phase(v1alpha1.PhaseFailed)())
	require.Len(t, c.read, 2)
	require.Len(t, c.restored, 1)
	c.requireCleared()
}

// TestImageThatIsNotThereFailsAtOnce does not have each claim find it out after the other.
func TestImageThatIsNotThereFailsAtOnce(t *testing.T) {
	c := newCrowd(t, nil)
	c.reading = func(string, int32) (int32, string) { return 10, `{"reason":"NotFound","message":"404"}` }
	failed := func(name string) bool {
		imp := c.importNamed(name)
		return imp != nil && imp.Status.Phase == v1alpha1.PhaseFailed
	}
	c.settle(func() bool { return failed("web-1") && failed("web-2") && failed("web-3") })
	require.Len(t, c.read, 3)
	for _, name := range []string{"web-2", "web-3"} {
		imp := c.importNamed(name)
		require.Len(t, imp.Status.PassedOver, 1)
		require.Contains(t, imp.Status.PassedOver[0].Message, "web-1 could not import this image: NotFound: 404")
		require.Equal(t, "NotFound", imp.Status.LastFailure.Reason)
	}
	c.requireCleared()
}

// TestLeaderThatRestsFollowsAnother when its time comes.
func TestLeaderThatRestsFollowsAnother(t *testing.T) {
	c := newCrowd(t, nil)
	c.reading = func(claim string, attempt int32) (int32, string) {
		if claim == "web-1" && attempt == 1 {
			return 1, `{"reason":"ConnectionFailed","message":"cut"}`
		}
		return 0, crowdRead
	}
	c.settleBy(4*time.Second, c.boundAll)
	require.Len(t, c.read, 2)
	require.Len(t, c.restored, 2)
	require.EqualValues(t, 2, c.importNamed("web-1").Status.Attempts)
	require.Equal(t, v1alpha1.StrategySnapshot, c.importNamed("web-1").Status.Strategy)
	c.requireCleared()
}

func (w *world) deleteClaim(name string) {
	claim := w.claimNamed(name)
	claim.Finalizers = append(claim.Finalizers, finalizerClaim)
	require.NoError(w.t, w.store.Update(w.t.Context(), claim))
	require.NoError(w.t, w.store.Delete(w.t.Context(), claim))
}

func TestClaimOfTheLeaderIsDeleted(t *testing.T) {
	c := newCrowd(t, nil)
	c.settleBy(0, func() bool { return c.running == 1 })
	c.deleteClaim("web-1")
	c.names = []string{"web-2", "web-3", "web-1"}
	c.settle(func() bool {
		c.boundAll()
		return c.claimNamed("web-2").Spec.VolumeName != "" && c.claimNamed("web-3").Spec.VolumeName != "" && c.importNamed("web-1") == nil
	})
	require.Len(t, c.restored, 1)
	c.requireCleared()
}

// TestLeaderIsDeletedWhenItHasSucceeded: its snapshot stays for those who need it.
func TestLeaderIsDeletedWhenItHasSucceeded(t *testing.T) {
	c := newCrowd(t, nil)
	c.storage.unmade = true
	c.settle(func() bool { c.boundAll(); return len(c.restored) == 2 })
	name := reuseSnapshotName(c.findImport().UID)
	claim := c.findClaim()
	claim.Finalizers = nil
	require.NoError(t, c.store.Update(t.Context(), claim))
	require.NoError(t, c.store.Delete(t.Context(), claim))
	imp := c.findImport()
	imp.Finalizers = nil
	require.NoError(t, c.store.Update(t.Context(), imp))
	require.NoError(t, c.store.Delete(t.Context(), imp))
	c.names = []string{"web-2", "web-3"}
	c.ticks(3)
	require.Equal(t, []string{systemNamespace + "/" + name}, c.snapshotNames())
	c.storage.unmade = false
	c.settle(c.boundAll)
	require.Len(t, c.read, 1)
	require.Equal(t, "qcow2", c.importNamed("web-2").Status.Result.SourceFormat)
	c.requireCleared()
}

// TestFollowersAreDeleted: the last one takes the snapshot along.
func TestFollowersAreDeleted(t *testing.T) {
	c := newCrowd(t, nil)
	c.storage.unmade = true
	c.settle(func() bool { c.boundAll(); return len(c.restored) == 2 })
	c.deleteClaim("web-2")
	c.settle(func() bool { return c.importNamed("web-2") == nil })
	require.Len(t, c.snapshotNames(), 1)
	c.deleteClaim("web-3")
	c.settle(func() bool { return c.importNamed("web-3") == nil })
	c.requireCleared()
	require.True(t, c.bound())
}

func TestSnapshotThatIsNotCutHoldsNobodyUp(t *testing.T) {
	c := newCrowd(t, nil)
	c.storage.uncut = true
	began := c.clock.Now()
	c.settle(c.boundAll)
	require.Less(t, c.clock.Since(began), 2*endPatience)
	require.Len(t, c.read, 3, "each imports on its own")
	require.True(t, c.told(eventNoSnapshot, "has not taken a snapshot"))
	require.Equal(t, v1alpha1.StrategySnapshot, c.importNamed("web-2").Status.PassedOver[0].Strategy)
	c.requireCleared()
}

func TestStorageThatNeverRestoresIsPassedOverByFollowers(t *testing.T) {
	c := newCrowd(t, nil)
	c.storage.unmade = true
	c.settle(c.boundAll)
	require.Len(t, c.read, 3)
	require.Contains(t, c.importNamed("web-3").Status.PassedOver[0].Message, "has not restored the snapshot")
	c.requireCleared()
}

func TestSnapshotClassThatGoesMeanwhile(t *testing.T) {
	c := newCrowd(t, nil)
	c.settleBy(0, func() bool { return c.running == 1 && c.importNamed("web-3").Status.Reuses != nil })
	require.NoError(t, c.store.Delete(t.Context(), snapshotClass()))
	c.settle(c.boundAll)
	require.Len(t, c.read, 3)
	require.Contains(t, c.importNamed("web-3").Status.PassedOver[0].Message, "there is no snapshot of what VMDiskImport web-1 has imported")
	c.requireCleared()
}

func TestSourceThatMovesOnIsImportedAnew(t *testing.T) {
	for name, test := range map[string]struct {
		code  int32
		words string
	}{
		"another revision":       {11, `{"reason":"SourceChanged","message":"its ETag is another one"}`},
		"an older importer":      {2, `unknown flag`},
		"a volume with a defect": {14, `{"reason":"TargetError","message":"it has no disk"}`},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCrowd(t, nil)
			c.completing = func(claim string, _ int32) (int32, string) {
				if claim == "web-2" {
					return test.code, test.words
				}
				return 0, crowdCompleted
			}
			c.settle(c.boundAll)
			require.Len(t, c.read, 2)
			imp := c.importNamed("web-2")
			require.Equal(t, v1alpha1.StrategyImport, imp.Status.Strategy)
			require.Nil(t, imp.Status.Reuses)
			require.Equal(t, v1alpha1.StrategySnapshot, imp.Status.PassedOver[0].Strategy)
			c.requireCleared()
		})
	}
}

func TestProofIsTriedAgain(t *testing.T) {
	c := newCrowd(t, nil)
	c.completing = func(claim string, attempt int32) (int32, string) {
		if claim == "web-2" && attempt == 1 {
			return 1, `{"reason":"ServerError","message":"503"}`
		}
		return 0, crowdCompleted
	}
	c.settle(c.boundAll)
	require.EqualValues(t, 2, c.importNamed("web-2").Status.Attempts)
	c.requireShared("web-1")
}

// TestLeaderWhosePodNeverRuns holds up nobody for long.
func TestLeaderWhosePodNeverRuns(t *testing.T) {
	c := newCrowd(t, nil)
	c.kubelet = func(pod *corev1.Pod) {
		if key, _ := claimKey(pod.Annotations); key.Name == "web-1" {
			pod.Status.Phase = corev1.PodPending
		}
	}
	began := c.clock.Now()
	c.settle(func() bool {
		c.boundAll()
		return c.claimNamed("web-2").Spec.VolumeName != "" && c.claimNamed("web-3").Spec.VolumeName != ""
	})
	require.Less(t, c.clock.Since(began), 3*leadPatience)
	require.Len(t, c.restored, 1)
	c.kubelet = nil
	c.settle(c.boundAll)
	c.requireCleared()
}
