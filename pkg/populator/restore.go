package populator

import (
	"context"
	"fmt"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/credentials"
	"github.com/gild-project/gild/pkg/importer"
	"github.com/gild-project/gild/pkg/podevents"
)

const (
	// restorePatience is how long the storage may take to make a volume of a snapshot.
	restorePatience = 2 * time.Minute
	// failurePatience is how long it may report a failure all the while.
	failurePatience = time.Minute
)

// restore has the storage make the volume of PVC' from a snapshot. An importer only runs where work is left.
func (c *importController) restore(ctx context.Context, imp *v1alpha1.VMDiskImport, claim *corev1.PersistentVolumeClaim) (ctrl.Result, error) {
	if waiting, err := c.notGranted(ctx, imp); waiting != nil || err != nil {
		return c.letGoOfSource(ctx, imp, waiting, err)
	}
	prime, err := c.prime(ctx, claim.UID)
	if err != nil {
		return ctrl.Result{}, err
	}
	renewed := pending(reasonWaitingForVolume, "the volume of an earlier try is being deleted")
	switch {
	case prime == nil:
		return c.beginRestore(ctx, imp, claim)
	case !prime.DeletionTimestamp.IsZero():
		return c.wait(ctx, imp, &renewed, nil)
	case !madeBy(prime, v1alpha1.StrategySnapshot):
		_, err := c.clearVolume(ctx, claim.UID)
		return c.wait(ctx, imp, &renewed, err)
	}
	class, err := storageClass(ctx, c.client, *prime.Spec.StorageClassName)
	if err != nil {
		return ctrl.Result{}, err
	}
	if prime.Spec.VolumeName != "" {
		return c.restored(ctx, imp, claim, prime)
	}
	if strayed, err := c.strayed(ctx, claim, prime); err != nil || strayed {
		if err == nil {
			err = c.chooseNodeAgain(ctx, claim)
		}
		return c.wait(ctx, imp, &renewed, err)
	}
	if class != nil && waitsForConsumer(class) && wantsImmediate(claim) {
		return c.completeRestore(ctx, imp, claim, prime) // somebody must be the first consumer
	}
	why, waiting := c.restoring(ctx, imp, prime, prime.CreationTimestamp.Time)
	if why != "" {
		return c.passOver(ctx, imp, why)
	}
	return ctrl.Result{RequeueAfter: lookAgain}, c.record(ctx, imp, waiting, nil)
}

// madeBy reports whether PVC' was made for a strategy: one that is restored names a snapshot.
func madeBy(prime *corev1.PersistentVolumeClaim, strategy v1alpha1.Strategy) bool {
	return (prime.Spec.DataSource != nil) == (strategy == v1alpha1.StrategySnapshot)
}

// beginRestore waits until there is a snapshot to restore from, then for PVC'.
func (c *importController) beginRestore(ctx context.Context, imp *v1alpha1.VMDiskImport, claim *corev1.PersistentVolumeClaim) (ctrl.Result, error) {
	waiting, why, err := c.prepareSnapshot(ctx, imp)
	switch {
	case err != nil:
		return ctrl.Result{}, err
	case why != "":
		return c.passOver(ctx, imp, why)
	case waiting != nil:
		return ctrl.Result{RequeueAfter: clearAgain}, c.record(ctx, imp, *waiting, nil)
	}
	c.wake(claimOf(imp))
	volume, err := c.volumeWaiting(ctx, claim)
	return c.wait(ctx, imp, &volume, err)
}

// restoring says what the storage does, or why it is not waited for any longer.
func (c *importController) restoring(ctx context.Context, imp *v1alpha1.VMDiskImport, prime *corev1.PersistentVolumeClaim, since time.Time) (why string, s state) {
	now := c.clock.Now()
	failed := podevents.Latest(c.eventsOf(ctx, prime.UID), "ProvisioningFailed")
	switch {
	case failed != nil && now.Sub(since) > failurePatience && now.Sub(failed.FirstTimestamp.Time) > failurePatience:
		return "the storage cannot restore the snapshot: " + failed.Message, state{}
	case now.Sub(since) > restorePatience:
		return fmt.Sprintf("the storage has not restored the snapshot within %s", restorePatience), state{}
	case failed != nil:
		return "", blocked(reasonProvisioningFailed, "the storage cannot restore the snapshot: %s", failed.Message)
	}
	return "", state{phase: v1alpha1.PhaseImporting, reason: reasonRestoring, message: "the storage restores a snapshot of " + describeOrigin(imp)}
}

// restored looks at the volume that PVC' has got, and finishes unless work is left on it.
func (c *importController) restored(ctx context.Context, imp *v1alpha1.VMDiskImport, claim, prime *corev1.PersistentVolumeClaim) (ctrl.Result, error) {
	pv := &corev1.PersistentVolume{}
	err := c.live.Get(ctx, types.NamespacedName{Name: prime.Spec.VolumeName}, pv)
	switch {
	case apierrors.IsNotFound(err):
		renewed := pending(reasonWaitingForVolume, "the volume was deleted and is made again")
		_, err := c.clearVolume(ctx, claim.UID)
		return c.wait(ctx, imp, &renewed, err)
	case err != nil:
		return ctrl.Result{}, fmt.Errorf("reading volume %s: %w", prime.Spec.VolumeName, err)
	case !boundTo(pv, prime):
		waiting := blocked(reasonVolumeReplaced, "volume %s is no longer the import's own: nothing is done with it", pv.Name)
		return c.wait(ctx, imp, &waiting, nil)
	case !provisionedFor(pv, prime):
		return c.passOver(ctx, imp, notProvisioned(pv))
	}
	if follows(imp) {
		return c.completeRestore(ctx, imp, claim, prime)
	}
	end, err := c.endOfDisk(ctx, imp)
	if err != nil {
		return ctrl.Result{}, err
	}
	if isBlock(claim) && pv.Spec.Capacity.Storage().Value() > end || imp.Spec.Size != nil {
		return c.completeRestore(ctx, imp, claim, prime)
	}
	result, err := c.resultOfCopy(ctx, imp, &importer.Result{VirtualSize: end})
	if err != nil {
		return ctrl.Result{}, err
	}
	finishing := state{phase: v1alpha1.PhaseVerifying, reason: reasonFinishing, message: "the disk is on its volume"}
	return ctrl.Result{RequeueAfter: clearAgain}, c.record(ctx, imp, finishing, func(status *v1alpha1.VMDiskImportStatus) {
		status.Result, status.NextAttemptTime = result, nil
		status.VolumeName, status.TargetUID = prime.Spec.VolumeName, prime.UID
	})
}

// provisionedFor reports whether a volume was made for PVC'. Kubernetes binds any volume that fits, also to a
// claim that asks for the content of a snapshot.
func provisionedFor(pv *corev1.PersistentVolume, prime *corev1.PersistentVolumeClaim) bool {
	return pv.Spec.CSI != nil && pv.Annotations[annotationProvisionedBy] == pv.Spec.CSI.Driver && !pv.CreationTimestamp.Before(&prime.CreationTimestamp)
}

func notProvisioned(pv *corev1.PersistentVolume) string {
	return fmt.Sprintf("volume %s was bound, which the storage has not made from the snapshot: use a StorageClass that has no such volume", pv.Name)
}

// resultOf is the result of an attempt that has succeeded. why says that it is void, since the volume it ran on was
// not restored.
func (c *importController) resultOf(ctx context.Context, imp *v1alpha1.VMDiskImport, prime *corev1.PersistentVolumeClaim, job *batchv1.Job, found *importer.Result) (result *v1alpha1.ImportResult, why string, err error) {
	if !isCopy(imp) && !follows(imp) {
		result = importResult(found, c.clock.Now())
		if result.Content != importer.ContentFiles {
			result.Format = formatWritten(job)
		}
		return result, "", nil
	}
	if imp.Status.Strategy == v1alpha1.StrategySnapshot {
		pv := &corev1.PersistentVolume{}
		if err := c.live.Get(ctx, types.NamespacedName{Name: prime.Spec.VolumeName}, pv); err != nil {
			return nil, "", fmt.Errorf("reading volume %s: %w", prime.Spec.VolumeName, err)
		}
		if !provisionedFor(pv, prime) {
			return nil, notProvisioned(pv), nil
		}
	}
	if follows(imp) {
		return c.resultOfReuse(ctx, imp, found)
	}
	result, err = c.resultOfCopy(ctx, imp, found)
	if err == nil && imp.Status.Strategy == v1alpha1.StrategyCopy {
		result.Format = formatWritten(job)
	}
	return result, "", err
}

// endOfDisk is where the restored disk ends, in bytes: what comes after it on a larger volume is not of the disk.
func (c *importController) endOfDisk(ctx context.Context, imp *v1alpha1.VMDiskImport) (int64, error) {
	if follows(imp) {
		left, err := reusedSnapshot(ctx, c.snapshots, c.namespace, imp)
		if err != nil || left == nil {
			return 0, err
		}
		return leastSize(left), nil
	}
	source, err := c.copied(ctx, imp.Spec.CopyOf)
	if err != nil {
		return 0, err
	}
	name, err := snapshotOf(ctx, c.snapshots, c.namespace, imp)
	if err != nil || name == "" {
		return source.RestoreSize(), err
	}
	state, err := c.snapshots.Look(ctx, types.NamespacedName{Namespace: c.namespace, Name: name})
	if err != nil || state == nil || leastSize(state) == 0 {
		return source.RestoreSize(), err
	}
	// The source may have grown since.
	return leastSize(state), nil
}

// completeRestore runs the importer on a restored volume. Until the volume is there its pod waits, and is what
// the volume waits for.
func (c *importController) completeRestore(ctx context.Context, imp *v1alpha1.VMDiskImport, claim, prime *corev1.PersistentVolumeClaim) (ctrl.Result, error) {
	end, err := c.endOfDisk(ctx, imp)
	if err != nil {
		return ctrl.Result{}, err
	}
	if end == 0 && isBlock(claim) {
		return c.passOver(ctx, imp, "nobody says how large the snapshot is, so the rest of the volume cannot be cleared")
	}
	if clean, err := c.ready(ctx, imp); err != nil || !clean {
		return ctrl.Result{RequeueAfter: clearAgain}, err
	}
	spec := imp.Spec
	spec.Source = v1alpha1.DiskSource{} // it reads none
	found := &credentials.Credentials{}
	if follows(imp) {
		var waiting *state
		if found, waiting, err = c.proof(ctx, imp, &spec); waiting != nil || err != nil {
			return c.wait(ctx, imp, waiting, err)
		}
	}
	return c.launch(ctx, imp, &attempt{
		number: imp.Status.Attempts + 1, importUID: imp.UID, spec: spec, claim: claim, target: prime,
		complete: true, diskEnd: end, credentials: found, image: c.importerImage, template: c.template,
	})
}

// resultOfCopy is what is known of a disk that was restored or copied: what its source's import has found out, and
// what was found out now.
func (c *importController) resultOfCopy(ctx context.Context, imp *v1alpha1.VMDiskImport, found *importer.Result) (*v1alpha1.ImportResult, error) {
	now := c.clock.Now()
	if found.Seconds == 0 {
		found.Seconds = now.Sub(imp.CreationTimestamp.Time).Seconds()
	}
	result := importResult(found, now)
	if result.SourceFormat == "" {
		result.SourceFormat = importer.FormatRaw
	}
	if imp.Spec.CopyOf.Kind != v1alpha1.CopyOfClaim {
		return result, nil
	}
	source := &corev1.PersistentVolumeClaim{}
	err := c.client.Get(ctx, types.NamespacedName{Namespace: imp.Spec.CopyOf.Namespace, Name: imp.Spec.CopyOf.Name}, source)
	if err != nil || source.UID != imp.Spec.CopyOf.UID {
		if err == nil || apierrors.IsNotFound(err) {
			return result, nil
		}
		return nil, fmt.Errorf("reading %s: %w", describeCopied(imp.Spec.CopyOf), err)
	}
	made, err := c.importThatFilled(ctx, source)
	if err != nil {
		return nil, err
	}
	result.Format = formatLeft(made)
	if made == nil || made.Status.Result == nil {
		return result, nil
	}
	from := made.Status.Result
	result.VirtualSize, result.SourceFormat, result.Content = from.VirtualSize, from.SourceFormat, from.Content
	if imp.Status.Strategy != v1alpha1.StrategySnapshot {
		return result, nil
	}
	// Into any other volume somebody may have written since.
	kept, err := goldenSnapshot(ctx, c.snapshots, c.namespace, imp.Spec.CopyOf.UID)
	if kept != nil {
		result.Digest = from.Digest
	}
	return result, err
}
