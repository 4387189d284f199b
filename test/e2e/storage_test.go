//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
)

// poolClass makes a StorageClass whose volumes come from a pool of the test's own.
func (f *fixture) poolClass(mode storagev1.VolumeBindingMode, parameters map[string]string) (class, pool string) {
	f.Helper()
	f.NeedsTestCluster("storage that fails when it is told to")
	pool = f.NewClassName()
	f.CopyClass(pool, func(class *storagev1.StorageClass) {
		class.VolumeBindingMode = &mode
		class.Parameters = map[string]string{"pool": pool}
		for key, value := range parameters {
			class.Parameters[key] = value
		}
	})
	return pool, pool
}

// setPool sets the limits of a pool; nil takes them away. The test cluster's storage reads them at every request.
func (f *fixture) setPool(pool string, settings map[string]any) {
	f.Helper()
	folder := filepath.Join(filepath.Dir(f.kubeconfig), "pools")
	file := filepath.Join(folder, pool+".json")
	if settings == nil {
		if err := os.Remove(file); err != nil {
			require.ErrorIs(f, err, os.ErrNotExist)
		}
		return
	}
	text, err := json.Marshal(settings)
	require.NoError(f, err)
	require.NoError(f, os.MkdirAll(folder, 0o755))
	// Moved into place, so that nobody reads half of it.
	require.NoError(f, os.WriteFile(file+".unfinished", text, 0o644))
	require.NoError(f, os.Rename(file+".unfinished", file))
}

// TestWaitsForCapacity fills a claim of a class that has no room at first.
func TestWaitsForCapacity(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		mode storagev1.VolumeBindingMode
		edit func(*corev1.PersistentVolumeClaim)
	}{
		"Immediate": {storagev1.VolumeBindingImmediate, block},
		"WaitForFirstConsumer without a consumer": {storagev1.VolumeBindingWaitForFirstConsumer, immediately},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t)
			class, pool := f.poolClass(test.mode, nil)
			f.setPool(pool, map[string]any{"capacityBytes": claimSize / 2})
			t.Cleanup(func() { f.setPool(pool, nil) })
			img := f.Raw(diskSize)
			f.VMDiskImage("image", f.Serve("disk", img.file).URL)
			c := f.Claim("disk", "image", ofClass(class), test.edit)
			f.RequireWaiting(c, "ProvisioningFailed")
			f.setPool(pool, nil)
			f.RequireDone(c, img)
		})
	}
}

// TestRefusesAVolumeThatIsSmallerThanItSays trusts the volume, not what is said of it.
func TestRefusesAVolumeThatIsSmallerThanItSays(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(*corev1.PersistentVolumeClaim){
		"Filesystem": func(*corev1.PersistentVolumeClaim) {},
		"Block":      block,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t)
			class, _ := f.poolClass(storagev1.VolumeBindingImmediate, map[string]string{"realBytes": strconv.FormatInt(diskSize/2, 10)})
			f.VMDiskImage("image", f.Serve("disk", f.Raw(diskSize).file).URL)
			f.RequireFailed(f.Claim("disk", "image", ofClass(class), edit), "TooLarge")
		})
	}
}

// TestFailsWhenTheVolumeIsFull takes the room on the volume away while the disk is written to it.
func TestFailsWhenTheVolumeIsFull(t *testing.T) {
	t.Parallel()
	f := start(t)
	img := f.Raw(diskSize)
	c, source := f.midImport(img)
	f.fillVolume(c)
	source.Publish(img.file)
	failed := f.RequireFailed(c, "NoSpace")

	// An edit of the VMDiskImage says that it is worth another try.
	f.EditImage("image", func(spec *v1alpha1.VMDiskImageSpec) { spec.Checksum = "sha256:" + f.SHA256(img.disk) })
	f.WaitAnew(c, failed)
	f.RequireDone(c, img)
}

// fillVolume fills the volume that a claim's import writes to, through a pod beside the importer.
func (f *fixture) fillVolume(c claim) {
	f.Helper()
	pod := f.newPod(systemNamespace, f.namespace+"-fill", claim{name: "prime-" + c.uid, mode: c.mode}, "fill", mountPath+"/filler")
	require.NoError(f, f.Create(f.ctx, pod))
	f.Eventually("volume full", importWithin, func(ctx context.Context) (bool, string, error) {
		err := f.Get(ctx, client.ObjectKeyFromObject(pod), pod)
		return pod.Status.Phase == corev1.PodSucceeded, describePod(pod), err
	})
	require.NoError(f, f.Delete(f.ctx, pod))
}

// TestRefusesDataThatDoesNotFit keeps a disk as qcow2, whose size may exceed its volume, and whose
// data does. The message says a size that is enough.
func TestRefusesDataThatDoesNotFit(t *testing.T) {
	t.Parallel()
	f := start(t)
	img := f.Qcow2(2 * claimSize)
	source := f.Serve("disk", img.file)
	f.VMDiskImage("image", source.URL, keepQcow2)
	imp := f.RequireFailed(f.Claim("small", "image"), "TooLarge")
	require.Less(t, source.Bytes(), img.length/2, "the tables tell it before the data is read")
	c := f.Claim("enough", "image", ofSize(sizeIn(t, ready(imp).Message, img.disk.Size*3/4)))
	f.RequireBound(c)
	f.RequireQcow2(c, img.disk, img.disk.Size)
	f.RequireNothingLeft(c)
}

// TestFailsWhenTheDataDoesNotFit does the same with a raw image, which does not tell how much of it is data.
func TestFailsWhenTheDataDoesNotFit(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.VMDiskImage("image", f.Serve("disk", f.Raw(2*claimSize).file).URL, keepQcow2)
	f.RequireFailed(f.Claim("disk", "image"), "NoSpace")
}

func keepQcow2(spec *v1alpha1.VMDiskImageSpec) { spec.Format = v1alpha1.DiskFormatQcow2 }

// TestWaitsForASlowProvisioner waits for a slow provisioner and says so.
func TestWaitsForASlowProvisioner(t *testing.T) {
	t.Parallel()
	f := start(t)
	class, _ := f.poolClass(storagev1.VolumeBindingImmediate, map[string]string{"createDelay": "8s"})
	img := f.Raw(diskSize)
	f.VMDiskImage("image", f.Serve("disk", img.file).URL)
	c := f.Claim("disk", "image", ofClass(class))
	imp := f.WaitImport(c, "a record", importWithin, func(imp *v1alpha1.VMDiskImport) bool { return ready(imp).Reason != "" })
	require.Equal(t, v1alpha1.PhasePending, imp.Status.Phase)
	f.RequireDone(c, img)
	require.Empty(t, f.eventsOf(c, "ImportWaiting"), "what passes by itself is no warning")
}
