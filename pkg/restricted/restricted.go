// Package restricted has the security contexts of our pods: they pass the Pod Security Standard "restricted", run as
// KubeVirt's qemu and write to no image.
package restricted

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

// qemu is KubeVirt's user and group: a virtual machine reads its disk as it.
const qemu = 107

// Pod is the security context of a pod. A volume with a file system becomes readable and writable for its group, unless
// its root is that already.
func Pod() *corev1.PodSecurityContext {
	return &corev1.PodSecurityContext{
		RunAsNonRoot: ptr.To(true), RunAsUser: ptr.To[int64](qemu), RunAsGroup: ptr.To[int64](qemu),
		FSGroup: ptr.To[int64](qemu), FSGroupChangePolicy: ptr.To(corev1.FSGroupChangeOnRootMismatch),
		SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
}

// Container is the security context of each of its containers.
func Container() *corev1.SecurityContext {
	return &corev1.SecurityContext{
		AllowPrivilegeEscalation: ptr.To(false),
		ReadOnlyRootFilesystem:   ptr.To(true),
		RunAsNonRoot:             ptr.To(true),
		Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		SeccompProfile:           &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
}
