package golden_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/golden"
)

func TestIsFilledByUs(t *testing.T) {
	require.False(t, golden.IsFilledByUs(&corev1.PersistentVolumeClaim{}))
	for ref, want := range map[corev1.TypedObjectReference]bool{
		{APIGroup: ptr.To(v1alpha1.Group), Kind: "VMDiskImage"}:               true,
		{APIGroup: ptr.To(golden.Group), Kind: golden.DataSourceKind}:         true,
		{APIGroup: ptr.To(golden.Group), Kind: golden.CronKind}:               true,
		{APIGroup: ptr.To(golden.Group), Kind: "VolumeImportSource"}:          false,
		{APIGroup: ptr.To("example.org"), Kind: "VMDiskImage"}:                false,
		{APIGroup: ptr.To("snapshot.storage.k8s.io"), Kind: "VolumeSnapshot"}: false,
		{Kind: "PersistentVolumeClaim"}:                                       false,
	} {
		ref.Name = "x"
		claim := &corev1.PersistentVolumeClaim{Spec: corev1.PersistentVolumeClaimSpec{DataSourceRef: &ref}}
		require.Equal(t, want, golden.IsFilledByUs(claim), ref.Kind)
	}
}
