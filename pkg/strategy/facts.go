package strategy

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
)

// Facts are what is known when the strategy of an import is chosen.
type Facts struct {
	// Source is what may be copied; nil when there is nothing to copy.
	Source *Source
	Target Target
	// Copies is the operator's leave to read volumes of other namespaces.
	Copies bool
	// Import tells that it is known where the disk came from.
	Import bool
	// PassedOver are the strategies that did not start, or were found impossible before.
	PassedOver []v1alpha1.PassedOver
}

// Source is the claim or the snapshot that has the disk.
type Source struct {
	// Kind is one of v1alpha1.CopyOfClaim and CopyOfSnapshot; Name is for people.
	Kind, Name string
	// Lost says why it cannot be read at all; empty when it can.
	Lost string
	// Driver is the CSI driver that holds it; empty for any other volume.
	Driver string
	// Mode of the volume, or of that which the snapshot was taken of. Empty when nobody says.
	Mode corev1.PersistentVolumeMode
	// Capacity of the volume in bytes.
	Capacity int64
	// DiskSize is the virtual size in bytes of the disk in a Filesystem volume; 0 when nobody says.
	DiskSize int64
	// Writers are the pods that may write to it.
	Writers []string
	// Snapshot is one that exists; nil when it would have to be taken.
	Snapshot *Snapshot
	// Class is the VolumeSnapshotClass to take one with; empty when the driver has none.
	Class string
}

// RestoreSize is the least size in bytes of a volume that is restored from a snapshot of the source. Whatever
// the snapshot says, it is no less than the source has: less would be a shrink.
func (s *Source) RestoreSize() int64 {
	if s.Snapshot == nil {
		return s.Capacity
	}
	return max(s.Capacity, s.Snapshot.RestoreSize)
}

// Snapshot is a snapshot that exists.
type Snapshot struct {
	// Ready: a volume can be restored from it. Failure is what its driver reports while it is not.
	Ready   bool
	Failure string
	// RestoreSize in bytes is the least size of a volume that is restored from it; 0 when nobody says.
	RestoreSize int64
}

// Target is the claim that gets the disk.
type Target struct {
	// Class is its StorageClass, and Provisioner who makes the volumes of that.
	Class, Provisioner string
	Mode               corev1.PersistentVolumeMode
	// Size is what it asks for, in bytes.
	Size int64
}

// Choice is what Choose has found.
type Choice struct {
	// Strategy is the fastest one that is possible; empty when none is.
	Strategy v1alpha1.Strategy
	// PassedOver are the faster ones, or all, and why each is not used.
	PassedOver []v1alpha1.PassedOver
	// Wait is one of the Wait constants when none is possible now and one will be by itself, or as
	// soon as somebody has done what the message asks for.
	Wait    string
	Message string
}

// What a choice waits for: reasons of the import's Ready condition.
const (
	// WaitForWriters: pods may write to the source.
	WaitForWriters = "SourceInUse"
	// WaitForSnapshot: the snapshot that is the source is not ready.
	WaitForSnapshot = "SourceNotReady"
)
