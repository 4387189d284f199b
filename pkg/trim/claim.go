package trim

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/golden"
)

// ownAnnotations begins the annotations that are Gild's.
const ownAnnotations = "gild.dev/"

// keepClaim keeps of a claim what decides about golden claims and DataSources: who it is, whether it is
// bound and to what, which of our sources fills it, the marks of golden claims, and the labels that
// DataSources pass on. What is to be copied, and who uses a golden claim, is read from the API server.
func keepClaim(claim *corev1.PersistentVolumeClaim) *corev1.PersistentVolumeClaim {
	kept := &corev1.PersistentVolumeClaim{ObjectMeta: identity(&claim.ObjectMeta)}
	kept.Labels = only(claim.Labels, isClaimLabel)
	kept.Annotations = only(claim.Annotations, isClaimAnnotation)
	kept.Spec.VolumeName = claim.Spec.VolumeName
	kept.Status.Phase = claim.Status.Phase
	if ref := claim.Spec.DataSourceRef; ref != nil && isOurs(ptr.Deref(ref.APIGroup, "")) {
		kept.Spec.DataSourceRef = ref
	}
	if claim.Labels[golden.LabelCron] != "" {
		keepGolden(&kept.Spec, claim)
	}
	return kept
}

// keepGolden keeps what a golden claim is compared by: its class and, as long as it may have to be made
// anew, its shape.
func keepGolden(kept *corev1.PersistentVolumeClaimSpec, claim *corev1.PersistentVolumeClaim) {
	kept.StorageClassName = claim.Spec.StorageClassName
	if claim.Annotations[golden.AnnotationVerified] != "" {
		return
	}
	kept.AccessModes, kept.VolumeMode = claim.Spec.AccessModes, claim.Spec.VolumeMode
	kept.Resources.Requests = claim.Spec.Resources.Requests
}

func isClaimLabel(key string) bool {
	return key == golden.LabelCron || key == golden.LabelCleanup || golden.PassesLabel(key)
}

func isClaimAnnotation(key string) bool {
	return key == golden.AnnotationLastUseTime || key == golden.AnnotationPodPhase || strings.HasPrefix(key, ownAnnotations)
}

// isOurs reports whether claims of an API group are filled by Gild.
func isOurs(group string) bool { return group == golden.Group || group == v1alpha1.Group }
