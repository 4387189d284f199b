package populator

import (
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
)

func TestAnnotationWithoutAReference(t *testing.T) {
	t.Parallel()
	annotated := testClaim()
	annotated.Annotations = map[string]string{annotationImage: sourceName}
	bare, elsewhere := annotated.DeepCopy(), annotated.DeepCopy()
	bare.Spec.DataSourceRef = nil
	elsewhere.Spec.DataSourceRef = nil
	elsewhere.Spec.DataSource = &corev1.TypedLocalObjectReference{Kind: "PersistentVolumeClaim", Name: "another"}
	for name, test := range map[string]struct {
		claim *corev1.PersistentVolumeClaim
		told  bool
	}{"none": {bare, true}, "one": {annotated, false}, "another source": {elsewhere, false}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, test.claim, fastClass())
			w.ticks(2)
			require.Equal(t, test.told, w.told(eventAnnotationIgnored, "VMDiskImage "+sourceName, "deploy/policies"))
			require.Nil(t, w.findImport())
			require.Equal(t, test.claim.Finalizers, w.findClaim().Finalizers, "nothing of ours is on it")
		})
	}
}
