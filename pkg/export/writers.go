package export

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Writers names the pods that use the claim and may write to its volume, in order. Pods that have
// ended do not count, nor those that have it read-only, as an exporter has.
func (e *Exports) Writers(ctx context.Context, claim types.NamespacedName) ([]string, error) {
	var pods corev1.PodList
	if err := e.live.List(ctx, &pods, client.InNamespace(claim.Namespace)); err != nil {
		return nil, fmt.Errorf("looking for pods that write to claim %s: %w", claim, err)
	}
	var writers []string
	for i := range pods.Items {
		if mayWrite(&pods.Items[i], claim.Name) {
			writers = append(writers, pods.Items[i].Name)
		}
	}
	slices.Sort(writers)
	return writers, nil
}

func mayWrite(pod *corev1.Pod, claim string) bool {
	if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		return false
	}
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		switch {
		case v.PersistentVolumeClaim != nil && v.PersistentVolumeClaim.ClaimName == claim && !v.PersistentVolumeClaim.ReadOnly,
			// Such a volume makes its claim itself, and can only be writable.
			v.Ephemeral != nil && pod.Name+"-"+v.Name == claim:
			if hasWritable(&pod.Spec, v.Name) {
				return true
			}
		}
	}
	return false
}

// hasWritable tells that a container has the volume as a device, or mounted to write.
func hasWritable(spec *corev1.PodSpec, volume string) bool {
	writable := func(mounts []corev1.VolumeMount, devices []corev1.VolumeDevice) bool {
		return slices.ContainsFunc(mounts, func(m corev1.VolumeMount) bool { return m.Name == volume && !m.ReadOnly }) ||
			slices.ContainsFunc(devices, func(d corev1.VolumeDevice) bool { return d.Name == volume })
	}
	for _, c := range slices.Concat(spec.InitContainers, spec.Containers) {
		if writable(c.VolumeMounts, c.VolumeDevices) {
			return true
		}
	}
	return slices.ContainsFunc(spec.EphemeralContainers, func(c corev1.EphemeralContainer) bool {
		return writable(c.VolumeMounts, c.VolumeDevices)
	})
}
