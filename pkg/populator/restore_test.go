package populator

import (
	"testing"

	snapshotv1 "github.com/kubernetes-csi/external-snapshotter/client/v8/apis/volumesnapshot/v1"
	"github.com/stretchr/testify/require"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1beta1 "sigs.k8s.io/gateway-api/apis/v1beta1"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/golden"
)

// goldenWorld has a golden claim with its snapshot, and a claim that wants a copy.
func goldenWorld(t *testing.T, more ...client.Object) *world {
	t.Helper()
	held := heldClaim(revisionA())
	objects := append([]client.Object{testDataSource(ofHeld()), testCron(nil, revisionA()), sourceClaim(), held, volumeFor(held), fastClass(), snapshotClass()},
		keptSnapshot(held.UID, "vms/"+held.Name)...)
	return newWorld(t, append(objects, more...)...)
}

// handMadeWorld has a claim in a namespace that nobody of ours has filled, and a claim that wants a copy.
func handMadeWorld(t *testing.T, namespace string, more ...client.Object) *world {
	t.Helper()
	source := handMade(namespace)
	return newWorld(t, append([]client.Object{testDataSource(&cdiv1.DataVolumeSourcePVC{Namespace: namespace, Name: "by-hand"}), sourceClaim(),
		source, volumeFor(source), fastClass(), snapshotClass()}, more...)...)
}

func (w *world) forbidCopies() {
	w.withoutCopies = true
	w.restart()
}

func (w *world) primeSource() string {
	prime := &corev1.PersistentVolumeClaim{}
	if !w.find(prime, systemNamespace, primeName("0c1a")) || prime.Spec.DataSource == nil {
		return ""
	}
	return prime.Spec.DataSource.Kind + "/" + prime.Spec.DataSource.Name
}

func TestGoldenClaimIsRestored(t *testing.T) {
	w := goldenWorld(t)
	from := ""
	w.settle(func() bool {
		if from == "" {
			from = w.primeSource()
		}
		return w.bound()
	})
	require.Equal(t, "VolumeSnapshot/golden-held-uid", from)
	imp := w.findImport()
	require.Equal(t, v1alpha1.StrategySnapshot, imp.Status.Strategy)
	require.Empty(t, imp.Status.PassedOver)
	require.Equal(t, copyOfClaim(heldClaim(revisionA())), imp.Spec.CopyOf)
	require.Equal(t, revisionA().Source, imp.Spec.Source, "to import it again")
	require.Empty(t, w.jobs, "the storage has done it all")
	require.True(t, w.told(eventStrategy, "restoring from a snapshot of claim vms/debian-12-a"))
	w.ticks(4)
	w.requireNothingLeft()
	require.Equal(t, []string{"gild-system/golden-held-uid"}, w.snapshotNames(), "the next claim wants it, too")
}

func TestRestoredDiskHasTheResultOfItsImport(t *testing.T) {
	held := heldClaim(revisionA())
	filled := newImport(held, cronSpec(t, held, testCron(revisionA(), nil)))
	filled.Status = v1alpha1.VMDiskImportStatus{Phase: v1alpha1.PhaseSucceeded, VolumeName: held.Spec.VolumeName,
		Result: &v1alpha1.ImportResult{Digest: "sha256:aa", VirtualSize: 3 << 30, SourceFormat: "qcow2"}}
	w := goldenWorld(t, filled)
	w.settle(w.bound)
	result := w.findImport().Status.Result
	require.Equal(t, "sha256:aa", result.Digest)
	require.EqualValues(t, 3<<30, result.VirtualSize)
	require.Equal(t, "qcow2", result.SourceFormat)
	require.Zero(t, result.TransferredBytes)
}

func TestClaimMadeByHandIsRestored(t *testing.T) {
	w := handMadeWorld(t, "vms")
	w.settle(func() bool { return len(w.snapshotNames()) == 2 })
	uid := string(w.findImport().UID)
	require.ElementsMatch(t, []string{"vms/copy-" + uid, "gild-system/copy-" + uid}, w.snapshotNames())
	w.settle(w.bound)
	require.Equal(t, v1alpha1.StrategySnapshot, w.findImport().Status.Strategy)
	require.Empty(t, w.snapshotNames())
	w.ticks(4)
	w.requireNothingLeft()
}

func TestSnapshotIsRestored(t *testing.T) {
	ours := &snapshotv1.VolumeSnapshot{ObjectMeta: metav1.ObjectMeta{Namespace: "vms", Name: "friday", UID: "friday-uid"},
		Spec: snapshotv1.VolumeSnapshotSpec{Source: snapshotv1.VolumeSnapshotSource{PersistentVolumeClaimName: ptr.To("by-hand")}}}
	source := testDataSource(nil)
	source.Spec.Source.Snapshot = &cdiv1.DataVolumeSourceSnapshot{Namespace: "vms", Name: "friday"}
	w := newWorld(t, source, sourceClaim(), handMade("vms"), ours, fastClass())
	w.settle(w.bound)
	require.Equal(t, &v1alpha1.CopySource{Kind: v1alpha1.CopyOfSnapshot, Namespace: "vms", Name: "friday", UID: "friday-uid"}, w.findImport().Spec.CopyOf)
	w.ticks(4)
	w.requireNothingLeft()
	require.Equal(t, []string{"vms/friday"}, w.snapshotNames(), "it is the user's")
}

// TestCrashAtEveryWriteOfARestore crashes the populator at each of its writes, before and after it is applied.
func TestCrashAtEveryWriteOfARestore(t *testing.T) {
	for name, begin := range map[string]func(*testing.T) *world{
		"golden claim":       func(t *testing.T) *world { return goldenWorld(t) },
		"claim made by hand": func(t *testing.T) *world { return handMadeWorld(t, "vms") },
		"the storage never restores": func(t *testing.T) *world {
			w := goldenWorld(t)
			w.storage.unmade = true
			w.forbidCopies()
			return w
		},
		"a tail is left": func(t *testing.T) *world {
			w := blockWorld(t)
			return w
		},
	} {
		run := func(t *testing.T, c crash) *world {
			w := begin(t)
			w.arm(c)
			w.settle(w.bound)
			w.ticks(4)
			require.LessOrEqual(t, w.running, 1, "two writers at once")
			w.requireNothingLeft()
			return w
		}
		t.Run(name, func(t *testing.T) { crashAtEveryWrite(t, 4, run) })
	}
}

func TestStorageThatNeverRestoresIsPassedOver(t *testing.T) {
	for name, failing := range map[string]string{"it says nothing": "", "it says why": "the pool is read-only"} {
		t.Run(name, func(t *testing.T) {
			w := goldenWorld(t)
			w.forbidCopies()
			w.storage.unmade, w.storage.failing = true, failing
			began := w.clock.Now()
			w.settle(w.bound)
			imp := w.findImport()
			require.Equal(t, v1alpha1.StrategyImport, imp.Status.Strategy)
			require.Len(t, imp.Status.PassedOver, 2)
			require.Contains(t, imp.Status.PassedOver[0].Message, failing)
			require.Equal(t, v1alpha1.StrategyCopy, imp.Status.PassedOver[1].Strategy)
			require.Contains(t, imp.Status.PassedOver[1].Message, "--copy")
			require.Less(t, w.clock.Since(began), 2*restorePatience)
			require.Len(t, w.jobs, 1)
			require.True(t, w.told(eventPassedOver, "Snapshot"))
			w.ticks(4)
			w.requireNothingLeft()
		})
	}
}

func TestSnapshotThatIsNeverCutIsPassedOver(t *testing.T) {
	w := handMadeWorld(t, "vms")
	w.forbidCopies()
	w.storage.uncut = true
	w.settle(w.phase(v1alpha1.PhaseFailed))
	imp := w.findImport()
	require.Equal(t, reasonNoStrategy, imp.Status.LastFailure.Reason)
	require.Contains(t, imp.Status.LastFailure.Message, "has not taken a snapshot")
	require.Contains(t, imp.Status.LastFailure.Message, "nobody says where the disk came from")
	require.Len(t, imp.Status.PassedOver, 3)
	w.ticks(4)
	w.requireNothingLeft()

	// Another source starts it anew.
	source := &cdiv1.DataSource{}
	require.True(t, w.find(source, "vms", sourceName))
	held := heldClaim(revisionA())
	for _, o := range append(keptSnapshot(held.UID, "vms/"+held.Name), held, volumeFor(held)) {
		require.NoError(t, w.store.Create(t.Context(), o))
	}
	source.Spec.Source.PVC = ofHeld()
	require.NoError(t, w.store.Update(t.Context(), source))
	w.settle(w.bound)
	require.Equal(t, held.UID, w.findImport().Spec.CopyOf.UID)
	require.True(t, w.told(eventRestarted, "leads somewhere else"))
}

func TestVolumeThatLayAboutIsNoRestore(t *testing.T) {
	w := goldenWorld(t)
	w.forbidCopies()
	w.storage.static = true
	w.settle(w.bound)
	require.Equal(t, v1alpha1.StrategyImport, w.findImport().Status.Strategy)
	require.Contains(t, w.findImport().Status.PassedOver[0].Message, "not made from the snapshot")
}

// blockWorld has a Block volume of 4Gi as the source, and a claim that asks for one of 5Gi.
func blockWorld(t *testing.T) *world {
	t.Helper()
	source, claim := handMade("vms"), sourceClaim()
	source.Spec.VolumeMode, claim.Spec.VolumeMode = ptr.To(corev1.PersistentVolumeBlock), ptr.To(corev1.PersistentVolumeBlock)
	claim.Spec.Resources.Requests[corev1.ResourceStorage] = resource.MustParse("5Gi")
	w := newWorld(t, testDataSource(&cdiv1.DataVolumeSourcePVC{Name: "by-hand"}), claim, source, volumeFor(source), fastClass(), snapshotClass())
	w.storage.roomy = "5Gi"
	return w
}

// seeArgs notes the arguments of the importer.
func (w *world) seeArgs() *[]string {
	args := &[]string{}
	w.admit = func(job *batchv1.Job) error {
		*args = job.Spec.Template.Spec.Containers[0].Args
		return nil
	}
	return args
}

func TestTailOfALargerBlockVolumeIsCleared(t *testing.T) {
	w := blockWorld(t)
	args := w.seeArgs()
	w.settle(w.bound)
	require.Equal(t, v1alpha1.StrategySnapshot, w.findImport().Status.Strategy)
	require.Len(t, w.jobs, 1)
	require.Equal(t, []string{"complete", "--target=" + targetDevice, "--disk-end=4Gi", "--termination-log=" + terminationLog}, *args)
	w.ticks(4)
	w.requireNothingLeft()
}

func TestRestoreThatWaitsForAConsumerGetsOne(t *testing.T) {
	class := fastClass()
	class.VolumeBindingMode = ptr.To(storagev1.VolumeBindingWaitForFirstConsumer)
	held, claim := heldClaim(revisionA()), sourceClaim()
	claim.Annotations = map[string]string{golden.AnnotationBindImmediately: "true", annotationSelectedNode: "node1"}
	objects := append(keptSnapshot(held.UID, "vms/"+held.Name), testDataSource(ofHeld()), claim, held, volumeFor(held), class)
	w := newWorld(t, objects...)
	w.storage.lateBinding = true
	args := w.seeArgs()
	w.settle(w.bound)
	require.Equal(t, []string{"complete", "--target=" + targetDirectory, "--termination-log=" + terminationLog}, *args)
	require.Equal(t, v1alpha1.StrategySnapshot, w.findImport().Status.Strategy)
	w.ticks(4)
	w.requireNothingLeft()
}

func TestRepointNeverChangesARestore(t *testing.T) {
	w := goldenWorld(t)
	w.storage.unmade = true
	w.settle(func() bool { return w.primeSource() != "" })
	source := &cdiv1.DataSource{}
	require.True(t, w.find(source, "vms", sourceName))
	source.Spec.Source.PVC.Name = "another"
	require.NoError(t, w.store.Update(t.Context(), source))
	w.ticks(5)
	w.storage.unmade = false
	w.settle(w.bound)
	require.EqualValues(t, "held-uid", w.findImport().Spec.CopyOf.UID)
}

func TestGoldenClaimDeletedWhileItsCopyIsRestored(t *testing.T) {
	w := goldenWorld(t)
	w.storage.unmade = true
	w.settle(func() bool { return w.primeSource() != "" })
	held := heldClaim(revisionA())
	require.True(t, w.find(held, "vms", "debian-12-a"))
	held.Finalizers = nil
	require.NoError(t, w.store.Update(t.Context(), held))
	require.NoError(t, w.store.Delete(t.Context(), held))
	w.ticks(3)
	require.Equal(t, []string{"gild-system/golden-held-uid"}, w.snapshotNames(), "it is still needed")
	w.storage.unmade = false
	w.settle(w.bound)
	require.Equal(t, v1alpha1.StrategySnapshot, w.findImport().Status.Strategy)
	w.ticks(4)
	require.Empty(t, w.snapshotNames(), "nobody needs it any more")
}

func TestClaimDeletedInTheMiddleOfARestore(t *testing.T) {
	w := handMadeWorld(t, "vms")
	w.storage.unmade = true
	w.settle(func() bool { return w.primeSource() != "" })
	claim := w.findClaim()
	claim.Finalizers = append(claim.Finalizers, finalizerClaim)
	require.NoError(t, w.store.Update(t.Context(), claim))
	require.NoError(t, w.store.Delete(t.Context(), claim))
	w.settle(func() bool { return len(w.findClaim().Finalizers) == 1 && w.findImport() == nil })
	w.requireNothingLeft()
	require.Empty(t, w.snapshotNames())
}

func (w *world) ready() (reason, message string) {
	imp := w.findImport()
	if imp == nil {
		return "", ""
	}
	ready := meta.FindStatusCondition(imp.Status.Conditions, v1alpha1.ConditionReady)
	if ready == nil {
		return "", ""
	}
	return ready.Reason, ready.Message
}

func testGrant() *gatewayv1beta1.ReferenceGrant {
	return &gatewayv1beta1.ReferenceGrant{ObjectMeta: metav1.ObjectMeta{Namespace: "golden", Name: "for-vms"}, Spec: gatewayv1beta1.ReferenceGrantSpec{
		From: []gatewayv1beta1.ReferenceGrantFrom{{Group: golden.Group, Kind: golden.DataSourceKind, Namespace: "vms"}},
		To:   []gatewayv1beta1.ReferenceGrantTo{{Kind: "PersistentVolumeClaim"}},
	}}
}

func TestGrantIsWaitedFor(t *testing.T) {
	w := handMadeWorld(t, "golden")
	w.settle(func() bool { reason, _ := w.ready(); return reason == reasonNotGranted })
	_, message := w.ready()
	require.Contains(t, message, "ReferenceGrant")
	require.Empty(t, w.snapshotNames())
	require.True(t, w.told(reasonNotGranted))
	require.NoError(t, w.store.Create(t.Context(), testGrant()))
	w.settle(w.bound)
	w.ticks(4)
	w.requireNothingLeft()
}

func TestRevokedGrantStopsTheHandOver(t *testing.T) {
	w := handMadeWorld(t, "golden", testGrant())
	w.storage.unmade = true
	w.settle(func() bool { return w.primeSource() != "" })
	require.NoError(t, w.store.Delete(t.Context(), testGrant()))
	w.storage.unmade = false
	w.settle(func() bool { reason, _ := w.ready(); return reason == reasonNotGranted })
	w.ticks(20)
	require.Empty(t, w.findClaim().Spec.VolumeName)
	require.Empty(t, w.snapshotNames())
	require.NoError(t, w.store.Create(t.Context(), testGrant()))
	w.settle(w.bound)
}

// TestDriverThatNeverAnswers neither takes a snapshot nor lets it go.
func TestDriverThatNeverAnswers(t *testing.T) {
	stuck := func(t *testing.T) *world {
		w := handMadeWorld(t, "vms")
		w.storage.uncut, w.storage.stuck = true, true
		return w
	}
	t.Run("the volume is copied", func(t *testing.T) {
		w := stuck(t)
		began := w.clock.Now()
		w.settle(w.bound)
		require.Equal(t, v1alpha1.StrategyCopy, w.findImport().Status.Strategy)
		require.Less(t, w.clock.Since(began), 2*(snapshotPatience+clearPatience))
		w.requireNoExports()
	})
	t.Run("nothing is left to try", func(t *testing.T) {
		w := stuck(t)
		w.forbidCopies()
		w.settle(w.phase(v1alpha1.PhaseFailed))
		w.settle(func() bool { _, done := w.imports.cleared.Load(w.findImport().UID); return done })
	})
	t.Run("the claim is deleted", func(t *testing.T) {
		w := stuck(t)
		w.settle(func() bool { return len(w.snapshotNames()) == 1 })
		claim := w.findClaim()
		claim.Finalizers = append(claim.Finalizers, finalizerClaim)
		require.NoError(t, w.store.Update(t.Context(), claim))
		require.NoError(t, w.store.Delete(t.Context(), claim))
		w.settle(func() bool { return !w.findImport().DeletionTimestamp.IsZero() })
		w.clock.SetTime(w.findImport().DeletionTimestamp.Time) // the store has a clock of its own
		w.settle(func() bool { return len(w.findClaim().Finalizers) == 1 && w.findImport() == nil })
	})
}
