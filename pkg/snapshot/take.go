package snapshot

import (
	"context"
	"fmt"

	snapshotv1 "github.com/kubernetes-csi/external-snapshotter/client/v8/apis/volumesnapshot/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

// Take has a snapshot taken of a claim in the namespace of key. It does nothing when the snapshot
// is there already, and fails when the name belongs to another one.
func (s *Snapshots) Take(ctx context.Context, key types.NamespacedName, claim, class string, labels, annotations map[string]string) error {
	source := snapshotv1.VolumeSnapshotSource{PersistentVolumeClaimName: &claim}
	snapshot := newSnapshot(key, source, made(madeTaken, labels), annotations)
	snapshot.Spec.VolumeSnapshotClassName = &class
	if err := s.ensure(ctx, snapshot); err != nil {
		return fmt.Errorf("taking snapshot %s of claim %s: %w", key, claim, err)
	}
	return nil
}

func newSnapshot(key types.NamespacedName, source snapshotv1.VolumeSnapshotSource, labels, annotations map[string]string) *VolumeSnapshot {
	return &VolumeSnapshot{
		ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name, Labels: labels, Annotations: annotations},
		Spec:       snapshotv1.VolumeSnapshotSpec{Source: source},
	}
}

// ensure creates a VolumeSnapshot, or finds that it is there.
func (s *Snapshots) ensure(ctx context.Context, snapshot *VolumeSnapshot) error {
	labels, source := snapshot.Labels, snapshot.Spec.Source
	err := s.client.Create(ctx, snapshot)
	if !apierrors.IsAlreadyExists(err) {
		return err
	}
	existing := &VolumeSnapshot{}
	if err := s.live.Get(ctx, types.NamespacedName{Namespace: snapshot.Namespace, Name: snapshot.Name}, existing); err != nil {
		return err
	}
	if err := refuseForeign(existing, labels); err != nil {
		return err
	}
	if !ptr.Equal(existing.Spec.Source.PersistentVolumeClaimName, source.PersistentVolumeClaimName) ||
		!ptr.Equal(existing.Spec.Source.VolumeSnapshotContentName, source.VolumeSnapshotContentName) {
		return fmt.Errorf("the snapshot that has the name %s is of something else: remove it", existing.Name)
	}
	return nil
}
