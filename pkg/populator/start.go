package populator

import (
	"cmp"
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/golden"
)

// start makes the next attempt, or says what it waits for.
func (c *importController) start(ctx context.Context, imp *v1alpha1.VMDiskImport, claim *corev1.PersistentVolumeClaim) (ctrl.Result, error) {
	if c.undecided(imp, claim) {
		return ctrl.Result{RequeueAfter: askAgain}, nil
	}
	if edited, err := c.editedBefore(ctx, imp, claim); edited || err != nil {
		if err == nil {
			err = c.remove(ctx, imp)
		}
		return ctrl.Result{}, err
	}
	if imp.Spec.Format == v1alpha1.DiskFormatQcow2 && isBlock(claim) {
		return c.fail(ctx, imp, outcome{reason: reasonFormatNeedsFiles,
			message: "format qcow2 needs a Filesystem volume, and the claim has volumeMode Block: ask for format raw, or for a Filesystem claim"})
	}
	if registry := imp.Spec.Source.Registry; registry != nil && registry.Content == v1alpha1.ImageContentFiles && isBlock(claim) {
		return c.fail(ctx, imp, outcome{reason: reasonContentNeedsFiles,
			message: "content files needs a Filesystem volume, and the claim has volumeMode Block: ask for content rootfs, or for a Filesystem claim"})
	}
	if isCopy(imp) {
		switch imp.Status.Strategy {
		case v1alpha1.StrategySnapshot:
			return c.restore(ctx, imp, claim)
		case v1alpha1.StrategyCopy:
			return c.copyVolume(ctx, imp, claim)
		default:
			return c.choose(ctx, imp, claim)
		}
	}
	if imageStreamOf(&imp.Spec.Source) != "" && imp.Status.ResolvedReference == "" {
		return c.resolve(ctx, imp)
	}
	if restoresReused(imp) {
		return c.restore(ctx, imp, claim)
	}
	if waits, err := c.share(ctx, imp, claim); waits || err != nil {
		return ctrl.Result{RequeueAfter: followEvery}, err
	}
	source := sourceOf(imp)
	// The place comes first: nothing is read for an import that has to wait in line.
	if waiting, err := c.place(ctx, imp, hostOf(source)); waiting != nil || err != nil {
		return c.wait(ctx, imp, waiting, err)
	}
	found, waiting, err := readCredentials(ctx, c.live, imp.Namespace, source)
	if waiting != nil || err != nil {
		return c.wait(ctx, imp, waiting, err)
	}
	target, waiting, err := c.target(ctx, claim)
	if waiting != nil || err != nil {
		c.wake(claimOf(imp))
		return c.wait(ctx, imp, waiting, err)
	}
	if clean, err := c.ready(ctx, imp); err != nil || !clean {
		return ctrl.Result{RequeueAfter: clearAgain}, err
	}
	spec := imp.Spec
	spec.Source = *source
	return c.launch(ctx, imp, &attempt{
		number: imp.Status.Attempts + 1, importUID: imp.UID, spec: spec, claim: claim, target: target,
		credentials: found, scratch: imp.Status.ScratchRequired, image: c.importerImage, template: c.template,
	})
}

// place takes a place among the imports that run, or says why there is none.
func (c *importController) place(ctx context.Context, imp *v1alpha1.VMDiskImport, host string) (*state, error) {
	var pods corev1.PodList
	if err := c.client.List(ctx, &pods, client.InNamespace(c.namespace), client.HasLabels{labelClaimUID}); err != nil {
		return nil, fmt.Errorf("listing importer pods: %w", err)
	}
	running := map[types.NamespacedName]string{}
	for i := range pods.Items {
		if claim, ok := claimKey(pods.Items[i].Annotations); ok && scheduled(&pods.Items[i]) {
			running[claim] = pods.Items[i].Annotations[annotationHost]
		}
	}
	why, ok := c.queue.enter(claimOf(imp), host, imp.CreationTimestamp.Time, c.clock.Now(), running)
	if !ok {
		return &state{phase: v1alpha1.PhaseQueued, reason: reasonQueued, message: why}, nil
	}
	return nil, nil
}

// wait records what an import waits for and looks again soon. One that waits for something else than its
// turn gives up its place, and unless it waits for its volume others wait no longer for it.
func (c *importController) wait(ctx context.Context, imp *v1alpha1.VMDiskImport, s *state, err error) (ctrl.Result, error) {
	switch {
	case s != nil && s.phase == v1alpha1.PhaseQueued:
		c.leaders.keep(claimOf(imp), c.clock.Now())
	case s != nil && s.reason == reasonWaitingForVolume:
		c.queue.leave(claimOf(imp))
	default:
		c.leave(claimOf(imp))
	}
	if err != nil {
		return ctrl.Result{}, err
	}
	return ctrl.Result{RequeueAfter: askAgain}, c.record(ctx, imp, *s, nil)
}

// target reads PVC' and proves that its volume is still its own: a volume that has been handed
// over must never be written to again. Without a volume to write to it says what is waited for.
func (c *importController) target(ctx context.Context, claim *corev1.PersistentVolumeClaim) (*corev1.PersistentVolumeClaim, *state, error) {
	prime, err := c.prime(ctx, claim.UID)
	if err != nil {
		return nil, nil, err
	}
	if prime == nil {
		waiting, err := c.volumeWaiting(ctx, claim)
		return nil, &waiting, err
	}
	renewed := pending(reasonWaitingForVolume, "the volume of an earlier attempt is being deleted")
	if !prime.DeletionTimestamp.IsZero() {
		return nil, &renewed, nil
	}
	if !madeBy(prime, v1alpha1.StrategyImport) {
		_, err := c.clearVolume(ctx, claim.UID)
		return nil, &renewed, err
	}
	if prime.Spec.VolumeName == "" {
		strayed, err := c.strayed(ctx, claim, prime)
		if err == nil && strayed {
			return nil, &renewed, c.chooseNodeAgain(ctx, claim)
		}
		return prime, nil, err
	}
	pv := &corev1.PersistentVolume{}
	err = c.live.Get(ctx, types.NamespacedName{Name: prime.Spec.VolumeName}, pv)
	if apierrors.IsNotFound(err) {
		_, err := c.clearVolume(ctx, claim.UID)
		return nil, &renewed, err
	}
	if err != nil {
		return nil, nil, fmt.Errorf("reading volume %s: %w", prime.Spec.VolumeName, err)
	}
	if !boundTo(pv, prime) {
		waiting := blocked(reasonVolumeReplaced, "volume %s is no longer the import's own: nothing is written to it", pv.Name)
		return nil, &waiting, nil
	}
	return prime, nil, nil
}

// boundTo reports whether a volume is bound to this very claim, or on the way to be.
func boundTo(pv *corev1.PersistentVolume, claim *corev1.PersistentVolumeClaim) bool {
	ref := pv.Spec.ClaimRef
	return ref != nil && ref.Namespace == claim.Namespace && ref.Name == claim.Name && (ref.UID == claim.UID || ref.UID == "")
}

// strayed reports whether a storage driver has refused the node that the claim's consumer was given: its
// provisioner then takes the node off PVC', and the importer's node may be one that the consumer cannot use.
func (c *importController) strayed(ctx context.Context, claim, prime *corev1.PersistentVolumeClaim) (bool, error) {
	if wantsImmediate(claim) || claim.Spec.StorageClassName == nil ||
		prime.Annotations[annotationSelectedNode] == claim.Annotations[annotationSelectedNode] {
		return false, nil
	}
	class, err := storageClass(ctx, c.client, *claim.Spec.StorageClassName)
	return class != nil && waitsForConsumer(class), err
}

// chooseNodeAgain starts over with the choice of a node: without PVC', and without a node on the claim, the
// scheduler looks for one that suits the consumer again.
func (c *importController) chooseNodeAgain(ctx context.Context, claim *corev1.PersistentVolumeClaim) error {
	if _, err := c.clearVolume(ctx, claim.UID); err != nil {
		return err
	}
	before := claim.DeepCopy()
	delete(claim.Annotations, annotationSelectedNode)
	if err := c.client.Patch(ctx, claim, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
		return fmt.Errorf("asking for another node: %w", err)
	}
	return nil
}

// volumeWaiting says why there is no PVC' yet.
func (c *importController) volumeWaiting(ctx context.Context, claim *corev1.PersistentVolumeClaim) (state, error) {
	if claim.Spec.StorageClassName == nil {
		return pending(reasonWaitingForVolume, "making a volume"), nil
	}
	class, err := storageClass(ctx, c.client, *claim.Spec.StorageClassName)
	switch {
	case err != nil:
		return state{}, err
	case class == nil:
		return blocked(reasonStorageClassNotFound, "StorageClass %s does not exist: create it, the import goes on by itself", *claim.Spec.StorageClassName), nil
	case waitsForConsumer(class) && claim.Annotations[annotationSelectedNode] == "":
		return pending(reasonWaitForFirstConsumer, "StorageClass %s waits for the first pod that uses the claim; annotate the claim with %s=true to import at once",
			class.Name, golden.AnnotationBindImmediately), nil
	}
	return pending(reasonWaitingForVolume, "making a volume"), nil
}

// ready proves by the API server that the record is not outdated and that no pod of an earlier
// attempt is left: there are never two writers.
func (c *importController) ready(ctx context.Context, imp *v1alpha1.VMDiskImport) (bool, error) {
	now := &v1alpha1.VMDiskImport{}
	if err := c.live.Get(ctx, client.ObjectKeyFromObject(imp), now); err != nil {
		return false, client.IgnoreNotFound(err)
	}
	if now.ResourceVersion != imp.ResourceVersion || now.UID != imp.UID {
		return false, nil
	}
	return c.clearAttempts(ctx, ofClaim(imp.Spec.ClaimRef.UID))
}

// launch creates the copies and the Job, then records the attempt. A crash in between is harmless:
// the Job's name is the attempt's, and nextStep takes up a Job that is ahead of the record.
func (c *importController) launch(ctx context.Context, imp *v1alpha1.VMDiskImport, a *attempt) (ctrl.Result, error) {
	job, err := importJob(a)
	if err != nil {
		return ctrl.Result{}, err
	}
	for _, object := range append(copies(a.credentials, c.namespace, imp), client.Object(job)) {
		if err := c.client.Create(ctx, object); err != nil {
			return c.refused(ctx, imp, object, err)
		}
	}
	starting := pending(reasonStarting, "the importer is starting")
	err = c.record(ctx, imp, starting, func(status *v1alpha1.VMDiskImportStatus) {
		status.Attempts = a.number
		status.Strategy = cmp.Or(status.Strategy, v1alpha1.StrategyImport)
		status.NextAttemptTime = nil
		status.Progress = nil
		status.TargetUID = a.target.UID
		status.References = a.credentials.References
	})
	if err != nil {
		return ctrl.Result{}, err
	}
	if mayReuse(imp) && imp.Status.Reuses == nil {
		c.leaders.join(reuseKey(imp), claimOf(imp), c.clock.Now())
	}
	c.tell(imp, corev1.EventTypeNormal, eventStarted, a.describe())
	return ctrl.Result{RequeueAfter: progressInterval}, nil
}

// refused tells the user of an object that the API server does not take: a quota, an admission policy, a
// Secret that is too large. What was created before it is cleared away at the next start.
func (c *importController) refused(ctx context.Context, imp *v1alpha1.VMDiskImport, object client.Object, err error) (ctrl.Result, error) {
	if pulledByNode(&imp.Spec.Source) && refusesImageVolume(err) {
		return c.fail(ctx, imp, noImageVolumes("the API server says: "+err.Error()))
	}
	err = fmt.Errorf("creating %T %s: %w", object, object.GetName(), err)
	if apierrors.IsForbidden(err) || apierrors.IsInvalid(err) || apierrors.IsRequestEntityTooLargeError(err) || apierrors.IsBadRequest(err) {
		waiting := blocked(reasonPodNotCreated, "%s", err)
		return c.wait(ctx, imp, &waiting, nil)
	}
	return ctrl.Result{}, err
}
