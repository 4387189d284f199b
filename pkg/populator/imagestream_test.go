package populator

import (
	"testing"

	"github.com/stretchr/testify/require"
	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/imagestream"
)

const (
	twelve = "registry.example.org:5000/vms/debian@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
	newest = "registry.example.org:5000/vms/debian@sha256:60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752"
)

// stream is an ImageStream as OpenShift's registry writes it.
func stream(t *testing.T) *unstructured.Unstructured {
	t.Helper()
	object := &unstructured.Unstructured{}
	require.NoError(t, yaml.Unmarshal([]byte(`
apiVersion: image.openshift.io/v1
kind: ImageStream
metadata: {name: debian, namespace: vms}
spec:
  lookupPolicy: {local: false}
  tags: [{name: "12", from: {kind: DockerImage, name: "registry.example.org/debian:12"}}]
status:
  dockerImageRepository: registry.example.org:5000/vms/debian
  tags:
  - tag: "12"
    items:
    - {created: "2026-11-21T12:00:00Z", generation: 2, image: "sha256:9f86", dockerImageReference: "`+twelve+`"}
    - {created: "2026-11-20T12:00:00Z", generation: 1, image: "sha256:0000", dockerImageReference: "registry.example.org/old@sha256:0000"}
  - tag: latest
    items:
    - {dockerImageReference: "`+newest+`"}
  - tag: failing
    items:
    conditions:
    - {type: ImportSuccess, status: "False", message: "you may not have access to it"}
  - tag: new
  - tag: forged
    items:
    - {dockerImageReference: "me:secret@registry.example.org/disk"}
`), &object.Object))
	return object
}

func streamImage(name string) *v1alpha1.VMDiskImage {
	image := testImage()
	image.Spec.Source = v1alpha1.DiskSource{Registry: &v1alpha1.RegistrySource{ImageStream: name}}
	return image
}

func TestImageStreamIsLookedUpOnce(t *testing.T) {
	w := newWorld(t, streamImage("debian:12"), testClaim(), fastClass(), stream(t))
	w.openshift = true
	var sources []string
	w.admit = func(job *batchv1.Job) error {
		sources = append(sources, job.Spec.Template.Spec.Containers[0].Args[0])
		return nil
	}
	w.end = func(attempt int32) (int32, string) {
		if attempt > 1 {
			return 0, `{"reason":"Imported","virtualSize":1024,"seconds":1,"digest":"sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08","content":"containerDisk"}`
		}
		// The tag moves on while the import runs.
		moved := stream(t)
		found := &unstructured.Unstructured{}
		found.SetGroupVersionKind(imagestream.Kind())
		require.True(t, w.find(found, "vms", "debian"))
		moved.SetResourceVersion(found.GetResourceVersion())
		tags, _, err := unstructured.NestedSlice(moved.Object, "status", "tags")
		require.NoError(t, err)
		tags[0] = map[string]any{"tag": "12", "items": []any{map[string]any{"dockerImageReference": newest}}}
		require.NoError(t, unstructured.SetNestedSlice(moved.Object, tags, "status", "tags"))
		require.NoError(t, w.store.Update(t.Context(), moved))
		return 1, `{"reason":"ServerError","message":"503"}`
	}
	w.settle(w.phase(v1alpha1.PhaseSucceeded))
	require.Equal(t, []string{"--source=docker://" + twelve, "--source=docker://" + twelve}, sources)
	imp := w.findImport()
	require.Equal(t, "debian:12", imp.Spec.Source.Registry.ImageStream, "what was asked for is kept")
	require.Equal(t, twelve, imp.Status.ResolvedReference)
	require.Equal(t, "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", imp.Status.Result.Digest)
	require.Equal(t, "containerDisk", imp.Status.Result.Content)
}

func TestImageStreamIsWaitedFor(t *testing.T) {
	w := newWorld(t, streamImage("debian"), testClaim(), fastClass())
	w.openshift = true
	w.settle(w.phase(v1alpha1.PhasePending))
	for range 5 {
		w.tick()
	}
	ready := meta.FindStatusCondition(w.findImport().Status.Conditions, v1alpha1.ConditionReady)
	require.Equal(t, imagestream.NotFound, ready.Reason)
	require.Contains(t, ready.Message, "ImageStream debian does not exist in namespace vms")
	require.NoError(t, w.store.Create(t.Context(), stream(t)))
	w.settle(w.phase(v1alpha1.PhaseSucceeded))
	require.Equal(t, newest, w.findImport().Status.ResolvedReference, "latest, where no tag is named")
}

func TestClusterWithoutImageStreams(t *testing.T) {
	w := newWorld(t, streamImage("debian"), testClaim(), fastClass())
	w.settle(w.phase(v1alpha1.PhaseFailed))
	ready := meta.FindStatusCondition(w.findImport().Status.Conditions, v1alpha1.ConditionReady)
	require.Equal(t, imagestream.Unsupported, ready.Reason)
	require.Contains(t, ready.Message, "image.openshift.io/v1")
	require.Empty(t, w.jobs)
	for range 3 {
		w.tick()
	}
	w.requireNothingLeft()
}
