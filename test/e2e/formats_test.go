//go:build e2e

package e2e

import (
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
)

// TestFillsFromEveryFormat imports one image of each format and compression, to either volume mode,
// and proves that none of them needs scratch space.
func TestFillsFromEveryFormat(t *testing.T) {
	t.Parallel()
	files := func(*corev1.PersistentVolumeClaim) {}
	for name, test := range map[string]struct {
		image  func(*fixture) image
		format string
		mode   func(*corev1.PersistentVolumeClaim)
	}{
		"qcow2 zlib, Filesystem":  {converted("qcow2", "-c"), "qcow2", files},
		"qcow2 zlib, Block":       {converted("qcow2", "-c"), "qcow2", block},
		"qcow2 zstd, Filesystem":  {converted("qcow2", "-c", "-o", "compression_type=zstd"), "qcow2", files},
		"qcow2 zstd, Block":       {converted("qcow2", "-c", "-o", "compression_type=zstd"), "qcow2", block},
		"vmdk stream, Filesystem": {converted("vmdk", "-o", "subformat=streamOptimized"), "vmdk", files},
		"vmdk stream, Block":      {converted("vmdk", "-o", "subformat=streamOptimized"), "vmdk", block},
		"vhdx, Filesystem":        {converted("vhdx"), "vhdx", files},
		"vdi, Block":              {converted("vdi"), "vdi", block},
		"vhd, Filesystem":         {converted("vpc", "-o", "force_size=on"), "vhd", files},
		"raw.gz, Filesystem":      {packed("gzip", "raw"), "raw+gz", files},
		"raw.zst, Block":          {packed("zstd", "raw"), "raw+zst", block},
		"raw.xz, Filesystem":      {packed("xz", "raw"), "raw+xz", files},
		"qcow2.gz, Block":         {packed("gzip", "qcow2"), "qcow2+gz", block},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t)
			img := test.image(f)
			f.VMDiskImage("image", f.Serve("disk", img.file).URL)
			c := f.Claim("disk", "image", test.mode)
			imp := f.RequireBound(c)
			require.Equal(t, test.format, imp.Status.Result.SourceFormat)
			require.Equal(t, diskSize, imp.Status.Result.VirtualSize)
			require.Empty(t, imp.Status.Result.Digest, "nobody asked for a checksum")
			f.RequireDisk(c, img.disk)
			f.RequireNoScratch(c)
			f.RequireNothingLeft(c)
		})
	}
}

// converted is the disk as qemu-img writes it in a format.
func converted(format string, options ...string) func(*fixture) image {
	return func(f *fixture) image {
		d := f.Disk(diskSize)
		return f.Uploaded(d, f.convert(d, format, options...))
	}
}

// packed is the same, compressed by a program.
func packed(program, format string) func(*fixture) image {
	return func(f *fixture) image {
		d := f.Disk(diskSize)
		return f.Uploaded(d, f.pack(program, f.convert(d, format)))
	}
}

// TestGetsScratchSpace imports what can only be read with scratch space. The first attempt finds that out
// and the second one has it; neither is a failure.
func TestGetsScratchSpace(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		image  func(*fixture) image
		format v1alpha1.DiskFormat
		mode   func(*corev1.PersistentVolumeClaim)
	}{
		"vhdx.gz": {packed("gzip", "vhdx"), v1alpha1.DiskFormatRaw, block},
		"qcow2 kept, from a server without ranges": {func(f *fixture) image {
			img := converted("qcow2")(f)
			img.file.NoRange = true
			return img
		}, v1alpha1.DiskFormatQcow2, func(*corev1.PersistentVolumeClaim) {}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t)
			img := test.image(f)
			source := f.Serve("disk", img.file)
			f.VMDiskImage("image", source.URL, func(spec *v1alpha1.VMDiskImageSpec) { spec.Format = test.format })
			c := f.Claim("disk", "image", test.mode)
			collected := f.watchImport(c)
			imp := f.RequireBound(c)
			if test.format == v1alpha1.DiskFormatQcow2 {
				f.RequireQcow2(c, img.disk, diskSize)
			} else {
				f.RequireDisk(c, img.disk)
			}
			f.RequireNothingLeft(c)

			require.EqualValues(t, 2, imp.Status.Attempts)
			require.True(t, imp.Status.ScratchRequired)
			require.Nil(t, imp.Status.LastFailure, "to need scratch space is no failure")
			require.Positive(t, imp.Status.Result.ScratchBytes)
			require.Contains(t, reasons(<-collected), "ScratchRequired")
			pods := f.AttemptPods(c, 2)
			require.Nil(t, scratchOf(&pods[0]), "the first attempt has scratch space")
			scratch := scratchOf(&pods[1])
			require.NotNil(t, scratch, "the second attempt has no scratch space")
			require.NotNil(t, scratch.EmptyDir.SizeLimit, "scratch space is bounded")
			for _, event := range f.Events(c) {
				require.Equal(t, corev1.EventTypeNormal, event.Type, "%s: %s", event.Reason, event.Message)
			}
		})
	}
}

// reasons are all that an import has said of itself.
func reasons(versions []seenImport) []string {
	var all []string
	for _, version := range versions {
		all = append(all, ready(version.VMDiskImport).Reason)
	}
	return all
}

// RequireNoScratch proves that an import neither used nor could have used scratch space.
func (f *fixture) RequireNoScratch(c claim) {
	f.Helper()
	imp := f.Import(c)
	require.EqualValues(f, 1, imp.Status.Attempts)
	require.False(f, imp.Status.ScratchRequired)
	require.Zero(f, imp.Status.Result.ScratchBytes)
	require.Nil(f, scratchOf(&f.AttemptPods(c, 1)[0]), "the importer had scratch space")
}

// scratchOf is the volume of a pod whose room is its node's disk, nil when it has none. The few MiB of memory that are its
// /tmp are no room for an image.
func scratchOf(pod *corev1.Pod) *corev1.Volume {
	for i := range pod.Spec.Volumes {
		volume := &pod.Spec.Volumes[i]
		if volume.EmptyDir != nil && volume.EmptyDir.Medium != corev1.StorageMediumMemory || volume.Ephemeral != nil {
			return volume
		}
	}
	return nil
}
