package export

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/gild-project/gild/pkg/podevents"
)

const (
	// nodePatience is how long a pod may be without a node before that is worth telling.
	nodePatience = 4 * time.Second
	// nodeSilence is how long a pod may run without being ready before its node counts as silent.
	nodeSilence = 30 * time.Second
)

// waiting says for users why an exporter pod is not ready. events are those of the pod.
func waiting(pod *corev1.Pod, events []corev1.Event, now time.Time) string {
	for _, status := range pod.Status.ContainerStatuses {
		w := status.State.Waiting
		if w == nil {
			continue
		}
		switch {
		case strings.Contains(w.Reason, "ImagePull") || w.Reason == "ErrImageNeverPull" || w.Reason == "InvalidImageName":
			return fmt.Sprintf("node %s cannot pull the exporter image %s: %s", pod.Spec.NodeName, pod.Spec.Containers[0].Image, podevents.WithoutQueries(clean(w.Reason+": "+w.Message)))
		case w.Reason == "CreateContainerConfigError", w.Reason == "CreateContainerError", w.Reason == "RunContainerError":
			return "starting the exporter: " + clean(w.Message)
		}
	}
	age := now.Sub(pod.CreationTimestamp.Time)
	if message, ok := unscheduled(pod); ok && age > nodePatience {
		return "no node takes the exporter: " + clean(message)
	}
	if event := podevents.FailingMount(pod, events, now); event != nil {
		return "node " + pod.Spec.NodeName + " cannot mount the volume for the exporter: " + clean(event.Message)
	}
	if pod.Status.Phase == corev1.PodRunning && silentSince(pod, now.Add(-nodeSilence)) {
		return fmt.Sprintf("the exporter on node %s does not answer: look at the node, and at policies that keep its kubelet from port %d", pod.Spec.NodeName, port)
	}
	return "the exporter is starting"
}

// unscheduled is what the scheduler says of a pod that it has no node for.
func unscheduled(pod *corev1.Pod) (message string, ok bool) {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			return c.Message, true
		}
	}
	return "", false
}

func silentSince(pod *corev1.Pod, then time.Time) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status != corev1.ConditionTrue && c.LastTransitionTime.Time.Before(then)
		}
	}
	return false
}
