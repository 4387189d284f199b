package populator

import (
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/golden"
)

// qcow2Image is imported as the qcow2 file that it is.
func qcow2Image() *v1alpha1.VMDiskImage {
	image := testImage()
	image.Spec.Format = v1alpha1.DiskFormatQcow2
	return image
}

// filledBy is a claim that an import has filled, with the record of it.
func filledBy(imported *v1alpha1.VMDiskImport) (*corev1.PersistentVolumeClaim, *v1alpha1.VMDiskImport) {
	claim := handMade("vms")
	claim.Spec.DataSourceRef = testClaim().Spec.DataSourceRef
	claim.Spec.DataSourceRef.Kind = kindOf(imported)
	record := newImport(claim, imported.Spec.DeepCopy())
	record.Status = *imported.Status.DeepCopy()
	record.Status.VolumeName = claim.Spec.VolumeName
	return claim, record
}

// copyOf is a world with a claim that wants a copy of what an import has left.
func copyOf(t *testing.T, imported *v1alpha1.VMDiskImport, mode corev1.PersistentVolumeMode, more ...client.Object) *world {
	t.Helper()
	source, record := filledBy(imported)
	claim := sourceClaim()
	claim.Spec.VolumeMode = ptr.To(mode)
	return newWorld(t, append([]client.Object{testDataSource(&cdiv1.DataVolumeSourcePVC{Name: source.Name}), claim, source, record, volumeFor(source), fastClass()}, more...)...)
}

// TestFormatGoesThroughACopy: a Block volume has no qcow2 file, however often the disk was copied before.
func TestFormatGoesThroughACopy(t *testing.T) {
	for name, test := range map[string]struct {
		more     []client.Object
		strategy v1alpha1.Strategy
	}{
		"copied":   {nil, v1alpha1.StrategyCopy},
		"restored": {[]client.Object{snapshotClass()}, v1alpha1.StrategySnapshot},
	} {
		t.Run(name, func(t *testing.T) {
			first := newWorld(t, qcow2Image(), testClaim(), fastClass())
			first.settle(first.bound)
			require.Equal(t, v1alpha1.DiskFormatQcow2, first.findImport().Status.Result.Format)

			second := copyOf(t, first.findImport(), corev1.PersistentVolumeFilesystem, test.more...)
			second.settle(second.bound)
			middle := second.findImport()
			require.Equal(t, test.strategy, middle.Status.Strategy)
			require.Empty(t, middle.Spec.Format)
			require.Equal(t, v1alpha1.DiskFormatQcow2, middle.Status.Result.Format)

			third := copyOf(t, middle, corev1.PersistentVolumeBlock)
			args := third.seeArgs()
			third.settle(third.bound)
			require.Contains(t, *args, "--source-format=qcow2")
			require.NotContains(t, *args, "--target-format=qcow2")
			require.Equal(t, v1alpha1.DiskFormatRaw, third.findImport().Status.Result.Format)
		})
	}
}

func TestFormatIsThatOfTheJob(t *testing.T) {
	w := copyOf(t, qcow2Import(), corev1.PersistentVolumeFilesystem)
	w.settle(func() bool { return len(w.jobs) == 1 })
	_, record := filledBy(qcow2Import())
	require.NoError(t, w.store.Get(t.Context(), client.ObjectKeyFromObject(record), record))
	record.Finalizers = nil
	require.NoError(t, w.store.Update(t.Context(), record))
	require.NoError(t, w.store.Delete(t.Context(), record))
	w.settle(w.bound)
	require.Equal(t, v1alpha1.DiskFormatQcow2, w.findImport().Status.Result.Format, "its source has no record any more")
}

// qcow2Import has left a qcow2 file.
func qcow2Import() *v1alpha1.VMDiskImport {
	imp := newImport(testClaim(), imageSpec(qcow2Image()))
	imp.Status = v1alpha1.VMDiskImportStatus{Phase: v1alpha1.PhaseSucceeded,
		Result: &v1alpha1.ImportResult{VirtualSize: 1 << 30, SourceFormat: "qcow2", Format: v1alpha1.DiskFormatQcow2}}
	return imp
}

func TestFormatLeft(t *testing.T) {
	copied := func(format v1alpha1.DiskFormat) *v1alpha1.VMDiskImport {
		return &v1alpha1.VMDiskImport{
			Spec:   v1alpha1.VMDiskImportSpec{ImageRef: v1alpha1.ImageReference{Kind: golden.DataSourceKind}},
			Status: v1alpha1.VMDiskImportStatus{Result: &v1alpha1.ImportResult{SourceFormat: "qcow2", Format: format}},
		}
	}
	before := qcow2Import()
	before.Status.Result.Format = ""
	for name, test := range map[string]struct {
		made *v1alpha1.VMDiskImport
		want v1alpha1.DiskFormat
	}{
		"nobody knows of one":        {nil, v1alpha1.DiskFormatRaw},
		"a raw copy of a qcow2 disk": {copied(v1alpha1.DiskFormatRaw), v1alpha1.DiskFormatRaw},
		"a qcow2 copy":               {copied(v1alpha1.DiskFormatQcow2), v1alpha1.DiskFormatQcow2},
		"an earlier version's":       {before, v1alpha1.DiskFormatQcow2},
		"an earlier version's copy":  {copied(""), v1alpha1.DiskFormatRaw},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, test.want, formatLeft(test.made)) })
	}
}

func TestFilesHaveNoFormat(t *testing.T) {
	image := testImage()
	image.Spec.Source = v1alpha1.DiskSource{Registry: &v1alpha1.RegistrySource{URL: "docker://registry.example.org/files:1", Content: v1alpha1.ImageContentFiles}}
	w := newWorld(t, image, testClaim(), fastClass())
	w.end = func(int32) (int32, string) { return 0, `{"reason":"Imported","content":"files","seconds":1}` }
	w.settle(w.bound)
	require.Empty(t, w.findImport().Status.Result.Format)
}
