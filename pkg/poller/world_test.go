package poller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/record"
	testingclock "k8s.io/utils/clock/testing"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/golden"
	"github.com/gild-project/gild/pkg/grant"
	"github.com/gild-project/gild/pkg/trim"
)

// errCrash is what a write ends with when the poller "crashes" at it.
var errCrash = errors.New("the poller crashed here")

// site plays the sources: it answers probes and keeps the requests. Real servers are met in
// cmd/poller.
type site struct {
	pin       v1alpha1.Pin // of every file
	published string
	image     ImageFound
	err       error // of every probe
	// before is called within each probe.
	before func()

	files    []HTTPRequest
	sums     []HTTPRequest
	images   []ImageRequest
	modified int // probes answered in full
}

// ProbeHTTP implements Prober.
func (s *site) ProbeHTTP(_ context.Context, r HTTPRequest) (HTTPFound, error) {
	s.files = append(s.files, r)
	if s.before != nil {
		s.before()
	}
	if s.err != nil {
		return HTTPFound{}, s.err
	}
	if hasValidator(&r.Known) && r.Known == s.pin {
		return HTTPFound{NotModified: true}, nil
	}
	s.modified++
	return HTTPFound{Pin: s.pin}, nil
}

// PublishedChecksum implements Prober.
func (s *site) PublishedChecksum(_ context.Context, r HTTPRequest, file string) (string, error) {
	s.sums = append(s.sums, r)
	if s.err != nil {
		return "", s.err
	}
	if file != "fedora.qcow2" {
		return "", &answer{reason: "NotFound", text: "the file is not listed"}
	}
	return s.published, nil
}

// ProbeImage implements Prober.
func (s *site) ProbeImage(_ context.Context, r ImageRequest) (ImageFound, error) {
	s.images = append(s.images, r)
	return s.image, s.err
}

func (s *site) polls() int { return len(s.files) + len(s.images) }

// answer is an error as probes have them.
type answer struct {
	reason, text string
	retryAfter   time.Duration
}

func (a *answer) Error() string             { return a.text }
func (a *answer) Reason() string            { return a.reason }
func (a *answer) RetryAfter() time.Duration { return a.retryAfter }

// world is an object store with the poller on one side and a site on the other.
type world struct {
	t      *testing.T
	store  client.WithWatch // the cluster's own view, never crashing
	client client.WithWatch // what the poller sees and writes through
	clock  *testingclock.FakeClock
	events *record.FakeRecorder
	site   *site

	writes  int   // of crons
	crashAt int   // the write to crash at; 0 for none
	applied bool  // whether that write is applied before the crash
	fault   error // what the crash looks like; errCrash also restarts the poller
	// view, when set, is what the cache shows instead of the store.
	view func(*cdiv1.DataImportCron)
	// allowed are the answers to access reviews, by resource.
	allowed map[string]bool
	reviews []authorizationv1.SubjectAccessReviewSpec

	registry *prometheus.Registry
	poller   *poller
}

// finalizer is the roller's.
const finalizer = "gild.dev/cron"

func newWorld(t *testing.T, objects ...client.Object) *world {
	t.Helper()
	scheme := runtime.NewScheme()
	require.NoError(t, grant.AddToScheme(scheme))
	// The fake client walks the whole scheme at every write, so it holds no more kinds than needed.
	scheme.AddKnownTypes(corev1.SchemeGroupVersion, &corev1.Secret{}, &corev1.ConfigMap{}, &corev1.ServiceAccount{}, &corev1.PersistentVolumeClaim{})
	scheme.AddKnownTypes(cdiv1.SchemeGroupVersion, &cdiv1.DataImportCron{}, &cdiv1.DataImportCronList{})
	metav1.AddToGroupVersion(scheme, corev1.SchemeGroupVersion)
	metav1.AddToGroupVersion(scheme, cdiv1.SchemeGroupVersion)
	w := &world{
		t: t, clock: testingclock.NewFakeClock(time.Date(2026, 11, 21, 11, 30, 0, 0, time.UTC)), events: record.NewFakeRecorder(1000),
		site:  &site{pin: v1alpha1.Pin{ETag: `"a"`, LastModified: "Fri, 20 Nov 2026 10:00:00 GMT", Length: 7}},
		fault: errCrash,
	}
	for _, object := range objects {
		object.SetResourceVersion("")
	}
	// A tracker that does not keep who manages which field is several times as fast.
	tracker := clienttesting.NewObjectTracker(scheme, serializer.NewCodecFactory(scheme).UniversalDecoder())
	w.store = fake.NewClientBuilder().WithScheme(scheme).WithObjectTracker(tracker).WithObjects(objects...).Build()
	w.client = interceptor.NewClient(w.store, interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			if err := c.Get(ctx, key, o, opts...); err != nil {
				return err
			}
			kept, err := trim.Object(o) // as the cache does
			reflect.ValueOf(o).Elem().Set(reflect.ValueOf(kept).Elem())
			if cron, ok := o.(*cdiv1.DataImportCron); ok && err == nil && w.view != nil {
				w.view(cron)
			}
			return err
		},
		Create: func(_ context.Context, _ client.WithWatch, o client.Object, _ ...client.CreateOption) error {
			review, ok := o.(*authorizationv1.SubjectAccessReview)
			require.True(t, ok, "the poller creates %T", o)
			w.reviews = append(w.reviews, review.Spec)
			review.Status.Allowed = w.allowed[review.Spec.ResourceAttributes.Resource]
			return nil
		},
		Patch: func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
			return w.write(func() error { return c.Patch(ctx, o, p, opts...) })
		},
		Update: func(context.Context, client.WithWatch, client.Object, ...client.UpdateOption) error {
			return errors.New("the poller patches")
		},
		Delete: func(context.Context, client.WithWatch, client.Object, ...client.DeleteOption) error {
			return errors.New("the poller deletes nothing")
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
	return w.fault
}

// restart makes the poller anew: all that it holds in memory is gone.
func (w *world) restart() {
	w.t.Helper()
	w.registry = prometheus.NewRegistry()
	p, err := newPoller(w.client, w.client, Options{MaxPolls: 1, MaxPollsPerHost: 1, Prober: w.site, Finalizer: finalizer, Events: w.events, Clock: w.clock, Metrics: w.registry})
	require.NoError(w.t, err)
	w.poller = p
}

// look reconciles the cron, lets its polls run and notes them, until nothing more happens. It
// returns when the cron is to be looked at again, 0 for not by itself.
func (w *world) look() time.Duration {
	w.t.Helper()
	ctx := w.t.Context()
	for range 20 {
		result, err := w.poller.Reconcile(ctx, ctrl.Request{NamespacedName: cronKey})
		if errors.Is(err, errCrash) {
			w.restart()
			continue
		}
		if err != nil || result.RequeueAfter == soon {
			continue // as a queue would, without the wait
		}
		j, ok, _ := w.poller.queue.take()
		if !ok {
			return result.RequeueAfter
		}
		w.poller.run(ctx, j)
		<-w.poller.finished
	}
	w.t.Fatal("the poller never settles")
	return 0
}

// pass lets time pass and looks whenever the poller asks for it.
func (w *world) pass(d time.Duration) {
	w.t.Helper()
	for end := w.clock.Now().Add(d); ; {
		again := w.look()
		left := end.Sub(w.clock.Now())
		if again == 0 || again > left {
			w.clock.Step(left)
			w.look()
			return
		}
		w.clock.Step(again)
	}
}

var cronKey = types.NamespacedName{Namespace: "golden", Name: "fedora"}

func (w *world) cron() *cdiv1.DataImportCron {
	w.t.Helper()
	cron := &cdiv1.DataImportCron{}
	require.NoError(w.t, w.store.Get(w.t.Context(), cronKey, cron))
	return cron
}

// edit changes the cron, as its user or the roller does.
func (w *world) edit(change func(*cdiv1.DataImportCron)) {
	w.t.Helper()
	cron := w.cron()
	if cron.Annotations == nil {
		cron.Annotations = map[string]string{}
	}
	change(cron)
	require.NoError(w.t, w.store.Update(w.t.Context(), cron))
}

// importPolled does what the roller does after an import that has succeeded.
func (w *world) importPolled() {
	w.t.Helper()
	w.edit(func(cron *cdiv1.DataImportCron) {
		cron.Annotations[golden.AnnotationImported] = cron.Annotations[golden.AnnotationPolled]
	})
}

func (w *world) desired() string { return w.cron().Annotations[golden.AnnotationDesiredDigest] }

func (w *world) polled() *golden.Revision {
	w.t.Helper()
	revision, err := golden.ParseRevision(w.cron().Annotations[golden.AnnotationPolled])
	require.NoError(w.t, err)
	return revision
}

// requireCondition checks SourcePolled.
func (w *world) requireCondition(status corev1.ConditionStatus, reason string, says ...string) {
	w.t.Helper()
	c := condition(w.cron())
	require.NotNil(w.t, c, "no SourcePolled")
	require.Equal(w.t, reason, c.Reason, c.Message)
	require.Equal(w.t, status, c.Status)
	for _, text := range says {
		require.Contains(w.t, c.Message, text)
	}
}

// told are the events since the last call.
func (w *world) told() []string {
	var all []string
	for {
		select {
		case text := <-w.events.Events:
			all = append(all, text)
		default:
			return all
		}
	}
}

// metric reads the value of a metric; labels are values in the order of their names. ok is false
// when there is none.
func (w *world) metric(name string, labels ...string) (value float64, ok bool) {
	w.t.Helper()
	families, err := w.registry.Gather()
	require.NoError(w.t, err)
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			var values []string
			for _, label := range m.GetLabel() {
				values = append(values, label.GetValue())
			}
			if slices.Equal(values, labels) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue(), true
			}
		}
	}
	return 0, false
}

func secretOf(name string, data map[string]string) *corev1.Secret {
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: cronKey.Namespace, Name: name}, Data: map[string][]byte{}}
	for key, value := range data {
		secret.Data[key] = []byte(value)
	}
	return secret
}

// crashPoints runs a story once for each write, which crashes before it or after it is applied, and
// with each kind of fault.
func crashPoints(t *testing.T, story func(t *testing.T, w *world), objects func() []client.Object) {
	t.Helper()
	clean := newWorld(t, objects()...)
	story(t, clean)
	conflict := apierrors.NewConflict(cdiv1.Resource("dataimportcrons"), "fedora", errors.New("changed"))
	faults := map[string]error{
		"crash": errCrash, "conflict": conflict, "busy": apierrors.NewTooManyRequests("busy", 1),
		"broken": apierrors.NewInternalError(errors.New("broken")), "timeout": context.DeadlineExceeded,
	}
	for _, name := range slices.Sorted(maps.Keys(faults)) {
		for at := 1; at <= clean.writes; at++ {
			for _, applied := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s at write %d, applied %t", name, at, applied), func(t *testing.T) {
					w := newWorld(t, objects()...)
					w.crashAt, w.applied, w.fault = at, applied, faults[name]
					story(t, w)
					if name != "crash" {
						require.Equal(t, clean.site.polls(), w.site.polls(), "polled twice")
					}
				})
			}
		}
	}
}
