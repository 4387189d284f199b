package poller

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/clock"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
)

// storeWatcher lists and watches a store, in the way of an API server without streamed lists.
type storeWatcher struct{ *toolscache.ListWatch }

func (storeWatcher) IsWatchListSemanticsUnSupported() bool { return true }

func watcherOf(store client.WithWatch) storeWatcher {
	return storeWatcher{&toolscache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, _ metav1.ListOptions) (runtime.Object, error) {
			list := &cdiv1.DataImportCronList{}
			return list, store.List(ctx, list)
		},
		WatchFuncWithContext: func(ctx context.Context, _ metav1.ListOptions) (watch.Interface, error) {
			return store.Watch(ctx, &cdiv1.DataImportCronList{})
		},
	}}
}

// viaCache reads crons from the manager's cache, which may be late, and writes to the store.
type viaCache struct {
	client.WithWatch
	cache client.Reader
}

func (c viaCache) Get(ctx context.Context, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
	return c.cache.Get(ctx, key, o, opts...)
}

// crowd counts polls and how many run at once.
type crowd struct {
	mu      sync.Mutex
	polls   map[string]int
	running map[string]int
	most    int // of one host
	all     int
	mostAll int
}

// ProbeHTTP implements Prober.
func (c *crowd) ProbeHTTP(_ context.Context, r HTTPRequest) (HTTPFound, error) {
	u, err := url.Parse(r.URL)
	if err != nil {
		return HTTPFound{}, err
	}
	c.mu.Lock()
	c.polls[r.URL]++
	c.running[u.Host]++
	c.all++
	c.most, c.mostAll = max(c.most, c.running[u.Host]), max(c.mostAll, c.all)
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.running[u.Host]--
		c.all--
	}()
	return HTTPFound{Pin: v1alpha1.Pin{ETag: `"a"`}}, nil
}

// PublishedChecksum implements Prober.
func (*crowd) PublishedChecksum(context.Context, HTTPRequest, string) (string, error) { return "", nil }

// ProbeImage implements Prober.
func (*crowd) ProbeImage(context.Context, ImageRequest) (ImageFound, error) {
	return ImageFound{}, nil
}

// TestManagerPollsEachCronOnce runs the poller in a manager, with a cache of its own and all its goroutines:
// each cron is polled once and written once.
func TestManagerPollsEachCronOnce(t *testing.T) {
	const crons, hosts, perHost, polls = 300, 20, 3, 16
	scheme := runtime.NewScheme()
	scheme.AddKnownTypes(cdiv1.SchemeGroupVersion, &cdiv1.DataImportCron{}, &cdiv1.DataImportCronList{})
	metav1.AddToGroupVersion(scheme, cdiv1.SchemeGroupVersion)
	var objects []client.Object
	for n := range crons {
		cron := fileCron()
		cron.Name, cron.UID, cron.ResourceVersion = fmt.Sprintf("cron-%d", n), types.UID(fmt.Sprintf("uid-%d", n)), ""
		cron.Spec.Template.Spec.Source.HTTP.URL = fmt.Sprintf("https://host-%d.example.org/%d", n%hosts, n)
		objects = append(objects, cron)
	}
	var mu sync.Mutex
	written := map[string]int{}
	complete := make(chan struct{})
	store := interceptor.NewClient(fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).Build(), interceptor.Funcs{
		Patch: func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
			err := c.Patch(ctx, o, p, opts...)
			mu.Lock()
			defer mu.Unlock()
			if written[o.GetName()]++; err == nil && len(written) == crons && written[o.GetName()] == 1 {
				close(complete)
			}
			return err
		},
	})
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	mgr, err := ctrl.NewManager(&rest.Config{Host: "127.0.0.1:1"}, manager.Options{
		Scheme: scheme, Metrics: metricsserver.Options{BindAddress: "0"},
		MapperProvider: func(*rest.Config, *http.Client) (meta.RESTMapper, error) {
			mapper := meta.NewDefaultRESTMapper(nil)
			mapper.Add(cdiv1.SchemeGroupVersion.WithKind("DataImportCron"), meta.RESTScopeNamespace)
			return mapper, nil
		},
		Cache: cache.Options{NewInformer: func(_ toolscache.ListerWatcher, o runtime.Object, resync time.Duration, indexers toolscache.Indexers) toolscache.SharedIndexInformer {
			return toolscache.NewSharedIndexInformer(watcherOf(store), o, resync, indexers)
		}},
		NewClient: func(_ *rest.Config, o client.Options) (client.Client, error) {
			return viaCache{WithWatch: store, cache: o.Cache.Reader}, nil
		},
	})
	require.NoError(t, err)
	site := &crowd{polls: map[string]int{}, running: map[string]int{}}
	registry := prometheus.NewRegistry()
	require.NoError(t, Add(mgr, Options{
		MaxPolls: polls, MaxPollsPerHost: perHost, Prober: site, Events: record.NewFakeRecorder(10), Metrics: registry, Clock: clock.RealClock{},
	}))
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(ctx) }()
	select {
	case <-complete:
	case err := <-ended:
		require.NoError(t, err)
	}
	stop()
	require.NoError(t, <-ended)
	require.Len(t, site.polls, crons)
	for url, n := range site.polls {
		assert.Equal(t, 1, n, url)
	}
	for name, n := range written {
		assert.Equal(t, 1, n, name)
	}
	require.LessOrEqual(t, site.most, perHost)
	require.LessOrEqual(t, site.mostAll, polls)
}

func TestAddRefuses(t *testing.T) {
	for _, o := range []Options{{MaxPollsPerHost: 1}, {MaxPolls: 1}} {
		o.Metrics = prometheus.NewRegistry()
		_, err := newPoller(nil, nil, o)
		require.ErrorContains(t, err, "at least one must be able to run")
	}
	registry := prometheus.NewRegistry()
	_, err := newMetrics(registry)
	require.NoError(t, err)
	_, err = newPoller(nil, nil, Options{MaxPolls: 1, MaxPollsPerHost: 1, Metrics: registry})
	require.ErrorContains(t, err, "registering metrics")
}
