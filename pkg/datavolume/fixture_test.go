package datavolume

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/yaml"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/claimshape"
	"github.com/gild-project/gild/pkg/golden"
)

const (
	fromHTTP       = `source: {http: {url: "https://images.example.org/disk"}}`
	fromClaim      = `source: {pvc: {namespace: vms, name: gold}}`
	fromForeign    = `source: {pvc: {namespace: images, name: gold}}`
	fromSnapshot   = `source: {snapshot: {namespace: vms, name: gold}}`
	fromDataSource = `sourceRef: {kind: DataSource, name: fedora}`
	fromElsewhere  = `sourceRef: {kind: DataSource, name: fedora, namespace: images}`
	storage        = `storage: {resources: {requests: {storage: 100Mi}}}`
	unsized        = `storage: {}`
)

func start() time.Time { return time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC) }

// parse reads an object from YAML.
func parse[T any](t *testing.T, text string) *T {
	t.Helper()
	object := new(T)
	require.NoError(t, yaml.UnmarshalStrict([]byte(text), object))
	return object
}

// aVolume is DataVolume vms/web-1 with a spec.
func aVolume(t *testing.T, source, form string) *cdiv1.DataVolume {
	t.Helper()
	return parse[cdiv1.DataVolume](t, `{apiVersion: cdi.kubevirt.io/v1beta1, kind: DataVolume, metadata: {namespace: vms, name: web-1, uid: volume-uid}, spec: {`+source+`, `+form+`}}`)
}

func aClass(mode storagev1.VolumeBindingMode) *storagev1.StorageClass {
	return &storagev1.StorageClass{
		ObjectMeta:  metav1.ObjectMeta{Name: "fast", Annotations: map[string]string{claimshape.AnnotationDefault: "true"}},
		Provisioner: "csi.example.org", VolumeBindingMode: &mode,
	}
}

// aView is what is seen of a DataVolume before anything was made for it.
func aView(volume *cdiv1.DataVolume) *view {
	return &view{volume: volume, class: aClass(storagev1.VolumeBindingImmediate), className: "fast", now: start()}
}

// withClaim gives it the claim that it asks for, in a phase.
func withClaim(t *testing.T, v *view, phase corev1.PersistentVolumeClaimPhase) *view {
	t.Helper()
	claim, missing := claimFor(v)
	require.Nil(t, missing)
	claim.UID, claim.Status.Phase = "claim-uid", phase
	if phase == corev1.ClaimBound {
		claim.Spec.VolumeName = "pv-1"
	}
	v.claim = claim
	return v
}

// anImport is that of a claim.
func anImport(claim *corev1.PersistentVolumeClaim, phase v1alpha1.ImportPhase, reason string) *v1alpha1.VMDiskImport {
	return &v1alpha1.VMDiskImport{
		ObjectMeta: metav1.ObjectMeta{Namespace: claim.Namespace, Name: claim.Name, UID: "import-uid",
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "PersistentVolumeClaim", Name: claim.Name, UID: claim.UID, Controller: ptr.To(true)}}},
		Spec: v1alpha1.VMDiskImportSpec{ClaimRef: v1alpha1.ClaimReference{Name: claim.Name, UID: claim.UID}},
		Status: v1alpha1.VMDiskImportStatus{Phase: phase, Conditions: []metav1.Condition{
			{Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, Reason: reason, Message: "what the import says"},
		}},
	}
}

// gold is a claim that is copied, bound and filled by nobody of ours.
func gold(namespace string) *corev1.PersistentVolumeClaim {
	return &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "gold", UID: types.UID("gold of " + namespace),
			Labels: map[string]string{"instancetype.kubevirt.io/default-instancetype": "u1.medium", "team": "images"}},
		Spec: corev1.PersistentVolumeClaimSpec{Resources: sized("100Mi"), VolumeMode: ptr.To(corev1.PersistentVolumeFilesystem), VolumeName: "pv-gold"},
		Status: corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimBound,
			Capacity: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("128Mi")}},
	}
}

func fedora(namespace string, to *cdiv1.DataVolumeSourcePVC) *cdiv1.DataSource {
	return &cdiv1.DataSource{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "fedora", UID: "fedora-uid"},
		Spec: cdiv1.DataSourceSpec{Source: cdiv1.DataSourceSource{PVC: to}}}
}

func sized(size string) corev1.VolumeResourceRequirements {
	return corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(size)}}
}

// populate is what lib-volume-populator leaves on a volume that it hands over.
func populate(claim *corev1.PersistentVolumeClaim) *corev1.PersistentVolume {
	return &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: claim.Spec.VolumeName, CreationTimestamp: claim.CreationTimestamp,
		Annotations: map[string]string{golden.AnnotationPopulatedFrom: claim.Namespace + "/" + claim.Spec.DataSourceRef.Name}}}
}
