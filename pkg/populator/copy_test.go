package populator

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/strategy"
)

// copyWorld has a claim that nobody of ours has filled, on storage without snapshots, and a claim that wants a copy.
func copyWorld(t *testing.T, namespace string, more ...client.Object) *world {
	t.Helper()
	source := handMade(namespace)
	return newWorld(t, append([]client.Object{testDataSource(&cdiv1.DataVolumeSourcePVC{Namespace: namespace, Name: "by-hand"}), sourceClaim(),
		source, volumeFor(source), fastClass()}, more...)...)
}

// guest is a pod that may write to the source.
func guest() *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "vms", Name: "guest"}, Spec: corev1.PodSpec{
		Volumes:    []corev1.Volume{{Name: "disk", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "by-hand"}}}},
		Containers: []corev1.Container{{Name: "guest", VolumeMounts: []corev1.VolumeMount{{Name: "disk", MountPath: "/disk"}}}},
	}}
}

func (w *world) requireNoExports() {
	w.t.Helper()
	for _, list := range []client.ObjectList{&corev1.PodList{}, &corev1.SecretList{}, &corev1.ServiceList{}, &networkingv1.NetworkPolicyList{}} {
		require.NoError(w.t, w.store.List(w.t.Context(), list, client.HasLabels{"gild.dev/export"}))
		items, err := objectsOf(list)
		require.NoError(w.t, err)
		require.Empty(w.t, items, "%T left behind", list)
	}
}

func (w *world) exporting() bool {
	var pods corev1.PodList
	require.NoError(w.t, w.store.List(w.t.Context(), &pods, client.HasLabels{"gild.dev/export"}))
	return len(pods.Items) > 0
}

func TestVolumeIsCopied(t *testing.T) {
	w := copyWorld(t, "vms")
	var job *batchv1.Job
	w.admit = func(made *batchv1.Job) error { job = made.DeepCopy(); return nil }
	var secret corev1.Secret
	w.settle(func() bool {
		_ = w.find(&secret, systemNamespace, copyName("0c1a"))
		return w.bound()
	})
	imp := w.findImport()
	require.Equal(t, v1alpha1.StrategyCopy, imp.Status.Strategy)
	require.Len(t, imp.Status.PassedOver, 1)
	require.Contains(t, imp.Status.PassedOver[0].Message, "VolumeSnapshotClass")
	require.Equal(t, []string{
		"--source=https://gild-export-" + string(imp.UID) + ".vms.svc:8443/disk", "--target=/target", "--source-format=raw",
		"--secret-dir=" + secretDirectory, "--ca-dir=" + caDirectory, "--progress=json", "--termination-log=" + terminationLog,
	}, job.Spec.Template.Spec.Containers[0].Args)
	require.Equal(t, "vms/by-hand", job.Annotations[annotationHost], "one volume is read by so many at once")
	require.NotEmpty(t, secret.Data["token"])
	require.Empty(t, imp.Status.References)
	w.ticks(4)
	w.requireNothingLeft()
	w.requireNoExports()
}

func TestCopyIsChosen(t *testing.T) {
	otherClass := fastClass()
	otherClass.Provisioner = "other.example.org"
	block := handMade("vms")
	block.Spec.VolumeMode = ptr.To(corev1.PersistentVolumeBlock)
	for name, test := range map[string]struct {
		objects []client.Object
		why     string
	}{
		"another driver":      {[]client.Object{otherClass, handMade("vms"), volumeFor(handMade("vms")), snapshotClass()}, "ask for a StorageClass of"},
		"Block to Filesystem": {[]client.Object{fastClass(), block, volumeFor(block), snapshotClass()}, "volumeMode"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, append(test.objects, testDataSource(&cdiv1.DataVolumeSourcePVC{Name: "by-hand"}), sourceClaim())...)
			w.settle(w.bound)
			require.Equal(t, v1alpha1.StrategyCopy, w.findImport().Status.Strategy)
			require.Contains(t, w.findImport().Status.PassedOver[0].Message, test.why)
		})
	}
}

func TestSmallerClaimIsRefused(t *testing.T) {
	source, claim := handMade("vms"), sourceClaim()
	source.Spec.VolumeMode = ptr.To(corev1.PersistentVolumeBlock)
	claim.Spec.Resources.Requests[corev1.ResourceStorage] = resource.MustParse("1Gi")
	w := newWorld(t, testDataSource(&cdiv1.DataVolumeSourcePVC{Name: "by-hand"}), claim, source, volumeFor(source), fastClass(), snapshotClass())
	w.settle(w.phase(v1alpha1.PhaseFailed))
	require.Contains(t, w.findImport().Status.LastFailure.Message, "ask for at least 4Gi")
	require.Empty(t, w.jobs)
	w.ticks(3)
	w.requireNothingLeft()
}

func TestQcow2DiskIsReadAsOne(t *testing.T) {
	source := handMade("vms")
	source.Spec.DataSourceRef = testClaim().Spec.DataSourceRef
	image := testImage()
	image.Spec.Format = v1alpha1.DiskFormatQcow2
	filled := newImport(source, imageSpec(image))
	filled.Status = v1alpha1.VMDiskImportStatus{Phase: v1alpha1.PhaseSucceeded, VolumeName: source.Spec.VolumeName, Result: &v1alpha1.ImportResult{VirtualSize: 1 << 30, Digest: "sha256:aa"}}
	w := newWorld(t, testDataSource(&cdiv1.DataVolumeSourcePVC{Name: "by-hand"}), sourceClaim(), source, filled, volumeFor(source), fastClass())
	args := w.seeArgs()
	w.settle(w.bound)
	require.Contains(t, *args, "--source-format=qcow2")
	require.Contains(t, *args, "--target-format=qcow2")
	require.Empty(t, w.findImport().Status.Result.Digest, "somebody may have written to it since")
}

func TestSourceInUseIsWaitedFor(t *testing.T) {
	w := copyWorld(t, "vms", guest())
	w.settle(func() bool { reason, _ := w.ready(); return reason == strategy.WaitForWriters })
	w.ticks(5)
	require.False(t, w.exporting(), "nobody is kept from the source")
	require.True(t, w.told(strategy.WaitForWriters, "pod guest"))
	require.NoError(t, w.store.Delete(t.Context(), guest()))
	w.settle(w.bound)
	require.Equal(t, v1alpha1.StrategyCopy, w.findImport().Status.Strategy)
}

func TestWriterThatComesInTheMiddle(t *testing.T) {
	for name, when := range map[string]func(w *world) bool{
		"while it runs": func(w *world) bool { return w.running == 1 },
		"at the end":    func(w *world) bool { return len(w.jobs) == 1 && w.endedOnce },
	} {
		t.Run(name, func(t *testing.T) {
			w := copyWorld(t, "vms")
			good := w.end
			w.end = func(n int32) (int32, string) {
				w.endedOnce = true
				return good(n)
			}
			w.settleBy(0, func() bool { return when(w) })
			require.NoError(t, w.store.Create(t.Context(), guest()))
			w.settle(func() bool {
				imp := w.findImport()
				return imp.Status.LastFailure != nil && imp.Status.LastFailure.Reason == strategy.WaitForWriters
			})
			w.ticks(3)
			require.Nil(t, w.findImport().Status.Result)
			require.Empty(t, w.findClaim().Spec.VolumeName)
			w.requireNoExports()
			require.NoError(t, w.store.Delete(t.Context(), guest()))
			w.settle(w.bound)
			require.Len(t, w.jobs, 2)
		})
	}
}

func TestExporterThatNeverAnswersIsPassedOver(t *testing.T) {
	w := copyWorld(t, "vms")
	w.storage.silent = true
	began := w.clock.Now()
	w.settle(w.phase(v1alpha1.PhaseFailed))
	require.Less(t, w.clock.Since(began), 2*copyPatience)
	require.Contains(t, w.findImport().Status.LastFailure.Message, "does not answer")
	w.ticks(3)
	w.requireNothingLeft()
	w.requireNoExports()
}

// TestPlaceIsKeptWhileTheExporterStarts: what starts counts as what runs, for longer than a reservation.
func TestPlaceIsKeptWhileTheExporterStarts(t *testing.T) {
	w := copyWorld(t, "vms")
	w.imports.queue = newQueue(10, 1)
	w.storage.silent = true
	w.settle(w.exporting)
	next := func() bool {
		now := w.clock.Now()
		_, ok := w.imports.queue.enter(named("web-2"), "vms/by-hand", now, now, nil)
		return ok
	}
	for began := w.clock.Now(); w.clock.Since(began) < 2*reservation; w.clock.Step(askAgain) {
		w.tick()
		require.False(t, next())
	}
	w.settle(w.phase(v1alpha1.PhaseFailed))
	require.True(t, next(), "a copy that is given up leaves its place")
}

// TestQueuedCopyHasNoExporter: nobody would read it. Others have the places after a restart.
func TestQueuedCopyHasNoExporter(t *testing.T) {
	w := copyWorld(t, "vms")
	w.storage.silent = true
	w.settle(w.exporting)
	w.restart()
	w.imports.queue = newQueue(10, 1)
	_, ok := w.imports.queue.enter(named("web-2"), "vms/by-hand", w.clock.Now(), w.clock.Now(), nil)
	require.True(t, ok)
	w.settle(w.phase(v1alpha1.PhaseQueued))
	w.requireNoExports()
	require.NoError(t, w.store.Create(t.Context(), guest()))
	w.tick()
	require.True(t, w.phase(v1alpha1.PhaseQueued)(), "who writes is asked when it is this import's turn")
	require.NoError(t, w.store.Delete(t.Context(), guest()))
	w.storage.silent = false
	w.imports.queue.leave(named("web-2"))
	w.settle(w.bound)
	require.Equal(t, v1alpha1.StrategyCopy, w.findImport().Status.Strategy)
}

// TestSourceDeletedInTheMiddleOfACopy: of a golden claim, the disk is imported again.
func TestSourceDeletedInTheMiddleOfACopy(t *testing.T) {
	held := heldClaim(revisionA())
	held.Finalizers = nil
	w := newWorld(t, testDataSource(ofHeld()), testCron(nil, revisionA()), sourceClaim(), held, volumeFor(held), fastClass())
	good := w.end
	w.end = func(n int32) (int32, string) {
		if n == 1 {
			return 1, `{"reason":"ConnectionFailed","message":"it is gone"}`
		}
		return good(n)
	}
	w.settle(func() bool { return w.running == 1 })
	require.NoError(t, w.store.Delete(t.Context(), held))
	w.settle(w.bound)
	imp := w.findImport()
	require.Equal(t, v1alpha1.StrategyImport, imp.Status.Strategy)
	require.EqualValues(t, 2, imp.Status.Attempts)
	require.Contains(t, imp.Status.PassedOver[1].Message, "was deleted")
	w.ticks(4)
	w.requireNothingLeft()
	w.requireNoExports()
}

func TestGrantRevokedInTheMiddleOfACopy(t *testing.T) {
	w := copyWorld(t, "golden", testGrant())
	w.settle(func() bool { return w.running == 1 })
	require.NoError(t, w.store.Delete(t.Context(), testGrant()))
	w.settle(func() bool { reason, _ := w.ready(); return reason == reasonNotGranted })
	w.ticks(20)
	require.Empty(t, w.findClaim().Spec.VolumeName)
	w.requireNoExports()
	require.NoError(t, w.store.Create(t.Context(), testGrant()))
	w.settle(w.bound)
	require.Len(t, w.jobs, 1)
}

func TestClaimDeletedInTheMiddleOfACopy(t *testing.T) {
	w := copyWorld(t, "vms")
	w.settle(func() bool { return w.running == 1 })
	claim := w.findClaim()
	claim.Finalizers = append(claim.Finalizers, finalizerClaim)
	require.NoError(t, w.store.Update(t.Context(), claim))
	require.NoError(t, w.store.Delete(t.Context(), claim))
	w.settle(func() bool { return len(w.findClaim().Finalizers) == 1 && w.findImport() == nil })
	w.requireNothingLeft()
	w.requireNoExports()
}

// TestExportOnANodeThatIsAway: the exporter stays until its node is back, long after the end of the import.
func TestExportOnANodeThatIsAway(t *testing.T) {
	w := copyWorld(t, "vms")
	exporter := func() *corev1.Pod {
		var pods corev1.PodList
		require.NoError(t, w.store.List(t.Context(), &pods, client.HasLabels{"gild.dev/export"}))
		require.Len(t, pods.Items, 1)
		return &pods.Items[0]
	}
	w.settle(w.exporting)
	away := exporter()
	away.Finalizers = []string{"example.org/node"}
	require.NoError(t, w.store.Update(t.Context(), away))
	w.settle(w.bound)
	back := exporter()
	require.NotNil(t, back.DeletionTimestamp)
	back.Finalizers = nil
	require.NoError(t, w.store.Update(t.Context(), back))
	w.ticks(2)
	w.requireNoExports()
}

// TestCrashAtEveryWriteOfACopy crashes the populator at each of its writes, before and after it is applied.
func TestCrashAtEveryWriteOfACopy(t *testing.T) {
	crashAtEveryWrite(t, 10, func(t *testing.T, c crash) *world {
		w := copyWorld(t, "golden", testGrant())
		w.arm(c)
		w.settle(w.bound)
		w.ticks(4)
		require.Equal(t, 1, w.running, "two writers at once")
		w.requireNothingLeft()
		w.requireNoExports()
		return w
	})
}

// TestCopiesAreTurnedOff while one is under way: it ends, and what it has made goes.
func TestCopiesAreTurnedOff(t *testing.T) {
	for name, when := range map[string]func(w *world) bool{
		"the exporter starts": func(w *world) bool { return w.exporting() },
		"the copy runs":       func(w *world) bool { return w.running == 1 },
	} {
		t.Run(name, func(t *testing.T) {
			w := copyWorld(t, "vms")
			w.settleBy(0, func() bool { return when(w) })
			w.forbidCopies()
			w.settle(w.phase(v1alpha1.PhaseFailed))
			require.Contains(t, w.findImport().Status.LastFailure.Message, turnedOff)
			require.Empty(t, w.findClaim().Spec.VolumeName)
			w.ticks(4)
			w.requireNothingLeft()
			w.requireNoExports()
		})
	}
}

// withoutPermission are exports that may not be made nor removed any more.
type withoutPermission struct{ exports }

func (withoutPermission) Clear(context.Context, string, string) (bool, error) {
	return false, apierrors.NewForbidden(schema.GroupResource{Resource: "services"}, "gild-export", errors.New("no ClusterRole"))
}

// TestCopiesAreTurnedOffWithTheirPermission: nothing else waits for what nobody may remove, and the sweeper tells.
func TestCopiesAreTurnedOffWithTheirPermission(t *testing.T) {
	w := handMadeWorld(t, "vms")
	w.storage.uncut = true
	w.settle(func() bool { return w.exporting() && len(w.snapshotNames()) == 0 })
	w.forbidCopies()
	w.imports.exports = withoutPermission{w.imports.exports}
	imp := w.findImport()
	for range 600 {
		w.reconcile(t.Context(), w.imports, "web-1")
		if imp = w.findImport(); ended(imp) {
			break
		}
		w.clock.Step(askAgain)
	}
	require.Equal(t, reasonNoStrategy, imp.Status.LastFailure.Reason)
	w.sweeper.exports = w.imports.exports
	foreign := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: systemNamespace, Name: "left", Labels: importLabels("no-claim"), Annotations: map[string]string{annotationClaim: "vms/no-claim"}}}
	require.NoError(t, w.store.Create(t.Context(), foreign))
	require.ErrorContains(t, w.sweeper.sweep(t.Context()), "no ClusterRole")
	require.False(t, w.find(foreign, foreign.Namespace, foreign.Name))
}

// TestForcedEndOfACopy removes the record of a copy by force, and the claim: nobody but the sweeper is left.
func TestForcedEndOfACopy(t *testing.T) {
	for name, begin := range map[string]func(*testing.T) *world{
		"copy":    func(t *testing.T) *world { return copyWorld(t, "vms") },
		"restore": func(t *testing.T) *world { return handMadeWorld(t, "vms") },
	} {
		t.Run(name, func(t *testing.T) {
			w := begin(t)
			w.storage.unmade = true
			w.settle(func() bool { return w.running == 1 || w.primeSource() != "" })
			imp, claim := w.findImport(), w.findClaim()
			imp.Finalizers, claim.Finalizers = nil, nil
			for _, o := range []client.Object{imp, claim} {
				require.NoError(t, w.store.Update(t.Context(), o))
				require.NoError(t, w.store.Delete(t.Context(), o))
			}
			w.ticks(6)
			w.requireNothingLeft()
			w.requireNoExports()
			require.Empty(t, w.snapshotNames())
		})
	}
}
