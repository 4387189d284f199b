package snapshot

import (
	"context"
	"errors"
	"testing"

	snapshotv1 "github.com/kubernetes-csi/external-snapshotter/client/v8/apis/volumesnapshot/v1"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
)

func classOf(name, of string, policy snapshotv1.DeletionPolicy, isDefault string) *VolumeSnapshotClass {
	class := &VolumeSnapshotClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Driver: of, DeletionPolicy: policy}
	if isDefault != "" {
		metav1.SetMetaDataAnnotation(&class.ObjectMeta, annotationDefault, isDefault)
	}
	return class
}

func TestClass(t *testing.T) {
	const remove, retain = snapshotv1.VolumeSnapshotContentDelete, snapshotv1.VolumeSnapshotContentRetain
	for name, test := range map[string]struct {
		classes []client.Object
		want    string
	}{
		"none":                      {nil, ""},
		"of another driver":         {[]client.Object{classOf("a", "other.example.org", remove, "true")}, ""},
		"the default one":           {[]client.Object{classOf("a", driver, remove, ""), classOf("b", driver, remove, "true")}, "b"},
		"by name":                   {[]client.Object{classOf("b", driver, remove, ""), classOf("a", driver, remove, "false")}, "a"},
		"one that leaves snapshots": {[]client.Object{classOf("a", driver, retain, "true"), classOf("b", driver, remove, "")}, "b"},
		"only ones that leave them": {[]client.Object{classOf("a", driver, retain, "true")}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := newWorld(t, test.classes...).Class(t.Context(), driver)
			require.NoError(t, err)
			require.Equal(t, test.want, got)
		})
	}
}

func TestTakeAndLook(t *testing.T) {
	w, golden := newWorld(t), key("gild-system", "golden-1")
	require.Nil(t, w.look(golden))
	take := func(claim string, labels map[string]string) error {
		return w.Take(t.Context(), golden, claim, "fast", labels, map[string]string{"gild.dev/claim": "images/fedora"})
	}
	labels := map[string]string{"gild.dev/golden-uid": "1"}
	require.NoError(t, take("prime-1", labels))
	require.Equal(t, map[string]string{"gild.dev/golden-uid": "1"}, labels, "the caller's map is the caller's")
	require.NoError(t, take("prime-1", labels), "it is there already")
	require.Equal(t, 1, len(w.list()))
	require.ErrorContains(t, take("prime-2", labels), "is of something else")
	require.ErrorContains(t, take("prime-1", map[string]string{"gild.dev/golden-uid": "2"}), "another object has the name golden-1")

	state := w.look(golden)
	require.False(t, state.Ready)
	require.False(t, state.Taken)
	require.Empty(t, state.Driver)
	require.Equal(t, "1", state.Labels["gild.dev/golden-uid"])
	require.Equal(t, "images/fedora", state.Annotations["gild.dev/claim"])
	require.Equal(t, "fast", *w.snapshot(golden).Spec.VolumeSnapshotClassName)

	w.bind(golden, "handle-1", false)
	state = w.look(golden)
	require.False(t, state.Ready)
	require.True(t, state.Taken, "cut, though the storage still works on it")
	w.setReady(golden)
	state = w.look(golden)
	require.True(t, state.Ready)
	require.Equal(t, driver, state.Driver)
	require.Equal(t, int64(1<<30), state.RestoreSize)
	require.Equal(t, corev1.PersistentVolumeBlock, state.SourceMode)
	require.Equal(t, w.snapshot(golden).UID, state.UID)
	require.Empty(t, state.Failure)
}

func (w *world) list() []VolumeSnapshot {
	var all snapshotv1.VolumeSnapshotList
	require.NoError(w.t, w.store.List(w.t.Context(), &all))
	return all.Items
}

func (w *world) setReady(k client.ObjectKey) {
	w.t.Helper()
	snapshot := w.snapshot(k)
	snapshot.Status.ReadyToUse = ptr.To(true)
	require.NoError(w.t, w.store.Status().Update(w.t.Context(), snapshot))
}

func TestFailureOfTheDriver(t *testing.T) {
	w, k := newWorld(t), key("gild-system", "golden-1")
	require.NoError(t, w.Take(t.Context(), k, "prime-1", "fast", nil, nil))
	snapshot := w.snapshot(k)
	snapshot.Status = &snapshotv1.VolumeSnapshotStatus{Error: &snapshotv1.VolumeSnapshotError{Message: ptr.To("the pool is full")}}
	require.NoError(t, w.store.Status().Update(t.Context(), snapshot))
	state := w.look(k)
	require.Equal(t, "the pool is full", state.Failure)
	require.False(t, state.Ready)
}

// TestForgedBinding has a VolumeSnapshot name a content that belongs to another one.
func TestForgedBinding(t *testing.T) {
	w, victim, forged := newWorld(t), key("images", "secret"), key("thief", "mine")
	require.NoError(t, w.Take(t.Context(), victim, "disk", "fast", nil, nil))
	w.bind(victim, "handle-1", true)
	require.NoError(t, w.Take(t.Context(), forged, "disk", "fast", nil, nil))
	snapshot := w.snapshot(forged)
	snapshot.Status = w.snapshot(victim).Status
	require.NoError(t, w.store.Status().Update(t.Context(), snapshot))
	require.False(t, w.look(forged).Ready)
	require.ErrorContains(t, w.HandOver(t.Context(), forged, key("gild-system", "copy-1"), nil, nil), "is not bound to a content that names it")

	again := w.content(*snapshot.Status.BoundVolumeSnapshotContentName)
	again.Spec.VolumeSnapshotRef = corev1.ObjectReference{Namespace: "thief", Name: "mine", UID: "of an older one"}
	require.NoError(t, w.store.Update(t.Context(), again))
	require.False(t, w.look(forged).Ready)
}

func TestHandOver(t *testing.T) {
	w, from, to := newWorld(t), key("images", "nightly"), key("gild-system", "copy-1")
	handOver := func() error {
		return w.HandOver(t.Context(), from, to, map[string]string{"gild.dev/import-uid": "1"}, map[string]string{"gild.dev/claim": "vms/a"})
	}
	require.True(t, apierrors.IsNotFound(handOver()))
	require.NoError(t, w.Take(t.Context(), from, "disk", "fast", nil, nil))
	require.ErrorContains(t, handOver(), "is not bound to a content that names it")
	w.bind(from, "", false)
	require.ErrorContains(t, handOver(), "is not taken yet")
	w.setHandle(from, "handle-1")
	require.NoError(t, handOver())

	content := w.content("copy-1")
	require.Equal(t, snapshotv1.VolumeSnapshotContentRetain, content.Spec.DeletionPolicy)
	require.Equal(t, driver, content.Spec.Driver)
	require.Equal(t, "handle-1", *content.Spec.Source.SnapshotHandle)
	require.Nil(t, content.Spec.Source.VolumeHandle)
	require.Equal(t, corev1.PersistentVolumeBlock, *content.Spec.SourceVolumeMode)
	require.Equal(t, corev1.ObjectReference{Kind: "VolumeSnapshot", Namespace: "gild-system", Name: "copy-1"}, content.Spec.VolumeSnapshotRef)
	require.Equal(t, map[string]string{"gild.dev/claim": "vms/a", annotationAllowMode: "true"}, content.Annotations)
	snapshot := w.snapshot(to)
	require.Equal(t, "copy-1", *snapshot.Spec.Source.VolumeSnapshotContentName)
	require.Nil(t, snapshot.Spec.Source.PersistentVolumeClaimName)
	require.Equal(t, map[string]string{"gild.dev/import-uid": "1", LabelMade: madeHandedOver}, snapshot.Labels)

	w.bind(to, "handle-1", true)
	require.True(t, w.look(to).Ready)
	before := w.writes
	require.NoError(t, w.store.Delete(t.Context(), w.content(*w.snapshot(from).Status.BoundVolumeSnapshotContentName)))
	require.NoError(t, handOver(), "it is done, whatever became of the first one")
	require.Equal(t, before+1, w.writes, "one create, which the store refuses")
}

// setHandle has the driver cut the snapshot, and its admin allow volumes of another mode.
func (w *world) setHandle(k client.ObjectKey, handle string) {
	w.t.Helper()
	content := w.content(*w.snapshot(k).Status.BoundVolumeSnapshotContentName)
	metav1.SetMetaDataAnnotation(&content.ObjectMeta, annotationAllowMode, "true")
	require.NoError(w.t, w.store.Update(w.t.Context(), content))
	content.Status.SnapshotHandle = &handle
	require.NoError(w.t, w.store.Status().Update(w.t.Context(), content))
}

// TestHandOverOfOneHandedOver has a source that stands for a snapshot of the storage itself, and
// whose mode nobody knows.
func TestHandOverOfOneHandedOver(t *testing.T) {
	content := &VolumeSnapshotContent{ObjectMeta: metav1.ObjectMeta{Name: "given"}, Spec: snapshotv1.VolumeSnapshotContentSpec{
		VolumeSnapshotRef: corev1.ObjectReference{Namespace: "images", Name: "given", UID: "u"}, Driver: driver,
		DeletionPolicy: snapshotv1.VolumeSnapshotContentRetain, Source: snapshotv1.VolumeSnapshotContentSource{SnapshotHandle: ptr.To("handle-9")}}}
	snapshot := &VolumeSnapshot{ObjectMeta: metav1.ObjectMeta{Namespace: "images", Name: "given", UID: "u"},
		Status: &snapshotv1.VolumeSnapshotStatus{BoundVolumeSnapshotContentName: ptr.To("given")}}
	w := newWorld(t, content, snapshot)
	require.NoError(t, w.HandOver(t.Context(), key("images", "given"), key("gild-system", "copy-1"), nil, nil))
	require.Equal(t, "handle-9", *w.content("copy-1").Spec.Source.SnapshotHandle)
	require.Nil(t, w.content("copy-1").Spec.SourceVolumeMode)
}

func TestHandOverKilledBetween(t *testing.T) {
	w, from, to := newWorld(t), key("images", "nightly"), key("gild-system", "copy-1")
	require.NoError(t, w.Take(t.Context(), from, "disk", "fast", nil, nil))
	w.bind(from, "handle-1", true)
	killed := errors.New("the populator was killed here")
	w.client = interceptor.NewClient(w.store, interceptor.Funcs{
		Create: func(ctx context.Context, next client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			if _, second := o.(*VolumeSnapshot); second {
				return killed
			}
			return next.Create(ctx, o, opts...)
		},
	})
	require.ErrorIs(t, w.HandOver(t.Context(), from, to, nil, nil), killed)
	require.Nil(t, w.look(to))
	w.client = w.store
	require.NoError(t, w.HandOver(t.Context(), from, to, nil, nil))
	require.NotNil(t, w.look(to))
}

func TestHandOverKeepsAwayFromOthers(t *testing.T) {
	from, to := key("images", "nightly"), key("gild-system", "copy-1")
	for name, test := range map[string]struct {
		there client.Object
		why   string
	}{
		"a content that somebody made":     {&VolumeSnapshotContent{ObjectMeta: metav1.ObjectMeta{Name: "copy-1"}}, "without the label"},
		"a snapshot that somebody made":    {&VolumeSnapshot{ObjectMeta: metav1.ObjectMeta{Namespace: "gild-system", Name: "copy-1"}}, "without the label"},
		"a content for another namespace":  {&VolumeSnapshotContent{ObjectMeta: metav1.ObjectMeta{Name: "copy-1", Labels: made(madeHandedOver, nil)}}, "belongs to another snapshot"},
		"a content that is being deleted":  {&VolumeSnapshotContent{ObjectMeta: metav1.ObjectMeta{Name: "copy-1", Labels: made(madeHandedOver, nil), DeletionTimestamp: ptr.To(metav1.Now()), Finalizers: []string{"a/b"}}}, "is being deleted"},
		"a snapshot that is being deleted": {&VolumeSnapshot{ObjectMeta: metav1.ObjectMeta{Namespace: "gild-system", Name: "copy-1", DeletionTimestamp: ptr.To(metav1.Now()), Finalizers: []string{"a/b"}}}, "is being deleted"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, test.there)
			require.NoError(t, w.Take(t.Context(), from, "disk", "fast", nil, nil))
			w.bind(from, "handle-1", true)
			require.ErrorContains(t, w.HandOver(t.Context(), from, to, nil, nil), test.why)
		})
	}
}

func TestRemove(t *testing.T) {
	w, from, to := newWorld(t), key("images", "nightly"), key("gild-system", "copy-1")
	remove := func(k client.ObjectKey) bool {
		t.Helper()
		gone, err := w.Remove(t.Context(), k)
		require.NoError(t, err)
		return gone
	}
	require.True(t, remove(to), "there is none")
	require.NoError(t, w.Take(t.Context(), from, "disk", "fast", nil, nil))
	w.bind(from, "handle-1", true)
	require.NoError(t, w.HandOver(t.Context(), from, to, nil, nil))
	w.bind(to, "handle-1", true)
	content := w.content("copy-1")
	content.Finalizers = []string{"snapshot.storage.kubernetes.io/volumesnapshotcontent-bound-protection"}
	require.NoError(t, w.store.Update(t.Context(), content))

	require.False(t, remove(to))
	require.Equal(t, "the snapshot is being deleted", w.look(to).Failure)
	require.False(t, w.look(to).Ready)
	require.True(t, w.content("copy-1").DeletionTimestamp.IsZero(), "the snapshot goes first")
	before := w.writes
	require.False(t, remove(to))
	require.Equal(t, before, w.writes, "it was asked already")
	w.release(w.snapshot(to))
	require.False(t, remove(to))
	w.release(w.content("copy-1"))
	require.True(t, remove(to))

	require.True(t, w.look(from).Ready, "the storage's snapshot stays")
	require.False(t, remove(from))
	w.release(w.snapshot(from))
	require.True(t, remove(from))
}

func TestRemoveLeavesOthersAlone(t *testing.T) {
	k := key("gild-system", "copy-1")
	w := newWorld(t,
		&VolumeSnapshot{ObjectMeta: metav1.ObjectMeta{Namespace: "gild-system", Name: "copy-1"}},
		&VolumeSnapshotContent{ObjectMeta: metav1.ObjectMeta{Name: "copy-1", Labels: map[string]string{LabelMade: madeTaken}}})
	gone, err := w.Remove(t.Context(), k)
	require.NoError(t, err)
	require.True(t, gone)
	w.snapshot(k)
	w.content("copy-1")

	another := &VolumeSnapshotContent{ObjectMeta: metav1.ObjectMeta{Name: "copy-2", Labels: made(madeHandedOver, nil)},
		Spec: snapshotv1.VolumeSnapshotContentSpec{VolumeSnapshotRef: corev1.ObjectReference{Namespace: "elsewhere", Name: "copy-2"}}}
	require.NoError(t, w.store.Create(t.Context(), another))
	gone, err = w.Remove(t.Context(), key("gild-system", "copy-2"))
	require.NoError(t, err)
	require.True(t, gone)
	w.content("copy-2")
}

// TestWithoutTheKinds has a cluster that knows no snapshots: its discovery, or its server, says so.
func TestWithoutTheKinds(t *testing.T) {
	for name, missing := range map[string]error{
		"no match":  &meta.NoKindMatchError{GroupKind: schema.GroupKind{Group: snapshotv1.GroupName, Kind: "VolumeSnapshot"}, SearchedVersions: []string{"v1"}},
		"not found": apierrors.NewGenericServerResponse(404, "get", schema.GroupResource{Group: snapshotv1.GroupName}, "", "", 0, false),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.fail(missing)
			class, err := w.Class(t.Context(), driver)
			require.NoError(t, err)
			require.Empty(t, class)
			require.Nil(t, w.look(key("a", "b")))
			gone, err := w.Remove(t.Context(), key("a", "b"))
			require.NoError(t, err)
			require.True(t, gone)
			require.ErrorIs(t, w.Take(t.Context(), key("a", "b"), "c", "d", nil, nil), missing)
			require.ErrorIs(t, w.HandOver(t.Context(), key("a", "b"), key("c", "d"), nil, nil), missing)
		})
	}
}

// TestFaults has every call fail: nothing is taken for an answer.
func TestFaults(t *testing.T) {
	w, fault := newWorld(t), apierrors.NewInternalError(errors.New("the store is down"))
	w.fail(fault)
	_, err := w.Class(t.Context(), driver)
	require.ErrorIs(t, err, fault)
	_, err = w.Look(t.Context(), key("a", "b"))
	require.ErrorIs(t, err, fault)
	gone, err := w.Remove(t.Context(), key("a", "b"))
	require.ErrorIs(t, err, fault)
	require.False(t, gone)
	require.ErrorIs(t, w.Take(t.Context(), key("a", "b"), "c", "d", nil, nil), fault)
	require.ErrorIs(t, w.HandOver(t.Context(), key("a", "b"), key("c", "d"), nil, nil), fault)
}

// fail has every call end with an error.
func (w *world) fail(err error) {
	broken := interceptor.NewClient(w.store, interceptor.Funcs{
		Get: func(context.Context, client.WithWatch, client.ObjectKey, client.Object, ...client.GetOption) error {
			return err
		},
		List:   func(context.Context, client.WithWatch, client.ObjectList, ...client.ListOption) error { return err },
		Create: func(context.Context, client.WithWatch, client.Object, ...client.CreateOption) error { return err },
	})
	w.Snapshots = New(broken, broken)
}
