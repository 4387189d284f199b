package datavolume

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	testingclock "k8s.io/utils/clock/testing"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/cdi"
	"github.com/gild-project/gild/pkg/datasource"
	"github.com/gild-project/gild/pkg/golden"
	"github.com/gild-project/gild/pkg/grant"
	"github.com/gild-project/gild/pkg/snapshot"
)

var errCrash = errors.New("the populator crashed here")

// world is an object store with our controller on one side and, on the other, just enough of the populator to
// fill claims. Grants are of a map, snapshots the real thing.
type world struct {
	t      *testing.T
	store  client.WithWatch
	noted  client.WithWatch // what the controller reads and writes through, with a cache before it
	live   client.WithWatch // what it reads from the API server itself
	clock  *testingclock.FakeClock
	events *record.FakeRecorder
	c      *controller

	granted map[string]bool // "kind namespace/name"
	writes  int
	// fault, when set, decides what becomes of a write.
	fault func(n int, apply func() error) error
	// asked are the verbs and kinds that the controller used.
	asked map[string]bool
	// size of the namespace's quota: claims above are refused.
	overQuota bool
	// idle keeps the populator from filling.
	idle bool
}

func (w *world) Check(_ context.Context, by grant.Subject, kind, namespace, name string) (grant.Answer, error) {
	if by.Namespace == namespace || w.granted[kind+" "+namespace+"/"+name] {
		return grant.Answer{Allowed: true}, nil
	}
	return grant.Answer{Message: "allow it there"}, nil
}

func newWorld(t *testing.T, objects ...client.Object) *world {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, storagev1.AddToScheme, v1alpha1.AddToScheme, cdi.AddToScheme, snapshot.AddToScheme} {
		require.NoError(t, add(scheme))
	}
	w := &world{t: t, clock: testingclock.NewFakeClock(start()), events: record.NewFakeRecorder(1000), granted: map[string]bool{}, asked: map[string]bool{}}
	w.store = fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).
		WithStatusSubresource(&cdiv1.DataVolume{}, &v1alpha1.VMDiskImage{}, &v1alpha1.VMDiskImport{}, &corev1.PersistentVolumeClaim{}).Build()
	w.noted = interceptor.NewClient(w.store, interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			w.noteCached(o)
			return c.Get(ctx, key, o, opts...)
		},
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			w.noteCached(list)
			return c.List(ctx, list, opts...)
		},
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			w.note("create", o)
			return w.write(func() error {
				if _, ok := o.(*corev1.PersistentVolumeClaim); ok && w.overQuota {
					return apierrors.NewForbidden(corev1.Resource("persistentvolumeclaims"), o.GetName(), errors.New("exceeded quota: small"))
				}
				o.SetUID(types.UID(fmt.Sprintf("uid-%d", w.writes)))
				o.SetCreationTimestamp(metav1.NewTime(w.clock.Now()))
				return c.Create(ctx, o, opts...)
			})
		},
		Patch: func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
			w.note("patch", o)
			return w.write(func() error { return c.Patch(ctx, o, p, opts...) })
		},
		Delete: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
			w.note("delete", o)
			return w.write(func() error { return c.Delete(ctx, o, opts...) })
		},
		SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
			w.note("patch", o, sub)
			return w.write(func() error { return c.SubResource(sub).Patch(ctx, o, p, opts...) })
		},
	})
	w.live = interceptor.NewClient(w.store, interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			w.note("get", o)
			return c.Get(ctx, key, o, opts...)
		},
	})
	w.restart()
	return w
}

// restart is a new process.
func (w *world) restart() {
	w.c = &controller{observer: observer{cache: w.noted, live: w.live, grants: w, snapshots: snapshot.New(w.noted, w.live), clock: w.clock}, client: w.noted, events: w.events}
}

func (w *world) write(apply func() error) error {
	w.writes++
	if w.fault != nil {
		return w.fault(w.writes, apply)
	}
	return apply()
}

// step has the controller look once, and the populator after it.
func (w *world) step() (ctrl.Result, error) {
	result, err := w.c.Reconcile(w.t.Context(), ctrl.Request{NamespacedName: types.NamespacedName{Namespace: "vms", Name: "web-1"}})
	w.clock.Step(askAgain)
	w.populate()
	return result, err
}

// run steps until nothing is written any more.
func (w *world) run() ctrl.Result {
	w.t.Helper()
	for range 30 {
		before := w.version()
		result, err := w.step()
		require.NoError(w.t, err)
		if w.version() == before {
			return result
		}
	}
	w.t.Fatal("it never settles")
	return ctrl.Result{}
}

// version tells one state of all objects from another.
func (w *world) version() string {
	var text string
	for _, list := range []client.ObjectList{&cdiv1.DataVolumeList{}, &corev1.PersistentVolumeClaimList{}, &v1alpha1.VMDiskImportList{}, &v1alpha1.VMDiskImageList{}, &cdiv1.DataSourceList{}} {
		require.NoError(w.t, w.store.List(w.t.Context(), list))
		data, err := json.Marshal(list)
		require.NoError(w.t, err)
		text += string(data)
	}
	return text
}

// populate is the populator: it makes the import of a claim whose source is there, fills and binds it.
func (w *world) populate() {
	claim := find[corev1.PersistentVolumeClaim](w)
	if w.idle || claim == nil || !golden.IsFilledByUs(claim) || claim.Status.Phase == corev1.ClaimBound || !claim.DeletionTimestamp.IsZero() {
		return
	}
	if claim.Spec.DataSourceRef.Kind == "VMDiskImage" && find[v1alpha1.VMDiskImage](w) == nil {
		return
	}
	if claim.Spec.DataSourceRef.Kind == "DataSource" {
		source := &cdiv1.DataSource{}
		if w.store.Get(w.t.Context(), types.NamespacedName{Namespace: "vms", Name: claim.Spec.DataSourceRef.Name}, source) != nil {
			return
		}
		found, err := datasource.Look(w.t.Context(), w.store, w.store, source)
		require.NoError(w.t, err)
		if !found.Ready {
			return
		}
	}
	imp := find[v1alpha1.VMDiskImport](w)
	switch {
	case imp == nil:
		imp = anImport(claim, v1alpha1.PhaseImporting, "Importing")
		imp.Status.Attempts = 1
		status := imp.Status
		require.NoError(w.t, w.store.Create(w.t.Context(), imp))
		imp.Status = status
		require.NoError(w.t, w.store.Status().Update(w.t.Context(), imp))
	case imp.Status.Phase == v1alpha1.PhaseImporting:
		imp.Status.Phase, imp.Status.VolumeName = v1alpha1.PhaseSucceeded, "pv-1"
		require.NoError(w.t, w.store.Status().Update(w.t.Context(), imp))
		w.bind(claim, "pv-1")
	}
}

func (w *world) bind(claim *corev1.PersistentVolumeClaim, volume string) {
	w.t.Helper()
	claim.Spec.VolumeName = volume
	require.NoError(w.t, w.store.Update(w.t.Context(), claim))
	claim.Status.Phase = corev1.ClaimBound
	require.NoError(w.t, w.store.Status().Update(w.t.Context(), claim))
}

// find reads vms/web-1 of a kind from the store; nil when there is none.
func find[T any, O interface {
	*T
	client.Object
}](w *world) O {
	w.t.Helper()
	object, err := see[T, O](w.t.Context(), w.store, "vms", "web-1")
	require.NoError(w.t, err)
	return object
}

func (w *world) volume() *cdiv1.DataVolume {
	w.t.Helper()
	volume := find[cdiv1.DataVolume](w)
	require.NotNil(w.t, volume)
	return volume
}

func (w *world) create(o client.Object) {
	w.t.Helper()
	require.NoError(w.t, w.store.Create(w.t.Context(), o))
}

func (w *world) remove(o client.Object) {
	w.t.Helper()
	require.NoError(w.t, w.store.Delete(w.t.Context(), o))
}

// requireWaiting wants a DataVolume that has no claim yet, and says why.
func (w *world) requireWaiting(reason, message string) {
	w.t.Helper()
	result := w.run()
	require.Equal(w.t, askAgain, result.RequeueAfter)
	volume := w.volume()
	require.Equal(w.t, cdiv1.Pending, volume.Status.Phase)
	for _, kind := range []cdiv1.DataVolumeConditionType{cdiv1.DataVolumeBound, cdiv1.DataVolumeReady} {
		c := conditionOf(&volume.Status, kind)
		require.Equal(w.t, corev1.ConditionFalse, c.Status)
		require.Equal(w.t, reason, c.Reason)
		require.Contains(w.t, c.Message, message)
	}
}

// requireDone wants a DataVolume whose disk is there.
func (w *world) requireDone() {
	w.t.Helper()
	w.run()
	volume := w.volume()
	require.Equal(w.t, cdiv1.Succeeded, volume.Status.Phase, said(&volume.Status, cdiv1.DataVolumeReady))
	require.Equal(w.t, progressDone, volume.Status.Progress)
	require.Equal(w.t, corev1.ConditionTrue, conditionOf(&volume.Status, cdiv1.DataVolumeReady).Status)
}

// said are the events so far.
func (w *world) said() []string {
	var all []string
	for {
		select {
		case event := <-w.events.Events:
			all = append(all, event)
		default:
			return all
		}
	}
}
