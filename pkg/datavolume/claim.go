package datavolume

import (
	"errors"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/claimshape"
	"github.com/gild-project/gild/pkg/golden"
)

// claimFor is the claim that a DataVolume asks for, or what is missing for it.
func claimFor(v *view) (*corev1.PersistentVolumeClaim, *trouble) {
	shape, err := shapeOf(v)
	switch {
	case errors.Is(err, claimshape.ErrNoSize) && v.origin != nil:
		return nil, sizeUnknown(v.origin)
	case err != nil:
		return nil, &trouble{reason: reasonClaimNotValid, message: err.Error()}
	}
	spec := asked(&v.volume.Spec)
	spec.AccessModes, spec.VolumeMode, spec.Resources = shape.AccessModes, &shape.VolumeMode, shape.Resources
	spec.StorageClassName = &v.className
	if ref := refersTo(v.volume); ref != nil {
		spec.DataSource, spec.DataSourceRef = nil, ref
	}
	var copied map[string]string
	if v.origin != nil {
		copied = v.origin.labels
	}
	return &corev1.PersistentVolumeClaim{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PersistentVolumeClaim"},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: v.volume.Namespace, Name: v.volume.Name,
			Labels:          claimLabels(v.volume, copied, shape.VolumeMode == corev1.PersistentVolumeFilesystem),
			Annotations:     claimAnnotations(v.volume),
			OwnerReferences: ownedBy(v.volume),
		},
		Spec: *spec,
	}, nil
}

// shapeOf is the shape of the claim.
func shapeOf(v *view) (*claimshape.Shape, error) {
	facts := claimshape.Facts{Profile: v.profile, Overhead: v.overhead()}
	if v.origin != nil {
		facts.Origin = v.origin.size
	}
	return claimshape.Of(&v.volume.Spec, facts)
}

// sizeUnknown says why a copy has no size yet.
func sizeUnknown(from *origin) *trouble {
	if from.waiting != nil {
		return from.waiting
	}
	return &trouble{reason: reasonNoSize, message: "what is copied does not tell its size: set resources.requests.storage"}
}

// asked is what a DataVolume asks of its claim besides its shape.
func asked(spec *cdiv1.DataVolumeSpec) *corev1.PersistentVolumeClaimSpec {
	if spec.PVC != nil {
		return spec.PVC.DeepCopy()
	}
	storage := spec.Storage.DeepCopy()
	return &corev1.PersistentVolumeClaimSpec{Selector: storage.Selector, DataSource: storage.DataSource, DataSourceRef: storage.DataSourceRef}
}

// refersTo is what fills the claim of a DataVolume; nil when the DataVolume says that itself.
func refersTo(volume *cdiv1.DataVolume) *corev1.TypedObjectReference {
	switch {
	case fetches(volume):
		return &corev1.TypedObjectReference{APIGroup: ptr.To(v1alpha1.Group), Kind: "VMDiskImage", Name: volume.Name}
	case needsSource(volume):
		return &corev1.TypedObjectReference{APIGroup: ptr.To(golden.Group), Kind: golden.DataSourceKind, Name: volume.Name}
	case volume.Spec.SourceRef != nil:
		return &corev1.TypedObjectReference{APIGroup: ptr.To(golden.Group), Kind: golden.DataSourceKind, Name: volume.Spec.SourceRef.Name}
	}
	return nil
}

// isForeign reports whether a claim of the DataVolume's name is somebody else's, and must be left alone.
func (v *view) isForeign() bool { return v.claim != nil && !v.owned(v.claim) && !v.adopts() }

// adopts reports whether the DataVolume takes a claim that was there before.
func (v *view) adopts() bool {
	if v.claim == nil || metav1.GetControllerOf(v.claim) != nil {
		return false
	}
	return v.claim.Annotations[annotationPopulatedFor] == v.volume.Name || v.volume.Annotations[annotationAdoption] == "true"
}

// isAdopted reports whether the claim of a DataVolume was not made for it. What is on it is not ours to judge,
// unless Gild fills it.
func (v *view) isAdopted() bool {
	return v.hasClaim() && v.claim.Annotations[annotationCreatedFor] != string(v.volume.UID)
}
