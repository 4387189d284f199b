package populator

import (
	"context"
	"errors"
	"fmt"

	snapshotv1 "github.com/kubernetes-csi/external-snapshotter/client/v8/apis/volumesnapshot/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
)

// sweepSnapshots removes the snapshots in the system namespace that nobody needs: those of golden claims that are
// gone, and those of imports that are.
func (s *sweeper) sweepSnapshots(ctx context.Context) error {
	var all snapshotv1.VolumeSnapshotList
	err := s.live.List(ctx, &all, client.InNamespace(s.namespace), client.MatchingLabels{labelManagedBy: managedByPopulator})
	if meta.IsNoMatchError(err) || apierrors.IsNotFound(err) {
		return nil // a cluster without snapshots
	}
	if err != nil {
		return fmt.Errorf("listing VolumeSnapshots: %w", err)
	}
	var failed []error
	for i := range all.Items {
		needed, err := s.snapshotNeeded(ctx, &all.Items[i])
		if err == nil && !needed {
			err = s.dropSnapshot(ctx, &all.Items[i])
		}
		failed = append(failed, err)
	}
	return errors.Join(failed...)
}

// dropSnapshot removes a snapshot, and first the one in the namespace of the source that it is the second name of:
// nothing else tells of that.
func (s *sweeper) dropSnapshot(ctx context.Context, of *snapshotv1.VolumeSnapshot) error {
	if from := of.Annotations[annotationFrom]; from != "" {
		if gone, err := s.snapshots.Remove(ctx, types.NamespacedName{Namespace: from, Name: of.Name}); err != nil || !gone {
			return err
		}
	}
	_, err := s.snapshots.Remove(ctx, client.ObjectKeyFromObject(of))
	return err
}

func (s *sweeper) snapshotNeeded(ctx context.Context, of *snapshotv1.VolumeSnapshot) (bool, error) {
	key, ok := claimKey(of.Annotations)
	if !ok {
		return true, nil // it is none of ours
	}
	if golden := types.UID(of.Labels[labelGoldenUID]); golden != "" {
		return s.goldenNeeded(ctx, golden, key)
	}
	if leader := types.UID(of.Labels[labelReuseUID]); leader != "" {
		return s.waitedFor(ctx, key.Namespace, leader)
	}
	imp := &v1alpha1.VMDiskImport{}
	err := s.live.Get(ctx, key, imp)
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("reading VMDiskImport %s: %w", key, err)
	}
	return string(imp.UID) == of.Labels[labelImportUID] && !ended(imp), nil
}

// goldenNeeded reports whether a golden claim is still there, or an import restores from its snapshot.
func (s *sweeper) goldenNeeded(ctx context.Context, uid types.UID, key types.NamespacedName) (bool, error) {
	claim := &corev1.PersistentVolumeClaim{}
	err := s.live.Get(ctx, key, claim)
	if client.IgnoreNotFound(err) != nil {
		return false, fmt.Errorf("reading claim %s: %w", key, err)
	}
	if err == nil && claim.UID == uid {
		return true, nil
	}
	var imports v1alpha1.VMDiskImportList
	if err := s.live.List(ctx, &imports); err != nil {
		return false, fmt.Errorf("listing the imports that restore from snapshots: %w", err)
	}
	for i := range imports.Items {
		imp := &imports.Items[i]
		if imp.Spec.CopyOf != nil && imp.Spec.CopyOf.UID == uid && imp.Status.Strategy == v1alpha1.StrategySnapshot && imp.Status.Result == nil && !ended(imp) {
			return true, nil
		}
	}
	return false, nil
}
