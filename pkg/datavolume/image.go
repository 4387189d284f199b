package datavolume

import (
	"cmp"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/claimshape"
)

// fetches reports whether a VMDiskImage says where the disk of a DataVolume comes from.
func fetches(volume *cdiv1.DataVolume) bool {
	source := volume.Spec.Source
	return source != nil && (source.HTTP != nil || source.Registry != nil || source.Blank != nil)
}

// imageFor is the VMDiskImage of a DataVolume that fetches its disk, with what the API server would fill in. claim
// is that which gets the disk: a blank one has its size.
func imageFor(volume *cdiv1.DataVolume, claim *corev1.PersistentVolumeClaim, overhead claimshape.Overhead) *v1alpha1.VMDiskImage {
	image := &v1alpha1.VMDiskImage{
		TypeMeta: metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion().String(), Kind: "VMDiskImage"},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: volume.Namespace, Name: volume.Name, Labels: ownLabels(), OwnerReferences: ownedBy(volume),
		},
	}
	image.Spec.Format = v1alpha1.DiskFormatRaw
	image.Spec.Reuse = v1alpha1.ReuseNever // one claim refers to it
	switch source := volume.Spec.Source; {
	case source.HTTP != nil:
		http := source.HTTP
		image.Spec.Checksum = http.Checksum
		image.Spec.Source.HTTP = &v1alpha1.HTTPSource{
			URL: http.URL, SecretRef: http.SecretRef, CertConfigMap: http.CertConfigMap,
			ExtraHeaders: http.ExtraHeaders, SecretExtraHeaders: http.SecretExtraHeaders,
		}
	case source.Registry != nil:
		image.Spec.Source.Registry = registrySource(source.Registry)
	case source.Blank != nil:
		image.Spec.Source.Blank = &v1alpha1.BlankSource{}
		image.Spec.Size = ptr.To(blankSize(volume, claim, overhead))
	}
	return image
}

func registrySource(registry *cdiv1.DataVolumeSourceRegistry) *v1alpha1.RegistrySource {
	source := &v1alpha1.RegistrySource{
		URL: ptr.Deref(registry.URL, ""), ImageStream: ptr.Deref(registry.ImageStream, ""),
		PullMethod: v1alpha1.PullMethod(cmp.Or(ptr.Deref(registry.PullMethod, ""), cdiv1.RegistryPullPod)),
		SecretRef:  ptr.Deref(registry.SecretRef, ""), CertConfigMap: ptr.Deref(registry.CertConfigMap, ""),
		Content: v1alpha1.ImageContentAuto,
	}
	if source.PullMethod == v1alpha1.PullMethodNode {
		source.CertConfigMap = "" // the node has certificates of its own
	}
	if registry.Platform != nil && registry.Platform.Architecture != "" {
		source.Platform = &v1alpha1.ImagePlatform{Architecture: registry.Platform.Architecture}
	}
	return source
}

// sector is what the size of a disk is a multiple of.
const sector = 512

// blankSize is that of a blank disk: what was asked for in the form storage, else all that the volume holds.
func blankSize(volume *cdiv1.DataVolume, claim *corev1.PersistentVolumeClaim, overhead claimshape.Overhead) resource.Quantity {
	if storage := volume.Spec.Storage; storage != nil {
		if size, ok := storage.Resources.Requests[corev1.ResourceStorage]; ok && size.Value()%sector == 0 {
			return size
		} else if ok {
			return *resource.NewQuantity(size.Value()/sector*sector, resource.BinarySI)
		}
	}
	size := claim.Spec.Resources.Requests[corev1.ResourceStorage]
	if ptr.Deref(claim.Spec.VolumeMode, corev1.PersistentVolumeFilesystem) == corev1.PersistentVolumeFilesystem {
		return overhead.Within(size)
	}
	return size
}
