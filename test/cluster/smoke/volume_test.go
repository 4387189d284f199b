//go:build e2e

package smoke

import (
	"context"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

const (
	driver   = "loop.csi.gild.dev"
	mebibyte = 1 << 20
)

// with gives a pod a claim, as a folder or as a device.
func with(pod *corev1.Pod, claim string, mode corev1.PersistentVolumeMode, path string) {
	pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: claim, VolumeSource: corev1.VolumeSource{
		PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim},
	}})
	container := &pod.Spec.Containers[0]
	if mode == corev1.PersistentVolumeBlock {
		container.VolumeDevices = append(container.VolumeDevices, corev1.VolumeDevice{Name: claim, DevicePath: path})
		return
	}
	container.VolumeMounts = append(container.VolumeMounts, corev1.VolumeMount{Name: claim, MountPath: path})
}

func TestRestrictedPodUsesBothKindsOfVolumes(t *testing.T) {
	c := newCluster(t)
	c.claim("folder", "loop", corev1.PersistentVolumeFilesystem)
	c.claim("device", "loop-wait", corev1.PersistentVolumeBlock)
	findings := c.run("disks", func(pod *corev1.Pod) {
		with(pod, "folder", corev1.PersistentVolumeFilesystem, "/data")
		with(pod, "device", corev1.PersistentVolumeBlock, "/dev/disk")
	}, "write", "/data", "/dev/disk")
	require.Equal(t, []string{
		"/data/disk.img same=true size=4096",
		"/dev/disk same=true size=67108864",
		"user=107 group=107 root-is-read-only=true",
	}, findings)
}

func TestWaitForFirstConsumer(t *testing.T) {
	c := newCluster(t)
	c.claim("waiting", "loop-wait", corev1.PersistentVolumeFilesystem)
	c.claim("immediate", "loop", corev1.PersistentVolumeFilesystem)
	c.eventually("the immediate claim binds", func() bool { return c.phase("immediate") == corev1.ClaimBound })
	require.Equal(t, corev1.ClaimPending, c.phase("waiting"))
	c.run("consumer", func(pod *corev1.Pod) { with(pod, "waiting", corev1.PersistentVolumeFilesystem, "/data") }, "resolve", "localhost")
	require.Equal(t, corev1.ClaimBound, c.phase("waiting"))
}

// class makes a StorageClass whose volumes come from a pool of its own.
func (c *cluster) class(parameters map[string]string) string {
	c.Helper()
	if parameters == nil {
		parameters = map[string]string{}
	}
	parameters["pool"] = c.namespace
	_, err := c.StorageV1().StorageClasses().Create(c.Context(), &storagev1.StorageClass{
		ObjectMeta: metav1.ObjectMeta{Name: c.namespace}, Provisioner: driver, Parameters: parameters,
		ReclaimPolicy: ptr.To(corev1.PersistentVolumeReclaimDelete), VolumeBindingMode: ptr.To(storagev1.VolumeBindingImmediate),
	}, metav1.CreateOptions{})
	require.NoError(c, err)
	c.Cleanup(func() {
		ctx := context.WithoutCancel(c.Context())
		require.NoError(c, c.StorageV1().StorageClasses().Delete(ctx, c.namespace, metav1.DeleteOptions{}))
	})
	return c.namespace
}

// pool changes the pool of the namespace's class.
func (c *cluster) pool(settings string) {
	c.Helper()
	ctx := context.WithoutCancel(c.Context())
	output, err := exec.CommandContext(ctx, "go", "run", "..", "pool", c.namespace, settings).CombinedOutput()
	require.NoError(c, err, string(output))
}

func TestCapacityIsRefusedThenGranted(t *testing.T) {
	c := newCluster(t)
	class := c.class(nil)
	c.pool(`{"capacityBytes": 67108864}`)
	t.Cleanup(func() { c.pool("off") })
	c.claim("first", class, corev1.PersistentVolumeFilesystem)
	c.eventually("the first claim fits and binds", func() bool { return c.phase("first") == corev1.ClaimBound })
	c.claim("second", class, corev1.PersistentVolumeFilesystem)
	c.eventually("an Event says why the second claim does not", func() bool {
		events, err := c.CoreV1().Events(c.namespace).List(t.Context(), metav1.ListOptions{FieldSelector: "involvedObject.name=second"})
		require.NoError(t, err)
		for i := range events.Items {
			if strings.Contains(events.Items[i].Message, "0 of 67108864 bytes left, the volume needs 67108864") {
				return true
			}
		}
		return false
	})
	require.Equal(t, corev1.ClaimPending, c.phase("second"))
	c.pool("off")
	c.eventually("the second claim binds", func() bool { return c.phase("second") == corev1.ClaimBound })
}

func TestVolumeMayBeSmallerThanItSays(t *testing.T) {
	c := newCluster(t)
	class := c.class(map[string]string{"realBytes": "16777216"})
	c.claim("small", class, corev1.PersistentVolumeFilesystem)
	findings := c.run("filler", func(pod *corev1.Pod) { with(pod, "small", corev1.PersistentVolumeFilesystem, "/data") }, "fill", "/data")
	require.Regexp(t, `^full after 1[0-5] MiB$`, findings[0])
	claim, err := c.CoreV1().PersistentVolumeClaims(c.namespace).Get(t.Context(), "small", metav1.GetOptions{})
	require.NoError(t, err)
	require.Equal(t, int64(64*mebibyte), claim.Status.Capacity.Storage().Value())
}
