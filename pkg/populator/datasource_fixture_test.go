package populator

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"github.com/gild-project/gild/pkg/golden"
)

const testDriver = "csi.example.org"

// sourceClaim is a user's claim that refers to the DataSource.
func sourceClaim() *corev1.PersistentVolumeClaim {
	claim := cronClaim()
	claim.Spec.DataSourceRef.Kind = golden.DataSourceKind
	return claim
}

// testDataSource names a claim.
func testDataSource(of *cdiv1.DataVolumeSourcePVC) *cdiv1.DataSource {
	return &cdiv1.DataSource{
		ObjectMeta: metav1.ObjectMeta{Namespace: "vms", Name: sourceName, UID: "source-uid"},
		Spec:       cdiv1.DataSourceSpec{Source: cdiv1.DataSourceSource{PVC: of}},
	}
}

// ofHeld names the claim of heldClaim.
func ofHeld() *cdiv1.DataVolumeSourcePVC {
	return &cdiv1.DataVolumeSourcePVC{Namespace: "vms", Name: "debian-12-a"}
}

// heldClaim is a golden claim that holds a revision.
func heldClaim(revision *golden.Revision) *corev1.PersistentVolumeClaim {
	claim := goldenClaim(revision)
	claim.Name, claim.UID = "debian-12-a", "held-uid"
	claim.Annotations[golden.AnnotationVerified] = "true"
	claim.Spec.VolumeName, claim.Status.Phase = "held-pv", corev1.ClaimBound
	return claim
}

// handMade is a claim that nobody of ours has filled.
func handMade(namespace string) *corev1.PersistentVolumeClaim {
	claim := testClaim()
	claim.Namespace, claim.Name, claim.UID = namespace, "by-hand", "by-hand-uid"
	claim.Spec.DataSourceRef = nil
	claim.Spec.VolumeName, claim.Status.Phase = "by-hand-pv", corev1.ClaimBound
	return claim
}

// volumeFor is the volume of a claim, of 4 GiB.
func volumeFor(claim *corev1.PersistentVolumeClaim) *corev1.PersistentVolume {
	return &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: claim.Spec.VolumeName, Annotations: map[string]string{annotationProvisionedBy: testDriver}},
		Spec: corev1.PersistentVolumeSpec{
			ClaimRef:               &corev1.ObjectReference{Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID},
			Capacity:               corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("4Gi")},
			VolumeMode:             ptr.To(modeOf(claim.Spec.VolumeMode)),
			PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: testDriver, VolumeHandle: claim.Spec.VolumeName}},
		},
	}
}
