package export

import (
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

func TestWriters(t *testing.T) {
	claim := testSpec().Claim
	volume := func(claim string, readOnly bool) []corev1.Volume {
		return []corev1.Volume{{Name: "disk", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim, ReadOnly: readOnly}}}}
	}
	mounts := func(readOnly bool) []corev1.VolumeMount {
		return []corev1.VolumeMount{{Name: "disk", MountPath: "/disk", ReadOnly: readOnly}}
	}
	devices := []corev1.VolumeDevice{{Name: "disk", DevicePath: "/dev/disk"}}
	pod := func(name string, spec corev1.PodSpec, phase corev1.PodPhase) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: claim.Namespace, Name: name}, Spec: spec, Status: corev1.PodStatus{Phase: phase}}
	}
	for name, c := range map[string]struct {
		spec   corev1.PodSpec
		phase  corev1.PodPhase
		writes bool
	}{
		"mounted":               {spec: corev1.PodSpec{Volumes: volume("debian-12", false), Containers: []corev1.Container{{VolumeMounts: mounts(false)}}}, phase: corev1.PodRunning, writes: true},
		"waiting for its start": {spec: corev1.PodSpec{Volumes: volume("debian-12", false), Containers: []corev1.Container{{VolumeMounts: mounts(false)}}}, phase: corev1.PodPending, writes: true},
		"lost its node":         {spec: corev1.PodSpec{Volumes: volume("debian-12", false), Containers: []corev1.Container{{VolumeMounts: mounts(false)}}}, phase: corev1.PodUnknown, writes: true},
		"done":                  {spec: corev1.PodSpec{Volumes: volume("debian-12", false), Containers: []corev1.Container{{VolumeMounts: mounts(false)}}}, phase: corev1.PodSucceeded},
		"failed":                {spec: corev1.PodSpec{Volumes: volume("debian-12", false), Containers: []corev1.Container{{VolumeMounts: mounts(false)}}}, phase: corev1.PodFailed},
		"device":                {spec: corev1.PodSpec{Volumes: volume("debian-12", false), Containers: []corev1.Container{{VolumeDevices: devices}}}, writes: true},
		"first container":       {spec: corev1.PodSpec{Volumes: volume("debian-12", false), InitContainers: []corev1.Container{{VolumeMounts: mounts(false)}}}, writes: true},
		"debugger": {spec: corev1.PodSpec{Volumes: volume("debian-12", false), EphemeralContainers: []corev1.EphemeralContainer{
			{EphemeralContainerCommon: corev1.EphemeralContainerCommon{VolumeMounts: mounts(false)}},
		}}, writes: true},
		"one of two containers": {spec: corev1.PodSpec{Volumes: volume("debian-12", false), Containers: []corev1.Container{{VolumeMounts: mounts(true)}, {VolumeMounts: mounts(false)}}}, writes: true},
		"read-only mounts":      {spec: corev1.PodSpec{Volumes: volume("debian-12", false), Containers: []corev1.Container{{VolumeMounts: mounts(true)}, {VolumeMounts: mounts(true)}}}},
		"read-only volume":      {spec: corev1.PodSpec{Volumes: volume("debian-12", true), Containers: []corev1.Container{{VolumeMounts: mounts(false)}}}},
		"read-only device":      {spec: corev1.PodSpec{Volumes: volume("debian-12", true), Containers: []corev1.Container{{VolumeDevices: devices}}}},
		"another claim":         {spec: corev1.PodSpec{Volumes: volume("debian-13", false), Containers: []corev1.Container{{VolumeMounts: mounts(false)}}}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, pod("vm", c.spec, c.phase))
			writers, err := w.exports.Writers(t.Context(), claim)
			require.NoError(t, err)
			if c.writes {
				require.Equal(t, []string{"vm"}, writers)
			} else {
				require.Empty(t, writers)
			}
		})
	}
	t.Run("many", func(t *testing.T) {
		spec := corev1.PodSpec{Volumes: volume("debian-12", false), Containers: []corev1.Container{{VolumeMounts: mounts(false)}}}
		elsewhere := pod("c", spec, corev1.PodRunning)
		elsewhere.Namespace = "other"
		own := newPod(testSpec(), 1)
		ephemeral := pod("debian", corev1.PodSpec{
			Volumes:    []corev1.Volume{{Name: "12", VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{}}}},
			Containers: []corev1.Container{{VolumeMounts: []corev1.VolumeMount{{Name: "12", MountPath: "/disk"}}}},
		}, corev1.PodRunning)
		w := newWorld(t, []client.Object{pod("b", spec, corev1.PodRunning), pod("a", spec, corev1.PodRunning), elsewhere, own, ephemeral}...)
		writers, err := w.exports.Writers(t.Context(), claim)
		require.NoError(t, err)
		require.Equal(t, []string{"a", "b", "debian"}, writers)
	})
}
