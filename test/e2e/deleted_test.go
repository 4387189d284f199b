//go:build e2e

package e2e

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
)

func TestClaimDeletedMidImport(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(*corev1.PersistentVolumeClaim){
		"Filesystem": func(*corev1.PersistentVolumeClaim) {},
		"Block":      block,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t)
			c, _ := f.midImport(f.Raw(diskSize), edit)
			f.DeleteClaim(c)
			f.RequireNothingLeft(c)
			f.WaitImportGone(c)
			f.RequireImageFree("image")
		})
	}
}

// TestClaimOfARetainClassDeletedMidImport must not leave the volume that nobody has seen.
func TestClaimOfARetainClassDeletedMidImport(t *testing.T) {
	t.Parallel()
	f := start(t)
	c, _ := f.midImport(f.Raw(diskSize), ofClass(f.retainClass()))
	f.DeleteClaim(c)
	f.RequireNothingLeft(c)
}

// TestClaimOfARetainClassIsRetained gives the volume back the policy of its class.
func TestClaimOfARetainClassIsRetained(t *testing.T) {
	t.Parallel()
	f := start(t)
	img := f.Raw(diskSize)
	f.VMDiskImage("image", f.Serve("disk", img.file).URL)
	c := f.Claim("disk", "image", ofClass(f.retainClass()))
	f.RequireDone(c, img)
	volume := &corev1.PersistentVolume{}
	require.NoError(t, f.Get(t.Context(), client.ObjectKey{Name: f.PVC(c).Spec.VolumeName}, volume))
	// The volume must go with the test in any case.
	before := volume.DeepCopy()
	volume.Spec.PersistentVolumeReclaimPolicy = corev1.PersistentVolumeReclaimDelete
	require.NoError(t, f.Patch(t.Context(), volume, client.MergeFrom(before)))
	require.Equal(t, corev1.PersistentVolumeReclaimRetain, before.Spec.PersistentVolumeReclaimPolicy)
}

func (f *fixture) retainClass() string {
	f.Helper()
	return f.CopyClass("gild-e2e-"+f.run+"-retain", func(class *storagev1.StorageClass) {
		class.VolumeBindingMode = ptr.To(storagev1.VolumeBindingImmediate)
		class.ReclaimPolicy = ptr.To(corev1.PersistentVolumeReclaimRetain)
	})
}

// TestClaimMadeAgain makes a claim of the same name as soon as the first one is gone half-way.
func TestClaimMadeAgain(t *testing.T) {
	t.Parallel()
	f := start(t)
	img := f.Raw(diskSize)
	first, source := f.midImport(img)
	require.NoError(t, f.Delete(t.Context(), f.PVC(first)))
	f.WaitGone(first)
	source.Publish(img.file)
	second := f.Claim("disk", "image")
	require.NotEqual(t, first.uid, second.uid)
	f.RequireDone(second, img)
	f.RequireNothingLeft(first)
	require.EqualValues(t, 1, f.Import(second).Status.Attempts)
}

// TestImageDeletedMidImport holds the VMDiskImage until its import has ended.
func TestImageDeletedMidImport(t *testing.T) {
	t.Parallel()
	f := start(t)
	img := f.Raw(diskSize)
	c, source := f.midImport(img)
	vmdi := &v1alpha1.VMDiskImage{ObjectMeta: f.meta("image")}
	require.NoError(t, f.Delete(t.Context(), vmdi))
	require.NoError(t, f.Get(t.Context(), f.key("image"), vmdi), "it is held while its import runs")
	require.NotNil(t, vmdi.DeletionTimestamp)
	source.Publish(img.file)
	f.RequireDone(c, img)
	f.RequireImageFree("image")
}

// TestImageEditedMidImport leaves the import that runs as it began.
func TestImageEditedMidImport(t *testing.T) {
	t.Parallel()
	f := start(t)
	img := f.Raw(diskSize)
	c, source := f.midImport(img)
	f.EditImage("image", func(spec *v1alpha1.VMDiskImageSpec) { spec.Source.HTTP.URL = source.URL + "-other" })
	source.Publish(img.file)
	f.RequireDone(c, img)
	require.Equal(t, source.URL, f.Import(c).Spec.Source.HTTP.URL)
}

// TestImportDeletedMidImport starts the import over.
func TestImportDeletedMidImport(t *testing.T) {
	t.Parallel()
	f := start(t)
	img := f.Raw(diskSize)
	c, source := f.midImport(img)
	first := f.Import(c)
	require.NoError(t, f.Delete(t.Context(), first))
	f.WaitAnew(c, first)
	source.Publish(img.file)
	f.RequireDone(c, img)
	require.EqualValues(t, 1, f.Import(c).Status.Attempts)
}

// WaitGone waits until a claim is gone.
func (f *fixture) WaitGone(c claim) {
	f.Helper()
	f.Eventually("claim gone", goneWithin, func(ctx context.Context) (bool, string, error) {
		pvc := &corev1.PersistentVolumeClaim{}
		err := f.Get(ctx, f.key(c.name), pvc)
		gone := apierrors.IsNotFound(err) || err == nil && string(pvc.UID) != c.uid
		return gone, describeFinalizers(pvc), client.IgnoreNotFound(err)
	})
}

// WaitImportGone waits until the import of a claim is gone.
func (f *fixture) WaitImportGone(c claim) {
	f.Helper()
	f.Eventually("import gone", goneWithin, func(ctx context.Context) (bool, string, error) {
		imp, err := f.readImport(ctx, c)
		if apierrors.IsNotFound(err) {
			return true, "", nil
		}
		return false, describeFinalizers(imp), err
	})
}

// RequireImageFree deletes a VMDiskImage, if it is not deleted yet, and waits until nothing holds it.
func (f *fixture) RequireImageFree(name string) {
	f.Helper()
	vmdi := &v1alpha1.VMDiskImage{ObjectMeta: f.meta(name)}
	require.NoError(f, client.IgnoreNotFound(f.Delete(f.ctx, vmdi)))
	f.Eventually("VMDiskImage gone", goneWithin, func(ctx context.Context) (bool, string, error) {
		err := f.Get(ctx, f.key(name), vmdi)
		return apierrors.IsNotFound(err), describeFinalizers(vmdi), client.IgnoreNotFound(err)
	})
}

func describeFinalizers(object client.Object) string {
	text := "held by"
	for _, name := range object.GetFinalizers() {
		text += " " + name
	}
	return text
}
