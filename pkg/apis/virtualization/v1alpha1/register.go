package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Group is the API group of VMDiskImage and VMDiskImport. It is a protected
// group (*.k8s.io), so each of its definitions carries the annotation
// api-approved.kubernetes.io.
const Group = "virtualization.k8s.io"

// GroupVersion returns the group and version of this package's kinds.
func GroupVersion() schema.GroupVersion {
	return schema.GroupVersion{Group: Group, Version: "v1alpha1"}
}

// AddToScheme registers this package's kinds with scheme.
func AddToScheme(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(GroupVersion(), &VMDiskImage{}, &VMDiskImageList{}, &VMDiskImport{}, &VMDiskImportList{})
	metav1.AddToGroupVersion(scheme, GroupVersion())
	return nil
}
