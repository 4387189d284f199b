package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/record"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/cdi"
	"github.com/gild-project/gild/pkg/grant"
	"github.com/gild-project/gild/pkg/snapshot"
)

// server is an API server with one DataVolume, one StorageClass and the definitions of cdi.kubevirt.io. It takes new
// objects, and does not keep them.
type server struct {
	mu   sync.Mutex
	made []string
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	plural := path.Base(r.URL.Path)
	w.Header().Set("Content-Type", "application/json")
	switch query := r.URL.Query(); {
	case r.Method == http.MethodPost:
		s.create(w, r)
	case r.Method == http.MethodPatch:
		w.WriteHeader(http.StatusNotFound)
		_ = json.NewEncoder(w).Encode(metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: "Failure", Reason: metav1.StatusReasonNotFound, Code: http.StatusNotFound})
	case strings.HasSuffix(plural, ".cdi.kubevirt.io"):
		_, _ = w.Write([]byte(`{"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "` + plural + `", "labels": {"gild.dev/owned": "true"}}}`))
	case query.Get("sendInitialEvents") != "":
		w.WriteHeader(http.StatusUnprocessableEntity) // a client lists first then
	case query.Get("watch") != "":
		if flusher, ok := w.(http.Flusher); ok {
			flusher.Flush()
		}
		<-r.Context().Done()
	default:
		_, _ = w.Write([]byte(`{"metadata": {"resourceVersion": "1"}, ` + list(plural) + `}`))
	}
}

// create takes a new object. Clients send those of Kubernetes itself as protobuf.
func (s *server) create(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	var kind, name string
	object := any(nil)
	if decoded, as, err := clientgoscheme.Codecs.UniversalDeserializer().Decode(body, nil, nil); err == nil {
		if claim, ok := decoded.(*corev1.PersistentVolumeClaim); ok {
			kind, name, object = as.Kind, claim.Name, claim
		}
	} else {
		read := &unstructured.Unstructured{}
		if json.Unmarshal(body, &read.Object) != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		kind, name, object = read.GetKind(), read.GetName(), read
	}
	s.mu.Lock()
	s.made = append(s.made, kind+" "+name)
	s.mu.Unlock()
	w.WriteHeader(http.StatusCreated)
	_ = json.NewEncoder(w).Encode(object)
}

// list is what there is of a resource.
func list(plural string) string {
	switch plural {
	case "datavolumes":
		return `"apiVersion": "cdi.kubevirt.io/v1beta1", "kind": "DataVolumeList", "items": [{"apiVersion": "cdi.kubevirt.io/v1beta1", "kind": "DataVolume",
			"metadata": {"namespace": "vms", "name": "web-1", "uid": "volume-uid", "resourceVersion": "1"},
			"spec": {"source": {"http": {"url": "https://images.example.org/disk"}}, "storage": {"storageClassName": "fast", "resources": {"requests": {"storage": "1Gi"}}}}}]`
	case "storageclasses":
		return `"apiVersion": "storage.k8s.io/v1", "kind": "StorageClassList", "items": [{"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
			"metadata": {"name": "fast", "uid": "class-uid", "resourceVersion": "1"}, "provisioner": "csi.example.org"}]`
	}
	kinds := map[string]string{
		"cdis": "cdi.kubevirt.io/v1beta1 CDIList", "cdiconfigs": "cdi.kubevirt.io/v1beta1 CDIConfigList", "datasources": "cdi.kubevirt.io/v1beta1 DataSourceList",
		"storageprofiles": "cdi.kubevirt.io/v1beta1 StorageProfileList", "persistentvolumeclaims": "v1 PersistentVolumeClaimList",
		"vmdiskimages": "virtualization.k8s.io/v1alpha1 VMDiskImageList", "vmdiskimports": "virtualization.k8s.io/v1alpha1 VMDiskImportList",
	}
	version, kind, _ := strings.Cut(kinds[plural], " ")
	return `"apiVersion": "` + version + `", "kind": "` + kind + `", "items": []`
}

func (s *server) seen() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	made := slices.Clone(s.made)
	slices.Sort(made)
	return slices.Compact(made)
}

// TestServeDataVolumes runs all that the populator adds for DataVolumes: each part is woken, and makes what is missing.
func TestServeDataVolumes(t *testing.T) {
	s := &server{}
	web := httptest.NewServer(s)
	t.Cleanup(web.Close)
	t.Cleanup(web.CloseClientConnections)
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, storagev1.AddToScheme, v1alpha1.AddToScheme, cdi.AddToScheme, snapshot.AddToScheme, grant.AddToScheme} {
		require.NoError(t, add(scheme))
	}
	mgr, err := ctrl.NewManager(&rest.Config{Host: web.URL, QPS: -1}, manager.Options{
		Scheme: scheme, Metrics: metricsserver.Options{BindAddress: "0"}, Logger: klog.Background(),
		MapperProvider: func(*rest.Config, *http.Client) (meta.RESTMapper, error) { return mapperOf(scheme), nil },
	})
	require.NoError(t, err)
	require.NoError(t, serveDataVolumes(mgr, record.NewFakeRecorder(1000)))
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- mgr.Start(ctx) }()
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		assert.Equal(c, []string{"CDIConfig config", "PersistentVolumeClaim web-1", "StorageProfile fast", "VMDiskImage web-1"}, s.seen())
	}, time.Minute, 20*time.Millisecond)
	stop()
	require.NoError(t, <-ended)
}

// mapperOf knows the resources of the kinds in a scheme, and those that are read without their types, without asking a server.
func mapperOf(scheme *runtime.Scheme) meta.RESTMapper {
	mapper := meta.NewDefaultRESTMapper(scheme.PrioritizedVersionsAllGroups())
	clusterWide := []string{"StorageClass", "StorageProfile", "CDIConfig", "PersistentVolume"}
	for kind := range scheme.AllKnownTypes() {
		scope := meta.RESTScopeNamespace
		if slices.Contains(clusterWide, kind.Kind) {
			scope = meta.RESTScopeRoot
		}
		mapper.Add(kind, scope)
	}
	for group, kind := range map[string]string{"apiextensions.k8s.io/v1": "CustomResourceDefinition", "cdi.kubevirt.io/v1beta1": "CDI"} {
		object := metav1.TypeMeta{APIVersion: group, Kind: kind}
		mapper.Add(object.GroupVersionKind(), meta.RESTScopeRoot)
	}
	return mapper
}
