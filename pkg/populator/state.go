package populator

import (
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
)

// Reasons of the Ready condition while an import waits or goes on. The reasons of an
// attempt that failed are the importer's.
const (
	reasonNotImportedYet       = "NotImportedYet"
	reasonWaitingForVolume     = "WaitingForVolume"
	reasonWaitForFirstConsumer = "WaitForFirstConsumer"
	reasonStorageClassNotFound = "StorageClassNotFound"
	reasonProvisioningFailed   = "ProvisioningFailed"
	reasonQueued               = "Queued"
	reasonStarting             = "Starting"
	reasonPodNotCreated        = "PodNotCreated"
	reasonUnschedulable        = "Unschedulable"
	reasonImagePullFailed      = "ImagePullFailed"
	reasonMountFailed          = "MountFailed"
	reasonNodeRefused          = "NodeRefused"
	reasonNodeUnreachable      = "NodeUnreachable"
	reasonImporting            = "Importing"
	reasonVerifying            = "Verifying"
	reasonFinishing            = "Finishing"
	reasonSucceeded            = "Succeeded"
	reasonAttemptLost          = "AttemptLost"
	reasonEvicted              = "Evicted"
	reasonOOMKilled            = "OOMKilled"
	reasonNoResult             = "NoResult"
	reasonVolumeReplaced       = "VolumeReplaced"
	reasonHandOverWaits        = "HandOverWaits"
	reasonForeignVolume        = "BoundToForeignVolume"
	reasonFormatNeedsFiles     = "FormatNeedsFilesystem"
	reasonContentNeedsFiles    = "ContentNeedsFilesystem"
	reasonNothingImported      = "NothingImportedYet"
	reasonRevisionUnknown      = "RevisionUnknown"
	// The reasons of copies.
	reasonNotGranted       = "NotGranted"
	reasonNoStrategy       = "NoStrategy"
	reasonPassedOver       = "StrategyPassedOver"
	reasonWaitingForImport = "WaitingForImport"
	reasonRestoring        = "Restoring"
	reasonExporting        = "Exporting"
	reasonTakingSnapshot   = "TakingSnapshot"
	reasonSourceNotReady   = "SourceNotReady"
	reasonSourceUnknown    = "SourceUnknown"
	// reasonImageVolumeUnsupported: the cluster has no such thing.
	reasonImageVolumeUnsupported = "ImageVolumeUnsupported"
)

// state is what an import says of itself: a phase for people, a reason and a message
// for the conditions.
type state struct {
	phase   v1alpha1.ImportPhase
	reason  string
	message string
	// warn says that somebody outside must do something before it goes on.
	warn bool
}

// pending is a wait that ends by itself.
func pending(reason, format string, args ...any) state {
	return state{phase: v1alpha1.PhasePending, reason: reason, message: fmt.Sprintf(format, args...)}
}

// blocked is a wait that somebody outside must end.
func blocked(reason, format string, args ...any) state {
	s := pending(reason, format, args...)
	s.warn = true
	return s
}

// apply writes s into the status: the phase and the kstatus conditions. Ready is
// always there; Reconciling and Stalled only while they are True.
func (s state) apply(imp *v1alpha1.VMDiskImport, now time.Time) {
	imp.Status.Phase = s.phase
	ready := metav1.ConditionFalse
	if s.phase == v1alpha1.PhaseSucceeded {
		ready = metav1.ConditionTrue
	}
	set := func(conditionType string, status metav1.ConditionStatus) {
		meta.SetStatusCondition(&imp.Status.Conditions, metav1.Condition{
			Type: conditionType, Status: status, Reason: s.reason, Message: s.message,
			ObservedGeneration: imp.Generation, LastTransitionTime: metav1.NewTime(now),
		})
	}
	set(v1alpha1.ConditionReady, ready)
	for conditionType, wanted := range map[string]bool{
		v1alpha1.ConditionReconciling: s.phase != v1alpha1.PhaseSucceeded && s.phase != v1alpha1.PhaseFailed,
		v1alpha1.ConditionStalled:     s.phase == v1alpha1.PhaseFailed,
	} {
		if wanted {
			set(conditionType, metav1.ConditionTrue)
		} else {
			meta.RemoveStatusCondition(&imp.Status.Conditions, conditionType)
		}
	}
}

// ended reports whether an import will do nothing more by itself.
func ended(imp *v1alpha1.VMDiskImport) bool {
	return imp.Status.Phase == v1alpha1.PhaseSucceeded || imp.Status.Phase == v1alpha1.PhaseFailed
}
