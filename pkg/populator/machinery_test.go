package populator

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
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

// objectServer serves as much of the API of Kubernetes as lib-volume-populator needs until PVC' is there: it lists and
// watches, takes new claims, and takes patches without applying them.
type objectServer struct {
	mu       sync.Mutex
	objects  map[string][]client.Object // by resource
	watchers map[string][]chan client.Object
	made     []string // names of new claims
	patched  []string // names of patched claims
}

func (s *objectServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	resource := path.Base(r.URL.Path)
	w.Header().Set("Content-Type", "application/json")
	switch {
	case r.Method == http.MethodPost:
		s.create(w, r)
	case r.Method == http.MethodPatch:
		s.mu.Lock()
		s.patched = append(s.patched, resource)
		s.mu.Unlock()
		_ = json.NewEncoder(w).Encode(&corev1.PersistentVolumeClaim{TypeMeta: claimType()})
	case r.URL.Query().Get("sendInitialEvents") != "":
		w.WriteHeader(http.StatusUnprocessableEntity) // a client lists first then
	case r.URL.Query().Get("watch") != "":
		s.watch(w, r, resource)
	default:
		s.mu.Lock()
		defer s.mu.Unlock()
		list := listTypes()[resource]
		_ = json.NewEncoder(w).Encode(map[string]any{"kind": list.Kind, "apiVersion": list.APIVersion, "metadata": map[string]string{"resourceVersion": "1"}, "items": append([]client.Object{}, s.objects[resource]...)})
	}
}

func claimType() metav1.TypeMeta {
	return metav1.TypeMeta{APIVersion: "v1", Kind: "PersistentVolumeClaim"}
}

// listTypes are what the API calls the lists of its resources.
func listTypes() map[string]metav1.TypeMeta {
	return map[string]metav1.TypeMeta{
		"persistentvolumeclaims": {APIVersion: "v1", Kind: "PersistentVolumeClaimList"},
		"persistentvolumes":      {APIVersion: "v1", Kind: "PersistentVolumeList"},
		"pods":                   {APIVersion: "v1", Kind: "PodList"},
		"storageclasses":         {APIVersion: "storage.k8s.io/v1", Kind: "StorageClassList"},
		"vmdiskimages":           {APIVersion: v1alpha1.GroupVersion().String(), Kind: "VMDiskImageList"},
		"dataimportcrons":        {APIVersion: "cdi.kubevirt.io/v1beta1", Kind: "DataImportCronList"},
	}
}

func (s *objectServer) create(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	object, _, err := clientgoscheme.Codecs.UniversalDeserializer().Decode(body, nil, nil)
	claim, ok := object.(*corev1.PersistentVolumeClaim)
	if err != nil || !ok {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	claim.TypeMeta, claim.ResourceVersion = claimType(), "2"
	s.mu.Lock()
	defer s.mu.Unlock()
	s.made = append(s.made, claim.Name)
	for _, watcher := range s.watchers["persistentvolumeclaims"] {
		watcher <- claim
	}
	w.WriteHeader(http.StatusCreated)
	_ = json.NewEncoder(w).Encode(claim)
}

func (s *objectServer) watch(w http.ResponseWriter, r *http.Request, resource string) {
	events := make(chan client.Object, 16)
	s.mu.Lock()
	s.watchers[resource] = append(s.watchers[resource], events)
	s.mu.Unlock()
	for flusher, ok := w.(http.Flusher); ok; {
		flusher.Flush()
		select {
		case <-r.Context().Done():
			return
		case object := <-events:
			_ = json.NewEncoder(w).Encode(map[string]any{"type": "ADDED", "object": object})
		}
	}
}

// seen are the names of claims that were made and patched so far.
func (s *objectServer) seen() (made, patched []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	made, patched = slices.Clone(s.made), slices.Clone(s.patched)
	slices.Sort(made)
	slices.Sort(patched)
	return made, patched
}

// TestLibraryRunsOnceForEachKind runs lib-volume-populator twice in one process, as the populator does. Each works
// on the claims of its kind only, and both end at the first signal.
func TestLibraryRunsOnceForEachKind(t *testing.T) {
	image, cron := testClaim(), cronClaim()
	cron.Name, cron.UID = "web-2", "0c1b"
	imageSpec, _ := resolveImage(image, testImage())
	cronSpec, _ := resolveCron(cron, testCron(nil, revisionA()))
	typedCron := testCron(nil, revisionA())
	typedCron.TypeMeta = metav1.TypeMeta{APIVersion: "cdi.kubevirt.io/v1beta1", Kind: golden.CronKind}
	s := &objectServer{watchers: map[string][]chan client.Object{}, objects: map[string][]client.Object{
		"persistentvolumeclaims": {image, cron},
		"storageclasses":         {&storagev1.StorageClass{TypeMeta: metav1.TypeMeta{APIVersion: "storage.k8s.io/v1", Kind: "StorageClass"}, ObjectMeta: fastClass().ObjectMeta, Provisioner: fastClass().Provisioner}},
		"vmdiskimages":           {testImage()},
		"dataimportcrons":        {typedCron},
	}}
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
	store := fake.NewClientBuilder().WithScheme(scheme).
		WithIndex(&corev1.PersistentVolumeClaim{}, indexUID, func(o client.Object) []string { return []string{string(o.GetUID())} }).
		WithObjects(image, cron, newImport(image, imageSpec), newImport(cron, cronSpec)).Build()

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
			remains: remains{client: reader, live: reader, namespace: systemNamespace},
		}
		running.Go(func() { m.run(t.Context()) })
	}
	// A claim is looked at again and again.
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		mu.Lock()
		defer mu.Unlock()
		assert.Greater(c, asked[kindImage]["web-1"], 3)
		assert.Greater(c, asked[golden.CronKind]["web-2"], 3)
	}, time.Minute, 50*time.Millisecond)
	mu.Lock()
	require.Len(t, asked[kindImage], 1, "a claim of another kind")
	require.Len(t, asked[golden.CronKind], 1, "a claim of another kind")
	mu.Unlock()
	made, patched := s.seen()
	require.Equal(t, []string{primeName("0c1a"), primeName("0c1b")}, made, "each PVC' is made once")
	require.Equal(t, []string{"web-1", "web-2"}, slices.Compact(patched), "each claim has its finalizer")

	require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGTERM))
	running.Wait()
	server.CloseClientConnections()
	server.Close()
}
