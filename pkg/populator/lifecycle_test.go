package populator

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/credentials"
	"github.com/gild-project/gild/pkg/golden"
)

func objectsOf(list client.ObjectList) ([]runtime.Object, error) { return meta.ExtractList(list) }

// privateImage refers to a Secret, headers and a CA, so that copies are made too.
func privateImage() *v1alpha1.VMDiskImage {
	image := testImage()
	image.Spec.Source.HTTP.SecretRef = "login"
	image.Spec.Source.HTTP.CertConfigMap = "ca"
	return image
}

func privateSource() client.Object { return privateImage() }

func login(password string) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "vms", Name: "login"},
		Data: map[string][]byte{"username": []byte("reader"), "password": []byte(password)}}
}

func ca() *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "vms", Name: "ca"}, Data: map[string]string{"ca.pem": "-"}}
}

// TestCrashAtEveryWrite crashes the populator at each of its writes, once before and once after the
// write is applied: whatever happens, there is one import, one attempt counts, there are never two
// writers, and nothing is left behind.
func TestCrashAtEveryWrite(t *testing.T) {
	for _, scenario := range []struct {
		name string
		end  func(attempt int32) (int32, string)
		want v1alpha1.ImportPhase
		// attempts is the number of Jobs that a run without a crash makes.
		attempts int
		source   func() client.Object
		claim    func() *corev1.PersistentVolumeClaim
	}{
		{"success", nil, v1alpha1.PhaseSucceeded, 1, privateSource, testClaim},
		{"retry, then success", func(attempt int32) (int32, string) {
			if attempt == 1 {
				return 1, `{"reason":"ServerError","message":"503"}`
			}
			return 0, `{"reason":"Imported","virtualSize":1024,"seconds":1}`
		}, v1alpha1.PhaseSucceeded, 2, privateSource, testClaim},
		{"failure", func(int32) (int32, string) { return 11, `{"reason":"ChecksumMismatch","message":"x"}` }, v1alpha1.PhaseFailed, 1, privateSource, testClaim},
		{"image stream, pulled by the node", nil, v1alpha1.PhaseSucceeded, 1, func() client.Object {
			image := streamImage("debian:12")
			image.Spec.Source.Registry.PullMethod, image.Spec.Source.Registry.SecretRef = v1alpha1.PullMethodNode, "login"
			return image
		}, testClaim},
		{"golden claim", nil, v1alpha1.PhaseSucceeded, 1, func() client.Object { return testCron(revisionB(), revisionA()) },
			func() *corev1.PersistentVolumeClaim { return goldenClaim(revisionB()) }},
	} {
		run := func(t *testing.T, c crash) *world {
			w := newWorld(t, scenario.source(), scenario.claim(), login("pw"), ca(), fastClass(), stream(t))
			w.openshift = true
			w.arm(c)
			if scenario.end != nil {
				w.end = scenario.end
			}
			w.settle(w.phase(scenario.want))
			for range 4 {
				w.tick()
			}
			require.Equal(t, scenario.want == v1alpha1.PhaseSucceeded, w.bound())
			require.Equal(t, 1, w.running, "two writers at once")
			require.Len(t, w.jobs, scenario.attempts)
			w.requireNothingLeft()
			return w
		}
		t.Run(scenario.name, func(t *testing.T) { crashAtEveryWrite(t, 8, run) })
	}
}

// TestCrashWhileTheClaimGoes deletes the claim in the middle of the import and crashes at each write.
func TestCrashWhileTheClaimGoes(t *testing.T) {
	crashAtEveryWrite(t, 4, func(t *testing.T, c crash) *world {
		claim := testClaim()
		claim.Finalizers = append(claim.Finalizers, finalizerClaim)
		w := newWorld(t, privateImage(), claim, login("pw"), ca(), fastClass())
		w.settle(func() bool { return w.running == 1 })
		w.arm(c)
		require.NoError(t, w.store.Delete(t.Context(), w.findClaim()))
		w.settle(func() bool {
			claim := w.findClaim()
			return claim != nil && len(claim.Finalizers) == 1 && w.findImport() == nil
		})
		w.requireNothingLeft()
		return w
	})
}

func TestMissingSecretIsWaitedFor(t *testing.T) {
	w := newWorld(t, privateImage(), testClaim(), ca(), fastClass())
	w.settle(func() bool { imp := w.findImport(); return imp != nil && imp.Status.Phase == v1alpha1.PhasePending })
	ready := meta.FindStatusCondition(w.findImport().Status.Conditions, v1alpha1.ConditionReady)
	require.Equal(t, credentials.SecretNotFound, ready.Reason)
	require.Contains(t, ready.Message, "login")
	require.Contains(t, <-w.events.Events, credentials.SecretNotFound)
	require.NoError(t, w.store.Create(t.Context(), login("pw")))
	w.settle(w.phase(v1alpha1.PhaseSucceeded))
	require.Len(t, w.jobs, 1)
}

func TestFailedImportStartsAnew(t *testing.T) {
	failing := func(int32) (int32, string) { return 10, `{"reason":"AuthenticationFailed","message":"401"}` }
	for name, mend := range map[string]func(*testing.T, *world){
		"image edited": func(t *testing.T, w *world) {
			image := &v1alpha1.VMDiskImage{}
			require.True(t, w.find(image, "vms", "debian-12"))
			image.Generation++
			require.NoError(t, w.store.Update(t.Context(), image))
		},
		"secret replaced": func(t *testing.T, w *world) {
			require.NoError(t, w.store.Update(t.Context(), login("better")))
		},
		"import deleted": func(t *testing.T, w *world) {
			require.NoError(t, w.store.Delete(t.Context(), w.findImport()))
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, privateImage(), testClaim(), login("pw"), ca(), fastClass())
			good := w.end
			w.end = failing
			w.settle(w.phase(v1alpha1.PhaseFailed))
			for range 5 {
				w.tick()
			}
			require.True(t, w.phase(v1alpha1.PhaseFailed)(), "nothing has changed, so nothing starts anew")
			require.Len(t, w.jobs, 1)
			w.requireNothingLeft()

			w.end = good
			mend(t, w)
			w.settle(w.phase(v1alpha1.PhaseSucceeded))
			require.EqualValues(t, 1, w.findImport().Status.Attempts, "attempts are counted anew")
		})
	}
}

func TestScratchIsGivenToTheImportThatNeedsIt(t *testing.T) {
	w := newWorld(t, privateImage(), testClaim(), login("pw"), ca(), fastClass())
	good := w.end
	var scratch []bool
	w.end = func(n int32) (int32, string) {
		var jobs batchv1.JobList
		require.NoError(t, w.store.List(t.Context(), &jobs))
		require.Len(t, jobs.Items, 1)
		has := slices.Contains(jobs.Items[0].Spec.Template.Spec.Containers[0].Args, "--scratch-dir="+scratchDir)
		scratch = append(scratch, has)
		if !has {
			return 2, `{"reason":"ScratchRequired","message":"vhdx in a gz stream"}`
		}
		return good(n)
	}
	w.settle(w.phase(v1alpha1.PhaseSucceeded))
	require.Equal(t, []bool{false, true}, slices.Compact(scratch))
	require.Len(t, w.jobs, 2)
	require.Nil(t, w.findImport().Status.LastFailure, "it was no failure")
}

func TestImportThatFailsForWantOfScratchTwiceEnds(t *testing.T) {
	w := newWorld(t, privateImage(), testClaim(), login("pw"), ca(), fastClass())
	w.end = func(int32) (int32, string) { return 2, `{"reason":"ScratchRequired","message":"no"}` }
	w.settle(w.phase(v1alpha1.PhaseFailed))
	require.Len(t, w.jobs, 2)
}

func TestDeletedSourceIsHeldWhileItsImportRuns(t *testing.T) {
	for name, test := range map[string]struct {
		source client.Object
		claim  *corev1.PersistentVolumeClaim
		// others are the finalizers that stay, because they are not ours.
		others []string
	}{
		"VMDiskImage":    {testImage(), testClaim(), nil},
		"DataImportCron": {testCron(revisionA(), nil), goldenClaim(revisionA()), []string{"gild.dev/cron"}},
	} {
		t.Run(name, func(t *testing.T) {
			test.claim.Finalizers = append(test.claim.Finalizers, finalizerClaim)
			w := newWorld(t, test.source, test.claim, fastClass())
			w.settle(func() bool { return w.running == 1 })
			source := test.source
			require.True(t, w.find(source, "vms", sourceName))
			held := source.GetFinalizers()
			require.Len(t, held, len(test.others)+1)
			require.NoError(t, w.store.Delete(t.Context(), source))
			w.lazy = true
			w.settle(w.phase(v1alpha1.PhaseSucceeded))
			for range 5 {
				w.tick()
			}
			require.True(t, w.phase(v1alpha1.PhaseSucceeded)(), "a finished disk is not thrown away")
			require.True(t, w.find(source, "vms", sourceName))
			require.Equal(t, held, source.GetFinalizers())
			w.lazy = false
			w.settle(w.bound)
			w.ticks(4)
			if w.find(source, "vms", sourceName) {
				require.Equal(t, test.others, source.GetFinalizers(), "let go once the import has ended")
			} else {
				require.Empty(t, test.others)
			}
		})
	}
}

func TestSucceededImportCannotBeCalledOff(t *testing.T) {
	w := newWorld(t, testImage(), testClaim(), fastClass())
	w.lazy = true
	w.settle(w.phase(v1alpha1.PhaseSucceeded))
	require.NoError(t, w.store.Delete(t.Context(), w.findImport()))
	for range 10 {
		w.tick()
	}
	require.Len(t, w.jobs, 1, "a new writer could meet the hand-over")
	w.lazy = false
	w.settle(func() bool { return w.findClaim().Spec.VolumeName != "" })
	w.settle(func() bool { return w.findImport() == nil })
	require.Len(t, w.jobs, 1)
}

func TestForeignVolumeIsNeverCalledOurs(t *testing.T) {
	static := func(annotations map[string]string) *corev1.PersistentVolume {
		return &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "static", Annotations: annotations},
			Spec: corev1.PersistentVolumeSpec{ClaimRef: &corev1.ObjectReference{Namespace: "vms", Name: "web-1", UID: "0c1a"}}}
	}
	old := map[string]string{golden.AnnotationPopulatedFrom: "other/windows"}
	for name, when := range map[string]func(w *world) bool{
		"before it is seen":    func(*world) bool { return true },
		"while it runs":        func(w *world) bool { return w.running == 1 },
		"when it has finished": func(w *world) bool { imp := w.findImport(); return imp != nil && imp.Status.Result != nil },
		"when it is ready":     func(w *world) bool { return w.phase(v1alpha1.PhaseSucceeded)() },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, testImage(), testClaim(), fastClass(), static(old))
			w.lazy = true
			if name != "before it is seen" {
				w.settle(func() bool { return when(w) })
			}
			claim := w.findClaim()
			claim.Finalizers = append(claim.Finalizers, finalizerClaim)
			w.bind(claim, "static")
			w.settle(func() bool { return len(w.findClaim().Finalizers) == 1 })
			for range 5 {
				w.tick()
			}
			if imp := w.findImport(); imp != nil {
				require.Equal(t, v1alpha1.PhaseFailed, imp.Status.Phase)
			}
			var told bool
			for len(w.events.Events) > 0 {
				told = strings.Contains(<-w.events.Events, reasonForeignVolume) || told
			}
			require.True(t, told)
			w.requireNothingLeft()
		})
	}
}

func TestForgedImportCannotStopAnother(t *testing.T) {
	w := newWorld(t, testImage(), testClaim(), fastClass())
	w.settle(func() bool { return w.running == 1 })
	forged := testImport()
	forged.Namespace, forged.Name, forged.UID = "evil", "thief", "forged"
	require.NoError(t, w.store.Create(t.Context(), forged))
	require.NoError(t, w.store.Delete(t.Context(), forged))
	_, err := w.imports.Reconcile(t.Context(), ctrl.Request{NamespacedName: types.NamespacedName{Namespace: "evil", Name: "thief"}})
	require.NoError(t, err)
	w.settle(w.bound)
	require.Len(t, w.jobs, 1)
	require.EqualValues(t, 1, w.findImport().Status.Attempts)
}

func TestNodeThatTheDriverRefusesIsChosenAgain(t *testing.T) {
	claim := testClaim()
	claim.Annotations = map[string]string{annotationSelectedNode: "node1"}
	class := fastClass()
	class.VolumeBindingMode = ptr.To(storagev1.VolumeBindingWaitForFirstConsumer)
	prime := testPrime(claim) // its node has been taken off by the provisioner
	prime.UID = "refused"
	w := newWorld(t, testImage(), claim, class, prime)
	w.settle(func() bool { return w.findClaim().Annotations[annotationSelectedNode] == "" })
	if w.find(prime, systemNamespace, primeName("0c1a")) {
		require.NotEqual(t, types.UID("refused"), prime.UID, "the volume for the refused node is still there")
	}
}

func TestForgedImportIsNotTrusted(t *testing.T) {
	forged := testImport()
	forged.OwnerReferences = nil
	w := newWorld(t, testImage(), testClaim(), fastClass(), forged)
	for range 5 {
		w.tick()
	}
	require.Empty(t, w.jobs)
	require.Contains(t, <-w.events.Events, eventNameTaken)
	require.NoError(t, w.store.Delete(t.Context(), w.findImport()))
	imp := w.findImport()
	if imp != nil { // its finalizer is not ours to keep
		imp.Finalizers = nil
		require.NoError(t, w.store.Update(t.Context(), imp))
	}
	w.settle(w.phase(v1alpha1.PhaseSucceeded))
}

func TestHandedOverVolumeIsNeverWrittenTo(t *testing.T) {
	w := newWorld(t, testImage(), testClaim(), fastClass())
	bound := testPrime(testClaim())
	bound.Spec.VolumeName = "pv-1"
	pv := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pv-1"}, Spec: corev1.PersistentVolumeSpec{
		ClaimRef: &corev1.ObjectReference{Namespace: "vms", Name: "web-1", UID: "0c1a"}}}
	require.NoError(t, w.store.Create(t.Context(), bound))
	require.NoError(t, w.store.Create(t.Context(), pv))
	for range 10 {
		w.tick()
	}
	require.Empty(t, w.jobs)
	ready := meta.FindStatusCondition(w.findImport().Status.Conditions, v1alpha1.ConditionReady)
	require.Equal(t, reasonVolumeReplaced, ready.Reason)
}

func TestVolumeDeletedBeforeItsHandOverIsFilledAgain(t *testing.T) {
	w := newWorld(t, testImage(), testClaim(), fastClass())
	w.lazy = true
	w.settle(w.phase(v1alpha1.PhaseSucceeded))
	prime := &corev1.PersistentVolumeClaim{}
	require.True(t, w.find(prime, systemNamespace, primeName("0c1a")))
	first := w.findImport()
	require.NoError(t, w.store.Delete(t.Context(), prime))
	pv := &corev1.PersistentVolume{}
	require.True(t, w.find(pv, "", prime.Spec.VolumeName))
	require.NoError(t, w.store.Delete(t.Context(), pv))
	w.settle(func() bool {
		imp := w.findImport()
		return imp != nil && imp.UID != first.UID && imp.Status.Phase == v1alpha1.PhaseSucceeded
	})
	require.True(t, w.find(prime, systemNamespace, primeName("0c1a")))
	require.Equal(t, prime.UID, w.findImport().Status.TargetUID)
}
