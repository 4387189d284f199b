package populator

import (
	"cmp"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/gild-project/gild/pkg/podevents"
)

// podWaiting says what keeps an importer pod from running, for its user who cannot look into
// the system namespace. events are those of PVC' and the pod, oldest first.
func podWaiting(pod *corev1.Pod, events []corev1.Event, now time.Time) state {
	for _, status := range pod.Status.ContainerStatuses {
		waiting := status.State.Waiting
		if waiting == nil {
			continue
		}
		switch {
		case isPullFailure(waiting.Reason):
			return pullWaiting(pod, waiting, events)
		case strings.HasPrefix(waiting.Message, "ImageVolumeMountFailed"):
			return blocked(reasonMountFailed, "node %s cannot mount image %s: %s: if it never can, %s", pod.Spec.NodeName, nodeImage(&pod.Spec), waiting.Message, insteadOfNode)
		case waiting.Reason == "CreateContainerConfigError", waiting.Reason == "CreateContainerError", waiting.Reason == "RunContainerError":
			return blocked(waiting.Reason, "starting the importer: %s", waiting.Message)
		}
	}
	if event := podevents.Latest(events, "ProvisioningFailed"); event != nil && !scheduled(pod) {
		return blocked(reasonProvisioningFailed, "the storage class cannot make the volume: %s", event.Message)
	}
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodScheduled && condition.Status == corev1.ConditionFalse && pod.CreationTimestamp.Time.Before(now.Add(-nodePatience)) {
			if strings.Contains(condition.Message, unboundImmediate) {
				return pending(reasonWaitingForVolume, "the volume is being made")
			}
			return blocked(reasonUnschedulable, "no node takes the importer: %s", condition.Message)
		}
	}
	if event := podevents.FailingMount(pod, events, now); event != nil {
		return blocked(reasonMountFailed, "mounting the volume: %s", event.Message)
	}
	if image := nodeImage(&pod.Spec); image != "" {
		if event := podevents.Latest(events, "Pulling", "Pulled"); event != nil && event.Reason == "Pulling" && strings.Contains(event.Message, strconv.Quote(image)) {
			return pending(reasonStarting, "node %s is pulling %s", pod.Spec.NodeName, image)
		}
	}
	return pending(reasonStarting, "the importer is starting")
}

// pullWaiting says which image a node cannot pull: the importer's own, or that of the import's source.
func pullWaiting(pod *corev1.Pod, waiting *corev1.ContainerStateWaiting, events []corev1.Event) state {
	image := failingImage(pod, waiting, events)
	if image == nodeImage(&pod.Spec) {
		return blocked(reasonImagePullFailed, "node %s cannot pull %s, try %d of %d: %s", pod.Spec.NodeName, image, max(failedPulls(image, events), 1), maxPulls, pullMessage(waiting, events))
	}
	return blocked(reasonImagePullFailed, "pulling the importer image %s: %s", image, pullMessage(waiting, events))
}

// unreachable reports whether the node of a pod no longer answers for it: the pod should have ended long
// ago, or has not been ready for a while although it runs.
func unreachable(pod *corev1.Pod, now time.Time) bool {
	if deleted := pod.DeletionTimestamp; deleted != nil {
		return deleted.Time.Before(now.Add(-nodeSilence))
	}
	if pod.Status.Phase != corev1.PodRunning {
		return false
	}
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodReady && condition.Status == corev1.ConditionFalse {
			return condition.LastTransitionTime.Time.Before(now.Add(-nodeSilence))
		}
	}
	return false
}

// noPod says why a Job has no pod yet.
func noPod(events []corev1.Event) state {
	if event := podevents.Latest(events, "FailedCreate"); event != nil {
		return blocked(reasonPodNotCreated, "making the importer pod: %s", event.Message)
	}
	return pending(reasonStarting, "the importer is starting")
}

// pullMessage prefers the event of the pull that failed: the container's own state alternates
// between the cause and a bare "Back-off".
func pullMessage(waiting *corev1.ContainerStateWaiting, events []corev1.Event) string {
	for i := len(events) - 1; i >= 0; i-- {
		if events[i].Reason == "Failed" && strings.Contains(events[i].Message, "pull") {
			return podevents.WithoutQueries(events[i].Message)
		}
	}
	return podevents.WithoutQueries(cmp.Or(waiting.Message, waiting.Reason))
}

// unboundImmediate is how the scheduler says that a volume is not there yet, which is nobody's fault.
const unboundImmediate = "unbound immediate PersistentVolumeClaims"

// nodeSilence is how long a node may say nothing of a pod before it counts as unreachable.
const nodeSilence = 30 * time.Second

// nodePatience is how long a pod may be without a node before it is worth telling: its volume may be
// under way.
const nodePatience = 4 * time.Second

func scheduled(pod *corev1.Pod) bool { return pod.Spec.NodeName != "" }
