package storageprofile

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	testingclock "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/gild-project/gild/pkg/cdi"
)

const (
	rwo, rwx    = corev1.ReadWriteOnce, corev1.ReadWriteMany
	file, block = corev1.PersistentVolumeFilesystem, corev1.PersistentVolumeBlock
)

func aClass(provisioner string, parameters map[string]string) *storagev1.StorageClass {
	return &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "fast", UID: "class-uid"}, Provisioner: provisioner, Parameters: parameters}
}

func TestSetsOf(t *testing.T) {
	type first struct {
		access corev1.PersistentVolumeAccessMode
		mode   corev1.PersistentVolumeMode
	}
	for _, test := range []struct {
		provisioner string
		parameters  map[string]string
		want        first
		many        int
	}{
		{"rbd.csi.ceph.com", nil, first{rwx, block}, 3},
		{"rook-ceph.rbd.csi.ceph.com", nil, first{rwx, block}, 3},
		{"rook-ceph.cephfs.csi.ceph.com", nil, first{rwx, file}, 2},
		{"driver.longhorn.io", nil, first{rwo, block}, 2},
		{"driver.longhorn.io", map[string]string{"migratable": "true"}, first{rwx, block}, 3},
		{"csi.trident.netapp.io", map[string]string{"backendType": "ontap-san-economy"}, first{rwx, block}, 3},
		{"csi.trident.netapp.io", map[string]string{"backendType": "ontap-nas"}, first{rwx, file}, 2},
		{"ebs.csi.aws.com", nil, first{rwo, block}, 2},
		{"nfs.csi.k8s.io", nil, first{rwx, file}, 2},
		{"rancher.io/local-path", nil, first{rwo, file}, 1},
	} {
		sets := setsOf(aClass(test.provisioner, test.parameters))
		require.Len(t, sets, test.many, test.provisioner)
		require.Equal(t, test.want, first{sets[0].AccessModes[0], *sets[0].VolumeMode}, test.provisioner)
	}
	require.Nil(t, setsOf(aClass("csi.trident.netapp.io", nil)), "its parameters tell")
	require.Nil(t, setsOf(aClass("csi.example.org", nil)))
}

// world is an object store, and the controller on it.
type world struct {
	t      *testing.T
	store  client.WithWatch
	c      *controller
	clock  *testingclock.FakeClock
	writes int
	fault  error
}

func newWorld(t *testing.T, objects ...client.Object) *world {
	t.Helper()
	scheme := runtime.NewScheme()
	require.NoError(t, storagev1.AddToScheme(scheme))
	require.NoError(t, cdi.AddToScheme(scheme))
	w := &world{t: t, clock: testingclock.NewFakeClock(time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC))}
	w.store = fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithStatusSubresource(&cdiv1.StorageProfile{}).Build()
	noted := interceptor.NewClient(w.store, interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			w.writes++
			return errors.Join(c.Create(ctx, o, opts...), w.fault)
		},
		SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
			w.writes++
			return errors.Join(c.SubResource(sub).Patch(ctx, o, p, opts...), w.fault)
		},
	})
	w.c = &controller{client: noted, clock: w.clock}
	return w
}

func (w *world) look() error {
	_, err := w.c.Reconcile(w.t.Context(), ctrl.Request{NamespacedName: types.NamespacedName{Name: "fast"}})
	w.clock.Step(time.Minute)
	return err
}

func (w *world) profile() *cdiv1.StorageProfile {
	w.t.Helper()
	profile := &cdiv1.StorageProfile{}
	require.NoError(w.t, w.store.Get(w.t.Context(), types.NamespacedName{Name: "fast"}, profile))
	return profile
}

func TestProfileOfAKnownDriver(t *testing.T) {
	class := aClass("rbd.csi.ceph.com", nil)
	w := newWorld(t, class)
	for range 4 {
		require.NoError(t, w.look())
	}
	require.Equal(t, 2, w.writes, "nothing is written when nothing has changed")
	profile := w.profile()
	require.True(t, metav1.IsControlledBy(profile, class), "it goes with its class")
	require.Equal(t, "fast", *profile.Status.StorageClass)
	require.Equal(t, "rbd.csi.ceph.com", *profile.Status.Provisioner)
	require.Equal(t, []cdiv1.ClaimPropertySet(multiAttached()), profile.Status.ClaimPropertySets)
	require.Empty(t, profile.Spec)
	recognized := profile.Status.Conditions[0]
	require.Equal(t, cdiv1.StorageProfileRecognized, recognized.Type)
	require.Equal(t, corev1.ConditionTrue, recognized.Status)
	require.Equal(t, reasonRecognized, recognized.Reason)
}

func TestOperatorWins(t *testing.T) {
	w := newWorld(t, aClass("csi.example.org", nil))
	for range 2 {
		require.NoError(t, w.look())
	}
	profile := w.profile()
	require.Empty(t, profile.Status.ClaimPropertySets)
	require.Equal(t, corev1.ConditionFalse, profile.Status.Conditions[0].Status)
	require.Contains(t, profile.Status.Conditions[0].Message, "write what it can do into spec.claimPropertySets")

	profile.Spec = cdiv1.StorageProfileSpec{
		CloneStrategy: ptr.To(cdiv1.CloneStrategyHostAssisted), SnapshotClass: ptr.To("quick"),
		ClaimPropertySets: []cdiv1.ClaimPropertySet{{VolumeMode: ptr.To(file)}, one(rwx, block)},
	}
	require.NoError(t, w.store.Update(t.Context(), profile))
	for range 2 {
		require.NoError(t, w.look())
	}
	after := w.profile()
	require.Equal(t, profile.Spec, after.Spec, "it is the operator's")
	require.Equal(t, []cdiv1.ClaimPropertySet{one(rwx, block)}, after.Status.ClaimPropertySets, "one without access modes says nothing")
	require.Equal(t, cdiv1.CloneStrategyHostAssisted, *after.Status.CloneStrategy)
	require.Equal(t, "quick", *after.Status.SnapshotClass)

	after.Spec = cdiv1.StorageProfileSpec{}
	require.NoError(t, w.store.Update(t.Context(), after))
	require.NoError(t, w.look())
	require.Empty(t, w.profile().Status.ClaimPropertySets)
	require.Nil(t, w.profile().Status.CloneStrategy)
}

func TestProfileWithoutAClass(t *testing.T) {
	w := newWorld(t)
	require.NoError(t, w.look())
	require.Zero(t, w.writes)
}

// TestFaults: a write whose answer is lost is found to be done.
func TestFaults(t *testing.T) {
	w := newWorld(t, aClass("nfs.csi.k8s.io", nil))
	for range 2 {
		w.fault = errors.New("the answer is lost")
		require.ErrorIs(t, w.look(), w.fault)
		w.fault = nil
	}
	require.NoError(t, w.look())
	require.Equal(t, 2, w.writes)
	require.Equal(t, []cdiv1.ClaimPropertySet(shared()), w.profile().Status.ClaimPropertySets)
}
