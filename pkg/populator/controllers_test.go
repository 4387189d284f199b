package populator

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/record"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/cdi"
)

// TestKindThatComesLater runs the manager while nobody knows yet whose the kinds are, then has them come: claims that
// were there before get their imports.
func TestKindThatComesLater(t *testing.T) {
	image, cron, source := testClaim(), cronClaim(), sourceClaim()
	cron.Name, cron.UID = "web-2", "0c1b"
	source.Name, source.UID = "web-3", "0c1c"
	s := serveSources(image, cron, source)
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections)

	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, batchv1.AddToScheme, storagev1.AddToScheme, v1alpha1.AddToScheme, cdi.AddToScheme} {
		require.NoError(t, add(scheme))
	}
	mgr, err := ctrl.NewManager(&rest.Config{Host: server.URL, QPS: -1}, manager.Options{
		Scheme: scheme, Metrics: metricsserver.Options{BindAddress: "0"}, Logger: klog.Background(),
		MapperProvider: func(*rest.Config, *http.Client) (meta.RESTMapper, error) { return mapperOf(scheme), nil },
	})
	require.NoError(t, err)
	all := newKinds()
	require.NoError(t, addIndexes(t.Context(), mgr.GetFieldIndexer(), all))
	remains := remains{client: mgr.GetClient(), live: mgr.GetAPIReader(), namespace: systemNamespace}
	events := newEventRecorder(record.NewFakeRecorder(1000), clock.RealClock{})
	wake := func(types.NamespacedName) {}
	watches, err := addControllers(mgr,
		&claimController{kinds: all, events: events, clock: clock.RealClock{}, wake: wake, remains: remains},
		&importController{kinds: all, events: events, clock: clock.RealClock{}, wake: wake, remains: remains, queue: newQueue(1, 1), pace: newPace(), leaders: newLeaders()})
	require.NoError(t, err)
	come := make(chan *kind)
	require.NoError(t, mgr.Add(manager.RunnableFunc(func(ctx context.Context) error {
		for range all {
			k := <-come
			if _, err := k.turn(presenceOurs); err != nil {
				return err
			}
			if err := watches.add(k); err != nil {
				return err
			}
		}
		<-ctx.Done()
		return nil
	})))
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- mgr.Start(ctx) }()
	for n, want := range [][]string{{"web-1"}, {"web-1", "web-2"}, {"web-1", "web-2", "web-3"}} {
		made, _ := s.seen()
		require.Len(t, slices.Compact(made), n, "nothing is imported before its kind has come")
		come <- all[n]
		require.EventuallyWithT(t, func(c *assert.CollectT) {
			made, _ := s.seen()
			assert.Equal(c, want, slices.Compact(made))
		}, time.Minute, 20*time.Millisecond)
	}
	_, held := s.seen()
	require.Contains(t, held, sourceName, "a source has its finalizer first")
	stop()
	require.NoError(t, <-ended)
}

// mapperOf knows the resources of the kinds in a scheme without asking a server.
func mapperOf(scheme *runtime.Scheme) meta.RESTMapper {
	mapper := meta.NewDefaultRESTMapper(scheme.PrioritizedVersionsAllGroups())
	for kind := range scheme.AllKnownTypes() {
		scope := meta.RESTScopeNamespace
		if kind.Kind == "PersistentVolume" || kind.Kind == "StorageClass" {
			scope = meta.RESTScopeRoot
		}
		mapper.Add(kind, scope)
	}
	return mapper
}
