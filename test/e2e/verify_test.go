//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gild-project/gild/test/imageserver/disk"
	"github.com/gild-project/gild/test/imageserver/verify"
)

const (
	devicePath = "/dev/disk"
	mountPath  = "/data"
)

// Consume makes a pod that uses a claim and reads its first size bytes back. It waits for the
// claim like any other pod.
func (f *fixture) Consume(c claim, size int64) string {
	f.Helper()
	path := mountPath
	if c.mode == corev1.PersistentVolumeBlock {
		path = devicePath
	}
	pod := f.newPod(f.namespace, "verify-"+c.name, c, "verify", "--path="+path, fmt.Sprintf("--size=%d", size))
	require.NoError(f, f.Create(f.ctx, pod))
	return pod.Name
}

// newPod is a pod that uses a claim of its namespace with the image server's program.
func (f *fixture) newPod(namespace, name string, c claim, args ...string) *corev1.Pod {
	container := corev1.Container{
		Name: "verify", Image: f.image("gild-imageserver"), Args: args, SecurityContext: restrictedContainer(),
	}
	if c.mode == corev1.PersistentVolumeBlock {
		container.VolumeDevices = []corev1.VolumeDevice{{Name: "disk", DevicePath: devicePath}}
	} else {
		container.VolumeMounts = []corev1.VolumeMount{{Name: "disk", MountPath: mountPath}}
	}
	meta := f.meta(name)
	meta.Namespace = namespace
	return &corev1.Pod{ObjectMeta: meta, Spec: corev1.PodSpec{
		RestartPolicy: corev1.RestartPolicyNever, AutomountServiceAccountToken: ptr.To(false),
		TerminationGracePeriodSeconds: ptr.To[int64](1),
		SecurityContext:               restrictedPod(), Containers: []corev1.Container{container},
		Volumes: []corev1.Volume{{Name: "disk", VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: c.name},
		}}},
	}}
}

// RequireDisk proves that a claim's volume holds the disk, that a Filesystem volume holds nothing
// else, and that the rest of the volume reads as zero.
func (f *fixture) RequireDisk(c claim, d disk.Disk) {
	f.Helper()
	f.RequireReport(c, f.Consume(c, d.Size), d, d.Size)
}

// RequireGrown proves the same of a disk that was grown to size bytes.
func (f *fixture) RequireGrown(c claim, d disk.Disk, size int64) {
	f.Helper()
	f.RequireReport(c, f.Consume(c, size), d, size)
}

// RequireReport waits for the pod made by Consume and checks what it read.
func (f *fixture) RequireReport(c claim, pod string, d disk.Disk, size int64) {
	f.Helper()
	report := f.report(pod)
	want, err := d.SHA256Grown(size)
	require.NoError(f, err)
	require.Equal(f, want, report.SHA256, "the volume does not hold the disk")
	require.True(f, report.TailZero, "the rest of the volume does not read as zero")
	require.Empty(f, report.Others, "the volume holds more than the disk")
	if c.mode == corev1.PersistentVolumeFilesystem {
		require.Equal(f, size, report.Capacity, "the file is not as long as the disk")
		require.Equal(f, "-rw-rw----", report.Mode)
	}
	require.NoError(f, f.Delete(f.ctx, &corev1.Pod{ObjectMeta: f.meta(pod)}))
}

// report waits until a pod made by Consume has ended and returns what it read.
func (f *fixture) report(name string) verify.Report {
	f.Helper()
	var message string
	f.Eventually("the volume read back", importWithin, func(ctx context.Context) (bool, string, error) {
		pod := &corev1.Pod{}
		if err := f.Get(ctx, f.key(name), pod); err != nil {
			return false, "", err
		}
		switch pod.Status.Phase {
		case corev1.PodSucceeded:
			message = pod.Status.ContainerStatuses[0].State.Terminated.Message
			return true, "", nil
		case corev1.PodFailed:
			log, err := f.typed.CoreV1().Pods(f.namespace).GetLogs(name, &corev1.PodLogOptions{}).DoRaw(ctx)
			return false, "", fmt.Errorf("reading the volume back: %s: %s (%w)", describePod(pod), log, err)
		}
		return false, describePod(pod), nil
	})
	var report verify.Report
	require.NoError(f, json.Unmarshal([]byte(message), &report))
	return report
}

// RequireQcow2 proves that a Filesystem volume holds the disk as a qcow2 file of size bytes.
// qemu-img is the judge.
func (f *fixture) RequireQcow2(c claim, d disk.Disk, size int64) {
	f.Helper()
	dir := f.TempDir()
	qcow2, raw := filepath.Join(dir, "disk.img"), filepath.Join(dir, "disk.raw")
	require.NoError(f, os.WriteFile(qcow2, f.Download(c), 0o600))
	var info struct {
		Format          string `json:"format"`
		VirtualSize     int64  `json:"virtual-size"`
		BackingFilename string `json:"backing-filename"`
	}
	require.NoError(f, json.Unmarshal([]byte(f.qemuImg("info", "--output=json", "-f", "qcow2", qcow2)), &info))
	require.Equal(f, size, info.VirtualSize)
	require.Empty(f, info.BackingFilename)
	f.qemuImg("check", "-f", "qcow2", qcow2)
	f.qemuImg("convert", "-f", "qcow2", "-O", "raw", qcow2, raw)
	report, err := verify.Volume(raw, size)
	require.NoError(f, err)
	want, err := d.SHA256Grown(size)
	require.NoError(f, err)
	require.Equal(f, want, report.SHA256)
}

// Download reads disk.img of a Filesystem volume.
func (f *fixture) Download(c claim) []byte {
	f.Helper()
	pod := f.newPod(f.namespace, "download-"+c.name, c, "serve", "--dir="+mountPath)
	pod.Spec.Containers[0].ReadinessProbe = webProbe()
	require.NoError(f, f.Create(f.ctx, pod))
	key := client.ObjectKeyFromObject(pod)
	require.NoError(f, f.waitPod(f.ctx, key))
	_, err := f.callPod(f.ctx, key, http.MethodPut, "/control/files/disk", []byte(`{"blob": "disk.img"}`))
	require.NoError(f, err)
	content, err := f.callPod(f.ctx, key, http.MethodGet, "/files/disk", nil)
	require.NoError(f, err)
	require.NoError(f, f.Delete(f.ctx, pod))
	return content
}
