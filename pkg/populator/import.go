package populator

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/importer"
)

const (
	// askAgain is how often something missing is asked for: a Secret that appears starts the
	// import within 10 s.
	askAgain = 5 * time.Second
	// clearAgain is how often remains are looked at while they go.
	clearAgain = time.Second
	// followAgain is how often a DataSource is followed that leads nowhere yet.
	followAgain = 15 * time.Second
)

// importController carries out VMDiskImports: one Job per attempt, and nothing left
// behind. It alone decides about attempts.
type importController struct {
	kinds   kinds
	logs    LogTail
	clock   clock.PassiveClock
	events  record.EventRecorder
	queue   *queue
	pace    *pace
	leaders *leaders

	// What copies are made with. copies is the operator's leave to read volumes over the network.
	snapshots snapshots
	grants    grants
	exports   exports
	copies    bool

	// cleared holds the failed imports that have been cleared up after, by UID.
	cleared sync.Map
	remains
	// wake makes lib-volume-populator look at a claim again.
	wake func(claim types.NamespacedName)

	importerImage string
	template      []byte
}

// Reconcile takes the next step of one import.
func (c *importController) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	imp := &v1alpha1.VMDiskImport{}
	if err := c.client.Get(ctx, request.NamespacedName, imp); err != nil {
		c.leave(request.NamespacedName)
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !imp.DeletionTimestamp.IsZero() {
		return c.finalize(ctx, imp)
	}
	claim := &corev1.PersistentVolumeClaim{}
	err := c.client.Get(ctx, types.NamespacedName{Namespace: imp.Namespace, Name: imp.Spec.ClaimRef.Name}, claim)
	if client.IgnoreNotFound(err) != nil {
		return ctrl.Result{}, fmt.Errorf("reading claim %s: %w", imp.Spec.ClaimRef.Name, err)
	}
	if !owns(claim, imp) {
		// Not ours, or the claim is gone and garbage collection will come: never act on it.
		c.leave(request.NamespacedName)
		return ctrl.Result{}, nil
	}
	if !claim.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, c.remove(ctx, imp)
	}
	if controllerutil.AddFinalizer(imp, finalizerImport) {
		return ctrl.Result{}, c.client.Update(ctx, imp)
	}
	return c.step(ctx, imp, claim)
}

// owns reports whether an import belongs to this very claim: a name alone proves nothing.
func owns(claim *corev1.PersistentVolumeClaim, imp *v1alpha1.VMDiskImport) bool {
	return claim.UID != "" && imp.Spec.ClaimRef.UID == claim.UID && metav1.IsControlledBy(imp, claim)
}

func (c *importController) step(ctx context.Context, imp *v1alpha1.VMDiskImport, claim *corev1.PersistentVolumeClaim) (ctrl.Result, error) {
	var jobs batchv1.JobList
	if err := c.client.List(ctx, &jobs, client.InNamespace(c.namespace), client.MatchingLabels{labelClaimUID: string(claim.UID)}); err != nil {
		return ctrl.Result{}, fmt.Errorf("listing Jobs: %w", err)
	}
	// A Job of an earlier import of this claim is none of this one's: start clears it away.
	own := slices.DeleteFunc(jobs.Items, func(job batchv1.Job) bool { return job.Labels[labelImportUID] != string(imp.UID) })
	next, job, wait := nextStep(imp, own, c.clock.Now())
	if claim.Spec.VolumeName != "" && next == stepStart {
		return ctrl.Result{}, nil // it has a volume already; the claim controller says whether it is ours
	}
	switch next {
	case stepFinish:
		return c.finish(ctx, imp, claim)
	case stepGiveUp:
		return c.giveUp(ctx, imp, claim)
	case stepWatch:
		return c.watch(ctx, imp, claim, job)
	case stepLost:
		return c.lost(ctx, imp)
	case stepRest:
		return c.rest(ctx, imp, claim, wait)
	default:
		return c.start(ctx, imp, claim)
	}
}

// finish clears up after success; only then is the import Ready and its volume handed over.
func (c *importController) finish(ctx context.Context, imp *v1alpha1.VMDiskImport, claim *corev1.PersistentVolumeClaim) (ctrl.Result, error) {
	c.leave(claimOf(imp))
	if imp.Status.Phase == v1alpha1.PhaseSucceeded {
		return ctrl.Result{}, nil
	}
	if gone, err := c.clearAttempts(ctx, ofClaim(imp.Spec.ClaimRef.UID)); err != nil || !gone {
		return ctrl.Result{RequeueAfter: clearAgain}, err
	}
	if gone, err := c.clearedSince(ctx, imp, imp.Status.Result.Time.Time); err != nil || !gone {
		return ctrl.Result{RequeueAfter: clearAgain}, err
	}
	// Whoever was allowed to copy at the start may not be any more.
	if waiting, err := c.notGranted(ctx, imp); waiting != nil || err != nil {
		return c.wait(ctx, imp, waiting, err)
	}
	if done, err := c.keepSnapshot(ctx, imp, claim); err != nil || !done {
		return ctrl.Result{RequeueAfter: clearAgain}, err
	}
	if done, err := c.leaveSnapshot(ctx, imp); err != nil || !done {
		return ctrl.Result{RequeueAfter: clearAgain}, err
	}
	done := state{phase: v1alpha1.PhaseSucceeded, reason: reasonSucceeded, message: succeeded(imp)}
	if err := c.record(ctx, imp, done, nil); err != nil {
		return ctrl.Result{}, err
	}
	c.tell(imp, corev1.EventTypeNormal, eventSucceeded, done.message)
	c.wake(claimOf(imp))
	return ctrl.Result{}, c.release(ctx, imp.Namespace, imp.Status.Reuses)
}

// succeeded sums up what is on the volume now.
func succeeded(imp *v1alpha1.VMDiskImport) string {
	r := imp.Status.Result
	if imp.Status.Strategy == v1alpha1.StrategySnapshot {
		return fmt.Sprintf("the disk of %s is on its volume: restored from a snapshot of %s in %s s", formatBytes(r.VirtualSize), describeOrigin(imp), r.Seconds)
	}
	if r.Content == importer.ContentFiles {
		return fmt.Sprintf("the files of the image are on their volume: %s read, %s written in %s s",
			formatBytes(r.TransferredBytes), formatBytes(r.WrittenBytes), r.Seconds)
	}
	if imp.Status.Strategy == v1alpha1.StrategyCopy {
		return fmt.Sprintf("the disk of %s is on its volume: %s read from %s in %s s", formatBytes(r.VirtualSize), formatBytes(r.TransferredBytes), describeCopied(imp.Spec.CopyOf), r.Seconds)
	}
	return fmt.Sprintf("the disk of %s is on its volume: %s, %s read in %s s",
		formatBytes(r.VirtualSize), r.SourceFormat, formatBytes(r.TransferredBytes), r.Seconds)
}

// giveUp clears up after an import that failed, PVC' with its volume included, and starts it anew
// when what it was made from has changed.
func (c *importController) giveUp(ctx context.Context, imp *v1alpha1.VMDiskImport, claim *corev1.PersistentVolumeClaim) (ctrl.Result, error) {
	if gone, err := c.clearFailed(ctx, imp); err != nil || !gone {
		return ctrl.Result{RequeueAfter: clearAgain}, err
	}
	anew, err := c.outdated(ctx, imp, claim)
	if err != nil {
		return ctrl.Result{}, err
	}
	if anew != "" {
		c.tell(imp, corev1.EventTypeNormal, eventRestarted, anew+": starting anew")
		return ctrl.Result{}, c.remove(ctx, imp)
	}
	if len(imp.Status.References) == 0 {
		return ctrl.Result{}, nil // a change of its source wakes it
	}
	return ctrl.Result{RequeueAfter: askAgain}, nil
}

// clearFailed removes what a failed import left, once: it may be looked at every few seconds for years.
func (c *importController) clearFailed(ctx context.Context, imp *v1alpha1.VMDiskImport) (gone bool, err error) {
	if _, done := c.cleared.Load(imp.UID); done {
		return true, nil
	}
	c.leave(claimOf(imp))
	if gone, err := c.clearAttempts(ctx, ofClaim(imp.Spec.ClaimRef.UID)); err != nil || !gone {
		return false, err
	}
	if gone, err := c.clearVolume(ctx, imp.Spec.ClaimRef.UID); err != nil || !gone {
		return false, err
	}
	if gone, err := c.clearedSince(ctx, imp, failedAt(imp)); err != nil || !gone {
		return false, err
	}
	if err := c.release(ctx, imp.Namespace, imp.Status.Reuses); err != nil {
		return false, err
	}
	c.cleared.Store(imp.UID, struct{}{})
	return true, nil
}

// failedAt is when an import failed; the zero time when it does not say.
func failedAt(imp *v1alpha1.VMDiskImport) time.Time {
	if imp.Status.LastFailure == nil {
		return time.Time{}
	}
	return imp.Status.LastFailure.Time.Time
}

// outdated says what has changed since the import was made; empty when nothing has.
func (c *importController) outdated(ctx context.Context, imp *v1alpha1.VMDiskImport, claim *corev1.PersistentVolumeClaim) (string, error) {
	if edited, err := c.sourceEdited(ctx, imp, claim); edited || err != nil {
		return c.kinds.ofImport(imp).edited, err
	}
	if other, err := changed(ctx, c.live, imp); other || err != nil {
		return fmt.Sprintf("a Secret, ConfigMap or service account that the %s uses was changed", kindOf(imp)), err
	}
	return "", nil
}

// rest clears up after an attempt and waits for the time of the next one. An edit of the
// source ends the wait: the user has mended something.
func (c *importController) rest(ctx context.Context, imp *v1alpha1.VMDiskImport, claim *corev1.PersistentVolumeClaim, wait time.Duration) (ctrl.Result, error) {
	c.leave(claimOf(imp))
	if gone, err := c.clearAttempts(ctx, ofClaim(imp.Spec.ClaimRef.UID)); err != nil || !gone {
		return ctrl.Result{RequeueAfter: clearAgain}, err
	}
	// Nobody is kept from the source meanwhile.
	if gone, err := c.clearCopied(ctx, imp); err != nil || !gone {
		return ctrl.Result{RequeueAfter: clearAgain}, err
	}
	if edited, err := c.editedBefore(ctx, imp, claim); edited || err != nil {
		if err == nil {
			err = c.remove(ctx, imp)
		}
		return ctrl.Result{}, err
	}
	return ctrl.Result{RequeueAfter: wait}, nil
}

// lost handles a Job that is recorded but not there: somebody deleted it. The API server has
// the last word, since our cache may be behind our own writes.
func (c *importController) lost(ctx context.Context, imp *v1alpha1.VMDiskImport) (ctrl.Result, error) {
	key := types.NamespacedName{Namespace: c.namespace, Name: jobName(imp.Spec.ClaimRef.UID, imp.Status.Attempts)}
	err := c.live.Get(ctx, key, &batchv1.Job{})
	switch {
	case err == nil:
		return ctrl.Result{RequeueAfter: clearAgain}, nil
	case !apierrors.IsNotFound(err):
		return ctrl.Result{}, fmt.Errorf("reading Job %s: %w", key.Name, err)
	}
	return c.retry(ctx, imp, outcome{reason: reasonAttemptLost, message: "the Job of the attempt was deleted"})
}

// record writes a state and what change adds to it, if that makes a difference. A write from an
// outdated view of the import is refused by the API server and tried again.
func (c *importController) record(ctx context.Context, imp *v1alpha1.VMDiskImport, s state, change func(*v1alpha1.VMDiskImportStatus)) error {
	before := imp.DeepCopy()
	if change != nil {
		change(&imp.Status)
	}
	s.apply(imp, c.clock.Now())
	if equality.Semantic.DeepEqual(before.Status, imp.Status) {
		return nil
	}
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	if err := c.client.Status().Patch(ctx, imp, patch); err != nil {
		return fmt.Errorf("writing the import's status: %w", err)
	}
	if s.warn {
		c.tell(imp, corev1.EventTypeWarning, eventWaiting, s.reason+": "+s.message)
	}
	return nil
}

// tell makes an event on the claim, where its user looks.
func (c *importController) tell(imp *v1alpha1.VMDiskImport, eventType, reason, message string) {
	claim := &corev1.PersistentVolumeClaim{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "PersistentVolumeClaim"},
		ObjectMeta: metav1.ObjectMeta{Namespace: imp.Namespace, Name: imp.Spec.ClaimRef.Name, UID: imp.Spec.ClaimRef.UID},
	}
	c.events.Event(claim, eventType, reason, message)
}

func claimOf(imp *v1alpha1.VMDiskImport) types.NamespacedName {
	return types.NamespacedName{Namespace: imp.Namespace, Name: imp.Spec.ClaimRef.Name}
}
