package populator

import (
	"encoding/json"
	"io"
	"net/http"
	"path"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/golden"
)

// objectServer serves as much of the API of Kubernetes as is needed until something is made for a claim: it lists and
// watches, takes new objects, and takes patches without applying them.
type objectServer struct {
	mu       sync.Mutex
	objects  map[string][]client.Object // by resource
	watchers map[string][]chan client.Object
	made     []string // names of new objects
	patched  []string // names of patched objects
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
		_ = json.NewEncoder(w).Encode(s.find(path.Base(path.Dir(r.URL.Path)), resource))
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
		"vmdiskimports":          {APIVersion: v1alpha1.GroupVersion().String(), Kind: "VMDiskImportList"},
		"jobs":                   {APIVersion: "batch/v1", Kind: "JobList"},
		"dataimportcrons":        {APIVersion: "cdi.kubevirt.io/v1beta1", Kind: "DataImportCronList"},
		"datasources":            {APIVersion: "cdi.kubevirt.io/v1beta1", Kind: "DataSourceList"},
	}
}

func (s *objectServer) create(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	object := &metav1.PartialObjectMetadata{}
	if decoded, _, err := clientgoscheme.Codecs.UniversalDeserializer().Decode(body, nil, nil); err == nil {
		// lib-volume-populator speaks protobuf.
		if claim, ok := decoded.(*corev1.PersistentVolumeClaim); ok {
			object.TypeMeta, object.ObjectMeta = claimType(), claim.ObjectMeta
		}
	} else if json.Unmarshal(body, object) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	object.ResourceVersion = "2"
	s.mu.Lock()
	defer s.mu.Unlock()
	s.made = append(s.made, object.Name)
	for _, watcher := range s.watchers[path.Base(r.URL.Path)] {
		watcher <- object
	}
	w.WriteHeader(http.StatusCreated)
	_ = json.NewEncoder(w).Encode(object)
}

// find is an object of a resource, as it was given to the server.
func (s *objectServer) find(resource, name string) client.Object {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, object := range s.objects[resource] {
		if object.GetName() == name {
			return object
		}
	}
	return &metav1.PartialObjectMetadata{}
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

// seen are the names of objects that were made and patched so far.
func (s *objectServer) seen() (made, patched []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	made, patched = slices.Clone(s.made), slices.Clone(s.patched)
	slices.Sort(made)
	slices.Sort(patched)
	return made, patched
}

// serveSources serves claims and what they refer to.
func serveSources(claims ...client.Object) *objectServer {
	class, cron := fastClass(), testCron(nil, revisionA())
	class.TypeMeta = metav1.TypeMeta{APIVersion: "storage.k8s.io/v1", Kind: "StorageClass"}
	cron.TypeMeta = metav1.TypeMeta{APIVersion: "cdi.kubevirt.io/v1beta1", Kind: golden.CronKind}
	cron.Spec.ManagedDataSource = sourceName
	source := testDataSource(&cdiv1.DataVolumeSourcePVC{Namespace: "golden", Name: "gone"})
	source.TypeMeta = metav1.TypeMeta{APIVersion: "cdi.kubevirt.io/v1beta1", Kind: golden.DataSourceKind}
	source.Labels = map[string]string{golden.LabelCron: sourceName}
	s := &objectServer{watchers: map[string][]chan client.Object{}, objects: map[string][]client.Object{
		"persistentvolumeclaims": claims, "storageclasses": {class}, "vmdiskimages": {testImage()}, "dataimportcrons": {cron}, "datasources": {source},
	}}
	for _, objects := range s.objects {
		for _, object := range objects {
			object.SetResourceVersion("1")
		}
	}
	return s
}
