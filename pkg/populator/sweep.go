package populator

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
)

// sweepInterval keeps the promise that nothing is left behind 60 s after an import's end.
const sweepInterval = 20 * time.Second

// sweeper removes what belongs to claims that no longer exist. The controllers clear up after every
// end they see; this is for the ends that nobody saw, such as a finalizer removed by force.
type sweeper struct {
	remains
	snapshots snapshots
	exports   exports
}

// Start sweeps until ctx ends.
func (s *sweeper) Start(ctx context.Context) error {
	ticker := time.NewTicker(sweepInterval)
	defer ticker.Stop()
	for {
		if err := s.sweep(ctx); err != nil {
			ctrl.LoggerFrom(ctx).Error(err, "Sweeping the system namespace")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// NeedLeaderElection makes the sweep the leader's.
func (s *sweeper) NeedLeaderElection() bool { return true }

// sweep removes what it can: what cannot go keeps nothing else.
func (s *sweeper) sweep(ctx context.Context) error {
	owners, err := s.owners(ctx)
	failed := []error{err, s.reclaimOrphans(ctx)}
	for uid, claim := range owners {
		failed = append(failed, s.sweepClaim(ctx, uid, claim))
	}
	return errors.Join(append(failed, s.sweepExports(ctx), s.sweepSnapshots(ctx))...)
}

// sweepClaim removes what belongs to a claim without an import.
func (s *sweeper) sweepClaim(ctx context.Context, uid types.UID, claim types.NamespacedName) error {
	alive, imported, err := s.wanted(ctx, uid, claim)
	if err != nil || imported {
		return err // the import controller sees to its own
	}
	gone, err := s.clearAttempts(ctx, ofClaim(uid))
	if err != nil || alive || !gone {
		return err
	}
	_, err = s.clearVolume(ctx, uid)
	return err
}

// owners lists the claims that something in the system namespace belongs to.
func (s *sweeper) owners(ctx context.Context) (map[types.UID]types.NamespacedName, error) {
	owners := map[types.UID]types.NamespacedName{}
	for _, list := range []client.ObjectList{
		&batchv1.JobList{}, &corev1.PodList{}, &corev1.SecretList{}, &corev1.ConfigMapList{}, &corev1.PersistentVolumeClaimList{},
	} {
		if err := s.live.List(ctx, list, client.InNamespace(s.namespace), client.HasLabels{labelClaimUID}); err != nil {
			return nil, fmt.Errorf("listing %T: %w", list, err)
		}
		err := meta.EachListItem(list, func(item runtime.Object) error {
			o, err := meta.Accessor(item)
			if err != nil {
				return err
			}
			if claim, ok := claimKey(o.GetAnnotations()); ok {
				owners[types.UID(o.GetLabels()[labelClaimUID])] = claim
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("reading %T: %w", list, err)
		}
	}
	return owners, nil
}

// reclaimOrphans has the volumes deleted that a retaining class kept for a PVC' that is gone: one
// that was made while its claim was being deleted.
func (s *sweeper) reclaimOrphans(ctx context.Context) error {
	var volumes corev1.PersistentVolumeList
	if err := s.client.List(ctx, &volumes, client.MatchingFields{indexReleased: s.namespace}); err != nil {
		return fmt.Errorf("listing released volumes: %w", err)
	}
	var failed []error
	for i := range volumes.Items {
		failed = append(failed, s.reclaim(ctx, &volumes.Items[i]))
	}
	return errors.Join(failed...)
}

// releasedFrom is the namespace of the PVC' that a released volume was for; empty for any other volume.
func releasedFrom(pv *corev1.PersistentVolume) string {
	ref := pv.Spec.ClaimRef
	if pv.Status.Phase != corev1.VolumeReleased || ref == nil || !strings.HasPrefix(ref.Name, primeName("")) {
		return ""
	}
	return ref.Namespace
}

// wanted reports whether a claim still exists and whether it has an import.
func (s *sweeper) wanted(ctx context.Context, uid types.UID, key types.NamespacedName) (alive, imported bool, err error) {
	claim := &corev1.PersistentVolumeClaim{}
	if err := s.live.Get(ctx, key, claim); err == nil {
		alive = claim.UID == uid
	} else if !apierrors.IsNotFound(err) {
		return false, false, fmt.Errorf("reading claim %s: %w", key, err)
	}
	imp := &v1alpha1.VMDiskImport{}
	if err := s.live.Get(ctx, key, imp); err == nil {
		imported = alive && owns(claim, imp)
	} else if !apierrors.IsNotFound(err) {
		return false, false, fmt.Errorf("reading VMDiskImport %s: %w", key, err)
	}
	return alive, imported, nil
}
