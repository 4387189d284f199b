package snapshot

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Remove deletes a snapshot that this package has made: one that was handed over with its content,
// while the storage's snapshot stays; one that was taken with the storage's. It reports whether all
// is gone: until then it must be called again. What somebody else has made is left alone, and does
// not count.
func (s *Snapshots) Remove(ctx context.Context, key types.NamespacedName) (gone bool, err error) {
	snapshot := &VolumeSnapshot{}
	gone, err = s.remove(ctx, key, snapshot, func() bool { return snapshot.Labels[LabelMade] != "" })
	if err != nil {
		return false, fmt.Errorf("removing VolumeSnapshot %s: %w", key, err)
	}
	if !gone {
		return false, nil
	}
	content := &VolumeSnapshotContent{}
	gone, err = s.remove(ctx, types.NamespacedName{Name: key.Name}, content, func() bool {
		ref := &content.Spec.VolumeSnapshotRef
		return content.Labels[LabelMade] == madeHandedOver && ref.Namespace == key.Namespace && ref.Name == key.Name
	})
	if err != nil {
		return false, fmt.Errorf("removing VolumeSnapshotContent %s: %w", key.Name, err)
	}
	return gone, nil
}

// remove deletes an object if it is ours, and reports whether there is none of ours any more.
func (s *Snapshots) remove(ctx context.Context, key types.NamespacedName, object client.Object, ours func() bool) (gone bool, err error) {
	found, err := find(s.live.Get(ctx, key, object))
	if err != nil || !found || !ours() {
		return err == nil, err
	}
	if object.GetDeletionTimestamp().IsZero() {
		uid := object.GetUID()
		deleted, err := find(s.client.Delete(ctx, object, client.Preconditions{UID: &uid}))
		if err != nil || !deleted {
			return err == nil, err
		}
	}
	found, err = find(s.live.Get(ctx, key, object))
	return err == nil && !found, err
}
