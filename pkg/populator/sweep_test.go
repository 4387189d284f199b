package populator

import (
	"context"
	"errors"
	"testing"

	snapshotv1 "github.com/kubernetes-csi/external-snapshotter/client/v8/apis/volumesnapshot/v1"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/snapshot"
)

// heldSnapshot is a snapshot that its driver does not let go.
type heldSnapshot struct {
	snapshots
	name string
}

func (k heldSnapshot) Remove(ctx context.Context, key types.NamespacedName) (bool, error) {
	if key.Name == k.name {
		return false, errors.New("the driver is away")
	}
	return k.snapshots.Remove(ctx, key)
}

// TestWhatCannotGoKeepsNothingElse: what fails comes first of its kind, and all that is behind it goes.
func TestWhatCannotGoKeepsNothingElse(t *testing.T) {
	left := func(name, claim string) client.Object {
		return &snapshotv1.VolumeSnapshot{ObjectMeta: metav1.ObjectMeta{
			Namespace: systemNamespace, Name: name, UID: types.UID(name),
			Labels:      map[string]string{labelManagedBy: managedByPopulator, snapshot.LabelMade: "taken"},
			Annotations: map[string]string{annotationClaim: claim},
		}}
	}
	orphan := func(name string) client.Object {
		return &corev1.PersistentVolume{
			ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{annotationProvisionedBy: testDriver}},
			Spec: corev1.PersistentVolumeSpec{
				ClaimRef: &corev1.ObjectReference{Namespace: systemNamespace, Name: primeName(types.UID(name))}, PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimRetain,
			},
			Status: corev1.PersistentVolumeStatus{Phase: corev1.VolumeReleased},
		}
	}
	w := newWorld(t, left("copy-a", "vms/unknown"), left("copy-b", "vms/gone"), left("copy-c", "vms/gone"), orphan("pv-a"), orphan("pv-b"))
	w.sweeper.snapshots = heldSnapshot{w.sweeper.snapshots, "copy-b"}
	failing := interceptor.NewClient(w.client, interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			if _, ok := o.(*v1alpha1.VMDiskImport); ok && key.Name == "unknown" {
				return errors.New("etcd is away")
			}
			return c.Get(ctx, key, o, opts...)
		},
		Patch: func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
			if o.GetName() == "pv-a" {
				return errors.New("a webhook is away")
			}
			return c.Patch(ctx, o, p, opts...)
		},
	})
	w.sweeper.client, w.sweeper.live = failing, failing

	err := w.sweeper.sweep(t.Context())
	for _, why := range []string{"reading VMDiskImport vms/unknown: etcd is away", "the driver is away", "letting volume pv-a go with its half-written disk: a webhook is away"} {
		require.ErrorContains(t, err, why)
	}
	require.Equal(t, []string{"gild-system/copy-a", "gild-system/copy-b"}, w.snapshotNames())
	for name, want := range map[string]corev1.PersistentVolumeReclaimPolicy{"pv-a": corev1.PersistentVolumeReclaimRetain, "pv-b": corev1.PersistentVolumeReclaimDelete} {
		pv := &corev1.PersistentVolume{}
		require.True(t, w.find(pv, "", name))
		require.Equal(t, want, pv.Spec.PersistentVolumeReclaimPolicy, name)
	}
}
