package populator

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func waitingPod(reason, message string) *corev1.Pod {
	return &corev1.Pod{Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{
		Name: importerContainer, Image: "gild-importer:1", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}},
	}}}}
}

func TestPodWaiting(t *testing.T) {
	unscheduled := &corev1.Pod{Status: corev1.PodStatus{Conditions: []corev1.PodCondition{
		{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Message: "0/3 nodes are available"}}}}
	unbound := &corev1.Pod{Status: corev1.PodStatus{Conditions: []corev1.PodCondition{
		{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Message: "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims. not found"}}}}
	justMade := unscheduled.DeepCopy()
	justMade.CreationTimestamp = metav1.NewTime(time.Date(2026, 11, 21, 11, 59, 59, 0, time.UTC))
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	onNode := func(since time.Duration) *corev1.Pod {
		pod := waitingPod("ContainerCreating", "")
		pod.Spec.NodeName = "node1"
		pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(now.Add(-since))}}
		return pod
	}
	noMount := func(ago time.Duration, message string) corev1.Event {
		return corev1.Event{Reason: "FailedMount", Message: message, LastTimestamp: metav1.NewTime(now.Add(-ago))}
	}
	for _, test := range []struct {
		name    string
		pod     *corev1.Pod
		events  []corev1.Event
		reason  string
		message string
		warn    bool
	}{
		{"just made", &corev1.Pod{}, nil, reasonStarting, "starting", false},
		{"no node", unscheduled, nil, reasonUnschedulable, "0/3 nodes", true},
		{"no node yet", justMade, nil, reasonStarting, "starting", false},
		{"volume not made yet", unbound, nil, reasonWaitingForVolume, "being made", false},
		{"no capacity", unscheduled, []corev1.Event{{Reason: "ProvisioningFailed", Message: "pool is full"}}, reasonProvisioningFailed, "pool is full", true},
		{"capacity came", onNode(time.Second), []corev1.Event{{Reason: "ProvisioningFailed", Message: "pool is full"}}, reasonStarting, "starting", false},
		{"no image", waitingPod("ErrImagePull", "not found"), nil, reasonImagePullFailed, "not found", true},
		{"no image, backing off", waitingPod("ImagePullBackOff", "Back-off"),
			[]corev1.Event{{Reason: "Failed", Message: "Failed to pull image: not found"}, {Reason: "Failed", Message: "Error: ImagePullBackOff"}},
			reasonImagePullFailed, "not found", true},
		{"no mount yet", onNode(time.Second), []corev1.Event{noMount(0, "forbidden")}, reasonStarting, "starting", false},
		{"no mount", onNode(time.Minute), []corev1.Event{noMount(time.Second, "wrong fs")}, reasonMountFailed, "wrong fs", true},
		{"no mount at first", onNode(time.Minute), []corev1.Event{noMount(time.Minute, "forbidden")}, reasonStarting, "starting", false},
		{"mounted in the end", onNode(time.Minute), []corev1.Event{noMount(time.Second, "forbidden"), {Reason: "Pulled", LastTimestamp: metav1.NewTime(now)}}, reasonStarting, "starting", false},
		{"no configuration", waitingPod("CreateContainerConfigError", "secret gone"), nil, "CreateContainerConfigError", "secret gone", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := podWaiting(test.pod, test.events, now)
			require.Equal(t, test.reason, s.reason)
			require.Contains(t, s.message, test.message)
			require.Equal(t, test.warn, s.warn)
		})
	}
	require.Equal(t, reasonPodNotCreated, noPod([]corev1.Event{{Reason: "FailedCreate", Message: "exceeded quota"}}).reason)
	require.Equal(t, reasonStarting, noPod(nil).reason)
}
