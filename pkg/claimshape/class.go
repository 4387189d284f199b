package claimshape

import (
	"cmp"
	"slices"

	storagev1 "k8s.io/api/storage/v1"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
)

// The annotations that make a StorageClass a default, the better one first: KubeVirt's, then
// those of Kubernetes.
const (
	AnnotationVirtDefault    = "storageclass.kubevirt.io/is-default-virt-class"
	AnnotationDefault        = "storageclass.kubernetes.io/is-default-class"
	AnnotationDefaultEarlier = "storageclass.beta.kubernetes.io/is-default-class"
)

// NamedClass is the StorageClass that a DataVolume names; ok is false when it leaves it open.
func NamedClass(spec *cdiv1.DataVolumeSpec) (class string, ok bool) {
	name := (*string)(nil)
	switch {
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

// DefaultClass is KubeVirt's default, else that of Kubernetes; the newest one when there are
// several, as Kubernetes has it. It is empty when there is none.
func DefaultClass(classes []storagev1.StorageClass) string {
	for _, annotations := range [][]string{{AnnotationVirtDefault}, {AnnotationDefault, AnnotationDefaultEarlier}} {
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
