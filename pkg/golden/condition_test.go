package golden_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"github.com/gild-project/gild/pkg/golden"
)

func TestSetState(t *testing.T) {
	first := time.Date(2026, 3, 1, 12, 0, 0, 5, time.UTC)
	second, third := first.Add(time.Minute), first.Add(time.Hour)
	at := func(now time.Time) metav1.Time { return metav1.NewTime(now.Truncate(time.Second)) }
	var state cdiv1.ConditionState

	golden.SetState(&state, corev1.ConditionFalse, "Waiting", "soon", first)
	golden.SetState(&state, corev1.ConditionFalse, "Waiting", "soon", second)
	require.Equal(t, cdiv1.ConditionState{Status: corev1.ConditionFalse, Reason: "Waiting", Message: "soon", LastTransitionTime: at(first), LastHeartbeatTime: at(first)}, state)
	golden.SetState(&state, corev1.ConditionFalse, "Waiting", "now", second)
	require.Equal(t, []metav1.Time{at(first), at(second)}, []metav1.Time{state.LastTransitionTime, state.LastHeartbeatTime})
	golden.SetState(&state, corev1.ConditionTrue, "Done", "", third)
	require.Equal(t, []metav1.Time{at(third), at(third)}, []metav1.Time{state.LastTransitionTime, state.LastHeartbeatTime})
}
