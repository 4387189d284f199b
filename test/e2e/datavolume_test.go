//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/golden"
	"github.com/gild-project/gild/test/imageserver/disk"
)

// ofStorage asks for a claim of a size in the form storage; 0 leaves the size open.
func ofStorage(size int64) cdiv1.DataVolumeSpec {
	storage := &cdiv1.StorageSpec{}
	if size > 0 {
		storage.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: *resource.NewQuantity(size, resource.BinarySI)}
	}
	return cdiv1.DataVolumeSpec{Storage: storage}
}

// DataVolume makes one with a source, of the class under test unless it names another.
func (f *fixture) DataVolume(name string, spec cdiv1.DataVolumeSpec, source *cdiv1.DataVolumeSource, edit ...func(*cdiv1.DataVolume)) {
	f.Helper()
	volume := &cdiv1.DataVolume{ObjectMeta: f.meta(name), Spec: *spec.DeepCopy()}
	volume.Spec.Source = source
	for _, change := range edit {
		change(volume)
	}
	class := ptr.To(f.Class(storagev1.VolumeBindingImmediate))
	if pvc := volume.Spec.PVC; pvc != nil && pvc.StorageClassName == nil {
		pvc.StorageClassName = class
	} else if storage := volume.Spec.Storage; storage != nil && storage.StorageClassName == nil {
		storage.StorageClassName = class
	}
	require.NoError(f, f.Create(f.ctx, volume))
}

// ReadDataVolume reads one.
func (f *fixture) ReadDataVolume(name string) *cdiv1.DataVolume {
	f.Helper()
	volume := &cdiv1.DataVolume{}
	require.NoError(f, f.Get(f.ctx, f.key(name), volume))
	return volume
}

// WaitDataVolume waits until a DataVolume is as is wanted.
func (f *fixture) WaitDataVolume(name, what string, wanted func(*cdiv1.DataVolume) bool) *cdiv1.DataVolume {
	f.Helper()
	volume := &cdiv1.DataVolume{}
	f.Eventually(name+": "+what, importWithin, func(ctx context.Context) (bool, string, error) {
		err := f.Get(ctx, f.key(name), volume)
		return err == nil && wanted(volume), fmt.Sprintf("%+v", volume.Status), client.IgnoreNotFound(err)
	})
	return volume
}

// inPhase wants a phase.
func inPhase(phase cdiv1.DataVolumePhase) func(*cdiv1.DataVolume) bool {
	return func(volume *cdiv1.DataVolume) bool { return volume.Status.Phase == phase }
}

// volumeReady is the condition Ready of a DataVolume.
func volumeReady(volume *cdiv1.DataVolume) cdiv1.DataVolumeCondition {
	for _, c := range volume.Status.Conditions {
		if c.Type == cdiv1.DataVolumeReady {
			return c
		}
	}
	return cdiv1.DataVolumeCondition{}
}

// ClaimOf is the claim of a DataVolume.
func (f *fixture) ClaimOf(name string) claim {
	f.Helper()
	pvc := &corev1.PersistentVolumeClaim{}
	require.NoError(f, f.Get(f.ctx, f.key(name), pvc))
	return claim{name: name, uid: string(pvc.UID), mode: ptr.Deref(pvc.Spec.VolumeMode, corev1.PersistentVolumeFilesystem)}
}

// RequireVolume waits until a DataVolume has its disk, and checks every byte, and that it is told as KubeVirt reads it.
func (f *fixture) RequireVolume(name string, holds disk.Disk) claim {
	f.Helper()
	volume := f.WaitDataVolume(name, "Succeeded", inPhase(cdiv1.Succeeded))
	require.EqualValues(f, "100.0%", volume.Status.Progress)
	require.Equal(f, name, volume.Status.ClaimName)
	for _, c := range volume.Status.Conditions {
		want := corev1.ConditionTrue
		if c.Type == cdiv1.DataVolumeRunning {
			want = corev1.ConditionFalse
		}
		require.Equal(f, want, c.Status, "%+v", c)
	}
	c := f.ClaimOf(name)
	require.True(f, metav1.IsControlledBy(f.PVC(c), volume))
	f.RequireDisk(c, holds)
	f.RequireNothingLeft(c)
	return c
}

// RequireBlank waits until a DataVolume has a blank disk of the size that was asked for, or nearly so.
func (f *fixture) RequireBlank(name string, size int64) {
	f.Helper()
	f.WaitDataVolume(name, "Succeeded", inPhase(cdiv1.Succeeded))
	has := f.Import(f.ClaimOf(name)).Status.Result.VirtualSize
	require.GreaterOrEqual(f, has, size*9/10)
	f.RequireVolume(name, disk.Disk{Size: has, Blank: true})
}

// TestDataVolumes makes DataVolumes of each source, in both forms, and reads what is on their claims.
func TestDataVolumes(t *testing.T) {
	t.Parallel()
	f := start(t)
	img := f.Revision(0)
	http := f.fromWeb(img)
	f.DataVolume("http", ofStorage(cronClaimSize), http)
	f.DataVolume("device", cdiv1.DataVolumeSpec{PVC: &corev1.PersistentVolumeClaimSpec{
		AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, VolumeMode: ptr.To(corev1.PersistentVolumeBlock),
		Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: *resource.NewQuantity(cronClaimSize, resource.BinarySI)}},
	}}, http)
	c := f.RequireVolume("http", img.disk)
	f.RequireVolume("device", img.disk)
	header, row := firstLines(t, f.Kubectl("get", "dv", "http"))
	require.Regexp(t, `^NAME +PHASE +PROGRESS +RESTARTS +AGE$`, header)
	require.Regexp(t, `^http +Succeeded +100\.0% +\S*.*$`, row)

	f.DataVolume("copy", ofStorage(0), &cdiv1.DataVolumeSource{PVC: &cdiv1.DataVolumeSourcePVC{Namespace: f.namespace, Name: c.name}})
	f.RequireVolume("copy", img.disk)
	require.Equal(t, f.PVC(c).Status.Capacity[corev1.ResourceStorage], f.PVC(f.ClaimOf("copy")).Spec.Resources.Requests[corev1.ResourceStorage], "as large as what is copied")
	f.Eventually("no DataSource, which would keep what it names", goneWithin, func(context.Context) (bool, string, error) {
		_, err := f.readDataSource("copy")
		return apierrors.IsNotFound(err), "", client.IgnoreNotFound(err)
	})

	f.DataVolume("blank", ofStorage(claimSize), &cdiv1.DataVolumeSource{Blank: &cdiv1.DataVolumeBlankImage{}})
	f.RequireBlank("blank", claimSize)

	f.Kubectl("delete", "dv", "--all", "--wait")
	f.Eventually("no claims", importWithin, func(ctx context.Context) (bool, string, error) {
		var claims corev1.PersistentVolumeClaimList
		err := f.List(ctx, &claims, client.InNamespace(f.namespace))
		return len(claims.Items) == 0, fmt.Sprint(len(claims.Items)), err
	})
}

// readDataSource reads a DataSource that need not be there.
func (f *fixture) readDataSource(name string) (*cdiv1.DataSource, error) {
	source := &cdiv1.DataSource{}
	return source, f.Get(f.ctx, f.key(name), source)
}

// TestDataVolumeOfASnapshot restores one, as large as it says.
func TestDataVolumeOfASnapshot(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.NeedsTestCluster("a driver that takes snapshots")
	img := f.Revision(0)
	gold, _ := f.Golden("fedora", img)
	f.Snapshot("taken", gold)
	f.DataVolume("restored", ofStorage(0), &cdiv1.DataVolumeSource{Snapshot: &cdiv1.DataVolumeSourceSnapshot{Namespace: f.namespace, Name: "taken"}})
	f.RequireVolume("restored", img.disk)
}

// TestDataVolumeWaitsForItsDataSource names a DataSource that a cron makes later, in this namespace and from another one that
// must allow it.
func TestDataVolumeWaitsForItsDataSource(t *testing.T) {
	t.Parallel()
	f := start(t)
	img := f.Revision(0)
	refer := func(volume *cdiv1.DataVolume) {
		volume.Spec.SourceRef = &cdiv1.DataVolumeSourceRef{Kind: golden.DataSourceKind, Name: "fedora"}
	}
	f.DataVolume("web-1", ofStorage(0), nil, refer)
	waiting := f.WaitDataVolume("web-1", "why it waits", func(volume *cdiv1.DataVolume) bool { return volumeReady(volume).Reason == "SourceNotReady" })
	require.Equal(t, cdiv1.Pending, waiting.Status.Phase)
	f.Golden("fedora", img)
	f.RequireVolume("web-1", img.disk)
}

// TestDataVolumeWaitsForItsConsumer is filled by the pod that uses it, and until then says so as KubeVirt reads it.
func TestDataVolumeWaitsForItsConsumer(t *testing.T) {
	t.Parallel()
	f := start(t)
	img := f.Revision(0)
	spec := ofStorage(cronClaimSize)
	spec.Storage.StorageClassName = ptr.To(f.Class(storagev1.VolumeBindingWaitForFirstConsumer))
	source := f.fromWeb(img)
	f.DataVolume("web-1", spec, source)
	f.DataVolume("at-once", spec, source, func(volume *cdiv1.DataVolume) {
		metav1.SetMetaDataAnnotation(&volume.ObjectMeta, golden.AnnotationBindImmediately, "true")
	})
	f.RequireVolume("at-once", img.disk)
	f.WaitDataVolume("web-1", "no consumer", inPhase(cdiv1.PendingPopulation))
	c := f.ClaimOf("web-1")
	pod := f.Consume(c, img.disk.Size)
	f.WaitDataVolume("web-1", "Succeeded", inPhase(cdiv1.Succeeded))
	f.RequireReport(c, pod, img.disk, img.disk.Size)
}

// fromWeb is a source that serves a disk.
func (f *fixture) fromWeb(img image) *cdiv1.DataVolumeSource {
	f.Helper()
	return &cdiv1.DataVolumeSource{HTTP: &cdiv1.DataVolumeSourceHTTP{URL: f.Serve("disk", img.file).URL}}
}

// TestDataVolumeKeepsItsClaim edits a DataVolume, which is refused, and deletes its claim, which is made again.
func TestDataVolumeKeepsItsClaim(t *testing.T) {
	t.Parallel()
	f := start(t)
	img := f.Revision(0)
	f.DataVolume("web-1", ofStorage(cronClaimSize), f.fromWeb(img))
	_, err := f.kubectl(f.ctx, "--namespace", f.namespace, "patch", "dv", "web-1", "--type=merge", `--patch={"spec": {"source": {"http": {"url": "https://images.example.org/other"}}}}`)
	require.ErrorContains(t, err, "Cannot update DataVolume Spec")
	first := f.RequireVolume("web-1", img.disk)
	f.DeleteClaim(first)
	f.Eventually("another claim", importWithin, func(ctx context.Context) (bool, string, error) {
		pvc := &corev1.PersistentVolumeClaim{}
		err := f.Get(ctx, f.key(first.name), pvc)
		return err == nil && string(pvc.UID) != first.uid, string(pvc.UID), client.IgnoreNotFound(err)
	})
	f.RequireVolume("web-1", img.disk)
}

// TestDataVolumeLeavesAClaimAlone that bears its name and is somebody else's.
func TestDataVolumeLeavesAClaimAlone(t *testing.T) {
	t.Parallel()
	f := start(t)
	img := f.Revision(0)
	theirs := f.Claim("web-1", "no-such-image")
	f.DataVolume("web-1", ofStorage(cronClaimSize), f.fromWeb(img))
	volume := f.WaitDataVolume("web-1", "why it has no claim", func(volume *cdiv1.DataVolume) bool { return volumeReady(volume).Reason == "ErrResourceExists" })
	require.Contains(t, volumeReady(volume).Message, "not managed by DataVolume")
	require.Empty(t, f.PVC(theirs).OwnerReferences)
	f.DeleteClaim(theirs)
	f.RequireVolume("web-1", img.disk)
}

// TestDataVolumeWaitsForItsClass names a StorageClass that comes later.
func TestDataVolumeWaitsForItsClass(t *testing.T) {
	t.Parallel()
	f := start(t)
	img, class, spec := f.Revision(0), f.NewClassName(), ofStorage(cronClaimSize)
	spec.Storage.StorageClassName = &class
	f.DataVolume("web-1", spec, f.fromWeb(img))
	f.WaitDataVolume("web-1", "why it waits", func(volume *cdiv1.DataVolume) bool { return volumeReady(volume).Reason == "StorageClassNotFound" })
	f.CopyClass(class, func(class *storagev1.StorageClass) {
		class.VolumeBindingMode = ptr.To(storagev1.VolumeBindingImmediate)
	})
	f.RequireVolume("web-1", img.disk)
}

// TestDataVolumeIsDeleted while its disk comes: nothing stays.
func TestDataVolumeIsDeleted(t *testing.T) {
	t.Parallel()
	f := start(t)
	img := f.Raw(diskSize)
	f.DataVolume("web-1", ofStorage(claimSize), &cdiv1.DataVolumeSource{HTTP: &cdiv1.DataVolumeSourceHTTP{URL: f.Serve("disk", img.Held()).URL}})
	f.Eventually("its progress, as KubeVirt's users know it", importWithin, func(context.Context) (bool, string, error) {
		_, row := firstLines(t, f.Kubectl("get", "dv"))
		return regexp.MustCompile(`^web-1 ImportInProgress \d+\.\d\d% `).MatchString(row), row, nil
	})
	c := f.ClaimOf("web-1")
	f.Kubectl("delete", "dv", "web-1", "--wait")
	f.Eventually("no claim", importWithin, func(ctx context.Context) (bool, string, error) {
		err := f.Get(ctx, f.key(c.name), &corev1.PersistentVolumeClaim{})
		return apierrors.IsNotFound(err), fmt.Sprint(err), client.IgnoreNotFound(err)
	})
	f.RequireNothingLeft(c)
}

// TestDataVolumeFails when there is nothing at its URL, and says so.
func TestDataVolumeFails(t *testing.T) {
	t.Parallel()
	f := start(t)
	source := f.fromWeb(f.Revision(0))
	source.HTTP.URL += "-nowhere"
	f.DataVolume("web-1", ofStorage(cronClaimSize), source)
	volume := f.WaitDataVolume("web-1", "failure", inPhase(cdiv1.Failed))
	require.Equal(t, v1alpha1.PhaseFailed, f.Import(f.ClaimOf("web-1")).Status.Phase)
	require.Contains(t, volumeReady(volume).Message, "NotFound")
}

// TestKindsThatKubeVirtWaitsFor: virt-controller watches all of these once there is the kind DataVolume.
func TestKindsThatKubeVirtWaitsFor(t *testing.T) {
	t.Parallel()
	f := start(t)
	for _, list := range []client.ObjectList{&cdiv1.DataVolumeList{}, &cdiv1.CDIConfigList{}, &cdiv1.DataSourceList{}, &cdiv1.StorageProfileList{}} {
		require.NoError(t, f.List(t.Context(), list))
	}
	require.Empty(t, f.Kubectl("get", "cdis", "--output=name"), "a CDI would be somebody else's")
	config := &cdiv1.CDIConfig{}
	require.NoError(t, f.Get(t.Context(), client.ObjectKey{Name: "config"}, config))
	require.EqualValues(t, "0.06", config.Status.FilesystemOverhead.Global)
	var classes storagev1.StorageClassList
	require.NoError(t, f.List(t.Context(), &classes))
	for i := range classes.Items {
		class := &classes.Items[i]
		profile := &cdiv1.StorageProfile{}
		f.Eventually("profile of "+class.Name, importWithin, func(ctx context.Context) (bool, string, error) {
			err := f.Get(ctx, client.ObjectKey{Name: class.Name}, profile)
			if apierrors.IsNotFound(err) {
				err = f.Get(ctx, client.ObjectKeyFromObject(class), class)
				return apierrors.IsNotFound(err), "there is none", client.IgnoreNotFound(err) // another test's class is gone
			}
			return err == nil && profile.Status.Provisioner != nil && *profile.Status.Provisioner == class.Provisioner, fmt.Sprintf("%+v", profile.Status), err
		})
	}
}
