package datavolume

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/utils/ptr"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/golden"
)

// Reasons and messages of the condition Running, as CDI spells them. KubeVirt tells the user of reasonError and
// reasonPullFailed.
const (
	reasonRunning    = "Pod is running"
	reasonCompleted  = "Completed"
	reasonError      = "Error"
	reasonPullFailed = "ImagePullFailed"

	messageImported = "Import Complete"
	messageCopied   = "Clone Complete"
)

// outcome is how far the claim of a DataVolume is filled.
type outcome struct {
	phase cdiv1.DataVolumePhase
	// running, reason and message are the condition Running.
	running         bool
	reason, message string
}

// outcomeOf is how far the claim of a DataVolume is filled, which it has.
func outcomeOf(v *view) outcome {
	bound := v.claim.Status.Phase == corev1.ClaimBound
	switch {
	case v.claim.Status.Phase == corev1.ClaimLost:
		return outcome{phase: cdiv1.Failed, reason: reasonClaimLost, message: "PVC " + v.claim.Name + " lost"}
	case !golden.IsFilledByUs(v.claim):
		return filledByOthers(v, bound)
	case v.imp == nil:
		return withoutImport(v, bound)
	case !bound && waitsForConsumer(v):
		return outcome{phase: cdiv1.PendingPopulation, reason: readyReason(v.imp), message: readyMessage(v.imp)}
	}
	return imported(v, bound)
}

// filledByOthers: whoever fills the claim, a bound one has all that it will get.
func filledByOthers(v *view, bound bool) outcome {
	switch {
	case bound && golden.IsInterrupted(v.claim) && v.volume.Status.Phase != cdiv1.Succeeded:
		return failed(reasonInterrupted, fmt.Sprintf("CDI was removed before it had filled PVC %s: delete that, and it is made and filled anew", v.claim.Name))
	case bound, v.isAdopted():
		return succeeded(v)
	case golden.IsFromCDI(v.claim):
		return outcome{phase: cdiv1.Pending, reason: reasonInterrupted, message: fmt.Sprintf(
			"PVC %s is to be filled from a %s, as only CDI does: delete that PVC, and it is made and filled anew", v.claim.Name, v.claim.Spec.DataSourceRef.Kind)}
	case waitsForConsumer(v) && v.claim.Spec.DataSourceRef == nil:
		return outcome{phase: cdiv1.WaitForFirstConsumer}
	case waitsForConsumer(v):
		return outcome{phase: cdiv1.PendingPopulation}
	}
	return outcome{phase: cdiv1.Pending}
}

func withoutImport(v *view, bound bool) outcome {
	switch {
	case bound && (v.handedOver || v.isAdopted()):
		return succeeded(v)
	case bound:
		return failed(reasonBoundToForeign, fmt.Sprintf(
			"PVC %s was bound to volume %s before it could be filled: delete it, and use a StorageClass that has no such volume", v.claim.Name, v.claim.Spec.VolumeName))
	case waitsForConsumer(v):
		return outcome{phase: cdiv1.PendingPopulation}
	case v.origin != nil && v.origin.waiting != nil:
		return outcome{phase: cdiv1.Pending, reason: v.origin.waiting.reason, message: v.origin.waiting.message}
	}
	return outcome{phase: cdiv1.Pending, reason: reasonWaiting, message: "the import is about to begin"}
}

func imported(v *view, bound bool) outcome {
	status := &v.imp.Status
	reason, message := readyReason(v.imp), readyMessage(v.imp)
	switch status.Phase {
	case v1alpha1.PhaseSucceeded:
		if bound && status.VolumeName == v.claim.Spec.VolumeName {
			return succeeded(v)
		}
		return outcome{phase: cdiv1.RebindInProgress, reason: reason, message: message}
	case v1alpha1.PhaseFailed:
		return failed(reason, message)
	case v1alpha1.PhaseImporting, v1alpha1.PhaseVerifying:
		return outcome{phase: moving(v.imp), running: true, reason: reasonRunning}
	}
	next := outcome{phase: cdiv1.ImportScheduled, reason: reason, message: message}
	if v.imp.Spec.CopyOf != nil {
		next.phase = cdiv1.CloneScheduled
	}
	if status.NextAttemptTime != nil && status.LastFailure != nil {
		next.reason, next.message = reasonError, status.LastFailure.Reason+": "+status.LastFailure.Message
	}
	return next
}

// moving is the phase of an import that moves its disk.
func moving(imp *v1alpha1.VMDiskImport) cdiv1.DataVolumePhase {
	switch of := imp.Spec.CopyOf; {
	case of == nil, imp.Status.Strategy == v1alpha1.StrategyImport:
		return cdiv1.ImportInProgress
	case imp.Status.Strategy == v1alpha1.StrategyCopy:
		return cdiv1.CloneInProgress
	case of.Kind == v1alpha1.CopyOfSnapshot:
		return cdiv1.CloneFromSnapshotSourceInProgress
	}
	return cdiv1.SnapshotForSmartCloneInProgress
}

func succeeded(v *view) outcome {
	if needsSource(v.volume) || v.volume.Spec.SourceRef != nil {
		return outcome{phase: cdiv1.Succeeded, reason: reasonCompleted, message: messageCopied}
	}
	return outcome{phase: cdiv1.Succeeded, reason: reasonCompleted, message: messageImported}
}

func failed(reason, message string) outcome {
	return outcome{phase: cdiv1.Failed, reason: reasonError, message: reason + ": " + message}
}

// waitsForConsumer reports whether nothing happens to the claim until a pod uses it.
func waitsForConsumer(v *view) bool {
	return v.class != nil && ptr.Deref(v.class.VolumeBindingMode, storagev1.VolumeBindingImmediate) == storagev1.VolumeBindingWaitForFirstConsumer &&
		v.claim.Annotations[annotationSelectedNode] == "" && v.claim.Annotations[golden.AnnotationBindImmediately] != "true"
}

func readyReason(imp *v1alpha1.VMDiskImport) string {
	if ready := meta.FindStatusCondition(imp.Status.Conditions, v1alpha1.ConditionReady); ready != nil {
		return ready.Reason
	}
	return reasonWaiting
}

func readyMessage(imp *v1alpha1.VMDiskImport) string {
	if ready := meta.FindStatusCondition(imp.Status.Conditions, v1alpha1.ConditionReady); ready != nil {
		return ready.Message
	}
	return "the import is about to begin"
}
