package cdiconfig

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/gild-project/gild/pkg/cdi"
)

// world is an object store, and the controller on it.
type world struct {
	t      *testing.T
	store  client.WithWatch
	c      *controller
	writes int
	fault  error
}

func newWorld(t *testing.T, objects ...client.Object) *world {
	t.Helper()
	scheme := runtime.NewScheme()
	require.NoError(t, storagev1.AddToScheme(scheme))
	require.NoError(t, cdi.AddToScheme(scheme))
	w := &world{t: t, store: fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).Build()}
	w.c = &controller{client: interceptor.NewClient(w.store, interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			w.writes++
			return errors.Join(c.Create(ctx, o, opts...), w.fault)
		},
		Patch: func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
			w.writes++
			return errors.Join(c.Patch(ctx, o, p, opts...), w.fault)
		},
	})}
	return w
}

func (w *world) look() error {
	_, err := w.c.Reconcile(w.t.Context(), request())
	return err
}

func (w *world) config() *cdiv1.CDIConfig {
	w.t.Helper()
	config := &cdiv1.CDIConfig{}
	require.NoError(w.t, w.store.Get(w.t.Context(), request().NamespacedName, config))
	return config
}

func aClass(name string) *storagev1.StorageClass {
	return &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Provisioner: "csi.example.org"}
}

func TestConfig(t *testing.T) {
	w := newWorld(t)
	for range 3 {
		require.NoError(t, w.look())
	}
	require.Equal(t, 1, w.writes, "nothing is written when nothing has changed")
	require.Equal(t, &cdiv1.FilesystemOverhead{Global: "0.06"}, w.config().Status.FilesystemOverhead)

	require.NoError(t, w.store.Create(t.Context(), aClass("fast")))
	require.NoError(t, w.look())
	require.Equal(t, &cdiv1.FilesystemOverhead{Global: "0.06", StorageClass: map[string]cdiv1.Percent{"fast": "0.06"}}, w.config().Status.FilesystemOverhead)

	config := w.config()
	config.Spec.FilesystemOverhead = &cdiv1.FilesystemOverhead{Global: "0.1", StorageClass: map[string]cdiv1.Percent{"slow": "0.055"}}
	config.Spec.FeatureGates = []string{"HonorWaitForFirstConsumer"}
	require.NoError(t, w.store.Update(t.Context(), config))
	require.NoError(t, w.store.Create(t.Context(), aClass("slow")))
	require.NoError(t, w.look())
	require.Equal(t, config.Spec, w.config().Spec, "it is the operator's")
	require.Equal(t, &cdiv1.FilesystemOverhead{Global: "0.1", StorageClass: map[string]cdiv1.Percent{"fast": "0.1", "slow": "0.055"}}, w.config().Status.FilesystemOverhead)

	require.NoError(t, w.store.Delete(t.Context(), aClass("slow")))
	require.NoError(t, w.look())
	require.Equal(t, map[string]cdiv1.Percent{"fast": "0.1"}, w.config().Status.FilesystemOverhead.StorageClass)
}

// TestFaults: a write whose answer is lost is found to be done.
func TestFaults(t *testing.T) {
	w := newWorld(t, aClass("fast"))
	w.fault = errors.New("the answer is lost")
	require.ErrorIs(t, w.look(), w.fault)
	w.fault = nil
	require.NoError(t, w.look())
	require.Equal(t, 1, w.writes)
	require.NoError(t, w.store.Delete(t.Context(), w.config()))
	require.NoError(t, w.look())
	require.NotEmpty(t, w.config().Status, "it is made again")
}
