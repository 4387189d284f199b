package snapshot

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	snapshotv1 "github.com/kubernetes-csi/external-snapshotter/client/v8/apis/volumesnapshot/v1"
)

// annotationDefault marks the default VolumeSnapshotClass of a driver.
const annotationDefault = "snapshot.storage.kubernetes.io/is-default-class"

// Class is the VolumeSnapshotClass to take snapshots of a CSI driver's volumes with: the default
// one of the driver, else the first by name. It is empty when there is none, or when the cluster
// does not know the kind. Only classes with the deletionPolicy Delete count: with Retain, what
// the storage keeps of our snapshots would stay for ever.
func (s *Snapshots) Class(ctx context.Context, driver string) (string, error) {
	var classes snapshotv1.VolumeSnapshotClassList
	found, err := find(s.live.List(ctx, &classes))
	if err != nil {
		return "", fmt.Errorf("listing VolumeSnapshotClasses: %w", err)
	}
	if !found {
		return "", nil
	}
	return choose(classes.Items, driver), nil
}

func choose(classes []VolumeSnapshotClass, driver string) string {
	usable := slices.DeleteFunc(slices.Clone(classes), func(class VolumeSnapshotClass) bool {
		return class.Driver != driver || class.DeletionPolicy != snapshotv1.VolumeSnapshotContentDelete || !class.DeletionTimestamp.IsZero()
	})
	if len(usable) == 0 {
		return ""
	}
	first := slices.MinFunc(usable, func(a, b VolumeSnapshotClass) int {
		return cmp.Or(cmp.Compare(rank(&a), rank(&b)), cmp.Compare(a.Name, b.Name))
	})
	return first.Name
}

// rank is lower for a default class.
func rank(class *VolumeSnapshotClass) int {
	if class.Annotations[annotationDefault] == "true" {
		return 0
	}
	return 1
}
