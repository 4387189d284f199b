package trim

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
)

// Options are those of the poller's cache.
func Options() cache.Options {
	return cache.Options{
		DefaultTransform: Object,
		ByObject: map[client.Object]cache.ByObject{
			&corev1.PersistentVolumeClaim{}: {Transform: Claim},
			&v1alpha1.VMDiskImport{}:        {Transform: Import},
			&cdiv1.DataImportCron{}:         {Transform: Cron},
		},
	}
}

// Object takes from any object what only the API server and kubectl read: who manages which field, and
// the copy of what was applied.
func Object(in any) (any, error) {
	o, ok := in.(metav1.Object)
	if !ok {
		return in, nil
	}
	if o.GetManagedFields() != nil {
		o.SetManagedFields(nil)
	}
	if annotations := o.GetAnnotations(); annotations[corev1.LastAppliedConfigAnnotation] != "" {
		o.SetAnnotations(only(annotations, func(key string) bool { return key != corev1.LastAppliedConfigAnnotation }))
	}
	return in, nil
}

// identity is what tells an object from others, and one state of it from another.
func identity(o *metav1.ObjectMeta) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: o.Namespace, Name: o.Name, UID: o.UID, ResourceVersion: o.ResourceVersion,
		CreationTimestamp: o.CreationTimestamp, DeletionTimestamp: o.DeletionTimestamp,
	}
}

// only is what is wanted of labels or annotations; nil when nothing is. It is a new map: one that was
// large stays large.
func only(all map[string]string, wanted func(key string) bool) map[string]string {
	var kept map[string]string
	for key, value := range all {
		if !wanted(key) {
			continue
		}
		if kept == nil {
			kept = map[string]string{}
		}
		kept[key] = value
	}
	return kept
}
