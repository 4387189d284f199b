package populator

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	authorizationv1 "k8s.io/api/authorization/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/record"
	testingclock "k8s.io/utils/clock/testing"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/cdi"
	"github.com/gild-project/gild/pkg/export"
	"github.com/gild-project/gild/pkg/golden"
	"github.com/gild-project/gild/pkg/grant"
	"github.com/gild-project/gild/pkg/imagestream"
	"github.com/gild-project/gild/pkg/snapshot"
)

// sourceName is the name of every source in a world, whatever its kind.
const sourceName = "debian-12"

// errCrash is what a write ends with when the populator "crashes" at it.
var errCrash = errors.New("the populator crashed here")

// world is an object store with our controllers on one side and, on the other, just enough of the
// cluster to answer them: PVC' as lib-volume-populator makes it, pods as the Job controller makes
// them, ends as the node reports them. The real parts are met in test/e2e.
type world struct {
	t      *testing.T
	store  client.WithWatch // the cluster's own view, never crashing
	client client.WithWatch // what our controllers write through
	clock  *testingclock.FakeClock
	events *record.FakeRecorder

	writes  int  // by our controllers
	armed   int  // writes before the crash was armed
	crashAt int  // the write to crash at
	applied bool // whether that write is applied before the crash
	primes  int  // PVC's made so far

	imports *importController
	claims  *claimController
	gate    *machinery
	sweeper *sweeper
	kinds   kinds
	keepers []reconcile.Reconciler
	// names are those of all claims. Most worlds have one.
	names []string

	// end is how each attempt ends: exit code and termination message.
	end func(attempt int32) (int32, string)
	// endOf is end for those who tell Jobs apart.
	endOf func(*batchv1.Job) (int32, string)
	// running is the largest number of pods of one import that were alive at once.
	running int
	// lazy keeps lib-volume-populator from handing over.
	lazy bool
	// chosen says whether a claim has its node, where lib-volume-populator waits for that; nil when all have.
	chosen func(*corev1.PersistentVolumeClaim) bool
	// admit is what the API server does to a Job, or why it takes none; nil takes it as it is.
	admit func(*batchv1.Job) error
	// kubelet plays the node for a pod that is not running yet; nil has it run at once.
	kubelet func(*corev1.Pod)
	// openshift says that the API server knows image streams.
	openshift bool
	storage   storage
	// withoutCopies is --copy=false, as of the next restart.
	withoutCopies bool
	// endedOnce says that an attempt has ended.
	endedOnce bool
	// job names seen, to count attempts.
	jobs map[string]types.UID
}

func newWorld(t *testing.T, objects ...client.Object) *world {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, batchv1.AddToScheme, storagev1.AddToScheme, v1alpha1.AddToScheme, cdi.AddToScheme, snapshot.AddToScheme, grant.AddToScheme, networkingv1.AddToScheme} {
		require.NoError(t, add(scheme))
	}
	w := &world{
		t: t, clock: testingclock.NewFakeClock(time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)),
		events: record.NewFakeRecorder(1000), jobs: map[string]types.UID{}, names: []string{"web-1"},
		end: func(int32) (int32, string) { return 0, `{"reason":"Imported","virtualSize":1024,"seconds":1}` },
	}
	// Nothing is applied on the server's side: keeping whose each field is would take half of the time.
	tracker := clienttesting.NewObjectTracker(scheme, serializer.NewCodecFactory(scheme).UniversalDecoder())
	w.store = fake.NewClientBuilder().WithScheme(scheme).WithObjectTracker(tracker).
		WithStatusSubresource(&v1alpha1.VMDiskImage{}, &v1alpha1.VMDiskImport{}, &corev1.Pod{}).
		WithIndex(&v1alpha1.VMDiskImport{}, indexImportSource, func(o client.Object) []string {
			imp := o.(*v1alpha1.VMDiskImport)
			return []string{sourceKey(kindOf(imp), imp.Spec.ImageRef.Name)}
		}).
		WithIndex(&corev1.PersistentVolumeClaim{}, indexUID, func(o client.Object) []string { return []string{string(o.GetUID())} }).
		WithIndex(&corev1.PersistentVolume{}, indexReleased, func(o client.Object) []string { return []string{releasedFrom(o.(*corev1.PersistentVolume))} }).
		WithIndex(&corev1.Event{}, "involvedObject.uid", func(o client.Object) []string {
			return []string{string(o.(*corev1.Event).InvolvedObject.UID)}
		}).
		WithObjects(objects...).Build()
	w.client = interceptor.NewClient(w.store, interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			if kind := o.GetObjectKind().GroupVersionKind(); kind == imagestream.Kind() && !w.openshift {
				return &meta.NoKindMatchError{GroupKind: kind.GroupKind(), SearchedVersions: []string{kind.Version}}
			}
			return c.Get(ctx, key, o, opts...)
		},
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			if job, ok := o.(*batchv1.Job); ok && w.admit != nil {
				if err := w.admit(job); err != nil {
					return err
				}
			}
			if _, ok := o.(*authorizationv1.SubjectAccessReview); ok {
				return nil // nobody has that permission here
			}
			return w.write(func() error {
				if o.GetUID() == "" {
					o.SetUID(types.UID(fmt.Sprintf("uid-%d", w.writes)))
					o.SetCreationTimestamp(metav1.NewTime(w.clock.Now()))
				}
				return c.Create(ctx, o, opts...)
			})
		},
		Update: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.UpdateOption) error {
			return w.write(func() error { return c.Update(ctx, o, opts...) })
		},
		Patch: func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
			return w.write(func() error { return c.Patch(ctx, o, p, opts...) })
		},
		Delete: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
			return w.write(func() error { return c.Delete(ctx, o, opts...) })
		},
		SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
			return w.write(func() error { return c.SubResource(sub).Patch(ctx, o, p, opts...) })
		},
	})
	w.restart()
	return w
}

// write counts a write of ours and crashes at the chosen one.
func (w *world) write(apply func() error) error {
	w.writes++
	if w.writes != w.crashAt {
		return apply()
	}
	if w.applied {
		if err := apply(); err != nil {
			return err
		}
	}
	return errCrash
}

// crash is the write to crash at, counted from when it is armed: 0 for none, 1 for the next one.
type crash struct {
	at      int
	applied bool // whether the write is applied before the crash
}

// arm has the populator crash from here on.
func (w *world) arm(c crash) {
	w.armed, w.crashAt, w.applied = w.writes, w.writes+c.at, c.applied
}

// crashAtEveryWrite runs a scenario without a crash, then with one at each of its writes, once before and once after the
// write is applied. run makes a world, arms the crash and checks how all ends. It makes more than atLeast writes.
func crashAtEveryWrite(t *testing.T, atLeast int, run func(t *testing.T, c crash) *world) {
	t.Helper()
	whole := run(t, crash{})
	writes := whole.writes - whole.armed
	require.Greater(t, writes, atLeast)
	for k := 1; k <= writes; k++ {
		for _, applied := range []bool{false, true} {
			t.Run(fmt.Sprintf("write %d, applied %v", k, applied), func(t *testing.T) {
				t.Parallel()
				w := run(t, crash{at: k, applied: applied})
				require.GreaterOrEqual(t, w.writes, w.crashAt, "it has not crashed")
			})
		}
	}
}

// restart makes the controllers anew: all that they hold in memory is gone.
func (w *world) restart() {
	remains := remains{client: w.client, live: w.client, namespace: systemNamespace}
	events := newEventRecorder(w.events, w.clock)
	wake := func(types.NamespacedName) {}
	w.kinds = newKinds()
	for _, k := range w.kinds {
		k.setPresence(presenceOurs)
	}
	taken := snapshot.New(w.client, w.client)
	led := newLeaders()
	w.gate = &machinery{remains: remains, snapshots: taken, grants: grant.New(w.client, w.client), events: events, leaders: led}
	exported := export.New(w.client, w.client, systemNamespace, w.clock)
	w.sweeper = &sweeper{remains: remains, snapshots: taken, exports: exported}
	w.imports = &importController{
		snapshots: taken, grants: grant.New(w.client, w.client), copies: !w.withoutCopies,
		kinds: w.kinds, logs: func(context.Context, string, string) ([]byte, error) { return nil, errors.New("no log") },
		exports: exported, clock: w.clock, events: events, queue: newQueue(10, 10), pace: newPace(), leaders: led, remains: remains, wake: wake,
		importerImage: "gild-importer:test",
	}
	w.claims = &claimController{kinds: w.kinds, events: events, clock: w.clock, remains: remains, wake: wake}
	w.keepers = nil
	for _, k := range w.kinds {
		w.keepers = append(w.keepers, k.keeper(holder{client: w.client, kind: k}, w.clock))
	}
}

// settle runs everything until nothing changes any more, for at most an hour of the fake clock.
func (w *world) settle(done func() bool) {
	w.t.Helper()
	w.settleBy(6*time.Second, done)
}

// settleBy does so with another step of the clock.
func (w *world) settleBy(step time.Duration, done func() bool) {
	w.t.Helper()
	for range 600 {
		w.tick()
		if done() {
			return
		}
		w.clock.Step(step)
	}
	w.t.Fatalf("not done after an hour: %+v", w.findImport())
}

func (w *world) tick() {
	ctx := w.t.Context()
	for _, name := range w.names {
		w.reconcile(ctx, w.claims, name)
		w.reconcile(ctx, w.imports, name)
	}
	for _, keeper := range w.keepers {
		w.reconcile(ctx, keeper, sourceName)
	}
	if err := w.sweeper.sweep(ctx); errors.Is(err, errCrash) {
		w.restart()
	} else if err != nil && !apierrors.IsConflict(err) {
		w.t.Fatalf("sweeping: %v", err)
	}
	w.playCluster()
}

func (w *world) reconcile(ctx context.Context, r reconcile.Reconciler, name string) {
	_, err := r.Reconcile(ctx, ctrl.Request{NamespacedName: types.NamespacedName{Namespace: "vms", Name: name}})
	if errors.Is(err, errCrash) {
		w.restart()
		return
	}
	if err != nil && !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) && !apierrors.IsNotFound(err) {
		w.t.Fatalf("reconciling: %v", err)
	}
}

// playCluster does what the rest of the cluster would have done meanwhile.
func (w *world) playCluster() {
	w.playSnapshots()
	w.playExporters()
	w.playLibrary()
	w.playStorage()
	var jobs batchv1.JobList
	require.NoError(w.t, w.store.List(w.t.Context(), &jobs, client.InNamespace(systemNamespace)))
	for i := range jobs.Items {
		w.playJob(&jobs.Items[i])
	}
}

// playLibrary makes PVC' when the gate is open, with a volume, and hands it over when it may, as
// lib-volume-populator does.
func (w *world) playLibrary() {
	for _, name := range w.names {
		w.playLibraryFor(w.claimNamed(name), w.importNamed(name))
	}
}

func (w *world) playLibraryFor(claim *corev1.PersistentVolumeClaim, imp *v1alpha1.VMDiskImport) {
	ctx := w.t.Context()
	if claim == nil || !claim.DeletionTimestamp.IsZero() || imp == nil {
		return
	}
	prime := &corev1.PersistentVolumeClaim{}
	exists := w.find(prime, systemNamespace, primeName(claim.UID))
	switch {
	case claim.Spec.VolumeName != "":
		if exists && prime.Status.Phase == corev1.ClaimLost {
			require.NoError(w.t, w.store.Delete(ctx, prime))
		}
	case !exists && imp.DeletionTimestamp.IsZero() && !ended(imp) && (w.chosen == nil || w.chosen(claim)):
		made, err := w.gate.mutate(ctx, testPrime(claim))
		if errors.Is(err, errNotNow) {
			return
		}
		require.NoError(w.t, err)
		w.primes++
		made.UID = types.UID(fmt.Sprintf("prime-%d", w.primes))
		made.CreationTimestamp = metav1.NewTime(w.clock.Now())
		require.NoError(w.t, w.store.Create(ctx, made))
	case exists && !w.lazy && handOverDue(imp, prime):
		pv := &corev1.PersistentVolume{}
		require.True(w.t, w.find(pv, "", prime.Spec.VolumeName))
		require.True(w.t, boundTo(pv, prime), "handed over twice")
		pv.Spec.ClaimRef = &corev1.ObjectReference{Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID}
		pv.Annotations = map[string]string{golden.AnnotationPopulatedFrom: claim.Namespace + "/" + claim.Spec.DataSourceRef.Name}
		require.NoError(w.t, w.store.Update(ctx, pv))
		w.bind(claim, pv.Name)
		prime.Status.Phase = corev1.ClaimLost
		require.NoError(w.t, w.store.Status().Update(ctx, prime))
	}
}

// bind binds the claim to a volume, as the cluster does.
func (w *world) bind(claim *corev1.PersistentVolumeClaim, volume string) {
	claim.Spec.VolumeName = volume
	require.NoError(w.t, w.store.Update(w.t.Context(), claim))
	claim.Status.Phase = corev1.ClaimBound
	require.NoError(w.t, w.store.Status().Update(w.t.Context(), claim))
}

// playJob makes the pod of a Job, and one round later reports its end.
func (w *world) playJob(job *batchv1.Job) {
	ctx := w.t.Context()
	if job.UID == "" {
		w.t.Fatalf("a Job without UID: %s", job.Name)
	}
	pod := &corev1.Pod{}
	err := w.store.Get(ctx, types.NamespacedName{Namespace: systemNamespace, Name: job.Name + "-pod"}, pod)
	if apierrors.IsNotFound(err) {
		if w.jobs[job.Name] == job.UID {
			return // the pod has come and gone
		}
		w.jobs[job.Name] = job.UID
		pod = &corev1.Pod{ObjectMeta: *job.Spec.Template.ObjectMeta.DeepCopy(), Spec: *job.Spec.Template.Spec.DeepCopy()}
		pod.Namespace, pod.Name, pod.UID = systemNamespace, job.Name+"-pod", job.UID+"-pod"
		pod.CreationTimestamp = metav1.NewTime(w.clock.Now())
		pod.OwnerReferences = []metav1.OwnerReference{{APIVersion: "batch/v1", Kind: "Job", Name: job.Name, UID: job.UID}}
		require.NoError(w.t, w.store.Create(ctx, pod))
		if w.storage.bound(w, job) {
			w.playNode(pod)
		}
		return
	}
	require.NoError(w.t, err)
	if pod.Status.Phase == corev1.PodPending || pod.Status.Phase == "" {
		if w.storage.bound(w, job) {
			w.playNode(pod)
		}
		return
	}
	if pod.Status.Phase != corev1.PodRunning {
		return
	}
	code, message := w.end(attemptOf(job))
	if w.endOf != nil {
		code, message = w.endOf(job)
	}
	pod.Status = endedPod(code, "", message).Status
	require.NoError(w.t, w.store.Status().Update(ctx, pod))
}

// playNode has a pod run, unless the kubelet has something else to say of it.
func (w *world) playNode(pod *corev1.Pod) {
	pod.Status.Phase = corev1.PodRunning
	if w.kubelet != nil {
		w.kubelet(pod)
	}
	require.NoError(w.t, w.store.Status().Update(w.t.Context(), pod))
	w.countRunning()
}

func (w *world) countRunning() {
	var pods corev1.PodList
	require.NoError(w.t, w.store.List(w.t.Context(), &pods, client.InNamespace(systemNamespace)))
	running := map[string]int{}
	for i := range pods.Items {
		if claim := pods.Items[i].Labels[labelClaimUID]; pods.Items[i].Status.Phase == corev1.PodRunning {
			running[claim]++
			w.running = max(w.running, running[claim])
		}
	}
}

func (w *world) findImport() *v1alpha1.VMDiskImport { return w.importNamed("web-1") }

func (w *world) importNamed(name string) *v1alpha1.VMDiskImport {
	imp := &v1alpha1.VMDiskImport{}
	if !w.find(imp, "vms", name) {
		return nil
	}
	return imp
}

func (w *world) findClaim() *corev1.PersistentVolumeClaim { return w.claimNamed("web-1") }

func (w *world) claimNamed(name string) *corev1.PersistentVolumeClaim {
	claim := &corev1.PersistentVolumeClaim{}
	if !w.find(claim, "vms", name) {
		return nil
	}
	return claim
}

func (w *world) find(o client.Object, namespace, name string) bool {
	err := w.store.Get(w.t.Context(), types.NamespacedName{Namespace: namespace, Name: name}, o)
	if apierrors.IsNotFound(err) {
		return false
	}
	require.NoError(w.t, err)
	return true
}

// requireNothingLeft checks that the system namespace holds nothing of ours.
func (w *world) requireNothingLeft() {
	w.t.Helper()
	for _, list := range []client.ObjectList{
		&batchv1.JobList{}, &corev1.PodList{}, &corev1.SecretList{}, &corev1.ConfigMapList{}, &corev1.PersistentVolumeClaimList{},
	} {
		require.NoError(w.t, w.store.List(w.t.Context(), list, client.InNamespace(systemNamespace)))
		items, err := objectsOf(list)
		require.NoError(w.t, err)
		require.Empty(w.t, items, "%T left behind", list)
	}
	w.requireNoTemporarySnapshots()
}

// bound reports whether the claim has the volume that its import filled.
func (w *world) bound() bool {
	claim, imp := w.findClaim(), w.findImport()
	return claim != nil && imp != nil && claim.Spec.VolumeName != "" && holdsDisk(claim, imp)
}

func (w *world) phase(phase v1alpha1.ImportPhase) func() bool {
	return func() bool {
		imp := w.findImport()
		return imp != nil && imp.Status.Phase == phase
	}
}

func fastClass() *storagev1.StorageClass {
	return &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "fast"}, Provisioner: "csi.example.org"}
}
