package golden_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/gild-project/gild/pkg/golden"
)

func TestIsFromCDI(t *testing.T) {
	for kind, want := range map[string]bool{
		"VolumeImportSource": true, "VolumeCloneSource": true, "VolumeUploadSource": true,
		golden.CronKind: false, golden.DataSourceKind: false,
	} {
		claim := &corev1.PersistentVolumeClaim{}
		claim.Spec.DataSourceRef = &corev1.TypedObjectReference{APIGroup: ptr.To(golden.Group), Kind: kind, Name: "x"}
		require.Equal(t, want, golden.IsFromCDI(claim), kind)
		claim.Spec.DataSourceRef.APIGroup = ptr.To("example.org")
		require.False(t, golden.IsFromCDI(claim), kind)
	}
	require.False(t, golden.IsFromCDI(&corev1.PersistentVolumeClaim{}))
}

func TestIsInterrupted(t *testing.T) {
	for phase, want := range map[string]bool{"": false, "Succeeded": false, "Running": true, "Pending": true, "Failed": true} {
		claim := &corev1.PersistentVolumeClaim{}
		claim.Annotations = map[string]string{golden.AnnotationPodPhase: phase}
		require.Equal(t, want, golden.IsInterrupted(claim), phase)
	}
}
