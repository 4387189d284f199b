package populator

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
)

// claimController makes the VMDiskImport of a claim as soon as the claim is seen, so that one that
// waits for a class, a node or a quota says so, and clears up when the claim goes:
// lib-volume-populator does not once the source, the class or the node is gone.
type claimController struct {
	kinds  kinds
	events record.EventRecorder
	clock  clock.PassiveClock
	remains
	wake func(claim types.NamespacedName)
}

// Reconcile brings one claim's import in line with the claim.
func (c *claimController) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	claim := &corev1.PersistentVolumeClaim{}
	if err := c.client.Get(ctx, request.NamespacedName, claim); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	k, name := c.kinds.of(claim)
	if k == nil || claim.Namespace == c.namespace {
		c.warnOfAnnotation(claim)
		return ctrl.Result{}, nil
	}
	p := k.presence()
	switch {
	case p == presenceUnknown:
		return ctrl.Result{RequeueAfter: clearAgain}, nil
	case !claim.DeletionTimestamp.IsZero():
		return c.dissolve(ctx, claim)
	case p == presenceForeign:
		return ctrl.Result{}, nil
	case claim.Spec.VolumeName != "":
		return c.checkBound(ctx, claim)
	default:
		return c.ensureImport(ctx, claim, k, name)
	}
}

// ensureImport makes the import of a claim that is not bound yet.
func (c *claimController) ensureImport(ctx context.Context, claim *corev1.PersistentVolumeClaim, k *kind, name string) (ctrl.Result, error) {
	imp := &v1alpha1.VMDiskImport{}
	err := c.client.Get(ctx, client.ObjectKeyFromObject(claim), imp)
	if client.IgnoreNotFound(err) != nil {
		return ctrl.Result{}, fmt.Errorf("reading the claim's import: %w", err)
	}
	exists := err == nil
	if exists && !owns(claim, imp) {
		return c.nameTaken(claim, imp)
	}
	source, spec, waiting, err := c.askedFor(ctx, claim, k, name)
	if err != nil {
		return ctrl.Result{}, err
	}
	if source == nil || !begun(imp) && (spec == nil || !source.GetDeletionTimestamp().IsZero()) {
		if waiting == nil { // it is being deleted
			waiting = missing(k, claim, name)
		}
		result, err := c.withoutSource(ctx, claim, imp, waiting)
		if k.unwatched && result.RequeueAfter == 0 {
			result.RequeueAfter = followAgain
		}
		return result, err
	}
	if !exists {
		// First the hold on the source, then the import that needs it.
		if err := hold(ctx, c.client, source, k.finalizer); err != nil {
			return ctrl.Result{}, fmt.Errorf("holding %s %s: %w", k.name, name, err)
		}
		err := c.client.Create(ctx, newImport(claim, spec))
		if apierrors.IsInvalid(err) {
			// Nobody has checked a revision that was written by hand.
			return c.withoutSource(ctx, claim, imp, because(eventWaiting, "%s %s asks for an import that cannot be: %s", k.name, name, err))
		}
		if err != nil {
			return ctrl.Result{}, fmt.Errorf("creating the claim's import: %w", err)
		}
	}
	if void, err := c.isVoid(ctx, claim, imp); err != nil || void {
		if void {
			err = c.delete(ctx, imp, client.Preconditions{UID: &imp.UID})
		}
		return ctrl.Result{RequeueAfter: clearAgain}, err
	}
	if imp.Status.Phase == v1alpha1.PhaseSucceeded {
		return c.awaitHandOver(ctx, claim)
	}
	if err := c.openGate(ctx, claim); err != nil {
		return ctrl.Result{}, err
	}
	c.wake(client.ObjectKeyFromObject(claim))
	return ctrl.Result{}, nil
}

// awaitHandOver says when lib-volume-populator cannot hand the volume over: it does nothing for a claim
// whose class is gone.
func (c *claimController) awaitHandOver(ctx context.Context, claim *corev1.PersistentVolumeClaim) (ctrl.Result, error) {
	c.wake(client.ObjectKeyFromObject(claim))
	if claim.Spec.StorageClassName == nil {
		return ctrl.Result{}, nil
	}
	class, err := storageClass(ctx, c.client, *claim.Spec.StorageClassName)
	if err != nil {
		return ctrl.Result{}, err
	}
	if class == nil {
		c.events.Eventf(claim, corev1.EventTypeWarning, reasonHandOverWaits,
			"the disk is on its volume, but StorageClass %s was deleted: create it again, then the claim is bound", *claim.Spec.StorageClassName)
	}
	return ctrl.Result{RequeueAfter: askAgain}, nil
}

// isVoid reports whether an import has succeeded for nothing: PVC' was deleted before its volume could be
// handed over. Both are read from the API server, since the hand-over may be under way.
func (c *claimController) isVoid(ctx context.Context, claim *corev1.PersistentVolumeClaim, imp *v1alpha1.VMDiskImport) (bool, error) {
	if imp.Status.Phase != v1alpha1.PhaseSucceeded {
		return false, nil
	}
	prime, err := c.prime(ctx, claim.UID)
	if err != nil || prime != nil && prime.UID == imp.Status.TargetUID && prime.DeletionTimestamp.IsZero() {
		return false, err
	}
	pv := &corev1.PersistentVolume{}
	err = c.live.Get(ctx, types.NamespacedName{Name: imp.Status.VolumeName}, pv)
	if apierrors.IsNotFound(err) {
		return true, nil
	}
	// A volume that names the claim has been handed over, whatever became of PVC'.
	return err == nil && !boundTo(pv, claim), err
}

// newImport is the import of a claim, pinned to what its source asks for now.
func newImport(claim *corev1.PersistentVolumeClaim, spec *v1alpha1.VMDiskImportSpec) *v1alpha1.VMDiskImport {
	spec.ClaimRef = v1alpha1.ClaimReference{Name: claim.Name, UID: claim.UID}
	return &v1alpha1.VMDiskImport{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: claim.Namespace, Name: claim.Name,
			Labels:     map[string]string{labelName: "gild", labelManagedBy: managedByPopulator, labelClaimUID: string(claim.UID)},
			Finalizers: []string{finalizerImport},
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: "v1", Kind: "PersistentVolumeClaim", Name: claim.Name, UID: claim.UID,
				Controller: ptr.To(true), BlockOwnerDeletion: ptr.To(false),
			}},
		},
		Spec: *spec,
	}
}

// nameTaken handles an import that bears the claim's name and is not the claim's. That of an
// earlier claim goes by itself; one that somebody made by hand is not trusted.
func (c *claimController) nameTaken(claim *corev1.PersistentVolumeClaim, imp *v1alpha1.VMDiskImport) (ctrl.Result, error) {
	owner := metav1.GetControllerOf(imp)
	if imp.DeletionTimestamp.IsZero() && (owner == nil || owner.Kind != "PersistentVolumeClaim" || owner.Name != claim.Name || owner.UID == claim.UID) {
		c.events.Eventf(claim, corev1.EventTypeWarning, eventNameTaken,
			"a VMDiskImport named %s exists that was not made for this claim: delete it", imp.Name)
	}
	return ctrl.Result{RequeueAfter: askAgain}, nil
}

// withoutSource waits for what an import is made from, and drops one that has not begun.
func (c *claimController) withoutSource(ctx context.Context, claim *corev1.PersistentVolumeClaim, imp *v1alpha1.VMDiskImport, waiting *state) (ctrl.Result, error) {
	c.events.Event(claim, corev1.EventTypeWarning, waiting.reason, waiting.message)
	if imp.UID != "" && imp.DeletionTimestamp.IsZero() && !begun(imp) {
		if err := c.delete(ctx, imp, client.Preconditions{UID: &imp.UID}); err != nil {
			return ctrl.Result{}, err
		}
		return ctrl.Result{RequeueAfter: clearAgain}, nil
	}
	if imp.UID == "" || imp.Status.Phase == v1alpha1.PhaseFailed {
		gone, err := c.clearVolume(ctx, claim.UID)
		if err != nil || !gone {
			return ctrl.Result{RequeueAfter: clearAgain}, err
		}
	}
	return ctrl.Result{}, nil
}

// openGate lets lib-volume-populator go on with a claim that asks for immediate binding although
// its class waits for a consumer: it wants a node on the claim. PVC' is made without it.
func (c *claimController) openGate(ctx context.Context, claim *corev1.PersistentVolumeClaim) error {
	if !wantsImmediate(claim) || claim.Annotations[annotationSelectedNode] != "" || claim.Spec.StorageClassName == nil {
		return nil
	}
	class, err := storageClass(ctx, c.client, *claim.Spec.StorageClassName)
	if err != nil || class == nil || !waitsForConsumer(class) {
		return err
	}
	node, err := anyReadyNode(ctx, c.live)
	if err != nil {
		return err
	}
	before := claim.DeepCopy()
	metav1.SetMetaDataAnnotation(&claim.ObjectMeta, annotationSelectedNode, node)
	if err := c.client.Patch(ctx, claim, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
		return fmt.Errorf("asking for immediate binding: %w", err)
	}
	return nil
}

// dissolve clears up after a claim that is being deleted, whatever of its source, class or
// node still exists.
func (c *claimController) dissolve(ctx context.Context, claim *corev1.PersistentVolumeClaim) (ctrl.Result, error) {
	imp := &v1alpha1.VMDiskImport{}
	err := c.client.Get(ctx, client.ObjectKeyFromObject(claim), imp)
	switch {
	case client.IgnoreNotFound(err) != nil:
		return ctrl.Result{}, fmt.Errorf("reading the claim's import: %w", err)
	case err == nil && owns(claim, imp):
		if err := c.delete(ctx, imp, client.Preconditions{UID: &imp.UID}); err != nil {
			return ctrl.Result{}, err
		}
		return ctrl.Result{RequeueAfter: clearAgain}, nil
	}
	return c.letGo(ctx, claim)
}

// letGo removes PVC' and then lib-volume-populator's finalizer from a claim.
func (c *claimController) letGo(ctx context.Context, claim *corev1.PersistentVolumeClaim) (ctrl.Result, error) {
	if gone, err := c.clearAttempts(ctx, ofClaim(claim.UID)); err != nil || !gone {
		return ctrl.Result{RequeueAfter: clearAgain}, err
	}
	if gone, err := c.clearVolume(ctx, claim.UID); err != nil || !gone {
		return ctrl.Result{RequeueAfter: clearAgain}, err
	}
	before := claim.DeepCopy()
	if !controllerutil.RemoveFinalizer(claim, finalizerClaim) {
		return ctrl.Result{}, nil
	}
	err := c.client.Patch(ctx, claim, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
	return ctrl.Result{}, client.IgnoreNotFound(err)
}

// begun reports whether an import has done anything, or said that it cannot.
func begun(imp *v1alpha1.VMDiskImport) bool {
	return imp.Status.Attempts > 0 || imp.Status.Strategy != "" || len(imp.Status.PassedOver) > 0 || ended(imp)
}

// inFlight reports whether an import has begun and not ended.
func inFlight(imp *v1alpha1.VMDiskImport) bool {
	return begun(imp) && !ended(imp)
}
