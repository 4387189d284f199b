package populator

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
)

func endedPod(code int32, reason, message string) *corev1.Pod {
	return &corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodFailed, ContainerStatuses: []corev1.ContainerStatus{{
		Name:  importerContainer,
		State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, Reason: reason, Message: message}},
	}}}}
}

func TestReadOutcome(t *testing.T) {
	evicted := endedPod(137, "Error", "")
	evicted.Status.Reason, evicted.Status.Message = "Evicted", "The node was low on resource: memory."
	drained := endedPod(1, "Error", `{"reason":"Interrupted","message":"told to stop"}`)
	drained.Status.Conditions = []corev1.PodCondition{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Message: "Eviction API: evicting"}}
	evictedWhenDone := endedPod(0, "Completed", `{"reason":"Imported"}`)
	evictedWhenDone.Status.Conditions = drained.Status.Conditions

	for _, test := range []struct {
		name    string
		pod     *corev1.Pod
		verdict verdict
		reason  string
		message string
	}{
		{"done", endedPod(0, "Completed", `{"reason":"Imported","message":"done","virtualSize":5}`), verdictSucceeded, "Imported", "done"},
		{"not our importer", endedPod(0, "Completed", "hello"), verdictRetry, reasonNoResult, "exit code 0"},
		{"a dry run is no import", endedPod(0, "Completed", `{"reason":"Probed","message":"would do"}`), verdictRetry, "Probed", "would do"},
		{"transient", endedPod(1, "Error", `{"reason":"ServerError","message":"503"}`), verdictRetry, "ServerError", "503"},
		{"flags", endedPod(2, "Error", `{"reason":"InvalidOptions","message":"bad"}`), verdictFailed, "InvalidOptions", "bad"},
		{"gone", endedPod(10, "Error", `{"reason":"NotFound","message":"404"}`), verdictFailed, "NotFound", "404"},
		{"checksum", endedPod(11, "Error", `{"reason":"ChecksumMismatch","message":"x"}`), verdictFailed, "ChecksumMismatch", "x"},
		{"image", endedPod(12, "Error", `{"reason":"UnsafeImage","message":"x"}`), verdictFailed, "UnsafeImage", "x"},
		{"space", endedPod(13, "Error", `{"reason":"TooLarge","message":"x"}`), verdictFailed, "TooLarge", "x"},
		{"target", endedPod(14, "Error", `{"reason":"TargetError","message":"x"}`), verdictFailed, "TargetError", "x"},
		{"out of memory", endedPod(137, "OOMKilled", ""), verdictRetry, reasonOOMKilled, "--job-template"},
		{"killed", endedPod(137, "Error", ""), verdictRetry, reasonNoResult, "exit code 137"},
		{"hostile message", endedPod(12, "Error", "\x1b[31m{not json"), verdictFailed, reasonNoResult, "exit code 12"},
		{"forged reason", endedPod(12, "Error", `{"reason":"you have won","message":"x"}`), verdictFailed, reasonNoResult, "exit code 12"},
		{"evicted", evicted, verdictRetry, reasonEvicted, "low on resource"},
		{"drained", drained, verdictRetry, reasonEvicted, "Eviction API"},
		{"evicted when done", evictedWhenDone, verdictSucceeded, "Imported", ""},
		{"failed before its container", &corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodFailed, Reason: "UnexpectedAdmissionError"}}, verdictRetry, reasonAttemptLost, "without a result"},
	} {
		t.Run(test.name, func(t *testing.T) {
			o, ok := readOutcome(test.pod)
			require.True(t, ok)
			require.Equal(t, test.verdict, o.verdict)
			require.Equal(t, test.reason, o.reason)
			require.Contains(t, o.message, test.message)
			require.NotContains(t, o.message, "\x1b")
		})
	}
}

func TestReadOutcomeOfARunningPod(t *testing.T) {
	_, ok := readOutcome(&corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodRunning}})
	require.False(t, ok)
}

func TestReadOutcomeKeepsRetryAfterInBounds(t *testing.T) {
	o, _ := readOutcome(endedPod(1, "Error", `{"reason":"TooManyRequests","retryAfterSeconds":90}`))
	require.Equal(t, 90*time.Second, o.retryAfter)
	o, _ = readOutcome(endedPod(1, "Error", `{"reason":"TooManyRequests","retryAfterSeconds":900000000000}`))
	require.Equal(t, 24*time.Hour, o.retryAfter)
}
