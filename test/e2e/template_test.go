//go:build e2e

package e2e

import (
	"context"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// jobTemplate has what an operator may set, and tries to take what is ours.
const jobTemplate = `
metadata:
  annotations: {example.org/team: platform}
  labels: {example.org/team: platform, gild.dev/claim-uid: forged}
  finalizers: [example.org/never]
spec:
  restartPolicy: Always
  automountServiceAccountToken: true
  nodeSelector: {kubernetes.io/os: linux}
  tolerations: [{key: example.org/storage, operator: Exists}]
  volumes: [{name: target, emptyDir: {}}, {name: extra, emptyDir: {}}]
  containers:
  - name: importer
    args: [--source, "http://forged.invalid/disk"]
    env: [{name: TEAM, value: platform}]
    volumeMounts: [{name: extra, mountPath: /extra}, {name: extra, mountPath: /target}]
    resources: {requests: {cpu: 50m}, limits: {memory: 768Mi}}
`

// TestJobTemplate runs an import with the operator's --job-template.
func TestJobTemplate(t *testing.T) {
	f := start(t)
	f.setJobTemplate(jobTemplate)
	img := f.Raw(diskSize)
	c, source := f.midImport(img)
	pod := f.ImporterPod(c)
	importer := pod.Spec.Containers[0]

	require.Equal(t, "platform", pod.Annotations["example.org/team"])
	require.Equal(t, "platform", pod.Labels["example.org/team"])
	require.Equal(t, "linux", pod.Spec.NodeSelector["kubernetes.io/os"])
	require.Contains(t, pod.Spec.Tolerations, corev1.Toleration{Key: "example.org/storage", Operator: corev1.TolerationOpExists})
	require.Contains(t, importer.Env, corev1.EnvVar{Name: "TEAM", Value: "platform"})
	require.Contains(t, importer.VolumeMounts, corev1.VolumeMount{Name: "extra", MountPath: "/extra"})
	require.Equal(t, "50m", importer.Resources.Requests.Cpu().String())
	require.Equal(t, "768Mi", importer.Resources.Limits.Memory().String())

	require.Equal(t, c.uid, pod.Labels[claimUIDLabel])
	require.NotContains(t, pod.Finalizers, "example.org/never")
	require.Equal(t, corev1.RestartPolicyNever, pod.Spec.RestartPolicy)
	require.False(t, ptr.Deref(pod.Spec.AutomountServiceAccountToken, true))
	require.Contains(t, importer.Args, "--source="+source.URL)
	require.NotContains(t, importer.Args, "http://forged.invalid/disk")
	require.Contains(t, importer.VolumeMounts, corev1.VolumeMount{Name: "target", MountPath: "/target"})
	i := slices.IndexFunc(pod.Spec.Volumes, func(volume corev1.Volume) bool { return volume.Name == "target" })
	require.NotNil(t, pod.Spec.Volumes[i].PersistentVolumeClaim)

	source.Publish(img.file)
	f.RequireDone(c, img)
	require.EqualValues(t, 1, f.Import(c).Status.Attempts)
}

// setJobTemplate gives the populator a --job-template until the test ends.
func (f *fixture) setJobTemplate(text string) {
	f.Helper()
	const file, folder = "template.yaml", "/etc/gild"
	template := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: systemNamespace, Name: f.namespace + "-template", Labels: map[string]string{runLabel: f.run}},
		Data:       map[string]string{file: text},
	}
	require.NoError(f, f.Create(f.ctx, template))
	var before corev1.PodTemplateSpec
	f.Cleanup(func() {
		ctx := context.WithoutCancel(f.ctx)
		f.editPopulator(ctx, func(deployment *appsv1.Deployment) { deployment.Spec.Template = before })
		require.NoError(f, f.waitPopulator(ctx))
		require.NoError(f, client.IgnoreNotFound(f.Delete(ctx, template)))
	})
	f.editPopulator(f.ctx, func(deployment *appsv1.Deployment) {
		before = *deployment.Spec.Template.DeepCopy()
		pod := &deployment.Spec.Template.Spec
		pod.Volumes = append(pod.Volumes, corev1.Volume{Name: "template", VolumeSource: corev1.VolumeSource{
			ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: template.Name}},
		}})
		populator := &pod.Containers[0]
		populator.Args = append(populator.Args, "--job-template="+folder+"/"+file)
		populator.VolumeMounts = append(populator.VolumeMounts, corev1.VolumeMount{Name: "template", MountPath: folder})
	})
	require.NoError(f, f.waitPopulator(f.ctx))
}
