package snapshot

import (
	"context"
	"path/filepath"
	"testing"

	snapshotv1 "github.com/kubernetes-csi/external-snapshotter/client/v8/apis/volumesnapshot/v1"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/gild-project/gild/test/definition"
)

const driver = "csi.example.org"

// world is a store that takes only what the definitions of the kinds allow.
type world struct {
	t      *testing.T
	store  client.WithWatch
	writes int
	*Snapshots
}

func newWorld(t *testing.T, objects ...client.Object) *world {
	t.Helper()
	scheme := runtime.NewScheme()
	require.NoError(t, AddToScheme(scheme))
	crds := filepath.Join(definition.Folder(t, "github.com/kubernetes-csi/external-snapshotter/client/v8"), "config", "crd")
	kinds := map[string]*definition.Kind{
		"VolumeSnapshot":        definition.Load(t, filepath.Join(crds, "snapshot.storage.k8s.io_volumesnapshots.yaml")),
		"VolumeSnapshotContent": definition.Load(t, filepath.Join(crds, "snapshot.storage.k8s.io_volumesnapshotcontents.yaml")),
	}
	w := &world{t: t}
	w.store = fake.NewClientBuilder().WithScheme(scheme).WithStatusSubresource(&VolumeSnapshot{}, &VolumeSnapshotContent{}).WithObjects(objects...).Build()
	through := interceptor.NewClient(w.store, interceptor.Funcs{
		Create: func(ctx context.Context, next client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			gvk, err := next.GroupVersionKindFor(o)
			require.NoError(t, err)
			content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
			require.NoError(t, err)
			u := &unstructured.Unstructured{Object: content}
			u.SetGroupVersionKind(gvk)
			require.NoError(t, kinds[gvk.Kind].Create(ctx, u))
			w.writes++
			o.SetUID(types.UID("uid-of-" + gvk.Kind + "-" + o.GetName()))
			return next.Create(ctx, o, opts...)
		},
		Delete: func(ctx context.Context, next client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
			w.writes++
			return next.Delete(ctx, o, opts...)
		},
	})
	w.Snapshots = New(through, through)
	return w
}

// bind does what the snapshot controller and the driver do: a content, its handle, and the status.
func (w *world) bind(key types.NamespacedName, handle string, ready bool) {
	w.t.Helper()
	snapshot := w.snapshot(key)
	snapshot.Finalizers = []string{"snapshot.storage.kubernetes.io/volumesnapshot-bound-protection"}
	require.NoError(w.t, w.store.Update(w.t.Context(), snapshot))
	ref := corev1.ObjectReference{Kind: "VolumeSnapshot", Namespace: key.Namespace, Name: key.Name, UID: snapshot.UID}
	content := &VolumeSnapshotContent{}
	if name := snapshot.Spec.Source.VolumeSnapshotContentName; name != nil {
		content = w.content(*name)
		content.Spec.VolumeSnapshotRef = ref
		require.NoError(w.t, w.store.Update(w.t.Context(), content))
	} else {
		content.Name = "snapcontent-" + string(snapshot.UID)
		content.Spec = snapshotv1.VolumeSnapshotContentSpec{
			VolumeSnapshotRef: ref, Driver: driver, DeletionPolicy: snapshotv1.VolumeSnapshotContentDelete,
			SourceVolumeMode: ptr.To(corev1.PersistentVolumeBlock),
			Source:           snapshotv1.VolumeSnapshotContentSource{VolumeHandle: ptr.To("volume-1")},
		}
		require.NoError(w.t, w.store.Create(w.t.Context(), content))
	}
	content.Status = &snapshotv1.VolumeSnapshotContentStatus{SnapshotHandle: &handle, ReadyToUse: &ready}
	require.NoError(w.t, w.store.Status().Update(w.t.Context(), content))
	snapshot.Status = &snapshotv1.VolumeSnapshotStatus{
		BoundVolumeSnapshotContentName: &content.Name, ReadyToUse: &ready,
		CreationTime: ptr.To(metav1.Unix(1_800_000_000, 0)), RestoreSize: ptr.To(resource.MustParse("1Gi")),
	}
	require.NoError(w.t, w.store.Status().Update(w.t.Context(), snapshot))
}

func (w *world) snapshot(key types.NamespacedName) *VolumeSnapshot {
	w.t.Helper()
	snapshot := &VolumeSnapshot{}
	require.NoError(w.t, w.store.Get(w.t.Context(), key, snapshot))
	return snapshot
}

func (w *world) content(name string) *VolumeSnapshotContent {
	w.t.Helper()
	content := &VolumeSnapshotContent{}
	require.NoError(w.t, w.store.Get(w.t.Context(), types.NamespacedName{Name: name}, content))
	return content
}

// release takes the finalizers from an object, as its controller does once it may go.
func (w *world) release(object client.Object) {
	w.t.Helper()
	object.SetFinalizers(nil)
	require.NoError(w.t, w.store.Update(w.t.Context(), object))
}

func (w *world) look(key types.NamespacedName) *State {
	w.t.Helper()
	state, err := w.Look(w.t.Context(), key)
	require.NoError(w.t, err)
	return state
}

func key(namespace, name string) types.NamespacedName {
	return types.NamespacedName{Namespace: namespace, Name: name}
}
