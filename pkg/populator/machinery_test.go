package populator

import (
	"context"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/cdi"
	"github.com/gild-project/gild/pkg/golden"
)

// TestLibraryRunsOnceForEachKind runs lib-volume-populator twice in one process, as the populator does. Each works
// on the claims of its kind only, and both end at the first signal.
func TestLibraryRunsOnceForEachKind(t *testing.T) {
	image, cron, source := testClaim(), cronClaim(), sourceClaim()
	cron.Name, cron.UID = "web-2", "0c1b"
	source.Name, source.UID = "web-3", "0c1c"
	s := serveSources(image, cron, source)
	server := httptest.NewServer(s)
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{"c": {Server: server.URL}},
		Contexts:       map[string]*clientcmdapi.Context{"c": {Cluster: "c"}},
		CurrentContext: "c",
	}, kubeconfig))

	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, v1alpha1.AddToScheme, cdi.AddToScheme} {
		require.NoError(t, add(scheme))
	}
	led, leading := newImport(image, imageSpec(testImage())), newLeaders()
	leading.join(reuseKey(led), claimOf(led), clock.RealClock{}.Now())
	store := fake.NewClientBuilder().WithScheme(scheme).
		WithIndex(&corev1.PersistentVolumeClaim{}, indexUID, func(o client.Object) []string { return []string{string(o.GetUID())} }).
		WithObjects(image, cron, source, led, newImport(cron, cronSpec(t, cron, testCron(nil, revisionA()))),
			newImport(source, &v1alpha1.VMDiskImportSpec{ImageRef: v1alpha1.ImageReference{Kind: golden.DataSourceKind, Name: sourceName}})).Build()

	var mu sync.Mutex
	asked := map[string]map[string]int{} // how often each library asked for the import of a claim
	var running sync.WaitGroup
	for _, k := range newKinds() {
		asked[k.name] = map[string]int{}
		k.setPresence(presenceOurs)
		reader := interceptor.NewClient(store, interceptor.Funcs{Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			mu.Lock()
			asked[k.name][key.Name]++
			mu.Unlock()
			return c.Get(ctx, key, o, opts...)
		}})
		m := &machinery{
			kind: k, kubeconfig: kubeconfig, queue: newLibraryQueue(), events: newEventRecorder(record.NewFakeRecorder(100), clock.RealClock{}),
			remains: remains{client: reader, live: reader, namespace: systemNamespace}, leaders: leading,
		}
		running.Go(func() { m.run(t.Context()) })
	}
	// A claim is looked at again and again.
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		mu.Lock()
		defer mu.Unlock()
		assert.Greater(c, asked[kindImage]["web-1"], 3)
		assert.Greater(c, asked[golden.CronKind]["web-2"], 3)
		assert.Greater(c, asked[golden.DataSourceKind]["web-3"], 3)
	}, time.Minute, 50*time.Millisecond)
	mu.Lock()
	require.Len(t, asked[kindImage], 1, "a claim of another kind")
	require.Len(t, asked[golden.CronKind], 1, "a claim of another kind")
	require.Len(t, asked[golden.DataSourceKind], 1, "a claim of another kind")
	mu.Unlock()
	made, patched := s.seen()
	require.Equal(t, []string{primeName("0c1a"), primeName("0c1b"), primeName("0c1c")}, made, "each PVC' is made once")
	require.Equal(t, []string{"web-1", "web-2", "web-3"}, slices.Compact(patched), "each claim has its finalizer")

	require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGTERM))
	running.Wait()
	server.CloseClientConnections()
	server.Close()
}
