package trim

import (
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
)

// keepImport keeps of an import whose it is, and how far it has come. What it reads, how fast, and what its
// attempts used, is the populator's.
func keepImport(imp *v1alpha1.VMDiskImport) *v1alpha1.VMDiskImport {
	status := &imp.Status
	kept := &v1alpha1.VMDiskImport{
		ObjectMeta: identity(&imp.ObjectMeta),
		Spec: v1alpha1.VMDiskImportSpec{
			ClaimRef: imp.Spec.ClaimRef,
			ImageRef: v1alpha1.ImageReference{Kind: imp.Spec.ImageRef.Kind, Name: imp.Spec.ImageRef.Name},
		},
		Status: v1alpha1.VMDiskImportStatus{
			Phase: status.Phase, VolumeName: status.VolumeName, Attempts: status.Attempts, NextAttemptTime: status.NextAttemptTime,
		},
	}
	kept.OwnerReferences = imp.OwnerReferences
	if status.LastFailure != nil {
		kept.Status.LastFailure = &v1alpha1.ImportFailure{Time: status.LastFailure.Time}
	}
	if status.Result != nil {
		kept.Status.Result = &v1alpha1.ImportResult{Digest: status.Result.Digest}
	}
	if ready := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionReady); ready != nil {
		kept.Status.Conditions = []metav1.Condition{*ready}
	}
	return kept
}
