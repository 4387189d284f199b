package golden

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
)

// SetState sets a condition by CDI's rules for its times: the transition is when the status changed last, the heartbeat when anything did.
func SetState(state *cdiv1.ConditionState, status corev1.ConditionStatus, reason, message string, now time.Time) {
	if state.Status == status && state.Reason == reason && state.Message == message {
		return
	}
	at := metav1.NewTime(now.UTC().Truncate(time.Second))
	if state.Status != status {
		state.Status, state.LastTransitionTime = status, at
	}
	state.LastHeartbeatTime, state.Reason, state.Message = at, reason, message
}
