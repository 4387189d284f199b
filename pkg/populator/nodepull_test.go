package populator

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
)

// nodeDisk is the image of registryImage.
const nodeDisk = "registry.example.org:5000/disks/debian:12"

// nodePod is a pod whose node pulls an image, waiting.
func nodePod(reason, message string) *corev1.Pod {
	pod := waitingPod(reason, message)
	source := registryImage("", v1alpha1.PullMethodNode).Spec.Source
	pod.Spec.NodeName = "node1"
	pod.Spec.Volumes = []corev1.Volume{{Name: "operators", VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: "other"}}}, imageVolumeOf(&source)}
	return pod
}

// failed is the kubelet's event of a pull in vain.
func failed(image string, count int32) corev1.Event {
	return corev1.Event{Reason: "Failed", Count: count, Message: fmt.Sprintf("Failed to pull image %q: rpc error: 401 Unauthorized", image)}
}

func TestNodeCannot(t *testing.T) {
	backOff := fmt.Sprintf("Back-off pulling image %q: ErrImagePull: 401 Unauthorized", nodeDisk)
	for name, test := range map[string]struct {
		pod    *corev1.Pod
		events []corev1.Event
		// reason of the failure; empty while it may still come right.
		reason string
		says   []string
		// waits is the reason that podWaiting gives meanwhile.
		waits, waitsFor string
	}{
		"first failed pull": {
			pod: nodePod("ErrImagePull", "rpc error: 401 Unauthorized"), events: []corev1.Event{failed(nodeDisk, 1)},
			waits: reasonImagePullFailed, waitsFor: "node1 cannot pull " + nodeDisk + ", try 1 of 3",
		},
		"second failed pull": {
			pod: nodePod("ImagePullBackOff", backOff), events: []corev1.Event{failed(nodeDisk, 2)},
			waits: reasonImagePullFailed, waitsFor: "try 2 of 3: Failed to pull",
		},
		"third failed pull": {
			pod: nodePod("ErrImagePull", "rpc error: 401 Unauthorized"), events: []corev1.Event{failed(nodeDisk, 3)},
			reason: reasonImagePullFailed, says: []string{"node1", nodeDisk, "after 3 tries", "401", "pullMethod: pod"},
		},
		"three failed pulls with words of their own": {
			pod: nodePod("ImagePullBackOff", backOff), events: []corev1.Event{failed(nodeDisk, 1), failed(nodeDisk, 0), {
				Reason: "Failed", Message: fmt.Sprintf("(combined from similar events): Failed to pull image %q: no route to host", nodeDisk),
				Series: &corev1.EventSeries{Count: 7},
			}},
			reason: reasonImagePullFailed, says: []string{"after 9 tries", "no route to host"},
		},
		"no events to be had": {
			pod:   nodePod("ImagePullBackOff", backOff),
			waits: reasonImagePullFailed, waitsFor: "cannot pull " + nodeDisk,
		},
		"registry unavailable": {
			pod: nodePod("RegistryUnavailable", "image pull failed for "+nodeDisk+" because the registry is unavailable"), events: []corev1.Event{failed(nodeDisk, 4)},
			reason: reasonImagePullFailed, says: []string{"pullMethod: pod"},
		},
		"signed URL": {
			pod: nodePod("ErrImagePull", "x"), events: []corev1.Event{{Reason: "Failed", Count: 3, Message: fmt.Sprintf(
				"Failed to pull image %q: unexpected status from GET request to https://blobs.example.org/a?X-Signature=canary&b: 403 Forbidden", nodeDisk)}},
			reason: reasonImagePullFailed, says: []string{"https://blobs.example.org/a 403 Forbidden"},
		},
		"signature": {
			pod: nodePod("SignatureValidationFailed", "image pull failed for "+nodeDisk), events: []corev1.Event{failed(nodeDisk, 3)},
			reason: reasonImagePullFailed, says: []string{"pullMethod: pod"},
		},
		"a name that never works": {
			pod:    nodePod("InvalidImageName", fmt.Sprintf("Failed to apply default image tag %q: couldn't parse", nodeDisk)),
			reason: reasonImagePullFailed, says: []string{"couldn't parse"},
		},
		"the importer image, often": {
			pod: nodePod("ImagePullBackOff", `Back-off pulling image "gild-importer:1"`), events: []corev1.Event{failed(nodeDisk, 3), failed("gild-importer:1", 5)},
			waits: reasonImagePullFailed, waitsFor: "pulling the importer image gild-importer:1",
		},
		"the importer image, after its own": {
			pod: nodePod("ErrImagePull", "rpc error: not found"), events: []corev1.Event{failed(nodeDisk, 3), failed("gild-importer:1", 1)},
			waits: reasonImagePullFailed, waitsFor: "pulling the importer image gild-importer:1",
		},
		"an image volume of the operator": {
			pod: nodePod("ErrImagePull", "rpc error: not found"), events: []corev1.Event{failed("other", 9)},
			waits: reasonImagePullFailed, waitsFor: "pulling the importer image",
		},
		"kubelet that knows no such volume": {
			pod: nodePod("ContainerCreating", ""), events: []corev1.Event{{Reason: "FailedMount", Message: "Unable to attach or mount volumes: no volume plugin matched"}},
			reason: reasonImageVolumeUnsupported, says: []string{"node1", "Kubernetes 1.36", "pullMethod: pod", "no volume plugin matched"},
		},
		"kubelet without the feature": {
			pod:    nodePod("CreateContainerConfigError", "path is empty *image.imagePlugin"),
			reason: reasonImageVolumeUnsupported, says: []string{"pullMethod: pod"},
		},
		"runtime without it": {
			pod:    nodePod("CreateContainerError", `failed to generate container "a" spec: failed to apply OCI options: failed to mkdir "": mkdir : no such file or directory`),
			reason: reasonImageVolumeUnsupported, says: []string{"container runtime", "pullMethod: pod"},
		},
		"runtime that cannot mount it now": {
			pod:   nodePod("CreateContainerError", "ImageVolumeMountFailed: failed to unpack image volume: unsupported media type"),
			waits: reasonMountFailed, waitsFor: "pullMethod: pod",
		},
		"something else": {
			pod:   nodePod("CreateContainerError", "no such device"),
			waits: "CreateContainerError", waitsFor: "no such device",
		},
		"starting": {
			pod: nodePod("ContainerCreating", ""), waits: reasonStarting, waitsFor: "starting",
		},
		"pulling": {
			pod: nodePod("ContainerCreating", ""), events: []corev1.Event{{Reason: "Pulling", Message: fmt.Sprintf("Pulling image %q", nodeDisk)}},
			waits: reasonStarting, waitsFor: "node1 is pulling " + nodeDisk,
		},
		"pulled": {
			pod: nodePod("ContainerCreating", ""), events: []corev1.Event{
				{Reason: "Pulling", Message: fmt.Sprintf("Pulling image %q", nodeDisk)}, {Reason: "Pulled", Message: "Successfully pulled image"}},
			waits: reasonStarting, waitsFor: "the importer is starting",
		},
		"no status yet": {
			pod:   &corev1.Pod{Spec: nodePod("", "").Spec},
			waits: reasonStarting, waitsFor: "starting",
		},
		"no image volume": {
			pod: waitingPod("CreateContainerError", `failed to mkdir ""`), events: []corev1.Event{failed("gild-importer:1", 9)},
			waits: "CreateContainerError", waitsFor: "mkdir",
		},
	} {
		t.Run(name, func(t *testing.T) {
			o, ok := nodeCannot(test.pod, test.events)
			require.Equal(t, test.reason != "", ok)
			if ok {
				require.Equal(t, test.reason, o.reason)
				require.Equal(t, verdictFailed, o.verdict)
				for _, says := range test.says {
					require.Contains(t, o.message, says)
				}
				require.NotContains(t, o.message, "canary", "a secret is told")
				return
			}
			s := podWaiting(test.pod, test.events, metav1.Now().Time)
			require.Equal(t, test.waits, s.reason)
			require.Contains(t, s.message, test.waitsFor)
		})
	}
}

func TestOfNodePull(t *testing.T) {
	const digest = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
	none := outcome{verdict: verdictFailed, reason: "NotFound", message: "no such file"}
	require.Contains(t, ofNodePull(nodePod("", ""), none).message, "pullMethod: pod")
	require.Equal(t, none, ofNodePull(waitingPod("", ""), none), "no pull of a node")
	other := outcome{verdict: verdictFailed, reason: "CorruptImage", message: "x"}
	require.Equal(t, other, ofNodePull(nodePod("", ""), other))

	done := outcome{verdict: verdictSucceeded}
	require.Empty(t, ofNodePull(nodePod("", ""), done).result.Digest, "a tag says nothing of the digest")
	pinned := nodePod("", "")
	pinned.Spec.Volumes[1].Image.Reference = "registry.example.org/disk@" + digest
	require.Equal(t, digest, ofNodePull(pinned, done).result.Digest)
	told := nodePod("", "")
	told.Status.ContainerStatuses[0].VolumeMounts = []corev1.VolumeMountStatus{{Name: imageVolume,
		VolumeStatus: &corev1.VolumeStatus{Image: &corev1.ImageVolumeStatus{ImageRef: nodeDisk + "@" + digest}}}}
	require.Equal(t, digest, ofNodePull(told, done).result.Digest)
}

// failPulls plays a node that cannot pull, the third time for good if there is one.
func failPulls(t *testing.T, w *world) func(*corev1.Pod) {
	t.Helper()
	pulls := int32(0)
	return func(pod *corev1.Pod) {
		pulls++
		event := failed(nodeDisk, pulls)
		event.ObjectMeta = metav1.ObjectMeta{Namespace: systemNamespace, Name: "pull"}
		event.InvolvedObject = corev1.ObjectReference{UID: pod.UID}
		if pulls == 1 {
			require.NoError(t, w.store.Create(t.Context(), &event))
		} else {
			require.NoError(t, w.store.Update(t.Context(), &event))
		}
		pod.Status = nodePod("ErrImagePull", "rpc error: 401 Unauthorized").Status
		pod.Status.Phase = corev1.PodPending
	}
}

func TestNodeThatCannotPullFailsTheImport(t *testing.T) {
	w := newWorld(t, registryImage("login", v1alpha1.PullMethodNode), testClaim(), fastClass(), login("pw"))
	w.kubelet = failPulls(t, w)
	var pullSecrets []corev1.LocalObjectReference
	w.admit = func(job *batchv1.Job) error {
		pullSecrets = job.Spec.Template.Spec.ImagePullSecrets
		copied := &corev1.Secret{}
		require.True(t, w.find(copied, systemNamespace, pullSecrets[0].Name))
		require.Equal(t, corev1.SecretTypeDockerConfigJson, copied.Type)
		return nil
	}
	w.settle(func() bool {
		imp := w.findImport()
		ready := meta.FindStatusCondition(imp.Status.Conditions, v1alpha1.ConditionReady)
		return ready != nil && ready.Reason == reasonImagePullFailed
	})
	require.True(t, w.phase(v1alpha1.PhasePending)(), "it may come right")
	w.settle(w.phase(v1alpha1.PhaseFailed))
	require.Len(t, pullSecrets, 1)
	require.Len(t, w.jobs, 1)
	require.Equal(t, reasonImagePullFailed, w.findImport().Status.LastFailure.Reason)
	require.Contains(t, w.findImport().Status.LastFailure.Message, "pullMethod: pod")
	for range 5 {
		w.tick()
	}
	w.requireNothingLeft()

	w.kubelet = nil
	require.NoError(t, w.store.Update(t.Context(), login("better")))
	w.settle(w.phase(v1alpha1.PhaseSucceeded))
	require.EqualValues(t, 1, w.findImport().Status.Attempts, "a new import")
}

func TestClusterWithoutImageVolumes(t *testing.T) {
	invalid := func(path string) error {
		return apierrors.NewInvalid(schema.GroupKind{Group: "batch", Kind: "Job"}, "import", field.ErrorList{field.NotFound(field.NewPath(path), imageVolume)})
	}
	for name, admit := range map[string]func(*batchv1.Job) error{
		"the API server drops volume and mount": func(job *batchv1.Job) error {
			spec := &job.Spec.Template.Spec
			spec.Volumes = spec.Volumes[:len(spec.Volumes)-1]
			spec.Containers[0].VolumeMounts = spec.Containers[0].VolumeMounts[:len(spec.Containers[0].VolumeMounts)-1]
			return nil
		},
		"the API server makes it an empty directory": func(job *batchv1.Job) error {
			volumes := job.Spec.Template.Spec.Volumes
			volumes[len(volumes)-1].VolumeSource = corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}
			return nil
		},
		"the API server refuses the mount":  func(*batchv1.Job) error { return invalid("spec.template.spec.containers[0].volumeMounts[1].name") },
		"the API server refuses the volume": func(*batchv1.Job) error { return invalid("spec.template.spec.volumes[1].image") },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, registryImage("", v1alpha1.PullMethodNode), testClaim(), fastClass())
			w.admit = admit
			w.settle(w.phase(v1alpha1.PhaseFailed))
			failure := w.findImport().Status.LastFailure
			require.Equal(t, reasonImageVolumeUnsupported, failure.Reason)
			require.Contains(t, failure.Message, "pullMethod: pod")
			for range 5 {
				w.tick()
			}
			w.requireNothingLeft()
		})
	}
}

func TestOtherRefusalsAreWaitedFor(t *testing.T) {
	w := newWorld(t, registryImage("", v1alpha1.PullMethodNode), testClaim(), fastClass())
	w.admit = func(*batchv1.Job) error {
		return apierrors.NewForbidden(schema.GroupResource{Group: "batch", Resource: "jobs"}, "import", errors.New("exceeded quota"))
	}
	w.settle(func() bool { imp := w.findImport(); return imp != nil && imp.Status.Phase == v1alpha1.PhasePending })
	for range 5 {
		w.tick()
	}
	ready := meta.FindStatusCondition(w.findImport().Status.Conditions, v1alpha1.ConditionReady)
	require.Equal(t, reasonPodNotCreated, ready.Reason)
	w.admit = nil
	w.settle(w.phase(v1alpha1.PhaseSucceeded))
}

func TestFilesNeedAFilesystemVolume(t *testing.T) {
	image := registryImage("", "")
	image.Spec.Source.Registry.Content = v1alpha1.ImageContentFiles
	claim := testClaim()
	mode := corev1.PersistentVolumeBlock
	claim.Spec.VolumeMode = &mode
	w := newWorld(t, image, claim, fastClass())
	w.settle(w.phase(v1alpha1.PhaseFailed))
	require.Equal(t, reasonContentNeedsFiles, w.findImport().Status.LastFailure.Reason)
	require.Empty(t, w.jobs)
}
