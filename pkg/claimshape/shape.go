package claimshape

import (
	"errors"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
)

var (
	// ErrNoForm is what Of fails with when there is neither form.
	ErrNoForm = errors.New("there is neither pvc nor storage: say how large the claim is")
	// ErrNoSize is what Of fails with when nothing tells the size.
	ErrNoSize = errors.New("nothing says how large the claim is: set resources.requests.storage")
)

// Shape is what a claim asks of its volume, besides its class.
type Shape struct {
	AccessModes []corev1.PersistentVolumeAccessMode
	VolumeMode  corev1.PersistentVolumeMode
	Resources   corev1.VolumeResourceRequirements
}

// Origin is the volume that a disk is copied from.
type Origin struct {
	// Size is what it holds at most.
	Size resource.Quantity
	// VolumeMode is how it holds that; empty when nobody knows.
	VolumeMode corev1.PersistentVolumeMode
}

// Facts are what a shape depends on besides what was asked for.
type Facts struct {
	// Profile is that of the StorageClass; nil when there is none.
	Profile *cdiv1.StorageProfile
	// SingleWriter leaves out the access modes that the profile prefers: one node writes.
	SingleWriter bool
	// Origin is what is copied; nil for other sources.
	Origin *Origin
	// Overhead is what a file system needs.
	Overhead Overhead
}

// Of is the shape that a DataVolume asks for, in its form pvc or storage. What it leaves open comes from
// the StorageProfile and from what is copied.
func Of(spec *cdiv1.DataVolumeSpec, facts Facts) (*Shape, error) {
	shape := &Shape{}
	var mode *corev1.PersistentVolumeMode
	switch {
	case spec.PVC != nil:
		shape.AccessModes, shape.Resources = slices.Clone(spec.PVC.AccessModes), *spec.PVC.Resources.DeepCopy()
		mode = ptr.To(ptr.Deref(spec.PVC.VolumeMode, corev1.PersistentVolumeFilesystem))
	case spec.Storage != nil:
		shape.AccessModes, shape.Resources = slices.Clone(spec.Storage.AccessModes), *spec.Storage.Resources.DeepCopy()
		mode = spec.Storage.VolumeMode
	default:
		return nil, ErrNoForm
	}
	complete(shape, mode, facts)
	size, ok := shape.Resources.Requests[corev1.ResourceStorage]
	isFile := shape.VolumeMode == corev1.PersistentVolumeFilesystem
	switch {
	case !ok && facts.Origin == nil:
		return nil, ErrNoSize
	case !ok:
		size = facts.Origin.Size // a copy may not be smaller than what it is copied from
		if isFile && facts.Origin.VolumeMode == corev1.PersistentVolumeBlock {
			size = facts.Overhead.Around(size)
		}
	case spec.Storage != nil && isFile:
		size = facts.Overhead.Around(size)
	}
	if shape.Resources.Requests == nil {
		shape.Resources.Requests = corev1.ResourceList{}
	}
	shape.Resources.Requests[corev1.ResourceStorage] = size
	return shape, nil
}

// complete fills in what is left open: what the StorageProfile of the class prefers, else one node's
// reading and writing of a file system, which every driver can do.
func complete(shape *Shape, mode *corev1.PersistentVolumeMode, facts Facts) {
	preferred := preference(shape.AccessModes, mode, facts.Profile)
	if len(shape.AccessModes) == 0 && !facts.SingleWriter {
		shape.AccessModes = preferred.AccessModes
	}
	if len(shape.AccessModes) == 0 {
		shape.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	}
	if mode == nil {
		mode = preferred.VolumeMode
	}
	shape.VolumeMode = ptr.Deref(mode, corev1.PersistentVolumeFilesystem)
}

// preference is the first set of the profile that has what is asked for, empty when none does.
func preference(access []corev1.PersistentVolumeAccessMode, mode *corev1.PersistentVolumeMode, profile *cdiv1.StorageProfile) cdiv1.ClaimPropertySet {
	if profile == nil {
		return cdiv1.ClaimPropertySet{}
	}
	for _, set := range profile.Status.ClaimPropertySets {
		hasMode := mode == nil || ptr.Deref(set.VolumeMode, corev1.PersistentVolumeFilesystem) == *mode
		hasAccess := !slices.ContainsFunc(access, func(mode corev1.PersistentVolumeAccessMode) bool { return !slices.Contains(set.AccessModes, mode) })
		if hasMode && hasAccess {
			return *set.DeepCopy()
		}
	}
	return cdiv1.ClaimPropertySet{}
}

// OriginOf is a claim that is copied. Its volume may be larger than it asked for.
func OriginOf(claim *corev1.PersistentVolumeClaim) *Origin {
	size := claim.Spec.Resources.Requests[corev1.ResourceStorage]
	if bound, ok := claim.Status.Capacity[corev1.ResourceStorage]; ok {
		size = bound
	}
	return &Origin{Size: size, VolumeMode: ptr.Deref(claim.Spec.VolumeMode, corev1.PersistentVolumeFilesystem)}
}
