package datasource

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	testingclock "k8s.io/utils/clock/testing"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/trim"
)

// errCrash is what a write ends with when the poller "crashes" at it.
var errCrash = errors.New("the poller crashed here")

// stage is a store with the controller on it.
type stage struct {
	t      *testing.T
	store  client.WithWatch
	clock  *testingclock.FakeClock
	writes int
	// fault is what happens to a write instead; nil lets it through.
	fault func(apply func() error) error
	// noSnapshots says that the cluster does not know the kind.
	noSnapshots bool
	controller  *controller
}

func newScheme(t *testing.T) *runtime.Scheme {
	t.Helper()
	scheme := runtime.NewScheme()
	scheme.AddKnownTypes(corev1.SchemeGroupVersion, &corev1.PersistentVolumeClaim{}, &corev1.PersistentVolume{})
	scheme.AddKnownTypes(cdiv1.SchemeGroupVersion, &cdiv1.DataSource{}, &cdiv1.DataSourceList{})
	for _, version := range []schema.GroupVersion{corev1.SchemeGroupVersion, cdiv1.SchemeGroupVersion} {
		metav1.AddToGroupVersion(scheme, version)
	}
	require.NoError(t, v1alpha1.AddToScheme(scheme))
	return scheme
}

func newStage(t *testing.T, objects ...client.Object) *stage {
	t.Helper()
	s := &stage{t: t, clock: testingclock.NewFakeClock(time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC))}
	s.store = fake.NewClientBuilder().WithScheme(newScheme(t)).
		WithIndex(&cdiv1.DataSource{}, indexClaim, claimOf).WithIndex(&cdiv1.DataSource{}, indexPointed, pointedBy).
		WithObjects(objects...).Build()
	through := interceptor.NewClient(s.store, interceptor.Funcs{
		Get: func(ctx context.Context, next client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			if kind := o.GetObjectKind().GroupVersionKind(); kind == snapshotKind() && s.noSnapshots {
				return &meta.NoKindMatchError{GroupKind: kind.GroupKind(), SearchedVersions: []string{kind.Version}}
			}
			return next.Get(ctx, key, o, opts...)
		},
		Update: func(context.Context, client.WithWatch, client.Object, ...client.UpdateOption) error {
			return errors.New("what is cached is trimmed: an update would delete the rest")
		},
		Patch: func(ctx context.Context, next client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
			s.writes++
			apply := func() error { return next.Patch(ctx, o, p, opts...) }
			if s.fault != nil {
				return s.fault(apply)
			}
			return apply()
		},
	})
	cached := interceptor.NewClient(through, interceptor.Funcs{
		Get: func(ctx context.Context, next client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			if err := next.Get(ctx, key, o, opts...); err != nil {
				return err
			}
			return trimmed(o)
		},
	})
	s.controller = &controller{client: cached, live: through, clock: s.clock}
	return s
}

// trimmed leaves of an object what the poller's cache keeps of it.
func trimmed(o client.Object) error {
	kept, err := trim.Object(o)
	reflect.ValueOf(o).Elem().Set(reflect.ValueOf(kept).Elem())
	return err
}

func (s *stage) reconcile(name string) (ctrl.Result, error) {
	return s.controller.Reconcile(s.t.Context(), ctrl.Request{NamespacedName: types.NamespacedName{Namespace: "vms", Name: name}})
}

func (s *stage) look(name string) (ctrl.Result, *cdiv1.DataSource) {
	s.t.Helper()
	result, err := s.reconcile(name)
	require.NoError(s.t, err)
	return result, s.get(name)
}

func (s *stage) get(name string) *cdiv1.DataSource {
	s.t.Helper()
	d := &cdiv1.DataSource{}
	require.NoError(s.t, s.store.Get(s.t.Context(), types.NamespacedName{Namespace: "vms", Name: name}, d))
	return d
}

// TestAdd adds the controller to a manager that is never started: its watches and indexes go together.
func TestAdd(t *testing.T) {
	scheme := newScheme(t)
	mapper := meta.NewDefaultRESTMapper(scheme.PrioritizedVersionsAllGroups())
	for kind := range scheme.AllKnownTypes() {
		mapper.Add(kind, meta.RESTScopeNamespace)
	}
	mgr, err := manager.New(&rest.Config{Host: "https://192.0.2.1"}, manager.Options{
		Scheme: scheme, Metrics: metricsserver.Options{BindAddress: "0"},
		MapperProvider: func(*rest.Config, *http.Client) (meta.RESTMapper, error) { return mapper, nil },
	})
	require.NoError(t, err)
	require.NoError(t, Add(t.Context(), mgr, clock.RealClock{}))
	require.Error(t, Add(t.Context(), mgr, clock.RealClock{}), "its indexes are there already")
}

// TestSetReady writes what the controller would write, which then has nothing left to do.
func TestSetReady(t *testing.T) {
	golden := claim(corev1.ClaimBound, "cdi.kubevirt.io")
	golden.Annotations = map[string]string{"gild.dev/verified": "true"}
	golden.Labels = map[string]string{"instancetype.kubevirt.io/default-preference": "fedora", "team": "images"}
	pointed := source("a", pvc("disk"))
	found := newStage(t, pointed.DeepCopy(), golden)
	_, want := found.look("a")
	require.Equal(t, 1, found.writes)

	SetReady(pointed, golden, found.clock.Now())
	require.Equal(t, want.Status.Source, pointed.Status.Source)
	require.Equal(t, want.Labels, pointed.Labels)
	told := newStage(t, pointed, golden)
	_, d := told.look("a")
	require.Equal(t, reasonReady, readyOf(d).Reason)
	require.Zero(t, told.writes)
}

func TestStatusFollowsTheClaim(t *testing.T) {
	s := newStage(t, source("a", pvc("disk")))
	_, d := s.look("a")
	require.Equal(t, reasonNotFound, readyOf(d).Reason)
	first := readyOf(d).LastTransitionTime

	s.clock.Step(time.Minute)
	require.NoError(t, s.store.Create(t.Context(), claim(corev1.ClaimPending, "")))
	_, d = s.look("a")
	require.Equal(t, reasonNotBound, readyOf(d).Reason)
	require.True(t, first.Equal(&readyOf(d).LastTransitionTime), "it is False as before")
	require.True(t, readyOf(d).LastHeartbeatTime.Equal(&metav1.Time{Time: s.clock.Now()}))
	require.Nil(t, d.Status.Source.PVC)

	bound := claim(corev1.ClaimBound, "")
	bound.Labels = map[string]string{"instancetype.kubevirt.io/default-instancetype": "u1.small", "team": "a"}
	require.NoError(t, s.store.Delete(t.Context(), bound))
	require.NoError(t, s.store.Create(t.Context(), bound))
	_, d = s.look("a")
	require.Equal(t, corev1.ConditionTrue, readyOf(d).Status)
	require.True(t, readyOf(d).LastTransitionTime.Equal(&metav1.Time{Time: s.clock.Now()}))
	require.Equal(t, pvc("disk"), d.Status.Source)
	require.Equal(t, map[string]string{"instancetype.kubevirt.io/default-instancetype": "u1.small"}, d.Labels)

	before := s.writes
	for range 3 {
		s.clock.Step(time.Hour)
		result, _ := s.look("a")
		require.Zero(t, result)
	}
	require.Equal(t, before, s.writes, "what is fine costs no write")

	require.NoError(t, s.store.Delete(t.Context(), bound))
	_, d = s.look("a")
	require.Equal(t, reasonNotFound, readyOf(d).Reason)
	require.Nil(t, d.Status.Source.PVC, "what is gone is not named")
}

func TestImportThatIsAnotherClaimsTellsNothing(t *testing.T) {
	imp := importOf(v1alpha1.PhaseSucceeded, "pv")
	imp.Spec.ClaimRef.UID, imp.OwnerReferences[0].UID = "another", "another"
	s := newStage(t, source("a", pvc("disk")), claim(corev1.ClaimBound, v1alpha1.Group), imp, populated(""))
	_, d := s.look("a")
	require.Equal(t, reasonNotFilled, readyOf(d).Reason)
}

func TestClaimOfAnotherNamespaceMayBeNamed(t *testing.T) {
	other := claim(corev1.ClaimBound, "")
	other.Namespace = "images"
	named := cdiv1.DataSourceSource{PVC: &cdiv1.DataVolumeSourcePVC{Namespace: "images", Name: "disk"}}
	s := newStage(t, source("a", named), other)
	_, d := s.look("a")
	require.Equal(t, reasonReady, readyOf(d).Reason)
	require.Equal(t, named, d.Status.Source)
}

func TestChains(t *testing.T) {
	s := newStage(t, source("a", pointer("vms", "b")), source("b", pvc("disk")), source("c", pointer("vms", "a")), claim(corev1.ClaimBound, ""))
	_, d := s.look("a")
	require.Equal(t, reasonReady, readyOf(d).Reason)
	require.Equal(t, pvc("disk"), d.Status.Source, "the end of the chain")
	_, d = s.look("c")
	require.Equal(t, reasonTooDeep, readyOf(d).Reason)
	require.Equal(t, cdiv1.DataSourceSource{}, d.Status.Source)

	woken := sourcesOfClaim(s.store)(t.Context(), claim(corev1.ClaimBound, ""))
	names := []string{}
	for _, request := range woken {
		names = append(names, request.Name)
	}
	require.ElementsMatch(t, []string{"a", "b"}, names)
}

func TestSnapshots(t *testing.T) {
	s := newStage(t, source("a", volumeSnapshot()))
	s.noSnapshots = true
	result, d := s.look("a")
	require.Equal(t, reasonNotFound, readyOf(d).Reason)
	require.Equal(t, askSnapshot, result.RequeueAfter)

	s.noSnapshots = false
	require.NoError(t, s.store.Create(t.Context(), snapshotThatIs(true)))
	result, d = s.look("a")
	require.Equal(t, reasonReady, readyOf(d).Reason)
	require.Equal(t, volumeSnapshot(), d.Status.Source)
	require.Equal(t, askReadySnapshot, result.RequeueAfter)
}

func TestDataSourceThatGoesIsLeftAlone(t *testing.T) {
	d := source("a", pvc("disk"))
	d.Finalizers = []string{"example.org/hold"}
	s := newStage(t, d)
	require.NoError(t, s.store.Delete(t.Context(), d))
	s.look("a")
	require.Zero(t, s.writes)
	_, err := s.reconcile("missing")
	require.NoError(t, err)
}

// TestFaultsOfTheWrite has the one write fail in each way: the next look ends where one without a
// fault does.
func TestFaultsOfTheWrite(t *testing.T) {
	conflict := apierrors.NewConflict(schema.GroupResource{Resource: "datasources"}, "a", errors.New("written since"))
	for name, fault := range map[string]func(apply func() error) error{
		"crash before":  func(func() error) error { return errCrash },
		"crash after":   func(apply func() error) error { return errors.Join(apply(), errCrash) },
		"conflict":      func(func() error) error { return conflict },
		"ghost timeout": func(apply func() error) error { return errors.Join(apply(), apierrors.NewTimeoutError("no answer", 1)) },
		"server error":  func(func() error) error { return apierrors.NewInternalError(fmt.Errorf("full")) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, source("a", pvc("disk")), claim(corev1.ClaimBound, ""))
			s.fault = fault
			result, err := s.reconcile("a")
			if name == "conflict" {
				require.NoError(t, err)
				require.Equal(t, catchUp, result.RequeueAfter)
			} else {
				require.Error(t, err)
			}
			s.fault = nil
			_, d := s.look("a")
			require.Equal(t, reasonReady, readyOf(d).Reason)
			require.Len(t, d.Status.Conditions, 1)
		})
	}
}

// TestAnOlderViewWritesNothing has somebody repoint the DataSource between our look and our write.
func TestAnOlderViewWritesNothing(t *testing.T) {
	s := newStage(t, source("a", pvc("disk")), claim(corev1.ClaimBound, ""))
	s.fault = func(apply func() error) error {
		d := s.get("a")
		d.Spec.Source = pvc("newer")
		require.NoError(t, s.store.Update(t.Context(), d))
		return apply()
	}
	result, err := s.reconcile("a")
	require.NoError(t, err)
	require.Equal(t, catchUp, result.RequeueAfter)
	require.Empty(t, s.get("a").Status.Conditions)
	s.fault = nil
	_, d := s.look("a")
	require.Equal(t, reasonNotFound, readyOf(d).Reason)
}
