package datavolume

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
)

const (
	// progressUnknown and progressDone are CDI's spellings.
	progressUnknown cdiv1.DataVolumeProgress = "N/A"
	progressDone    cdiv1.DataVolumeProgress = "100.0%"
	// almostDone is what is shown at most of a disk that is not there yet.
	almostDone = 99.99

	reasonTransfer     = "TransferRunning"
	reasonBound        = "Bound"
	reasonBoundPending = "Pending"
)

// statusOf is what there is to say of a DataVolume: how far its claim is filled, or why there is none.
func statusOf(v *view, why *trouble) *cdiv1.DataVolumeStatus {
	status := v.volume.Status.DeepCopy()
	set := func(kind cdiv1.DataVolumeConditionType, is corev1.ConditionStatus, reason, message string) {
		setCondition(status, kind, is, reason, message, v.now)
	}
	if !v.hasClaim() || !v.claim.DeletionTimestamp.IsZero() {
		status.Phase, status.Progress, status.RestartCount, status.ClaimName = cdiv1.Pending, progressUnknown, 0, ""
		reason, message := reasonNotFound, messageNoClaim
		if why != nil {
			reason, message = why.reason, why.message
		}
		set(cdiv1.DataVolumeBound, corev1.ConditionFalse, reason, message)
		set(cdiv1.DataVolumeReady, corev1.ConditionFalse, reason, message)
		set(cdiv1.DataVolumeRunning, corev1.ConditionFalse, "", "")
		return status
	}
	is := outcomeOf(v)
	status.ClaimName, status.Phase = v.claim.Name, is.phase
	status.Progress, status.RestartCount = progressOf(v.imp, is.phase), restartsOf(v.imp)
	setBound(v.claim, set)
	switch {
	case is.phase == cdiv1.Succeeded:
		set(cdiv1.DataVolumeReady, corev1.ConditionTrue, "", "")
	case is.running:
		set(cdiv1.DataVolumeReady, corev1.ConditionFalse, reasonTransfer, "")
	case why != nil:
		set(cdiv1.DataVolumeReady, corev1.ConditionFalse, why.reason, why.message)
	default:
		set(cdiv1.DataVolumeReady, corev1.ConditionFalse, is.reason, is.message)
	}
	running := corev1.ConditionFalse
	if is.running {
		running = corev1.ConditionTrue
	}
	set(cdiv1.DataVolumeRunning, running, is.reason, is.message)
	return status
}

func setBound(claim *corev1.PersistentVolumeClaim, set func(cdiv1.DataVolumeConditionType, corev1.ConditionStatus, string, string)) {
	switch claim.Status.Phase {
	case corev1.ClaimBound:
		set(cdiv1.DataVolumeBound, corev1.ConditionTrue, reasonBound, fmt.Sprintf("PVC %s Bound", claim.Name))
	case corev1.ClaimLost:
		set(cdiv1.DataVolumeBound, corev1.ConditionFalse, reasonClaimLost, "Claim Lost")
	default:
		set(cdiv1.DataVolumeBound, corev1.ConditionFalse, reasonBoundPending, fmt.Sprintf("PVC %s Pending", claim.Name))
	}
}

// progressOf is how much of the disk has come, as CDI spells it.
func progressOf(imp *v1alpha1.VMDiskImport, phase cdiv1.DataVolumePhase) cdiv1.DataVolumeProgress {
	if phase == cdiv1.Succeeded {
		return progressDone
	}
	if imp == nil || imp.Status.Progress == nil || imp.Status.Progress.TotalBytes <= 0 {
		return progressUnknown
	}
	p := imp.Status.Progress
	return cdiv1.DataVolumeProgress(fmt.Sprintf("%.2f%%", min(almostDone, 100*float64(p.TransferredBytes)/float64(p.TotalBytes))))
}

// restartsOf is how often the import was tried again.
func restartsOf(imp *v1alpha1.VMDiskImport) int32 {
	if imp == nil {
		return 0
	}
	return max(0, imp.Status.Attempts-1)
}

// setCondition writes a condition by CDI's rules: the transition is when the status changed last, the
// heartbeat when anything did.
func setCondition(status *cdiv1.DataVolumeStatus, kind cdiv1.DataVolumeConditionType, is corev1.ConditionStatus, reason, message string, now time.Time) {
	i := slices.IndexFunc(status.Conditions, func(c cdiv1.DataVolumeCondition) bool { return c.Type == kind })
	if i < 0 {
		status.Conditions = append(status.Conditions, cdiv1.DataVolumeCondition{Type: kind})
		i = len(status.Conditions) - 1
	}
	condition := &status.Conditions[i]
	if condition.Status == is && condition.Reason == reason && condition.Message == message {
		return
	}
	at := metav1.NewTime(now.Truncate(time.Second))
	if condition.Status != is {
		condition.LastTransitionTime = at
	}
	condition.Status, condition.Reason, condition.Message, condition.LastHeartbeatTime = is, reason, message, at
}

// conditionOf finds a condition; an empty one when there is none.
func conditionOf(status *cdiv1.DataVolumeStatus, kind cdiv1.DataVolumeConditionType) cdiv1.DataVolumeCondition {
	i := slices.IndexFunc(status.Conditions, func(c cdiv1.DataVolumeCondition) bool { return c.Type == kind })
	if i < 0 {
		return cdiv1.DataVolumeCondition{}
	}
	return status.Conditions[i]
}
