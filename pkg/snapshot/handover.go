package snapshot

import (
	"context"
	"fmt"
	"maps"

	snapshotv1 "github.com/kubernetes-csi/external-snapshotter/client/v8/apis/volumesnapshot/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

// annotationAllowMode lets a volume of another mode be restored from a content. Only who may write
// contents can set it.
const annotationAllowMode = "snapshot.storage.kubernetes.io/allow-volume-mode-change"

// HandOver gives the storage's snapshot behind from a second name in another namespace: the
// VolumeSnapshot to, bound to a VolumeSnapshotContent of the same name that names the storage's
// snapshot. That content has the deletionPolicy Retain, so the storage's snapshot lives and dies
// with from. It does nothing when all is there already, and fails until from is bound and cut, or
// when one of the names belongs to another object.
//
// Secrets that a VolumeSnapshotClass names are not carried over: a driver that lists its snapshots
// only with a secret does not get it here.
func (s *Snapshots) HandOver(ctx context.Context, from, to types.NamespacedName, labels, annotations map[string]string) error {
	if err := s.handOver(ctx, from, to, made(madeHandedOver, labels), annotations); err != nil {
		return fmt.Errorf("handing snapshot %s over to %s: %w", from, to, err)
	}
	return nil
}

func (s *Snapshots) handOver(ctx context.Context, from, to types.NamespacedName, labels, annotations map[string]string) error {
	content := &VolumeSnapshotContent{}
	err := s.live.Get(ctx, types.NamespacedName{Name: to.Name}, content)
	switch {
	case apierrors.IsNotFound(err):
		if err := s.secondContent(ctx, from, to, labels, annotations); err != nil {
			return err
		}
	case err != nil:
		return fmt.Errorf("reading VolumeSnapshotContent %s: %w", to.Name, err)
	default:
		if err := refuseForeign(content, labels); err != nil {
			return err
		}
		if content.Spec.VolumeSnapshotRef.Namespace != to.Namespace || content.Spec.VolumeSnapshotRef.Name != to.Name {
			return fmt.Errorf("the content that has the name %s belongs to another snapshot: remove it", to.Name)
		}
	}
	source := snapshotv1.VolumeSnapshotSource{VolumeSnapshotContentName: &to.Name}
	return s.ensure(ctx, newSnapshot(to, source, labels, annotations))
}

// secondContent makes the content that stands for the storage's snapshot behind from.
func (s *Snapshots) secondContent(ctx context.Context, from, to types.NamespacedName, labels, annotations map[string]string) error {
	snapshot := &VolumeSnapshot{}
	if err := s.live.Get(ctx, from, snapshot); err != nil {
		return fmt.Errorf("reading VolumeSnapshot %s: %w", from, err)
	}
	first, err := s.contentOf(ctx, snapshot)
	if err != nil {
		return err
	}
	if first == nil {
		return fmt.Errorf("VolumeSnapshot %s is not bound to a content that names it", from)
	}
	handle := handleOf(first)
	if handle == "" {
		return fmt.Errorf("VolumeSnapshot %s is not taken yet", from)
	}
	content := &VolumeSnapshotContent{
		ObjectMeta: metav1.ObjectMeta{Name: to.Name, Labels: labels, Annotations: maps.Clone(annotations)},
		Spec: snapshotv1.VolumeSnapshotContentSpec{
			VolumeSnapshotRef: corev1.ObjectReference{Kind: "VolumeSnapshot", Namespace: to.Namespace, Name: to.Name},
			DeletionPolicy:    snapshotv1.VolumeSnapshotContentRetain,
			Driver:            first.Spec.Driver,
			Source:            snapshotv1.VolumeSnapshotContentSource{SnapshotHandle: &handle},
			SourceVolumeMode:  first.Spec.SourceVolumeMode,
		},
	}
	if allowed, ok := first.Annotations[annotationAllowMode]; ok {
		metav1.SetMetaDataAnnotation(&content.ObjectMeta, annotationAllowMode, allowed)
	}
	if err := s.client.Create(ctx, content); err != nil {
		return fmt.Errorf("creating VolumeSnapshotContent %s: %w", to.Name, err)
	}
	return nil
}

// handleOf is the storage's name of a snapshot; empty until it is cut.
func handleOf(content *VolumeSnapshotContent) string {
	if content.Status != nil && ptr.Deref(content.Status.SnapshotHandle, "") != "" {
		return *content.Status.SnapshotHandle
	}
	return ptr.Deref(content.Spec.Source.SnapshotHandle, "")
}
