package export

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	testingclock "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
)

// world is an API server with an Exports on one side and the node on the other.
type world struct {
	t       *testing.T
	store   client.WithWatch
	exports *Exports
	clock   *testingclock.FakeClock
	writes  int
	// refuse is what the API server says to a new object; nil takes all.
	refuse func(o client.Object) error
}

func newWorld(t *testing.T, objects ...client.Object) *world {
	t.Helper()
	scheme := runtime.NewScheme()
	require.NoError(t, corev1.AddToScheme(scheme))
	require.NoError(t, networkingv1.AddToScheme(scheme))
	w := &world{t: t, clock: testingclock.NewFakeClock(testTime())}
	w.store = fake.NewClientBuilder().WithScheme(scheme).WithStatusSubresource(&corev1.Pod{}).
		WithIndex(&corev1.Event{}, "involvedObject.uid", func(o client.Object) []string {
			return []string{string(o.(*corev1.Event).InvolvedObject.UID)}
		}).
		WithObjects(objects...).Build()
	writer := interceptor.NewClient(w.store, interceptor.Funcs{
		Get: func(context.Context, client.WithWatch, client.ObjectKey, client.Object, ...client.GetOption) error {
			return errors.New("the cached client was asked")
		},
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			w.writes++
			if w.refuse != nil {
				if err := w.refuse(o); err != nil {
					return err
				}
			}
			o.SetUID(types.UID(fmt.Sprintf("uid-%d", w.writes)))
			o.SetCreationTimestamp(metav1.NewTime(w.clock.Now()))
			return c.Create(ctx, o, opts...)
		},
		Delete: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
			w.writes++
			return c.Delete(ctx, o, opts...)
		},
	})
	w.exports = New(writer, w.store, systemNamespace, w.clock)
	return w
}

func (w *world) ensure() State {
	w.t.Helper()
	state, err := w.exports.Ensure(w.t.Context(), testSpec())
	require.NoError(w.t, err)
	return state
}

func (w *world) pod() *corev1.Pod {
	w.t.Helper()
	pod := &corev1.Pod{}
	require.NoError(w.t, w.store.Get(w.t.Context(), types.NamespacedName{Namespace: "golden", Name: "gild-export-0c1a"}, pod))
	return pod
}

// node says how the pod is.
func (w *world) node(change func(pod *corev1.Pod)) {
	w.t.Helper()
	pod := w.pod()
	change(pod)
	require.NoError(w.t, w.store.Status().Update(w.t.Context(), pod))
}

func ready(pod *corev1.Pod) {
	pod.Status.Phase = corev1.PodRunning
	pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
}

// exited is the end of the exporter, as the kubelet reports it.
func exited(code int32, message string) func(pod *corev1.Pod) {
	return func(pod *corev1.Pod) {
		pod.Status.Phase = corev1.PodFailed
		if code == 0 {
			pod.Status.Phase = corev1.PodSucceeded
		}
		pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: container, State: corev1.ContainerState{
			Terminated: &corev1.ContainerStateTerminated{ExitCode: code, Message: message},
		}}}
	}
}

func (w *world) count() int {
	w.t.Helper()
	n := 0
	for _, list := range []client.ObjectList{&corev1.PodList{}, &corev1.SecretList{}, &corev1.ServiceList{}, &networkingv1.NetworkPolicyList{}} {
		require.NoError(w.t, w.store.List(w.t.Context(), list))
		items, err := runtime.DefaultUnstructuredConverter.ToUnstructured(list)
		require.NoError(w.t, err)
		all, _ := items["items"].([]any)
		n += len(all)
	}
	return n
}

func TestEnsureAndClear(t *testing.T) {
	w := newWorld(t)
	state := w.ensure()
	require.Equal(t, 4, w.count())
	require.False(t, state.Ready)
	require.Equal(t, "the exporter is starting", state.Waiting)
	require.Equal(t, "https://gild-export-0c1a.golden.svc:8443/disk", state.URL)
	require.True(t, state.Started.Equal(w.clock.Now()))

	w.node(ready)
	again := w.ensure()
	require.True(t, again.Ready)
	require.Empty(t, again.Waiting)
	require.Equal(t, state.Token, again.Token)
	require.Equal(t, state.CA, again.CA)
	require.Len(t, state.Token, 64)
	require.Contains(t, string(state.CA), "BEGIN CERTIFICATE")
	require.Equal(t, 4, w.writes, "nothing is written when all is there")

	// What somebody removed comes back.
	require.NoError(t, w.store.Delete(t.Context(), newService(testSpec())))
	require.True(t, w.ensure().Ready)
	require.Equal(t, 4, w.count())

	gone, err := w.exports.Clear(t.Context(), "golden", "0c1a")
	require.NoError(t, err)
	require.False(t, gone, "the pod is only told to end")
	require.Equal(t, 3, w.count())
	gone, err = w.exports.Clear(t.Context(), "golden", "0c1a")
	require.NoError(t, err)
	require.True(t, gone)
	require.Zero(t, w.count())
	gone, err = w.exports.Clear(t.Context(), "golden", "0c1a")
	require.NoError(t, err)
	require.True(t, gone)
}

// TestClearWaitsForThePod: the policy and the name stay until the pod is gone.
func TestClearWaitsForThePod(t *testing.T) {
	w := newWorld(t)
	w.ensure()
	pod := w.pod()
	pod.Finalizers = []string{"example.org/slow"}
	require.NoError(t, w.store.Update(t.Context(), pod))
	for range 3 {
		gone, err := w.exports.Clear(t.Context(), "golden", "0c1a")
		require.NoError(t, err)
		require.False(t, gone)
		require.Equal(t, 4, w.count())
	}
	require.Equal(t, "the exporter before this one is ending", w.ensure().Waiting)
	pod = w.pod()
	pod.Finalizers = nil
	require.NoError(t, w.store.Update(t.Context(), pod))
	gone, err := w.exports.Clear(t.Context(), "golden", "0c1a")
	require.NoError(t, err)
	require.True(t, gone)
	require.Zero(t, w.count())
}

func TestKilledExporterIsStartedAgain(t *testing.T) {
	for name, end := range map[string]func(*corev1.Pod){
		"nobody read": exited(0, ""),
		"killed":      exited(137, "OOMKilled"),
		"told":        exited(1, "Interrupted"),
		"evicted":     func(pod *corev1.Pod) { pod.Status.Phase, pod.Status.Reason = corev1.PodFailed, "Evicted" },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			first := w.ensure()
			for try := 1; try < maxTries; try++ {
				before := w.pod().UID
				w.node(end)
				w.clock.Step(time.Minute)
				state := w.ensure()
				require.Empty(t, state.Failure)
				require.Contains(t, state.Waiting, "started again")
				require.True(t, state.Started.Equal(w.clock.Now()))
				require.Equal(t, first.Token, state.Token)
				require.NotEqual(t, before, w.pod().UID)
				require.Empty(t, w.pod().Status.Phase)
			}
			w.node(end)
			require.Contains(t, w.ensure().Failure, "5 times")
			require.Equal(t, 4, w.count())
		})
	}
}

func TestFailures(t *testing.T) {
	forbidden := func(kind client.Object) func(o client.Object) error {
		return func(o client.Object) error {
			if fmt.Sprintf("%T", o) != fmt.Sprintf("%T", kind) {
				return nil
			}
			return apierrors.NewForbidden(schema.GroupResource{Resource: "things"}, o.GetName(), errors.New("exceeded quota: small"))
		}
	}
	for name, c := range map[string]struct {
		before  []client.Object
		refuse  func(o client.Object) error
		prepare func(w *world)
		says    []string
	}{
		"no disk on the volume": {prepare: func(w *world) {
			w.ensure()
			w.node(exited(10, "importer: NotFound: there is no\n /target/disk.img"))
		}, says: []string{"exit code 10", "there is no /target/disk.img"}},
		"foreign secret": {before: []client.Object{&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "golden", Name: "gild-export-0c1a"}}}, says: []string{"Secret golden/gild-export-0c1a", "not ours"}},
		"foreign pod":    {before: []client.Object{&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "golden", Name: "gild-export-0c1a"}}}, says: []string{"Pod golden/gild-export-0c1a", "not ours"}},
		"broken secret":  {before: []client.Object{&corev1.Secret{ObjectMeta: metaOf(testSpec())}}, says: []string{"Secret gild-export-0c1a", "certificate"}},
		"a day later": {prepare: func(w *world) {
			w.ensure()
			w.clock.Step(validity + time.Second)
		}, says: []string{"longer than 24h"}},
		"no permission": {refuse: forbidden(&corev1.Secret{}), says: []string{"namespace golden", "deploy/copy-rbac.yaml"}},
		"no quota":      {refuse: forbidden(&corev1.Pod{}), says: []string{"exceeded quota: small"}},
		"no namespace": {refuse: func(client.Object) error {
			return apierrors.NewNotFound(schema.GroupResource{Resource: "namespaces"}, "golden")
		}, says: []string{`namespaces "golden" not found`}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, c.before...)
			if c.prepare != nil {
				c.prepare(w)
			}
			w.refuse = c.refuse
			state := w.ensure()
			require.False(t, state.Ready)
			for _, text := range c.says {
				require.Contains(t, state.Failure, text)
			}
		})
	}
}

func TestFaultIsNoFailure(t *testing.T) {
	w := newWorld(t)
	w.refuse = func(client.Object) error { return apierrors.NewInternalError(errors.New("etcd is away")) }
	_, err := w.exports.Ensure(t.Context(), testSpec())
	require.ErrorContains(t, err, "etcd is away")
	w.refuse = nil
	require.Empty(t, w.ensure().Failure)
}

func TestClearLeavesWhatIsNotOurs(t *testing.T) {
	w := newWorld(t, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "golden", Name: "gild-export-0c1a"}})
	gone, err := w.exports.Clear(t.Context(), "golden", "0c1a")
	require.NoError(t, err)
	require.True(t, gone)
	require.Equal(t, 1, w.count())
}
