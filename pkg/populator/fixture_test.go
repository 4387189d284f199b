package populator

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/credentials"
)

const systemNamespace = "gild-system"

func testImage() *v1alpha1.VMDiskImage {
	return &v1alpha1.VMDiskImage{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion().String(), Kind: "VMDiskImage"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "vms", Name: "debian-12", UID: "image-uid", Generation: 1},
		Spec: v1alpha1.VMDiskImageSpec{ImageSpec: v1alpha1.ImageSpec{
			Source: v1alpha1.DiskSource{HTTP: &v1alpha1.HTTPSource{URL: "https://images.example.org/debian-12.qcow2"}},
			Format: v1alpha1.DiskFormatRaw,
		}},
	}
}

func testClaim() *corev1.PersistentVolumeClaim {
	return &corev1.PersistentVolumeClaim{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "PersistentVolumeClaim"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "vms", Name: "web-1", UID: "0c1a", Finalizers: []string{"kubernetes.io/pvc-protection"}},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes:      []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			StorageClassName: ptr.To("fast"),
			Resources:        corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("4Gi")}},
			DataSourceRef:    &corev1.TypedObjectReference{APIGroup: ptr.To(v1alpha1.Group), Kind: "VMDiskImage", Name: "debian-12"},
		},
	}
}

func testPrime(claim *corev1.PersistentVolumeClaim) *corev1.PersistentVolumeClaim {
	prime := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: systemNamespace, Name: primeName(claim.UID), UID: "prime-uid"},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: claim.Spec.AccessModes, Resources: claim.Spec.Resources,
			StorageClassName: claim.Spec.StorageClassName, VolumeMode: claim.Spec.VolumeMode,
		},
	}
	return shapePrime(prime, claim)
}

// imageSpec is what an import of an image does.
func imageSpec(image *v1alpha1.VMDiskImage) *v1alpha1.VMDiskImportSpec {
	return &v1alpha1.VMDiskImportSpec{
		ImageRef:  v1alpha1.ImageReference{Kind: kindImage, Name: image.Name, UID: image.UID, Generation: image.Generation},
		ImageSpec: image.Spec.ImageSpec,
	}
}

func testImport() *v1alpha1.VMDiskImport {
	return newImport(testClaim(), imageSpec(testImage()))
}

func testAttempt() *attempt {
	claim := testClaim()
	return &attempt{
		number: 1, importUID: "import-uid", spec: testImport().Spec, claim: claim, target: testPrime(claim),
		credentials: &credentials.Credentials{Secret: map[string][]byte{}}, image: "gild-importer:test",
	}
}
