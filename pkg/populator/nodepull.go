package populator

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/importer"
	"github.com/gild-project/gild/pkg/podevents"
)

const (
	// imageVolume is the volume of an image that the node pulls.
	imageVolume = "source-image"
	// imageDirectory is where it is mounted; diskDirectory holds the disk of a containerDisk.
	imageDirectory = "/run/gild/image"
	diskDirectory  = imageDirectory + "/disk"
	// maxPulls is after how many failed pulls of the node an import gives up: some 40 s.
	maxPulls = 3
	// insteadOfNode is what a user can do where the node cannot.
	insteadOfNode = "use pullMethod: pod"
)

// imageVolumeOf is the volume for an image that the node pulls. The digest of an image never changes, its tag may.
func imageVolumeOf(source *v1alpha1.DiskSource) corev1.Volume {
	policy := corev1.PullAlways
	if strings.Contains(reference(source), "@") {
		policy = corev1.PullIfNotPresent
	}
	return corev1.Volume{Name: imageVolume, VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{
		Reference: reference(source), PullPolicy: policy,
	}}}
}

// nodeImage is the image that a pod has its node pull as a volume; empty without one.
func nodeImage(spec *corev1.PodSpec) string {
	for _, volume := range spec.Volumes {
		if volume.Name == imageVolume && volume.Image != nil {
			return volume.Image.Reference
		}
	}
	return ""
}

// volumesDropped reports whether the API server took a Job without its image volume, as one without the feature does.
func volumesDropped(imp *v1alpha1.VMDiskImport, job *batchv1.Job) bool {
	return !isCopy(imp) && pulledByNode(&imp.Spec.Source) && nodeImage(&job.Spec.Template.Spec) == ""
}

// refusesImageVolume reports whether the API server refuses a Job for a volume, or the mount of one: all but the image's are of
// kinds that every cluster has.
func refusesImageVolume(err error) bool {
	var status apierrors.APIStatus
	if !apierrors.IsInvalid(err) || !errors.As(err, &status) || status.Status().Details == nil {
		return false
	}
	return slices.ContainsFunc(status.Status().Details.Causes, func(cause metav1.StatusCause) bool {
		return strings.Contains(cause.Field, ".volumes[") || strings.Contains(cause.Field, ".volumeMounts[")
	})
}

// noImageVolumes fails an import that needs what the cluster does not have.
func noImageVolumes(words string) outcome {
	return outcome{verdict: verdictFailed, reason: reasonImageVolumeUnsupported,
		message: fmt.Sprintf("image volumes need Kubernetes 1.36 and a container runtime that knows them (%s): %s", words, insteadOfNode)}
}

// nodeCannot says that an importer pod waits in vain for the image that its node shall pull: the pull has failed too often,
// or the node does not know image volumes. The words are the kubelet's and the container runtime's.
func nodeCannot(pod *corev1.Pod, events []corev1.Event) (o outcome, ok bool) {
	image := nodeImage(&pod.Spec)
	if image == "" {
		return outcome{}, false
	}
	unsupported := func(words string) (outcome, bool) {
		return noImageVolumes(fmt.Sprintf("node %s says: %s", pod.Spec.NodeName, words)), true
	}
	if event := podevents.Latest(events, "FailedMount"); event != nil && strings.Contains(event.Message, "no volume plugin matched") {
		return unsupported(event.Message)
	}
	waiting := waitingState(pod)
	switch {
	case waiting == nil:
		return outcome{}, false
	case waiting.Reason == "CreateContainerConfigError" && strings.Contains(waiting.Message, "path is empty"),
		waiting.Reason == "CreateContainerError" && strings.Contains(waiting.Message, `failed to mkdir ""`),
		waiting.Reason == "CreateContainerError" && strings.Contains(waiting.Message, `failed to stat ""`):
		return unsupported(waiting.Message)
	case !isPullFailure(waiting.Reason) || failingImage(pod, waiting, events) != image:
		return outcome{}, false
	}
	failed := failedPulls(image, events)
	if failed < maxPulls && waiting.Reason != "InvalidImageName" {
		return outcome{}, false
	}
	return outcome{verdict: verdictFailed, reason: reasonImagePullFailed, message: fmt.Sprintf(
		"node %s cannot pull %s, after %d tries: %s: mend the reference or its credentials, or %s",
		pod.Spec.NodeName, image, max(failed, 1), pullMessage(waiting, events), insteadOfNode)}, true
}

// waitingState is what the importer's container waits for; nil when it does not.
func waitingState(pod *corev1.Pod) *corev1.ContainerStateWaiting {
	for _, status := range pod.Status.ContainerStatuses {
		if status.Name == importerContainer {
			return status.State.Waiting
		}
	}
	return nil
}

// isPullFailure reports whether a container waits because an image, its own or that of a volume, cannot be pulled.
func isPullFailure(reason string) bool {
	switch reason {
	case "ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError", "RegistryUnavailable", "SignatureValidationFailed":
		return true
	}
	return false
}

// failingImage says which image of an importer pod cannot be pulled: its container waits with the same words for its own
// image and for that of its volume, which is pulled first.
func failingImage(pod *corev1.Pod, waiting *corev1.ContainerStateWaiting, events []corev1.Event) string {
	volume, own := nodeImage(&pod.Spec), importerImageOf(pod)
	if volume == "" {
		return own
	}
	words := []string{waiting.Message}
	for i := len(events) - 1; i >= 0; i-- {
		if events[i].Reason == "Failed" {
			words = append(words, events[i].Message)
		}
	}
	for _, text := range words {
		for _, image := range []string{volume, own} {
			if strings.Contains(text, strconv.Quote(image)) {
				return image
			}
		}
	}
	if strings.Contains(waiting.Message, volume) {
		return volume
	}
	return own
}

func importerImageOf(pod *corev1.Pod) string {
	for _, status := range pod.Status.ContainerStatuses {
		if status.Name == importerContainer {
			return status.Image
		}
	}
	return ""
}

// failedPulls is how often the node has tried to pull an image in vain, from the events of the pod.
func failedPulls(image string, events []corev1.Event) int {
	failed := 0
	for i := range events {
		event := &events[i]
		if event.Reason != "Failed" || !strings.Contains(event.Message, "Failed to pull image "+strconv.Quote(image)) {
			continue
		}
		count := max(1, int(event.Count))
		if event.Series != nil {
			count = max(count, int(event.Series.Count))
		}
		failed += count
	}
	return failed
}

// ofNodePull completes the outcome of an importer that read an image which the node has pulled and mounted: the importer
// knows neither the image's digest nor why it found no disk. Some container runtimes mount an empty directory in silence.
func ofNodePull(pod *corev1.Pod, o outcome) outcome {
	image := nodeImage(&pod.Spec)
	switch {
	case image == "":
	case o.verdict == verdictSucceeded:
		_, o.result.Digest, _ = strings.Cut(cmp.Or(mountedImage(pod), image), "@")
	case o.reason == string(importer.NotFound), o.reason == string(importer.NoDisk):
		o.message = fmt.Sprintf("%s: the image has no disk below /disk, or node %s did not mount it: %s", o.message, pod.Spec.NodeName, insteadOfNode)
	}
	return o
}

// mountedImage is what the node says that it has mounted; empty where it does not say.
func mountedImage(pod *corev1.Pod) string {
	for _, status := range pod.Status.ContainerStatuses {
		for _, mount := range status.VolumeMounts {
			if mount.Name == imageVolume && mount.VolumeStatus != nil && mount.VolumeStatus.Image != nil {
				return mount.VolumeStatus.Image.ImageRef
			}
		}
	}
	return ""
}
