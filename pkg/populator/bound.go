package populator

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/golden"
)

// checkBound looks at a claim that has a volume. Only the volume that its import filled holds the disk;
// any other was bound by the cluster, or by its user, because it happened to fit.
func (c *claimController) checkBound(ctx context.Context, claim *corev1.PersistentVolumeClaim) (ctrl.Result, error) {
	imp := &v1alpha1.VMDiskImport{}
	err := c.client.Get(ctx, client.ObjectKeyFromObject(claim), imp)
	if client.IgnoreNotFound(err) != nil {
		return ctrl.Result{}, fmt.Errorf("reading the claim's import: %w", err)
	}
	if err != nil || !owns(claim, imp) {
		return c.checkUnrecorded(ctx, claim)
	}
	if holdsDisk(claim, imp) {
		return c.settle(ctx, claim)
	}
	// Our view may be behind: the record itself decides.
	if err := c.live.Get(ctx, client.ObjectKeyFromObject(claim), imp); err != nil {
		return ctrl.Result{RequeueAfter: clearAgain}, client.IgnoreNotFound(err)
	}
	if holdsDisk(claim, imp) {
		return c.settle(ctx, claim)
	}
	if err := c.disown(ctx, claim, imp); err != nil {
		return ctrl.Result{}, err
	}
	return c.letGo(ctx, claim)
}

// holdsDisk reports whether a bound claim has the volume that its import filled.
func holdsDisk(claim *corev1.PersistentVolumeClaim, imp *v1alpha1.VMDiskImport) bool {
	return imp.Status.Phase == v1alpha1.PhaseSucceeded && imp.Status.VolumeName == claim.Spec.VolumeName
}

// foreignVolume says that a claim is bound to a volume that does not hold its disk.
func foreignVolume(claim *corev1.PersistentVolumeClaim) state {
	return state{phase: v1alpha1.PhaseFailed, reason: reasonForeignVolume, message: fmt.Sprintf(
		"the claim was bound to volume %s before it could be filled, so it does NOT hold the disk of %s %s: delete the claim and use a StorageClass that has no such volume",
		claim.Spec.VolumeName, claim.Spec.DataSourceRef.Kind, claim.Spec.DataSourceRef.Name)}
}

// disown records that the claim of an import has another volume.
func (c *claimController) disown(ctx context.Context, claim *corev1.PersistentVolumeClaim, imp *v1alpha1.VMDiskImport) error {
	before, foreign := imp.DeepCopy(), foreignVolume(claim)
	imp.Status.Result = nil
	foreign.apply(imp, c.clock.Now())
	if equality.Semantic.DeepEqual(before.Status, imp.Status) {
		return nil
	}
	if err := c.client.Status().Patch(ctx, imp, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
		return fmt.Errorf("writing the import's status: %w", err)
	}
	c.events.Event(claim, corev1.EventTypeWarning, reasonForeignVolume, foreign.message)
	return nil
}

// checkUnrecorded looks at a bound claim without an import: one whose record was deleted, or one that had
// a volume when it was first seen.
func (c *claimController) checkUnrecorded(ctx context.Context, claim *corev1.PersistentVolumeClaim) (ctrl.Result, error) {
	pv := &corev1.PersistentVolume{}
	if err := c.live.Get(ctx, types.NamespacedName{Name: claim.Spec.VolumeName}, pv); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if pv.Annotations[golden.AnnotationPopulatedFrom] == claim.Namespace+"/"+claim.Spec.DataSourceRef.Name {
		return c.settle(ctx, claim)
	}
	c.events.Event(claim, corev1.EventTypeWarning, reasonForeignVolume, foreignVolume(claim).message)
	return c.letGo(ctx, claim)
}

// settle ends what lib-volume-populator could not: it forgets a claim whose source or class is
// deleted between the bind and the moment at which PVC' is found lost.
func (c *claimController) settle(ctx context.Context, claim *corev1.PersistentVolumeClaim) (ctrl.Result, error) {
	if !controllerutil.ContainsFinalizer(claim, finalizerClaim) || claim.Status.Phase != corev1.ClaimBound {
		return ctrl.Result{}, nil
	}
	prime, err := c.prime(ctx, claim.UID)
	if err != nil {
		return ctrl.Result{}, err
	}
	if prime != nil && prime.Status.Phase != corev1.ClaimLost {
		return ctrl.Result{RequeueAfter: askAgain}, nil
	}
	return c.letGo(ctx, claim)
}
