package datavolume

import (
	"testing"

	snapshotv1 "github.com/kubernetes-csi/external-snapshotter/client/v8/apis/volumesnapshot/v1"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/snapshot"
)

func immediate() client.Object { return aClass(storagev1.VolumeBindingImmediate) }

func TestImport(t *testing.T) {
	w := newWorld(t, aVolume(t, fromHTTP, storage), immediate())
	w.requireDone()
	require.Equal(t, "web-1", w.volume().Status.ClaimName)
	require.NotNil(t, find[v1alpha1.VMDiskImage](w))
	require.Contains(t, w.said(), "Normal ImportSucceeded PVC web-1 holds the disk")
	writes := w.writes
	for range 3 {
		_, err := w.step()
		require.NoError(t, err)
	}
	require.Equal(t, writes, w.writes, "nothing is written when nothing has changed")
}

func TestCopyOfAnotherNamespace(t *testing.T) {
	w := newWorld(t, aVolume(t, fromForeign, unsized), immediate(), gold("images"))
	w.requireWaiting(reasonNotGranted, "allow it there")
	require.Nil(t, find[corev1.PersistentVolumeClaim](w))
	require.Nil(t, find[cdiv1.DataSource](w))
	require.Equal(t, []string{"Warning NotGranted allow it there", "Normal Pending PVC web-1: phase Pending"}, w.said(), "it is said once")
	w.granted["PersistentVolumeClaim images/gold"] = true
	w.requireDone()
	size := find[corev1.PersistentVolumeClaim](w).Spec.Resources.Requests[corev1.ResourceStorage]
	require.Equal(t, "128Mi", size.String(), "that of what is copied")
	require.Nil(t, find[cdiv1.DataSource](w), "it would keep the golden claim")
}

func TestDataSourceThatComesLater(t *testing.T) {
	for name, test := range map[string]struct {
		source, namespace string
		grant             string
	}{
		"of this namespace": {fromDataSource, "vms", ""},
		"of another one":    {fromElsewhere, "images", "PersistentVolumeClaim images/gold"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, aVolume(t, test.source, unsized), immediate())
			w.granted[test.grant] = true
			w.requireWaiting(reasonSourceNotReady, "DataSource "+test.namespace+"/fedora does not exist: the copy begins by itself")
			w.create(fedora(test.namespace, nil))
			w.requireWaiting(reasonSourceNotReady, "No source PVC set")
			to := &cdiv1.DataVolumeSourcePVC{Name: "gold"}
			source := fedora(test.namespace, to)
			require.NoError(t, w.store.Get(t.Context(), client.ObjectKeyFromObject(source), source))
			source.Spec.Source.PVC = to
			require.NoError(t, w.store.Update(t.Context(), source))
			w.requireWaiting(reasonSourceNotReady, "PVC not found")
			w.create(gold(test.namespace))
			w.requireDone()
		})
	}
}

// One that may not copy what a DataSource elsewhere leads to is not told what that is.
func TestDataSourceElsewhereTellsNothing(t *testing.T) {
	w := newWorld(t, aVolume(t, fromElsewhere, storage), immediate(), gold("images"), fedora("images", &cdiv1.DataVolumeSourcePVC{Name: "gold"}))
	w.requireWaiting(reasonNotGranted, "what DataSource images/fedora leads to may not be copied to namespace vms")
	require.NotContains(t, said(&w.volume().Status, cdiv1.DataVolumeReady), "gold")
	require.Nil(t, find[cdiv1.DataSource](w))
}

// A DataSource elsewhere that is repointed before the copy has begun is followed; after that it is not.
func TestDataSourceElsewhereIsRepointed(t *testing.T) {
	other := gold("images")
	other.Name, other.UID = "newer", "newer-uid"
	elsewhere := fedora("images", &cdiv1.DataVolumeSourcePVC{Name: "gold"})
	w := newWorld(t, aVolume(t, fromElsewhere, storage), immediate(), gold("images"), other, elsewhere)
	w.granted["PersistentVolumeClaim images/gold"], w.granted["PersistentVolumeClaim images/newer"] = true, true
	w.idle = true
	w.run()
	require.Equal(t, "gold", find[cdiv1.DataSource](w).Spec.Source.PVC.Name)
	repoint := func(name string) {
		require.NoError(t, w.store.Get(t.Context(), client.ObjectKeyFromObject(elsewhere), elsewhere))
		elsewhere.Spec.Source.PVC.Name = name
		require.NoError(t, w.store.Update(t.Context(), elsewhere))
	}
	repoint("newer")
	w.run()
	require.Equal(t, "newer", find[cdiv1.DataSource](w).Spec.Source.PVC.Name)
	w.idle = false
	_, err := w.step()
	require.NoError(t, err)
	require.Equal(t, v1alpha1.PhaseImporting, find[v1alpha1.VMDiskImport](w).Status.Phase)
	w.idle = true
	repoint("gold")
	w.run()
	require.Equal(t, "newer", find[cdiv1.DataSource](w).Spec.Source.PVC.Name, "the copy has begun")
}

func TestSnapshotTellsTheSize(t *testing.T) {
	taken := &snapshot.VolumeSnapshot{ObjectMeta: metav1.ObjectMeta{Namespace: "vms", Name: "gold", UID: "snapshot-uid"}}
	taken.Spec.Source.PersistentVolumeClaimName = ptr.To("machine")
	w := newWorld(t, aVolume(t, fromSnapshot, unsized), immediate())
	w.requireWaiting(reasonSourceNotReady, "VolumeSnapshot vms/gold, which is to be copied, does not exist")
	w.create(taken)
	w.requireWaiting(reasonSourceNotReady, "is not ready")
	content := &snapshot.VolumeSnapshotContent{ObjectMeta: metav1.ObjectMeta{Name: "content"}}
	content.Spec.VolumeSnapshotRef = corev1.ObjectReference{Kind: "VolumeSnapshot", Namespace: "vms", Name: "gold", UID: "snapshot-uid"}
	content.Spec.SourceVolumeMode = ptr.To(corev1.PersistentVolumeBlock)
	w.create(content)
	require.NoError(t, w.store.Get(t.Context(), client.ObjectKeyFromObject(taken), taken))
	taken.Status = &snapshotv1.VolumeSnapshotStatus{
		BoundVolumeSnapshotContentName: ptr.To("content"), ReadyToUse: ptr.To(true), RestoreSize: ptr.To(resource.MustParse("128Mi")),
	}
	require.NoError(t, w.store.Update(t.Context(), taken))
	w.idle = true
	w.run()
	claim := find[corev1.PersistentVolumeClaim](w)
	require.NotNil(t, claim, said(&w.volume().Status, cdiv1.DataVolumeReady))
	size := claim.Spec.Resources.Requests[corev1.ResourceStorage]
	require.Equal(t, "136Mi", size.String(), "with what a file system needs around a device")
	require.Equal(t, "gold", find[cdiv1.DataSource](w).Spec.Source.Snapshot.Name)
}

func TestClaimOfSomebodyElse(t *testing.T) {
	theirs := gold("vms")
	theirs.Name = "web-1"
	w := newWorld(t, aVolume(t, fromHTTP, storage), immediate(), theirs)
	w.requireWaiting(reasonExists, `Resource "web-1" already exists and is not managed by DataVolume`)
	require.Empty(t, w.volume().Status.ClaimName)
	require.Empty(t, find[corev1.PersistentVolumeClaim](w).OwnerReferences, "it is left alone")
	require.Nil(t, find[v1alpha1.VMDiskImage](w))
	w.remove(theirs)
	w.requireDone()
}

func TestClaimIsAdopted(t *testing.T) {
	for name, allow := range map[string]func(*cdiv1.DataVolume, *corev1.PersistentVolumeClaim){
		"as a template of a machine asks for": func(volume *cdiv1.DataVolume, _ *corev1.PersistentVolumeClaim) {
			metav1.SetMetaDataAnnotation(&volume.ObjectMeta, annotationAdoption, "true")
		},
		"as a restore asks for": func(_ *cdiv1.DataVolume, claim *corev1.PersistentVolumeClaim) {
			metav1.SetMetaDataAnnotation(&claim.ObjectMeta, annotationPopulatedFor, "web-1")
		},
	} {
		t.Run(name, func(t *testing.T) {
			volume, theirs := aVolume(t, fromHTTP, storage), gold("vms")
			theirs.Name = "web-1"
			allow(volume, theirs)
			w := newWorld(t, volume, immediate(), theirs)
			w.requireDone()
			require.True(t, metav1.IsControlledBy(find[corev1.PersistentVolumeClaim](w), volume))
			require.Nil(t, find[v1alpha1.VMDiskImage](w), "nothing is imported")
		})
	}
	t.Run("but not from another owner", func(t *testing.T) {
		volume, theirs := aVolume(t, fromHTTP, storage), gold("vms")
		metav1.SetMetaDataAnnotation(&volume.ObjectMeta, annotationAdoption, "true")
		theirs.Name = "web-1"
		theirs.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: "other", UID: "other", Controller: ptr.To(true)}}
		w := newWorld(t, volume, immediate(), theirs)
		w.requireWaiting(reasonExists, "not managed by DataVolume")
	})
}

func TestClaimThatARestoreMakes(t *testing.T) {
	volume := aVolume(t, fromHTTP, storage)
	metav1.SetMetaDataAnnotation(&volume.ObjectMeta, annotationPrePopulated, "web-1")
	w := newWorld(t, volume, immediate())
	w.requireWaiting(reasonNotFound, "No PVC found")
	require.Empty(t, find[corev1.PersistentVolumeClaim](w))
	require.NotContains(t, w.said()[0], "Warning")
}

// CDI makes a claim that was deleted again, and so do we, with all that it refers to.
func TestClaimIsDeleted(t *testing.T) {
	w := newWorld(t, aVolume(t, fromClaim, storage), immediate(), gold("vms"))
	w.requireDone()
	claim := find[corev1.PersistentVolumeClaim](w)
	claim.Finalizers = []string{"kubernetes.io/pvc-protection"}
	require.NoError(t, w.store.Update(t.Context(), claim))
	w.remove(claim)
	w.run()
	require.Equal(t, cdiv1.Pending, w.volume().Status.Phase)
	require.Contains(t, said(&w.volume().Status, cdiv1.DataVolumeBound), "ErrResourceMarkedForDeletion")
	w.remove(find[v1alpha1.VMDiskImport](w))
	claim = find[corev1.PersistentVolumeClaim](w)
	claim.Finalizers = nil
	require.NoError(t, w.store.Update(t.Context(), claim))
	w.requireDone()
	require.NotEqual(t, claim.UID, find[corev1.PersistentVolumeClaim](w).UID)
}

func TestDeleted(t *testing.T) {
	volume := aVolume(t, fromHTTP, storage)
	volume.Finalizers = []string{"foregroundDeletion"}
	w := newWorld(t, volume, immediate())
	w.idle = true
	w.run()
	w.remove(w.volume())
	w.remove(find[corev1.PersistentVolumeClaim](w))
	writes := w.writes
	w.run()
	require.Equal(t, writes, w.writes)
	require.Nil(t, find[corev1.PersistentVolumeClaim](w), "it is not made again")
}

func TestStorageClassThatComesLater(t *testing.T) {
	w := newWorld(t, aVolume(t, fromHTTP, `storage: {storageClassName: fast, resources: {requests: {storage: 100Mi}}}`))
	w.requireWaiting(reasonNoClass, "StorageClass fast does not exist: create it")
	require.Contains(t, w.said()[0], "Warning StorageClassNotFound")
	w.create(immediate())
	w.requireDone()

	w = newWorld(t, aVolume(t, fromHTTP, storage))
	w.requireWaiting(reasonNoClass, "there is no default StorageClass")
	w.create(immediate())
	w.requireDone()
}

func TestQuota(t *testing.T) {
	w := newWorld(t, aVolume(t, fromHTTP, storage), immediate())
	w.overQuota = true
	w.requireWaiting("ErrExceededQuota", "exceeded quota: small")
	w.overQuota = false
	w.requireDone()
}

func TestNameIsTaken(t *testing.T) {
	theirs := &v1alpha1.VMDiskImage{ObjectMeta: metav1.ObjectMeta{Namespace: "vms", Name: "web-1"}}
	w := newWorld(t, aVolume(t, fromHTTP, storage), immediate(), theirs)
	w.requireWaiting(reasonExists, `VMDiskImage "web-1" already exists and was not made for this DataVolume`)
	require.Nil(t, find[corev1.PersistentVolumeClaim](w), "it would get the disk of somebody else's image")
	w.remove(theirs)
	w.requireDone()

	source := fedora("vms", &cdiv1.DataVolumeSourcePVC{Name: "other"})
	source.Name = "web-1"
	w = newWorld(t, aVolume(t, fromClaim, storage), immediate(), gold("vms"), source)
	w.requireWaiting(reasonExists, `DataSource "web-1" already exists and was not made for this DataVolume`)
	require.Nil(t, find[corev1.PersistentVolumeClaim](w))
}

// What the claim refers to is kept as the DataVolume wants it, until the disk is there.
func TestReferredIsKept(t *testing.T) {
	w := newWorld(t, aVolume(t, fromHTTP, storage), immediate())
	w.idle = true
	w.run()
	image := find[v1alpha1.VMDiskImage](w)
	wanted := image.Spec.DeepCopy()
	image.Spec.Source.HTTP.URL = "https://elsewhere.example.org/disk"
	require.NoError(t, w.store.Update(t.Context(), image))
	w.run()
	require.Equal(t, *wanted, find[v1alpha1.VMDiskImage](w).Spec)
	w.remove(find[v1alpha1.VMDiskImage](w))
	w.run()
	require.Equal(t, *wanted, find[v1alpha1.VMDiskImage](w).Spec)
	w.idle = false
	w.requireDone()
}

func TestFailedImportIsTold(t *testing.T) {
	w := newWorld(t, aVolume(t, fromHTTP, storage), immediate())
	w.idle = true
	w.run()
	imp := anImport(find[corev1.PersistentVolumeClaim](w), v1alpha1.PhaseFailed, "NotFound")
	status := imp.Status
	w.create(imp)
	imp.Status = status
	require.NoError(t, w.store.Status().Update(t.Context(), imp))
	w.run()
	require.Equal(t, cdiv1.Failed, w.volume().Status.Phase)
	require.Contains(t, w.said(), "Warning ImportFailed NotFound: what the import says")
}

func TestImportOfAnotherClaimIsNotTrusted(t *testing.T) {
	w := newWorld(t, aVolume(t, fromHTTP, storage), immediate())
	w.idle = true
	w.run()
	claim := find[corev1.PersistentVolumeClaim](w)
	forged := anImport(claim, v1alpha1.PhaseSucceeded, "Succeeded")
	forged.OwnerReferences, forged.Status.VolumeName = nil, "pv-1"
	status := forged.Status
	w.create(forged)
	forged.Status = status
	require.NoError(t, w.store.Status().Update(t.Context(), forged))
	w.bind(claim, "pv-1")
	w.run()
	require.Equal(t, cdiv1.Failed, w.volume().Status.Phase, "nobody has filled that volume")
	w.create(populate(find[corev1.PersistentVolumeClaim](w)))
	w.requireDone()
}
