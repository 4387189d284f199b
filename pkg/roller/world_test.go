package roller

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/record"
	testingclock "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/golden"
	"github.com/gild-project/gild/pkg/trim"
)

// errCrash is what a write ends with when the poller "crashes" at it.
var errCrash = errors.New("the poller crashed here")

const namespace = "golden-images"

// annotationOfOthers is on claims, as an annotation and as a label, and not in the poller's cache.
const annotationOfOthers = "pv.kubernetes.io/bind-completed"

// cluster is an object store with the roller on one side and, on the other, just enough of the
// cluster to answer it: imports as the populator makes them, claims bound as Kubernetes binds
// them. At every write it checks what must hold at any moment. The real parts are met end to end.
type cluster struct {
	t      *testing.T
	store  client.WithWatch // the cluster's own view, never crashing
	client client.WithWatch // what the roller writes through
	stale  client.Reader    // what the roller reads while its cache is behind; nil for the store
	clock  *testingclock.FakeClock
	events *record.FakeRecorder

	writes  int // by the roller
	made    int // claims made by the roller
	deleted []string
	changes int // of anything in the store
	seen    int // changes that the roller was told of
	played  int // changes that the cluster has reacted to
	// due is when the roller asked to be called again.
	due time.Time
	// fault is what happens to the nth write in place of it; nil lets all through.
	fault func(n int, apply func() error) error
	// eachRound is called before each round.
	eachRound func()

	roller   *controller
	registry *prometheus.Registry

	// end is how the import of a revision ends: the digest of its bytes, or the reason of its failure.
	end func(revision *golden.Revision) (digest, failure string)
	// admit is why the API server does not take a claim.
	admit func(*corev1.PersistentVolumeClaim) error
	// stuck keeps imports from beginning.
	stuck bool
	// noProfiles says that the cluster does not know StorageProfiles.
	noProfiles bool
	// listed counts what the roller has listed from the API server itself.
	listed int
}

func newCluster(t *testing.T, objects ...client.Object) *cluster {
	t.Helper()
	c := &cluster{
		t: t, clock: testingclock.NewFakeClock(start()), events: record.NewFakeRecorder(10000),
		end: func(revision *golden.Revision) (string, string) { return "sha256:bytes of " + revision.Digest, "" },
	}
	c.store = c.counted(newStore(t, objects...))
	c.client = interceptor.NewClient(c.store, interceptor.Funcs{
		Create: func(ctx context.Context, next client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			claim, isClaim := o.(*corev1.PersistentVolumeClaim)
			if isClaim && c.admit != nil {
				if err := c.admit(claim); err != nil {
					return err
				}
			}
			return c.write(func() error {
				o.SetUID(types.UID(fmt.Sprintf("uid-%d", c.writes)))
				o.SetCreationTimestamp(metav1.NewTime(c.clock.Now()))
				if isClaim {
					o.SetFinalizers([]string{"kubernetes.io/pvc-protection"})
					claim.Status.Phase = corev1.ClaimPending
				}
				err := next.Create(ctx, o, opts...)
				if err == nil && isClaim {
					c.made++
				}
				return err
			})
		},
		Update: func(context.Context, client.WithWatch, client.Object, ...client.UpdateOption) error {
			return errors.New("what is cached is trimmed: an update would delete the rest")
		},
		Patch: func(ctx context.Context, next client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
			return c.write(func() error { return next.Patch(ctx, o, p, opts...) })
		},
		Delete: func(ctx context.Context, next client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
			return c.write(func() error {
				if err := c.checkUID(o, opts...); err != nil {
					return err
				}
				err := next.Delete(ctx, o, opts...)
				switch o := o.(type) {
				case *corev1.PersistentVolumeClaim:
					if err == nil {
						c.checkDeleted(o)
						c.deleted = append(c.deleted, o.Name)
					}
				case *cdiv1.DataVolume:
					c.checkUnused(o.Name)
				}
				return err
			})
		},
	})
	c.restart()
	return c
}

// counted counts what is written to a store: the roller is called when something was, or when it has
// asked for it, and else never.
func (c *cluster) counted(store client.WithWatch) client.WithWatch {
	return interceptor.NewClient(store, interceptor.Funcs{
		Create: func(ctx context.Context, next client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			c.changes++
			return next.Create(ctx, o, opts...)
		},
		Update: func(ctx context.Context, next client.WithWatch, o client.Object, opts ...client.UpdateOption) error {
			c.changes++
			return next.Update(ctx, o, opts...)
		},
		Patch: func(ctx context.Context, next client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
			c.changes++
			return next.Patch(ctx, o, p, opts...)
		},
		Delete: func(ctx context.Context, next client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
			c.changes++
			return next.Delete(ctx, o, opts...)
		},
		SubResourceUpdate: func(ctx context.Context, next client.Client, sub string, o client.Object, opts ...client.SubResourceUpdateOption) error {
			c.changes++
			return next.SubResource(sub).Update(ctx, o, opts...)
		},
	})
}

func newScheme(t *testing.T) *runtime.Scheme {
	t.Helper()
	scheme := runtime.NewScheme()
	// The fake client walks the whole scheme at every write, so it holds no more kinds than needed.
	scheme.AddKnownTypes(corev1.SchemeGroupVersion, &corev1.PersistentVolumeClaim{}, &corev1.PersistentVolumeClaimList{},
		&corev1.PersistentVolume{}, &corev1.Pod{}, &corev1.PodList{})
	scheme.AddKnownTypes(storagev1.SchemeGroupVersion, &storagev1.StorageClass{}, &storagev1.StorageClassList{})
	scheme.AddKnownTypes(cdiv1.SchemeGroupVersion, &cdiv1.DataImportCron{}, &cdiv1.DataImportCronList{},
		&cdiv1.DataSource{}, &cdiv1.DataSourceList{}, &cdiv1.DataVolume{}, &cdiv1.DataVolumeList{}, &cdiv1.StorageProfile{}, &cdiv1.StorageProfileList{}, &cdiv1.CDIConfig{}, &cdiv1.CDIConfigList{})
	for _, version := range []schema.GroupVersion{corev1.SchemeGroupVersion, storagev1.SchemeGroupVersion, cdiv1.SchemeGroupVersion} {
		metav1.AddToGroupVersion(scheme, version)
	}
	require.NoError(t, v1alpha1.AddToScheme(scheme))
	return scheme
}

// aSnapshot is a VolumeSnapshot.
func aSnapshot(name string, ready bool) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot",
		"metadata": map[string]any{"namespace": namespace, "name": name}, "status": map[string]any{"readyToUse": ready},
	}}
}

func newStore(t *testing.T, objects ...client.Object) client.WithWatch {
	t.Helper()
	scheme := newScheme(t)
	// A tracker that does not keep who manages which field is several times as fast.
	tracker := clienttesting.NewObjectTracker(scheme, serializer.NewCodecFactory(scheme).UniversalDecoder())
	return fake.NewClientBuilder().WithScheme(scheme).WithObjectTracker(tracker).
		WithStatusSubresource(&v1alpha1.VMDiskImport{}, &corev1.PersistentVolumeClaim{}).
		WithIndex(&corev1.PersistentVolumeClaim{}, indexCron, cronOfLabel).
		WithIndex(&cdiv1.DataImportCron{}, indexManaged, managedBy).
		WithObjects(objects...).Build()
}

// write counts a write of the roller and checks what must always hold after it.
func (c *cluster) write(apply func() error) error {
	c.writes++
	if c.fault == nil {
		return c.checked(apply)
	}
	return c.fault(c.writes, func() error { return c.checked(apply) })
}

func (c *cluster) checked(apply func() error) error {
	err := apply()
	c.checkDataSource()
	return err
}

// checkDataSource fails when the DataSource names a claim that does not hold a disk.
func (c *cluster) checkDataSource() {
	source := c.dataSource()
	if source == nil || source.Spec.Source.PVC == nil {
		return
	}
	claim := &corev1.PersistentVolumeClaim{}
	require.True(c.t, c.find(claim, source.Spec.Source.PVC.Name), "the DataSource names %s, which does not exist", source.Spec.Source.PVC.Name)
	require.True(c.t, c.holdsDisk(claim), "the DataSource names %s, which is not filled", claim.Name)
}

// checkUID is what the API server does with a precondition that the fake one does not know.
func (c *cluster) checkUID(o client.Object, opts ...client.DeleteOption) error {
	var options client.DeleteOptions
	options.ApplyOptions(opts)
	require.NotNil(c.t, options.Preconditions, "a deletion says what it deletes")
	now, ok := o.DeepCopyObject().(client.Object)
	require.True(c.t, ok)
	if c.find(now, o.GetName()) && now.GetUID() != *options.Preconditions.UID {
		return apierrors.NewConflict(schema.GroupResource{}, o.GetName(), errors.New("another object bears the name"))
	}
	return nil
}

// checkDeleted fails when a good claim was deleted that is still the current one.
func (c *cluster) checkDeleted(claim *corev1.PersistentVolumeClaim) {
	if claim.Annotations[golden.AnnotationVerified] != "" {
		c.checkUnused(claim.Name)
	}
}

// checkUnused fails when a good claim was deleted, by itself or with its DataVolume, that is still the current one.
func (c *cluster) checkUnused(name string) {
	cron := c.cron()
	if !cron.DeletionTimestamp.IsZero() {
		return
	}
	require.NotNil(c.t, cron.Status.LastImportedPVC)
	require.NotEqual(c.t, name, cron.Status.LastImportedPVC.Name, "the current claim was deleted")
	require.NotEqual(c.t, name, c.dataSource().Spec.Source.PVC.Name, "the claim that the DataSource names was deleted")
}

// holdsDisk reports whether the cluster has filled a claim.
func (c *cluster) holdsDisk(claim *corev1.PersistentVolumeClaim) bool {
	return claim.Status.Phase == corev1.ClaimBound && claim.Spec.VolumeName == "pv-"+string(claim.UID) && claim.DeletionTimestamp.IsZero()
}

// restart makes the roller anew: all that it holds in memory is gone.
func (c *cluster) restart() {
	c.registry = prometheus.NewRegistry()
	metrics, err := newMetrics(c.registry)
	require.NoError(c.t, err)
	cache := interceptor.NewClient(c.store, interceptor.Funcs{
		Get: func(ctx context.Context, next client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			if _, ok := o.(*cdiv1.StorageProfile); ok && c.noProfiles {
				return &meta.NoKindMatchError{GroupKind: schema.GroupKind{Group: golden.Group, Kind: "StorageProfile"}}
			}
			if err := c.view(next).Get(ctx, key, o, opts...); err != nil {
				return err
			}
			return trimmed(o)
		},
		List: func(ctx context.Context, next client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			if err := c.view(next).List(ctx, list, opts...); err != nil {
				return err
			}
			return meta.EachListItem(list, trimmed)
		},
	})
	live := interceptor.NewClient(c.store, interceptor.Funcs{
		Get: func(ctx context.Context, next client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			if _, ok := o.(*cdiv1.StorageProfile); ok {
				return errors.New("StorageProfiles are cached: reading one for each pass is a burden")
			}
			return next.Get(ctx, key, o, opts...)
		},
		List: func(ctx context.Context, next client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			c.listed++
			return next.List(ctx, list, opts...)
		},
	})
	c.roller = &controller{
		observer: observer{cache: cache, live: live, clock: c.clock},
		client:   c.client, events: c.events, metrics: metrics,
	}
}

// view is what the cache has been told of.
func (c *cluster) view(store client.Reader) client.Reader {
	if c.stale != nil {
		return c.stale
	}
	return store
}

// trimmed leaves of an object what the poller's cache keeps of it.
func trimmed(o runtime.Object) error {
	kept, err := trim.Object(o)
	reflect.ValueOf(o).Elem().Set(reflect.ValueOf(kept).Elem())
	return err
}

// settle runs everything until it is done and nothing changes any more, for at most some hours of
// the fake clock.
func (c *cluster) settle(done func() bool) {
	c.t.Helper()
	for range 2000 {
		before := c.changes
		c.tick()
		if before == c.changes && c.stale == nil && done() {
			return
		}
	}
	c.t.Fatalf("never done: %+v\nclaims %v", c.cron().Status, c.claimNames())
}

// run lets a number of rounds pass.
func (c *cluster) run(rounds int) {
	c.t.Helper()
	for range rounds {
		c.tick()
	}
}

// tick is one round of six seconds.
func (c *cluster) tick() {
	c.t.Helper()
	if c.eachRound != nil {
		c.eachRound()
	}
	if now := c.clock.Now(); c.seen != c.changes || !now.Before(c.due) {
		c.seen, c.due = c.changes, now.Add(24*time.Hour)
		if after := c.reconcile("fedora-cron"); after > 0 {
			c.due = now.Add(after)
		}
	}
	if c.played != c.changes {
		c.played = c.changes
		c.playCluster()
	}
	c.clock.Step(6 * time.Second)
}

// reconcile calls the roller, which returns after how long it is to be called again.
func (c *cluster) reconcile(name string) time.Duration {
	c.t.Helper()
	result, err := c.roller.Reconcile(c.t.Context(), ctrl.Request{NamespacedName: types.NamespacedName{Namespace: namespace, Name: name}})
	switch {
	case errors.Is(err, errCrash):
		c.restart()
		return time.Second
	case apierrors.IsTooManyRequests(err), apierrors.IsTimeout(err), c.stale != nil && err != nil:
		return time.Second // as the queue does
	}
	require.NoError(c.t, err)
	return result.RequeueAfter
}

// playCluster does what the rest of the cluster would have done meanwhile.
func (c *cluster) playCluster() {
	c.t.Helper()
	for _, claim := range c.claims() {
		switch {
		case !claim.DeletionTimestamp.IsZero():
			claim.Finalizers = nil
			require.NoError(c.t, c.store.Update(c.t.Context(), &claim))
		case dataVolumeOf(&claim) != nil && !c.find(&cdiv1.DataVolume{}, claim.Name):
			require.NoError(c.t, c.store.Delete(c.t.Context(), &claim))
		case claim.Annotations[golden.AnnotationRevision] != "" && claim.Status.Phase == corev1.ClaimPending && !c.stuck:
			c.playImport(&claim)
		}
	}
	var imports v1alpha1.VMDiskImportList
	require.NoError(c.t, c.store.List(c.t.Context(), &imports))
	for i := range imports.Items {
		claim := &corev1.PersistentVolumeClaim{}
		if !c.find(claim, imports.Items[i].Name) || claim.UID != imports.Items[i].Spec.ClaimRef.UID {
			require.NoError(c.t, c.store.Delete(c.t.Context(), &imports.Items[i]))
		}
	}
}

// playImport takes the import of a claim one step further.
func (c *cluster) playImport(claim *corev1.PersistentVolumeClaim) {
	c.t.Helper()
	ctx := c.t.Context()
	revision, err := golden.ParseRevision(claim.Annotations[golden.AnnotationRevision])
	require.NoError(c.t, err)
	imp := &v1alpha1.VMDiskImport{}
	err = c.store.Get(ctx, client.ObjectKeyFromObject(claim), imp)
	switch {
	case apierrors.IsNotFound(err):
		imp = &v1alpha1.VMDiskImport{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: claim.Namespace, Name: claim.Name, UID: types.UID(fmt.Sprintf("import-%d", c.clock.Now().Unix())),
				OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "PersistentVolumeClaim", Name: claim.Name, UID: claim.UID, Controller: ptr.To(true)}},
			},
			Spec: v1alpha1.VMDiskImportSpec{
				ClaimRef: v1alpha1.ClaimReference{Name: claim.Name, UID: claim.UID},
				ImageRef: v1alpha1.ImageReference{Kind: golden.CronKind, Name: claim.Labels[golden.LabelCron]},
			},
		}
		require.NoError(c.t, c.store.Create(ctx, imp))
		return
	case imp.Spec.ClaimRef.UID != claim.UID || imp.Status.Phase == v1alpha1.PhaseFailed:
		return
	case imp.Status.Phase == "":
		imp.Status.Phase, imp.Status.Attempts = v1alpha1.PhaseImporting, 1
	case imp.Status.Phase == v1alpha1.PhaseImporting:
		c.endImport(imp, claim, revision)
	default:
		claim.Spec.VolumeName = imp.Status.VolumeName
		metav1.SetMetaDataAnnotation(&claim.ObjectMeta, annotationOfOthers, "yes")
		metav1.SetMetaDataLabel(&claim.ObjectMeta, annotationOfOthers, "yes")
		require.NoError(c.t, c.store.Update(ctx, claim))
		claim.Status.Phase = corev1.ClaimBound
		require.NoError(c.t, c.store.Status().Update(ctx, claim))
		return
	}
	require.NoError(c.t, c.store.Status().Update(ctx, imp))
}

func (c *cluster) endImport(imp *v1alpha1.VMDiskImport, claim *corev1.PersistentVolumeClaim, revision *golden.Revision) {
	digest, failure := c.end(revision)
	if failure == "" {
		imp.Status.Phase, imp.Status.VolumeName = v1alpha1.PhaseSucceeded, "pv-"+string(claim.UID)
		imp.Status.Result = &v1alpha1.ImportResult{Digest: digest}
		return
	}
	imp.Status.Phase = v1alpha1.PhaseFailed
	imp.Status.LastFailure = &v1alpha1.ImportFailure{Reason: failure, Message: "it broke", Time: metav1.NewTime(c.clock.Now())}
	imp.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, Reason: failure, Message: "it broke"}}
}

// lag has the roller see the world as it is now, whatever happens, until it is let go.
func (c *cluster) lag() {
	ctx := c.t.Context()
	var all []client.Object
	for _, list := range []client.ObjectList{
		&cdiv1.DataImportCronList{}, &cdiv1.DataSourceList{}, &corev1.PersistentVolumeClaimList{}, &v1alpha1.VMDiskImportList{}, &storagev1.StorageClassList{},
		&cdiv1.StorageProfileList{},
	} {
		require.NoError(c.t, c.store.List(ctx, list))
		all = append(all, itemsOf(c.t, list)...)
	}
	c.stale = newStore(c.t, all...)
}

// want has the poller find a revision.
func (c *cluster) want(revision *golden.Revision) {
	c.t.Helper()
	require.NoError(c.t, c.store.Update(c.t.Context(), desiring(c.cron(), revision)))
}

// edit edits the cron as a user does.
func (c *cluster) edit(change func(*cdiv1.DataImportCron)) {
	c.t.Helper()
	cron := c.cron()
	change(cron)
	require.NoError(c.t, c.store.Update(c.t.Context(), cron))
}

// holds reports whether cron and DataSource name a claim that holds a revision.
func (c *cluster) holds(revision *golden.Revision) func() bool {
	return func() bool {
		cron, source := c.cron(), c.dataSource()
		return source != nil && source.Spec.Source.PVC != nil && cron.Status.LastImportedPVC != nil && *cron.Status.LastImportedPVC == *source.Spec.Source.PVC &&
			cron.Status.CurrentImports[0].Digest == revision.Digest && !outdated(cron)
	}
}

func (c *cluster) cron() *cdiv1.DataImportCron {
	cron := &cdiv1.DataImportCron{}
	require.True(c.t, c.find(cron, "fedora-cron"))
	return cron
}

// dataSource is nil when there is none.
func (c *cluster) dataSource() *cdiv1.DataSource {
	source := &cdiv1.DataSource{}
	if !c.find(source, "fedora") {
		return nil
	}
	return source
}

func (c *cluster) claims() []corev1.PersistentVolumeClaim {
	var claims corev1.PersistentVolumeClaimList
	require.NoError(c.t, c.store.List(c.t.Context(), &claims))
	return claims.Items
}

func (c *cluster) claimNames() []string {
	names := []string{}
	for _, claim := range c.claims() {
		names = append(names, claim.Name)
	}
	return names
}

// metric are the values of a metric, one for each set of labels.
func (c *cluster) metric(name string) []float64 {
	families, err := c.registry.Gather()
	require.NoError(c.t, err)
	var values []float64
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, metric := range family.GetMetric() {
			values = append(values, metric.GetGauge().GetValue()+metric.GetCounter().GetValue())
		}
	}
	return values
}

// told are the events until now.
func (c *cluster) told() []string {
	var all []string
	for {
		select {
		case text := <-c.events.Events:
			all = append(all, text)
		default:
			return all
		}
	}
}

func (c *cluster) condition(kind cdiv1.DataImportCronConditionType) cdiv1.ConditionState {
	return conditionOf(c.cron(), kind).ConditionState
}

func (c *cluster) find(o client.Object, name string) bool {
	err := c.store.Get(c.t.Context(), types.NamespacedName{Namespace: namespace, Name: name}, o)
	if apierrors.IsNotFound(err) {
		return false
	}
	require.NoError(c.t, err)
	return true
}
