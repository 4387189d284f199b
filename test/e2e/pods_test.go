//go:build e2e

package e2e

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

// qemu is KubeVirt's user and group: who reads the disks.
const qemu = 107

func restrictedPod() *corev1.PodSecurityContext {
	return &corev1.PodSecurityContext{
		RunAsNonRoot: ptr.To(true), RunAsUser: ptr.To[int64](qemu), RunAsGroup: ptr.To[int64](qemu), FSGroup: ptr.To[int64](qemu),
		SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
}

func restrictedContainer() *corev1.SecurityContext {
	return &corev1.SecurityContext{
		AllowPrivilegeEscalation: ptr.To(false), ReadOnlyRootFilesystem: ptr.To(true),
		Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
	}
}

// describePod says in one line what a pod is doing.
func describePod(pod *corev1.Pod) string {
	text := "pod " + pod.Name + " is " + string(pod.Status.Phase)
	for _, condition := range pod.Status.Conditions {
		if condition.Status != corev1.ConditionTrue && condition.Message != "" {
			text += ", " + condition.Message
		}
	}
	for _, status := range pod.Status.ContainerStatuses {
		if waiting := status.State.Waiting; waiting != nil {
			text += fmt.Sprintf(", %s waits: %s %s", status.Name, waiting.Reason, waiting.Message)
		}
		if terminated := status.State.Terminated; terminated != nil {
			text += fmt.Sprintf(", %s ended with %d: %s", status.Name, terminated.ExitCode, strings.TrimSpace(terminated.Message))
		}
	}
	return text
}
