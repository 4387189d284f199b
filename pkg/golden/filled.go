package golden

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
)

// IsFilledByUs reports whether a claim asks for a disk that Gild brings. Until the disk has come, the claim is empty even if it is bound.
func IsFilledByUs(claim *corev1.PersistentVolumeClaim) bool {
	ref := claim.Spec.DataSourceRef
	if ref == nil {
		return false
	}
	switch ptr.Deref(ref.APIGroup, "") {
	case v1alpha1.Group:
		return ref.Kind == "VMDiskImage"
	case Group:
		return ref.Kind == DataSourceKind || ref.Kind == CronKind
	}
	return false
}
