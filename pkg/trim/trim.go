package trim

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
)

// Object cuts an object down by the rule of its kind: a transform for all that is cached. What is no
// object stays as it is, such as the note that one is gone. It never fails.
func Object(in any) (any, error) {
	switch o := in.(type) {
	case *corev1.PersistentVolumeClaim:
		return keepClaim(o), nil
	case *v1alpha1.VMDiskImport:
		return keepImport(o), nil
	case *cdiv1.DataImportCron:
		return keepCron(o), nil
	case metav1.Object:
		bare(o)
	}
	return in, nil
}

// bare takes from any object what only the API server and kubectl read: who manages which field, and
// the copy of what was applied.
func bare(o metav1.Object) {
	if o.GetManagedFields() != nil {
		o.SetManagedFields(nil)
	}
	if annotations := o.GetAnnotations(); annotations[corev1.LastAppliedConfigAnnotation] != "" {
		o.SetAnnotations(only(annotations, func(key string) bool { return key != corev1.LastAppliedConfigAnnotation }))
	}
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
