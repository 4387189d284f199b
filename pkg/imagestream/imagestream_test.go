package imagestream

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/yaml"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	twelve       = "registry.example.org:5000/vms/debian@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
	newestDebian = "registry.example.org:5000/vms/debian@sha256:60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752"
)

// debian is an ImageStream as OpenShift's registry writes it.
func debian(t *testing.T) *unstructured.Unstructured {
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
    - {dockerImageReference: "`+newestDebian+`"}
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

func TestNewestImage(t *testing.T) {
	for tag, test := range map[string]struct{ image, waits string }{
		"12":      {twelve, ""},
		"latest":  {newestDebian, ""},
		"failing": {"", "you may not have access to it"},
		"new":     {"", "imported none yet"},
		"13":      {"", "no such tag"},
		"forged":  {"", "not the name of an image"},
	} {
		image, err := newest(debian(t), tag)
		require.Equal(t, test.image, image, tag)
		if test.waits == "" {
			require.NoError(t, err, tag)
			continue
		}
		var refusal *Refusal
		require.ErrorAs(t, err, &refusal)
		require.Equal(t, NotFound, refusal.Reason)
		require.ErrorContains(t, err, test.waits)
		require.NotContains(t, err.Error(), "secret")
	}
	odd := debian(t)
	require.NoError(t, unstructured.SetNestedField(odd.Object, "none", "status", "tags"))
	_, err := newest(odd, "12")
	require.ErrorContains(t, err, "cannot be understood")
}

func TestFind(t *testing.T) {
	live := fake.NewClientBuilder().WithObjects(debian(t)).Build()
	for text, image := range map[string]string{"debian:12": twelve, "debian": newestDebian} {
		found, err := Find(t.Context(), live, "vms", text)
		require.NoError(t, err)
		require.Equal(t, image, found)
	}
	answer := errors.New("the API server is down")
	for name, test := range map[string]struct {
		stream, reason, says string
		answer               error
	}{
		"no such stream": {"fedora", NotFound, "ImageStream fedora does not exist in namespace vms: create it", nil},
		"no such tag":    {"debian:13", NotFound, "no such tag", nil},
		"no OpenShift":   {"debian", Unsupported, "image.openshift.io/v1", &meta.NoKindMatchError{GroupKind: Kind().GroupKind()}},
		"no API server":  {"debian", "", answer.Error(), answer},
	} {
		t.Run(name, func(t *testing.T) {
			client := interceptor.NewClient(live, interceptor.Funcs{
				Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
					if test.answer != nil {
						return test.answer
					}
					return c.Get(ctx, key, o, opts...)
				},
			})
			_, err := Find(t.Context(), client, "vms", test.stream)
			require.ErrorContains(t, err, test.says)
			var refusal *Refusal
			require.Equal(t, test.reason != "", errors.As(err, &refusal))
			if test.reason != "" {
				require.Equal(t, test.reason, refusal.Reason)
			}
		})
	}
}
