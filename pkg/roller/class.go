package roller

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
)

// The annotations that make a StorageClass a default, the better one first: KubeVirt's, then
// those of Kubernetes.
const (
	annotationVirtDefault    = "storageclass.kubevirt.io/is-default-virt-class"
	annotationDefault        = "storageclass.kubernetes.io/is-default-class"
	annotationDefaultEarlier = "storageclass.beta.kubernetes.io/is-default-class"
)

// namedClass is the StorageClass that a template names; ok is false when it leaves it open.
func namedClass(template *cdiv1.DataVolume) (class string, ok bool) {
	name := (*string)(nil)
	switch spec := &template.Spec; {
	case spec.PVC != nil:
		name = spec.PVC.StorageClassName
	case spec.Storage != nil:
		name = spec.Storage.StorageClassName
	}
	if name == nil {
		return "", false
	}
	return *name, true
}

// wantedClass is the StorageClass that golden claims should have: the template's, that of the
// claim that is copied, or the default; empty when there is none of them.
func wantedClass(template *cdiv1.DataVolume, origin *corev1.PersistentVolumeClaim, classes []storagev1.StorageClass) string {
	if class, ok := namedClass(template); ok {
		return class
	}
	if origin != nil && origin.Spec.StorageClassName != nil {
		return *origin.Spec.StorageClassName
	}
	return defaultClass(classes)
}

// defaultClass is KubeVirt's default, else that of Kubernetes; the newest one when there are
// several, as Kubernetes has it.
func defaultClass(classes []storagev1.StorageClass) string {
	for _, annotations := range [][]string{{annotationVirtDefault}, {annotationDefault, annotationDefaultEarlier}} {
		marked := slices.DeleteFunc(slices.Clone(classes), func(class storagev1.StorageClass) bool {
			return !slices.ContainsFunc(annotations, func(key string) bool { return class.Annotations[key] == "true" })
		})
		if len(marked) > 0 {
			newest := slices.MinFunc(marked, func(a, b storagev1.StorageClass) int {
				return cmp.Or(b.CreationTimestamp.Compare(a.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
			})
			return newest.Name
		}
	}
	return ""
}
