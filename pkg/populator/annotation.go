package populator

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
)

const (
	// annotationImage names the VMDiskImage of a claim. The policy in deploy/policies/map.yaml makes it a
	// dataSourceRef, while the claim is created.
	annotationImage = v1alpha1.Group + "/disk-importer"

	eventAnnotationIgnored = "AnnotationIgnored"
)

// warnOfAnnotation tells of a claim that has the annotation and no reference: what a claim refers to cannot be
// changed, and Kubernetes gives it an empty volume.
func (c *claimController) warnOfAnnotation(claim *corev1.PersistentVolumeClaim) {
	image := claim.Annotations[annotationImage]
	if image == "" || claim.Spec.DataSourceRef != nil || claim.Spec.DataSource != nil {
		return
	}
	c.events.Eventf(claim, corev1.EventTypeWarning, eventAnnotationIgnored,
		"annotation %s has not become a dataSourceRef, and the volume is left empty: delete the claim, and make it again with a dataSourceRef to VMDiskImage %s, "+
			"or where deploy/policies is installed", annotationImage, image)
}
