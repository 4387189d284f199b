package datavolume

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
)

// TestRefused tells what the API server says of a claim from what only keeps it from answering.
func TestRefused(t *testing.T) {
	claims := corev1.Resource("persistentvolumeclaims")
	quota := refused(apierrors.NewForbidden(claims, "web-1", errors.New("exceeded quota: small, requested: requests.storage=5Gi")))
	require.Equal(t, reasonExceededQuota, quota.reason)
	require.Contains(t, quota.message, "requested: requests.storage=5Gi")
	policy := refused(apierrors.NewForbidden(claims, "web-1", errors.New("a policy has it so")))
	require.Equal(t, reasonClaimNotValid, policy.reason)
	invalid := refused(apierrors.NewInvalid(corev1.SchemeGroupVersion.WithKind("PersistentVolumeClaim").GroupKind(), "web-1", nil))
	require.Equal(t, reasonClaimNotValid, invalid.reason)
	require.Nil(t, refused(apierrors.NewServiceUnavailable("etcd is away")))
	require.Nil(t, refused(apierrors.NewAlreadyExists(claims, "web-1")))
}

// TestSizeUnknown: a copy of what does not tell its size waits for somebody to say it.
func TestSizeUnknown(t *testing.T) {
	v := aView(aVolume(t, fromSnapshot, unsized))
	v.origin = &origin{source: &cdiv1.DataSourceSource{Snapshot: v.volume.Spec.Source.Snapshot}}
	p := decide(v)
	require.Empty(t, p.create)
	require.Equal(t, reasonNoSize, p.trouble.reason)
	require.Contains(t, p.trouble.message, "set resources.requests.storage")
}

// TestLeavingObjects: what is on its way out is waited for, without a warning.
func TestLeavingObjects(t *testing.T) {
	w := newWorld(t, aVolume(t, fromHTTP, storage), immediate())
	w.idle = true
	w.run()
	image := find[v1alpha1.VMDiskImage](w)
	image.Finalizers = []string{"gild.dev/image-in-use"}
	require.NoError(t, w.store.Update(t.Context(), image))
	w.remove(image)
	w.said()
	w.run()
	require.Contains(t, said(&w.volume().Status, cdiv1.DataVolumeReady), "ErrResourceMarkedForDeletion")
	require.Empty(t, w.said())
}
