package export

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestWaiting(t *testing.T) {
	now := testTime()
	container := func(reason, message string) func(pod *corev1.Pod) {
		return func(pod *corev1.Pod) {
			pod.Status.ContainerStatuses = []corev1.ContainerStatus{{State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}}}
		}
	}
	unschedulable := func(pod *corev1.Pod) {
		pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Message: "0/3 nodes are available"}}
	}
	running := func(since time.Duration) func(pod *corev1.Pod) {
		return func(pod *corev1.Pod) {
			pod.Status.Phase = corev1.PodRunning
			pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionFalse, LastTransitionTime: metav1.NewTime(now.Add(-since))}}
		}
	}
	event := func(reason, message string, ago time.Duration) corev1.Event {
		return corev1.Event{Reason: reason, Message: message, LastTimestamp: metav1.NewTime(now.Add(-ago))}
	}
	attach := event("FailedAttachVolume", "Multi-Attach error for volume \"pv-1\"", 5*time.Second)
	for name, c := range map[string]struct {
		pod    func(pod *corev1.Pod)
		age    time.Duration
		events []corev1.Event
		want   string
	}{
		"new":                {want: "the exporter is starting"},
		"image":              {pod: container("ImagePullBackOff", "Back-off pulling https://registry.example.org/v2?sig=canary"), want: "node node-1 cannot pull the exporter image gild-importer:test: ImagePullBackOff: Back-off pulling https://registry.example.org/v2"},
		"config":             {pod: container("CreateContainerConfigError", "secret not found"), want: "starting the exporter: secret not found"},
		"creating":           {pod: container("ContainerCreating", ""), want: "the exporter is starting"},
		"no node yet":        {pod: unschedulable, age: time.Second, want: "the exporter is starting"},
		"no node":            {pod: unschedulable, age: 5 * time.Second, want: "no node takes the exporter: 0/3 nodes are available"},
		"attached elsewhere": {age: 30 * time.Second, events: []corev1.Event{attach}, want: `node node-1 cannot mount the volume for the exporter: Multi-Attach error for volume "pv-1"`},
		"first mount":        {age: 5 * time.Second, events: []corev1.Event{attach}, want: "the exporter is starting"},
		"mounted in the end": {age: 30 * time.Second, events: []corev1.Event{event("Pulled", "", time.Second), attach}, want: "the exporter is starting"},
		"not ready yet":      {pod: running(5 * time.Second), want: "the exporter is starting"},
		"does not answer":    {pod: running(time.Minute), want: "the exporter on node node-1 does not answer: look at the node, and at policies that keep its kubelet from port 8443"},
		"something else":     {age: time.Minute, events: []corev1.Event{event("Scheduled", "", time.Second)}, want: "the exporter is starting"},
	} {
		t.Run(name, func(t *testing.T) {
			pod := newPod(testSpec(), 1)
			pod.Spec.NodeName = "node-1"
			pod.CreationTimestamp = metav1.NewTime(now.Add(-c.age))
			pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: pod.CreationTimestamp}}
			if c.pod != nil {
				c.pod(pod)
			}
			require.Equal(t, c.want, waiting(pod, c.events, now))
		})
	}
}
