//go:build e2e

package e2e

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
)

// TestFills fills claims of every volume mode and binding mode from every format of this release.
func TestFills(t *testing.T) {
	t.Parallel()
	formats := map[string]func(*fixture) image{
		"raw":   func(f *fixture) image { return f.Raw(diskSize) },
		"qcow2": func(f *fixture) image { return f.Qcow2(diskSize) },
	}
	modes := map[string]func(*corev1.PersistentVolumeClaim){
		"Filesystem": func(*corev1.PersistentVolumeClaim) {},
		"Block":      block,
	}
	bindings := map[string]func(*fixture, image, func(*corev1.PersistentVolumeClaim)) claim{
		"Immediate":            fillImmediate,
		"WaitForFirstConsumer": fillForConsumer,
		"WaitForFirstConsumer without a consumer": fillWithoutConsumer,
	}
	for format, image := range formats {
		for mode, edit := range modes {
			for binding, fill := range bindings {
				t.Run(fmt.Sprintf("%s/%s/%s", format, mode, binding), func(t *testing.T) {
					t.Parallel()
					f := start(t)
					img := image(f)
					f.VMDiskImage("image", f.Serve("disk", img.file).URL)
					c := fill(f, img, edit)
					imp := f.RequireBound(c)
					require.Equal(t, format, imp.Status.Result.SourceFormat)
					require.Equal(t, diskSize, imp.Status.Result.VirtualSize)
					require.Empty(t, imp.Status.Result.Digest, "nobody asked for a checksum")
					f.RequireNoScratch(c)
					f.RequireNothingLeft(c)
				})
			}
		}
	}
}

func fillImmediate(f *fixture, img image, edit func(*corev1.PersistentVolumeClaim)) claim {
	f.Helper()
	c := f.Claim("disk", "image", edit)
	f.RequireBound(c)
	f.RequireDisk(c, img.disk)
	return c
}

func fillForConsumer(f *fixture, img image, edit func(*corev1.PersistentVolumeClaim)) claim {
	f.Helper()
	c := f.Claim("disk", "image", edit, ofClass(f.Class(storagev1.VolumeBindingWaitForFirstConsumer)))
	imp := f.WaitReason(c, "WaitForFirstConsumer")
	require.Equal(f, v1alpha1.PhasePending, imp.Status.Phase)
	require.EqualValues(f, 0, imp.Status.Attempts)
	pod := f.Consume(c, img.disk.Size)
	f.RequireBound(c)
	f.RequireReport(c, pod, img.disk, img.disk.Size)
	return c
}

func fillWithoutConsumer(f *fixture, img image, edit func(*corev1.PersistentVolumeClaim)) claim {
	f.Helper()
	c := f.Claim("disk", "image", edit, ofClass(f.Class(storagev1.VolumeBindingWaitForFirstConsumer)), immediately)
	f.RequireBound(c)
	f.RequireDisk(c, img.disk)
	return c
}

func TestFillsFromISO(t *testing.T) {
	t.Parallel()
	f := start(t)
	img := f.Raw(diskSize)
	img.disk.ISO = true
	img.file.Disk = &img.disk
	f.VMDiskImage("image", f.Serve("disk.iso", img.file).URL)
	c := f.Claim("disk", "image")
	imp := f.RequireBound(c)
	require.Equal(t, "iso", imp.Status.Result.SourceFormat)
	f.RequireDisk(c, img.disk)
}

func TestKeepsQcow2(t *testing.T) {
	t.Parallel()
	for name, source := range map[string]func(*fixture) image{
		"from raw":   func(f *fixture) image { return f.Raw(diskSize) },
		"from qcow2": func(f *fixture) image { return f.Qcow2(diskSize) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t)
			img := source(f)
			f.VMDiskImage("image", f.Serve("disk", img.file).URL, func(spec *v1alpha1.VMDiskImageSpec) {
				spec.Format = v1alpha1.DiskFormatQcow2
			})
			c := f.Claim("disk", "image")
			f.RequireBound(c)
			f.RequireQcow2(c, img.disk, diskSize)
			f.RequireNothingLeft(c)
		})
	}
}

func TestQcow2NeedsAFilesystem(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.VMDiskImage("image", f.Serve("disk", f.Raw(diskSize).file).URL, func(spec *v1alpha1.VMDiskImageSpec) {
		spec.Format = v1alpha1.DiskFormatQcow2
	})
	c := f.Claim("disk", "image", block)
	imp := f.WaitImport(c, "failure", importWithin, func(imp *v1alpha1.VMDiskImport) bool {
		return imp.Status.Phase == v1alpha1.PhaseFailed
	})
	require.Equal(t, "FormatNeedsFilesystem", ready(imp).Reason)
	f.RequireNothingLeft(c)
	f.EditImage("image", func(spec *v1alpha1.VMDiskImageSpec) { spec.Format = v1alpha1.DiskFormatRaw })
	f.WaitAnew(c, imp)
	f.RequireBound(c)
}

// TestGrows asks for a disk that is larger than its image.
func TestGrows(t *testing.T) {
	t.Parallel()
	const size = diskSize + 16*mib
	for name, test := range map[string]struct {
		source func(*fixture) image
		format v1alpha1.DiskFormat
		edit   func(*corev1.PersistentVolumeClaim)
	}{
		"raw on Filesystem":           {func(f *fixture) image { return f.Raw(diskSize) }, v1alpha1.DiskFormatRaw, func(*corev1.PersistentVolumeClaim) {}},
		"qcow2 on Block":              {func(f *fixture) image { return f.Qcow2(diskSize) }, v1alpha1.DiskFormatRaw, block},
		"qcow2 on Filesystem, kept":   {func(f *fixture) image { return f.Qcow2(diskSize) }, v1alpha1.DiskFormatQcow2, func(*corev1.PersistentVolumeClaim) {}},
		"raw on Filesystem, to qcow2": {func(f *fixture) image { return f.Raw(diskSize) }, v1alpha1.DiskFormatQcow2, func(*corev1.PersistentVolumeClaim) {}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t)
			img := test.source(f)
			f.VMDiskImage("image", f.Serve("disk", img.file).URL, func(spec *v1alpha1.VMDiskImageSpec) {
				spec.Size, spec.Format = resource.NewQuantity(size, resource.BinarySI), test.format
			})
			c := f.Claim("disk", "image", test.edit)
			imp := f.RequireBound(c)
			require.Equal(t, size, imp.Status.Result.VirtualSize)
			if test.format == v1alpha1.DiskFormatQcow2 {
				f.RequireQcow2(c, img.disk, size)
			} else {
				f.RequireGrown(c, img.disk, size)
			}
		})
	}
}

// TestRecordsTheResult checks what is known of an import afterwards.
func TestRecordsTheResult(t *testing.T) {
	t.Parallel()
	f := start(t)
	img := f.Raw(diskSize)
	digest := "sha256:" + f.SHA256(img.disk)
	source := f.Serve("disk", img.file)
	f.VMDiskImage("image", source.URL, func(spec *v1alpha1.VMDiskImageSpec) { spec.Checksum = digest })
	c := f.Claim("disk", "image")
	imp := f.RequireBound(c)
	f.RequireDisk(c, img.disk)

	result := imp.Status.Result
	require.Equal(t, digest, result.Digest)
	require.Equal(t, diskSize, result.VirtualSize)
	require.InDelta(t, diskSize, result.TransferredBytes, float64(mib))
	require.NotZero(t, result.WrittenBytes)
	require.LessOrEqual(t, result.WrittenBytes, diskSize, "holes are not written")
	require.NotEmpty(t, result.ETag)
	require.NotEmpty(t, result.LastModified)
	require.Less(t, source.Bytes(), diskSize+mib, "the disk is read once, its header perhaps twice")
	require.Equal(t, source.URL, imp.Spec.Source.HTTP.URL)

	vmdi := &v1alpha1.VMDiskImage{}
	require.NoError(t, f.Get(t.Context(), f.key("image"), vmdi))
	require.True(t, meta.IsStatusConditionTrue(vmdi.Status.Conditions, v1alpha1.ConditionReady))
	require.Equal(t, vmdi.Generation, vmdi.Status.ObservedGeneration)
	require.Equal(t, v1alpha1.LastImport{Name: c.name, Digest: digest, Time: result.Time}, ptr.Deref(vmdi.Status.LastImport, v1alpha1.LastImport{}))
}

// TestTwoClaimsOfOneImage fills two claims of different modes at the same time.
func TestTwoClaimsOfOneImage(t *testing.T) {
	t.Parallel()
	f := start(t)
	img := f.Qcow2(diskSize)
	f.VMDiskImage("image", f.Serve("disk", img.file).URL)
	claims := []claim{f.Claim("files", "image"), f.Claim("device", "image", block)}
	for _, c := range claims {
		f.RequireBound(c)
		f.RequireDisk(c, img.disk)
	}
	for _, c := range claims {
		f.RequireNothingLeft(c)
	}
}
