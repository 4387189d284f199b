package populator

import (
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/gild-project/gild/pkg/credentials"
	"github.com/gild-project/gild/pkg/importer"
	"github.com/gild-project/gild/pkg/restricted"
)

// Where things are in an importer pod.
const (
	targetDevice    = "/dev/target"
	targetDirectory = "/target"
	secretDirectory = "/run/gild/secret"
	caDirectory     = "/run/gild/ca"
	scratchDir      = "/scratch"
	terminationLog  = "/dev/termination-log"
)

// ourTemplate is the pod of an attempt, before the operator changes it.
func ourTemplate(a *attempt) *corev1.PodTemplateSpec {
	var options importer.Options
	if a.asks() {
		options = a.options()
	}
	container := corev1.Container{
		Name:                     importerContainer,
		Image:                    a.image,
		Args:                     literal(a.args()),
		TerminationMessagePath:   terminationLog,
		TerminationMessagePolicy: corev1.TerminationMessageReadFile,
		Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse("128Mi")},
			Limits:   corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("2"), corev1.ResourceMemory: resource.MustParse("640Mi")},
		},
		SecurityContext: restricted.Container(),
	}
	volumes := []corev1.Volume{
		{Name: "tmp", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory, SizeLimit: ptr.To(resource.MustParse("16Mi"))}}},
		{Name: "target", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: a.target.Name}}},
	}
	if options.ScratchDir != "" {
		volumes = append(volumes, corev1.Volume{Name: "scratch", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: scratchLimit(a.claim)}}})
		container.VolumeMounts = append(container.VolumeMounts, corev1.VolumeMount{Name: "scratch", MountPath: scratchDir})
	}
	if isBlock(a.claim) {
		container.VolumeDevices = []corev1.VolumeDevice{{Name: "target", DevicePath: targetDevice}}
	} else {
		container.VolumeMounts = append(container.VolumeMounts, corev1.VolumeMount{Name: "target", MountPath: targetDirectory})
	}
	container.VolumeMounts = append(container.VolumeMounts, corev1.VolumeMount{Name: "tmp", MountPath: "/tmp"})
	if options.SecretDir != "" {
		volumes = append(volumes, secretVolume(a))
		container.VolumeMounts = append(container.VolumeMounts, corev1.VolumeMount{Name: "secret", MountPath: secretDirectory, ReadOnly: true})
	}
	if options.CADir != "" {
		volumes = append(volumes, corev1.Volume{Name: "ca", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
			LocalObjectReference: corev1.LocalObjectReference{Name: copyName(a.claim.UID)},
		}}})
		container.VolumeMounts = append(container.VolumeMounts, corev1.VolumeMount{Name: "ca", MountPath: caDirectory, ReadOnly: true})
	}
	template := &corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: attemptLabels(a), Annotations: attemptAnnotations(a), Finalizers: []string{finalizerPod}},
		Spec: corev1.PodSpec{
			RestartPolicy:                 corev1.RestartPolicyNever,
			AutomountServiceAccountToken:  ptr.To(false),
			EnableServiceLinks:            ptr.To(false),
			TerminationGracePeriodSeconds: ptr.To[int64](10),
			SecurityContext:               restricted.Pod(),
			Containers:                    []corev1.Container{container},
			Volumes:                       volumes,
		},
	}
	if pulledByNode(&a.spec.Source) {
		pullByNode(a, &template.Spec)
	}
	return template
}

// pullByNode has the node pull the image of an attempt and mount it, on a node of the image's architecture.
func pullByNode(a *attempt, spec *corev1.PodSpec) {
	spec.Volumes = append(spec.Volumes, imageVolumeOf(&a.spec.Source))
	spec.Containers[0].VolumeMounts = append(spec.Containers[0].VolumeMounts, corev1.VolumeMount{Name: imageVolume, MountPath: imageDirectory, ReadOnly: true})
	if len(a.credentials.Secret) > 0 {
		spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: copyName(a.claim.UID)}}
	}
	if architecture := architectureOf(&a.spec.Source); architecture != "" {
		spec.NodeSelector = map[string]string{corev1.LabelArchStable: architecture}
	}
}

// secretVolume mounts the copied Secret as the importer's --secret-dir: credentials at its top,
// every header as a file below headers/.
func secretVolume(a *attempt) corev1.Volume {
	var items []corev1.KeyToPath
	for _, key := range slices.Sorted(maps.Keys(a.credentials.Secret)) {
		path := key
		if n, ok := strings.CutPrefix(key, credentials.HeaderKeys); ok {
			path = "headers/" + n
		}
		items = append(items, corev1.KeyToPath{Key: key, Path: path})
	}
	return corev1.Volume{Name: "secret", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{
		SecretName: copyName(a.claim.UID), Items: items, DefaultMode: ptr.To[int32](0o440),
	}}}
}

// scratchLimit bounds the scratch directory: an image in its file form is hardly ever larger
// than the claim for its disk.
func scratchLimit(claim *corev1.PersistentVolumeClaim) *resource.Quantity {
	size := claim.Spec.Resources.Requests[corev1.ResourceStorage]
	return resource.NewQuantity(size.Value()+size.Value()/8+64<<20, resource.BinarySI)
}

func isBlock(claim *corev1.PersistentVolumeClaim) bool {
	return claim.Spec.VolumeMode != nil && *claim.Spec.VolumeMode == corev1.PersistentVolumeBlock
}
