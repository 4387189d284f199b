package populator

import (
	"context"
	"fmt"
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// remains clears away what imports leave in the system namespace. It reads from the API
// server, since a cache may not know yet what was made a moment ago.
type remains struct {
	client    client.Client
	live      client.Reader
	namespace string
}

// ofClaim selects all that was ever made for a claim.
func ofClaim(uid types.UID) client.MatchingLabels {
	return client.MatchingLabels{labelClaimUID: string(uid)}
}

// ofImport selects what was made for one import.
func ofImport(uid types.UID) client.MatchingLabels {
	return client.MatchingLabels{labelImportUID: string(uid)}
}

// clearAttempts stops and removes every Job and pod that is selected, then the copies of Secrets
// and ConfigMaps. gone is true once none is left; until then call it again. A pod goes
// before PVC' does: even one that has completed would hold it.
func (r *remains) clearAttempts(ctx context.Context, which client.MatchingLabels) (gone bool, err error) {
	selector := []client.ListOption{client.InNamespace(r.namespace), which}
	var jobs batchv1.JobList
	if err := r.live.List(ctx, &jobs, selector...); err != nil {
		return false, fmt.Errorf("listing Jobs: %w", err)
	}
	for i := range jobs.Items {
		if err := r.delete(ctx, &jobs.Items[i], client.PropagationPolicy(metav1.DeletePropagationBackground)); err != nil {
			return false, err
		}
	}
	var pods corev1.PodList
	if err := r.live.List(ctx, &pods, selector...); err != nil {
		return false, fmt.Errorf("listing importer pods: %w", err)
	}
	for i := range pods.Items {
		if err := r.deletePod(ctx, &pods.Items[i]); err != nil {
			return false, err
		}
	}
	if len(jobs.Items) > 0 || len(pods.Items) > 0 {
		return false, nil
	}
	return true, r.clearCopies(ctx, selector)
}

func (r *remains) clearCopies(ctx context.Context, selector []client.ListOption) error {
	var secrets corev1.SecretList
	if err := r.live.List(ctx, &secrets, selector...); err != nil {
		return fmt.Errorf("listing copied Secrets: %w", err)
	}
	for i := range secrets.Items {
		if err := r.delete(ctx, &secrets.Items[i]); err != nil {
			return err
		}
	}
	var configMaps corev1.ConfigMapList
	if err := r.live.List(ctx, &configMaps, selector...); err != nil {
		return fmt.Errorf("listing copied ConfigMaps: %w", err)
	}
	for i := range configMaps.Items {
		if err := r.delete(ctx, &configMaps.Items[i]); err != nil {
			return err
		}
	}
	return nil
}

// prime reads PVC' of a claim; nil when there is none.
func (r *remains) prime(ctx context.Context, claim types.UID) (*corev1.PersistentVolumeClaim, error) {
	prime := &corev1.PersistentVolumeClaim{}
	err := r.live.Get(ctx, types.NamespacedName{Namespace: r.namespace, Name: primeName(claim)}, prime)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading PVC': %w", err)
	}
	return prime, nil
}

// deletePod lets go of an importer pod. The object stays until the node has stopped its container.
func (r *remains) deletePod(ctx context.Context, pod *corev1.Pod) error {
	if pod.DeletionTimestamp.IsZero() {
		if err := r.delete(ctx, pod); err != nil {
			return err
		}
	}
	if grace := pod.DeletionGracePeriodSeconds; grace != nil && *grace == 0 && !stopped(pod) {
		return nil // deleted by force: without our finalizer it would be gone before its container is
	}
	i := slices.Index(pod.Finalizers, finalizerPod)
	if i < 0 {
		return nil
	}
	// The Job controller and others take their own finalizers away at the same time. A patch of the whole list would bring
	// theirs back, which the API server refuses; the version of a pod that ends changes too often to lock it.
	ours := fmt.Appendf(nil, `[{"op":"test","path":"/metadata/finalizers/%[1]d","value":%[2]q},{"op":"remove","path":"/metadata/finalizers/%[1]d"}]`, i, finalizerPod)
	err := r.client.Patch(ctx, pod, client.RawPatch(types.JSONPatchType, ours))
	if apierrors.IsInvalid(err) {
		return nil // ours has another place by now: the next call finds it
	}
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("letting go of pod %s: %w", pod.Name, err)
	}
	return nil
}

// stopped reports whether nothing of a pod runs any more, or ever did.
func stopped(pod *corev1.Pod) bool {
	return pod.Spec.NodeName == "" || pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// clearVolume removes PVC' of a claim together with the volume made for it, also where the class
// would retain it: half a disk is nothing to keep. A volume that has been handed over is not touched.
func (r *remains) clearVolume(ctx context.Context, claim types.UID) (gone bool, err error) {
	prime, err := r.prime(ctx, claim)
	if err != nil || prime == nil {
		return err == nil, err
	}
	if err := r.dropVolume(ctx, prime); err != nil {
		return false, err
	}
	// A volume that was made meanwhile changes the version, and is dropped on the next call.
	return false, r.delete(ctx, prime, client.Preconditions{UID: &prime.UID, ResourceVersion: &prime.ResourceVersion})
}

// dropVolume makes sure that the volume of PVC' goes with it, if it is still PVC's own.
func (r *remains) dropVolume(ctx context.Context, prime *corev1.PersistentVolumeClaim) error {
	if prime.Spec.VolumeName == "" {
		return nil
	}
	pv := &corev1.PersistentVolume{}
	err := r.live.Get(ctx, types.NamespacedName{Name: prime.Spec.VolumeName}, pv)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading volume %s: %w", prime.Spec.VolumeName, err)
	}
	if !boundTo(pv, prime) {
		return nil
	}
	return r.reclaim(ctx, pv)
}

// reclaim has a volume deleted when its claim is gone, unless somebody made it by hand.
func (r *remains) reclaim(ctx context.Context, pv *corev1.PersistentVolume) error {
	if pv.Annotations[annotationProvisionedBy] == "" || pv.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimDelete {
		return nil
	}
	before := pv.DeepCopy()
	pv.Spec.PersistentVolumeReclaimPolicy = corev1.PersistentVolumeReclaimDelete
	if err := r.client.Patch(ctx, pv, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
		return fmt.Errorf("letting volume %s go with its half-written disk: %w", pv.Name, err)
	}
	return nil
}

// delete deletes an object if it is there and not on its way already.
func (r *remains) delete(ctx context.Context, object client.Object, options ...client.DeleteOption) error {
	if !object.GetDeletionTimestamp().IsZero() {
		return nil
	}
	if err := r.client.Delete(ctx, object, options...); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("deleting %T %s: %w", object, object.GetName(), err)
	}
	return nil
}
