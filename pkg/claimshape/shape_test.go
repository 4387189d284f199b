package claimshape_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"github.com/gild-project/gild/pkg/claimshape"
)

const (
	rwo, rwx, rox = corev1.ReadWriteOnce, corev1.ReadWriteMany, corev1.ReadOnlyMany
	file, block   = corev1.PersistentVolumeFilesystem, corev1.PersistentVolumeBlock
)

func profileOf(sets ...cdiv1.ClaimPropertySet) *cdiv1.StorageProfile {
	return &cdiv1.StorageProfile{Status: cdiv1.StorageProfileStatus{ClaimPropertySets: sets}}
}

func set(mode corev1.PersistentVolumeMode, access ...corev1.PersistentVolumeAccessMode) cdiv1.ClaimPropertySet {
	return cdiv1.ClaimPropertySet{VolumeMode: &mode, AccessModes: access}
}

func sized(size string) corev1.VolumeResourceRequirements {
	return corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(size)}}
}

func access(modes ...corev1.PersistentVolumeAccessMode) []corev1.PersistentVolumeAccessMode {
	return modes
}

func origin(size string, mode corev1.PersistentVolumeMode) *claimshape.Origin {
	return &claimshape.Origin{Size: resource.MustParse(size), VolumeMode: mode}
}

func TestOf(t *testing.T) {
	both := profileOf(set(block, rwx), set(file, rwo, rox))
	for _, test := range []struct {
		name    string
		storage cdiv1.StorageSpec
		facts   claimshape.Facts
		access  corev1.PersistentVolumeAccessMode
		mode    corev1.PersistentVolumeMode
		size    string
	}{
		{"nothing said", cdiv1.StorageSpec{Resources: sized("100Mi")}, claimshape.Facts{}, rwo, file, "106Mi"},
		{"an empty profile", cdiv1.StorageSpec{Resources: sized("100Mi")}, claimshape.Facts{Profile: profileOf()}, rwo, file, "106Mi"},
		{"the first set", cdiv1.StorageSpec{Resources: sized("100Mi")}, claimshape.Facts{Profile: both}, rwx, block, "100Mi"},
		{"one writer", cdiv1.StorageSpec{Resources: sized("100Mi")}, claimshape.Facts{Profile: both, SingleWriter: true}, rwo, block, "100Mi"},
		{"one writer, and it is said otherwise", cdiv1.StorageSpec{Resources: sized("100Mi"), AccessModes: access(rwx)}, claimshape.Facts{Profile: both, SingleWriter: true}, rwx, block, "100Mi"},
		{"the set of the mode", cdiv1.StorageSpec{Resources: sized("100Mi"), VolumeMode: ptr.To(file)}, claimshape.Facts{Profile: both}, rwo, file, "106Mi"},
		{"the set of the access", cdiv1.StorageSpec{Resources: sized("100Mi"), AccessModes: access(rox)}, claimshape.Facts{Profile: both}, rox, file, "106Mi"},
		{"no set has it", cdiv1.StorageSpec{Resources: sized("100Mi"), AccessModes: access(corev1.ReadWriteOncePod)}, claimshape.Facts{Profile: both}, corev1.ReadWriteOncePod, file, "106Mi"},
		{"all said", cdiv1.StorageSpec{Resources: sized("100Mi"), AccessModes: access(rwx), VolumeMode: ptr.To(file)}, claimshape.Facts{Profile: both}, rwx, file, "106Mi"},
		{"rounded up", cdiv1.StorageSpec{Resources: sized("1")}, claimshape.Facts{}, rwo, file, "1Mi"},
		{"the size of a file system", cdiv1.StorageSpec{}, claimshape.Facts{Origin: origin("3Gi", file)}, rwo, file, "3Gi"},
		{"the size of a device, on a device", cdiv1.StorageSpec{VolumeMode: ptr.To(block)}, claimshape.Facts{Origin: origin("100Mi", block)}, rwo, block, "100Mi"},
		{"the size of a device, in a file system", cdiv1.StorageSpec{}, claimshape.Facts{Origin: origin("100Mi", block)}, rwo, file, "106Mi"},
		{"a size of one's own", cdiv1.StorageSpec{Resources: sized("200Mi")}, claimshape.Facts{Origin: origin("100Mi", file)}, rwo, file, "212Mi"},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.facts.Overhead = claimshape.DefaultOverhead
			spec := &cdiv1.DataVolumeSpec{Storage: &test.storage}
			before := spec.DeepCopy()
			shape, err := claimshape.Of(spec, test.facts)
			require.NoError(t, err)
			require.Equal(t, before, spec)
			require.Equal(t, test.access, shape.AccessModes[0])
			require.Equal(t, test.mode, shape.VolumeMode)
			size := shape.Resources.Requests[corev1.ResourceStorage]
			require.Equal(t, test.size, size.String())
		})
	}
}

func TestFormPVC(t *testing.T) {
	shape, err := claimshape.Of(&cdiv1.DataVolumeSpec{PVC: &corev1.PersistentVolumeClaimSpec{Resources: sized("100Mi")}},
		claimshape.Facts{Profile: profileOf(set(block, rwx), set(file, rwx)), Overhead: claimshape.DefaultOverhead})
	require.NoError(t, err)
	require.Equal(t, &claimshape.Shape{AccessModes: access(rwx), VolumeMode: file, Resources: sized("100Mi")}, shape,
		"it means a file system when it does not say, and the size is as it is")
}

func TestNothingToShape(t *testing.T) {
	_, err := claimshape.Of(&cdiv1.DataVolumeSpec{}, claimshape.Facts{})
	require.ErrorIs(t, err, claimshape.ErrNoForm)
	_, err = claimshape.Of(&cdiv1.DataVolumeSpec{PVC: &corev1.PersistentVolumeClaimSpec{}}, claimshape.Facts{})
	require.ErrorIs(t, err, claimshape.ErrNoSize)
}

func TestOriginOf(t *testing.T) {
	claim := &corev1.PersistentVolumeClaim{Spec: corev1.PersistentVolumeClaimSpec{Resources: sized("2Gi")}}
	require.Equal(t, origin("2Gi", file), claimshape.OriginOf(claim))
	claim.Spec.VolumeMode = ptr.To(block)
	claim.Status.Capacity = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("3Gi")}
	require.Equal(t, origin("3Gi", block), claimshape.OriginOf(claim), "its volume is larger")
}

func TestAround(t *testing.T) {
	for bytes, want := range map[int64]int64{
		0: 0, 1: 1 << 20, 1 << 20: 2 << 20, 100 << 20: 106 << 20, 5 << 30: 5428 << 20, 100 << 50: 106 << 50,
	} {
		around := claimshape.DefaultOverhead.Around(*resource.NewQuantity(bytes, resource.BinarySI))
		require.Equal(t, want, around.Value(), bytes)
	}
}

// What fits into what was made around it is at least the same disk, and never more than there is room for.
func TestWithin(t *testing.T) {
	for _, mib := range []int64{1, 7, 100, 1023, 5 << 10, 100<<30 + 1} {
		disk := resource.NewQuantity(mib<<20, resource.BinarySI)
		volume := claimshape.DefaultOverhead.Around(*disk)
		within := claimshape.DefaultOverhead.Within(volume)
		require.GreaterOrEqual(t, within.Value(), disk.Value())
		again := claimshape.DefaultOverhead.Around(within)
		require.LessOrEqual(t, again.Value(), volume.Value())
		require.Zero(t, within.Value()%(1<<20))
	}
	nothing := claimshape.DefaultOverhead.Within(resource.MustParse("1Mi"))
	require.True(t, nothing.IsZero())
}

func TestOverheadFor(t *testing.T) {
	config := func(global cdiv1.Percent, classes map[string]cdiv1.Percent) *cdiv1.CDIConfig {
		return &cdiv1.CDIConfig{Spec: cdiv1.CDIConfigSpec{FilesystemOverhead: &cdiv1.FilesystemOverhead{Global: global, StorageClass: classes}}}
	}
	for name, test := range map[string]struct {
		config  *cdiv1.CDIConfig
		want    claimshape.Overhead
		spelled cdiv1.Percent
	}{
		"no config":           {nil, 60, "0.06"},
		"nothing said":        {&cdiv1.CDIConfig{}, 60, "0.06"},
		"for all":             {config("0.1", nil), 100, "0.1"},
		"for this class":      {config("0.1", map[string]cdiv1.Percent{"fast": "0.055"}), 55, "0.055"},
		"for another class":   {config("0.1", map[string]cdiv1.Percent{"slow": "0.055"}), 100, "0.1"},
		"none":                {config("0", nil), 0, "0"},
		"as much again":       {config("1", nil), 1000, "1"},
		"what nobody can use": {config("6%", nil), 60, "0.06"},
		"less than none":      {config("-0.5", nil), 60, "0.06"},
	} {
		t.Run(name, func(t *testing.T) {
			overhead := claimshape.OverheadFor(test.config, "fast")
			require.Equal(t, test.want, overhead)
			require.Equal(t, test.spelled, overhead.Percent())
		})
	}
}
