// Package v1alpha1 holds Gild's own kinds: VMDiskImage says where a disk comes
// from, VMDiskImport is the record of one import.
//
// +kubebuilder:object:generate=true
// +groupName=virtualization.k8s.io
package v1alpha1

//go:generate go tool -modfile=../../../../test/tools/go.mod controller-gen object paths=.
//go:generate go tool -modfile=../../../../test/tools/go.mod controller-gen crd paths=. output:crd:dir=../../../../deploy/crds
