//go:build e2e

package e2e

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
)

// TestLeavesForeignClaimsAlone makes claims of kinds that are not Gild's.
func TestLeavesForeignClaimsAlone(t *testing.T) {
	t.Parallel()
	f := start(t)
	img := f.Raw(diskSize)
	f.VMDiskImage("image", f.Serve("disk", img.file).URL)
	var foreign []claim
	for name, ref := range map[string]corev1.TypedObjectReference{
		"other-group": {APIGroup: ptr.To("example.org"), Kind: "VMDiskImage", Name: "image"},
		"other-kind":  {APIGroup: ptr.To(v1alpha1.Group), Kind: "VMDiskSnapshot", Name: "image"},
	} {
		foreign = append(foreign, f.Claim(name, "image", func(pvc *corev1.PersistentVolumeClaim) { pvc.Spec.DataSourceRef = &ref }))
	}
	// Once a claim made later is done, these have been seen too.
	f.RequireDone(f.Claim("disk", "image"), img)
	for _, c := range foreign {
		_, err := f.readImport(t.Context(), c)
		require.True(t, apierrors.IsNotFound(err), "a foreign claim has an import")
		left, err := f.leftovers(t.Context(), c.uid)
		require.NoError(t, err)
		require.Empty(t, left)
		pvc := f.PVC(c)
		require.Equal(t, corev1.ClaimPending, pvc.Status.Phase)
		require.NotContains(t, pvc.Finalizers, "gild.dev/populate-target-protection")
	}
}

// TestForeignVolume has a volume waiting that fits the claim, as an administrator makes by hand. The
// cluster binds the claim to it before it can be filled; that must not go unsaid.
func TestForeignVolume(t *testing.T) {
	t.Parallel()
	f := start(t)
	img := f.Raw(diskSize)
	f.VMDiskImage("image", f.Serve("disk", img.Held()).URL)
	class := f.CopyClass(f.NewClassName(), func(class *storagev1.StorageClass) {
		class.VolumeBindingMode = ptr.To(storagev1.VolumeBindingImmediate)
	})
	// Nothing mounts this volume, so its path need not exist.
	volume := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: class, Labels: map[string]string{runLabel: f.run}},
		Spec: corev1.PersistentVolumeSpec{
			Capacity:                      corev1.ResourceList{corev1.ResourceStorage: *resource.NewQuantity(claimSize, resource.BinarySI)},
			AccessModes:                   []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimRetain,
			StorageClassName:              class,
			PersistentVolumeSource:        corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/nonexistent"}},
		},
	}
	require.NoError(t, f.Create(t.Context(), volume))
	t.Cleanup(func() {
		require.NoError(t, client.IgnoreNotFound(f.Delete(context.WithoutCancel(f.ctx), volume)))
	})
	f.Eventually("volume available", importWithin, func(ctx context.Context) (bool, string, error) {
		err := f.Get(ctx, client.ObjectKeyFromObject(volume), volume)
		return volume.Status.Phase == corev1.VolumeAvailable, string(volume.Status.Phase), err
	})
	c := f.Claim("disk", "image", ofClass(class))
	f.Eventually("claim bound to the foreign volume", importWithin, func(context.Context) (bool, string, error) {
		pvc := f.PVC(c)
		return pvc.Status.Phase == corev1.ClaimBound && pvc.Spec.VolumeName == volume.Name, string(pvc.Status.Phase), nil
	})
	f.WaitEvent(c, "BoundToForeignVolume", volume.Name)
	imp, err := f.readImport(t.Context(), c)
	if !apierrors.IsNotFound(err) {
		require.NoError(t, err)
		require.NotEqual(t, v1alpha1.PhaseSucceeded, imp.Status.Phase)
	}
	f.RequireNothingLeft(c)
	f.DeleteClaim(c)
	f.RequireImageFree("image")
}

// TestForgedImport makes a VMDiskImport of a claim's name by hand. It is not trusted, and its
// claim is told.
func TestForgedImport(t *testing.T) {
	t.Parallel()
	f := start(t)
	img := f.Raw(diskSize)
	source := f.Serve("disk", img.file)
	f.VMDiskImage("image", source.URL)
	other := f.Serve("other", f.Raw(diskSize).file)
	forged := &v1alpha1.VMDiskImport{ObjectMeta: f.meta("disk")}
	forged.Spec.ClaimRef = v1alpha1.ClaimReference{Name: "disk", UID: "00000000-0000-0000-0000-000000000000"}
	forged.Spec.ImageRef = v1alpha1.ImageReference{Name: "image", UID: "00000000-0000-0000-0000-000000000000", Generation: 1}
	forged.Spec.Source.HTTP = &v1alpha1.HTTPSource{URL: other.URL}
	require.NoError(t, f.Create(t.Context(), forged))
	c := f.Claim("disk", "image")
	f.WaitEvent(c, "ImportNameTaken", "disk")
	require.Empty(t, other.Requests())
	require.NoError(t, f.Delete(t.Context(), forged))
	f.RequireDone(c, img)
	require.Empty(t, other.Requests())
}
