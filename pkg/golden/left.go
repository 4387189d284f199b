package golden

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

// What CDI has left behind, where Gild serves its kinds now.
const (
	// FilledByCDI is the value of AnnotationVerified on a golden claim that CDI has made and filled, and Gild keeps as
	// its own: nobody has computed the digest of what it holds.
	FilledByCDI = "filled-by-cdi"
	// AnnotationPodPhase is how far the pod has come that fills a claim for CDI.
	AnnotationPodPhase = "cdi.kubevirt.io/storage.pod.phase"
)

// IsFromCDI reports whether a claim refers to a source that CDI alone fills claims from.
func IsFromCDI(claim *corev1.PersistentVolumeClaim) bool {
	ref := claim.Spec.DataSourceRef
	return ref != nil && ptr.Deref(ref.APIGroup, "") == Group && slices.Contains([]string{"VolumeImportSource", "VolumeCloneSource", "VolumeUploadSource"}, ref.Kind)
}

// IsInterrupted reports whether CDI has begun to fill a claim and not come to the end. Such a claim may be bound.
func IsInterrupted(claim *corev1.PersistentVolumeClaim) bool {
	phase := claim.Annotations[AnnotationPodPhase]
	return phase != "" && phase != string(corev1.PodSucceeded)
}
