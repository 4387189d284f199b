package roller

import (
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"github.com/gild-project/gild/pkg/claimshape"
)

// wantedClass is the StorageClass that golden claims should have: the template's, that of the
// claim that is copied, or the default; empty when there is none of them.
func wantedClass(template *cdiv1.DataVolume, origin *corev1.PersistentVolumeClaim, classes []storagev1.StorageClass) string {
	if class, ok := claimshape.NamedClass(&template.Spec); ok {
		return class
	}
	if origin != nil && origin.Spec.StorageClassName != nil {
		return *origin.Spec.StorageClassName
	}
	return claimshape.DefaultClass(classes)
}
