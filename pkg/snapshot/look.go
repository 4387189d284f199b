package snapshot

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

// State is what is known of a snapshot.
type State struct {
	// UID of the VolumeSnapshot.
	UID types.UID
	// Ready: a volume can be restored from it.
	Ready bool
	// Taken: it is cut, and what is written to its claim from now on is not in it.
	Taken bool
	// Driver is the CSI driver that holds it; empty until it is bound to its content.
	Driver string
	// RestoreSize in bytes is the least size of a volume restored from it; 0 when nobody says.
	RestoreSize int64
	// SourceMode is the mode of the volume it was taken of; empty when nobody says.
	SourceMode corev1.PersistentVolumeMode
	// Failure is what the driver or the snapshot controller reports; they keep trying.
	Failure string
	// Labels and Annotations of the VolumeSnapshot.
	Labels, Annotations map[string]string
}

// Look reads the state of a snapshot. It is nil when there is none, or when the cluster does not
// know the kind. A snapshot whose content does not name it is not ready: a VolumeSnapshot alone
// may claim any content.
func (s *Snapshots) Look(ctx context.Context, key types.NamespacedName) (*State, error) {
	snapshot := &VolumeSnapshot{}
	found, err := find(s.live.Get(ctx, key, snapshot))
	if err != nil {
		return nil, fmt.Errorf("reading VolumeSnapshot %s: %w", key, err)
	}
	if !found {
		return nil, nil
	}
	content, err := s.contentOf(ctx, snapshot)
	if err != nil {
		return nil, err
	}
	return stateOf(snapshot, content), nil
}

// contentOf is the content that a snapshot is bound to; nil until both name each other.
func (s *Snapshots) contentOf(ctx context.Context, snapshot *VolumeSnapshot) (*VolumeSnapshotContent, error) {
	if snapshot.Status == nil || ptr.Deref(snapshot.Status.BoundVolumeSnapshotContentName, "") == "" {
		return nil, nil
	}
	name := *snapshot.Status.BoundVolumeSnapshotContentName
	content := &VolumeSnapshotContent{}
	found, err := find(s.live.Get(ctx, types.NamespacedName{Name: name}, content))
	if err != nil {
		return nil, fmt.Errorf("reading VolumeSnapshotContent %s: %w", name, err)
	}
	ref := &content.Spec.VolumeSnapshotRef
	if !found || ref.Namespace != snapshot.Namespace || ref.Name != snapshot.Name || ref.UID != snapshot.UID {
		return nil, nil
	}
	return content, nil
}

func stateOf(snapshot *VolumeSnapshot, content *VolumeSnapshotContent) *State {
	state := &State{UID: snapshot.UID, Labels: snapshot.Labels, Annotations: snapshot.Annotations}
	if status := snapshot.Status; status != nil && status.Error != nil {
		state.Failure = ptr.Deref(status.Error.Message, "the driver does not say why")
	}
	if !snapshot.DeletionTimestamp.IsZero() {
		state.Failure = "the snapshot is being deleted"
		return state
	}
	if content == nil {
		return state
	}
	state.Driver = content.Spec.Driver
	state.SourceMode = ptr.Deref(content.Spec.SourceVolumeMode, "")
	state.Ready = ptr.Deref(snapshot.Status.ReadyToUse, false)
	state.Taken = state.Ready || snapshot.Status.CreationTime != nil
	if size := snapshot.Status.RestoreSize; size != nil {
		state.RestoreSize = size.Value()
	}
	return state
}
