package golden

import corev1 "k8s.io/api/core/v1"

// AnnotationPopulatedFrom is set on a volume when the populator hands it over to a claim: the
// claim's namespace and the name of its data source, as lib-volume-populator writes it.
const AnnotationPopulatedFrom = "gild.dev/populated-from"

// IsHandedOver reports whether the populator has filled a volume for a claim. One that is older
// than the claim was filled for another, and is used again.
func IsHandedOver(volume *corev1.PersistentVolume, claim *corev1.PersistentVolumeClaim) bool {
	ref := claim.Spec.DataSourceRef
	return ref != nil && volume.Annotations[AnnotationPopulatedFrom] == claim.Namespace+"/"+ref.Name &&
		!volume.CreationTimestamp.Before(&claim.CreationTimestamp)
}
