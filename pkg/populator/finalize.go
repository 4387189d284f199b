package populator

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
)

// finalize ends a deleted import: its attempt is stopped and nothing of it stays. It clears away what was
// made for this import, and nothing that only bears the UID of a claim: that anybody can write.
func (c *importController) finalize(ctx context.Context, imp *v1alpha1.VMDiskImport) (ctrl.Result, error) {
	c.leave(claimOf(imp))
	c.pace.forget(imp.UID)
	c.cleared.Delete(imp.UID)
	if !controllerutil.ContainsFinalizer(imp, finalizerImport) {
		return ctrl.Result{}, nil
	}
	if owed, err := c.handOverOwed(ctx, imp); err != nil || owed {
		return ctrl.Result{RequeueAfter: clearAgain}, err
	}
	if gone, err := c.clearAttempts(ctx, ofImport(imp.UID)); err != nil || !gone {
		return ctrl.Result{RequeueAfter: clearAgain}, err
	}
	if gone, err := c.clearedSince(ctx, imp, imp.DeletionTimestamp.Time); err != nil || !gone {
		return ctrl.Result{RequeueAfter: clearAgain}, err
	}
	controllerutil.RemoveFinalizer(imp, finalizerImport)
	if err := c.client.Update(ctx, imp); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	c.wake(claimOf(imp))
	return ctrl.Result{}, c.release(ctx, imp.Namespace, imp.Status.Reuses)
}

// handOverOwed reports whether a deleted import has succeeded and its volume is yet to be handed over. That
// cannot be called off: a new import could write to a volume that is on its way to the claim.
func (c *importController) handOverOwed(ctx context.Context, imp *v1alpha1.VMDiskImport) (bool, error) {
	if imp.Status.Phase != v1alpha1.PhaseSucceeded {
		return false, nil
	}
	claim := &corev1.PersistentVolumeClaim{}
	if err := c.live.Get(ctx, claimOf(imp), claim); err != nil {
		return false, client.IgnoreNotFound(err)
	}
	if !owns(claim, imp) || !claim.DeletionTimestamp.IsZero() || claim.Spec.VolumeName != "" {
		return false, nil
	}
	prime, err := c.prime(ctx, claim.UID)
	return err == nil && prime != nil && prime.UID == imp.Status.TargetUID && prime.DeletionTimestamp.IsZero(), err
}

// remove deletes this very import; the claim controller makes a new one if the claim still wants it.
func (c *importController) remove(ctx context.Context, imp *v1alpha1.VMDiskImport) error {
	err := c.client.Delete(ctx, imp, client.Preconditions{UID: &imp.UID})
	return client.IgnoreNotFound(err)
}
