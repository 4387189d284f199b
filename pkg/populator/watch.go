package populator

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/credentials"
	"github.com/gild-project/gild/pkg/importer"
	"github.com/gild-project/gild/pkg/podevents"
)

// lookAgain is how often a pod that does not run yet is looked at; each look reads events.
const lookAgain = 8 * time.Second

// watch follows the attempt that runs.
func (c *importController) watch(ctx context.Context, imp *v1alpha1.VMDiskImport, claim *corev1.PersistentVolumeClaim, job *batchv1.Job) (ctrl.Result, error) {
	if n := attemptOf(job); n > imp.Status.Attempts {
		// The Job was created and its record was not written, or is not in our cache yet.
		return ctrl.Result{RequeueAfter: clearAgain}, c.adopt(ctx, imp, job, n)
	}
	if volumesDropped(imp, job) {
		return c.fail(ctx, imp, noImageVolumes("the API server drops them"))
	}
	var pods corev1.PodList
	if err := c.client.List(ctx, &pods, client.InNamespace(c.namespace), client.MatchingLabels{
		labelImportUID: string(imp.UID), labelAttempt: strconv.Itoa(int(imp.Status.Attempts))}); err != nil {
		return ctrl.Result{}, fmt.Errorf("listing importer pods: %w", err)
	}
	if len(pods.Items) == 0 {
		if failed := jobFailed(job); failed != "" {
			return c.retry(ctx, imp, outcome{reason: reasonPodNotCreated, message: failed})
		}
		return ctrl.Result{RequeueAfter: lookAgain}, c.record(ctx, imp, noPod(c.eventsOf(ctx, job.UID)), nil)
	}
	pod := &pods.Items[0]
	if o, ended := readOutcome(pod); ended {
		return c.conclude(ctx, imp, job, ofNodePull(pod, o))
	}
	switch {
	case unreachable(pod, c.clock.Now()):
		return ctrl.Result{RequeueAfter: lookAgain}, c.record(ctx, imp, blocked(reasonNodeUnreachable,
			"node %s does not answer: the import goes on when it does, or starts again elsewhere once the node's pods are known to have ended", pod.Spec.NodeName), nil)
	case pod.Status.Phase == corev1.PodRunning:
		if o, err := c.disturbed(ctx, imp); o != nil || err != nil {
			return c.interrupt(ctx, imp, o, err)
		}
		return c.report(ctx, imp, pod)
	}
	return c.explain(ctx, imp, claim, pod)
}

// explain says what keeps a pod from running.
func (c *importController) explain(ctx context.Context, imp *v1alpha1.VMDiskImport, claim *corev1.PersistentVolumeClaim, pod *corev1.Pod) (ctrl.Result, error) {
	prime, err := c.prime(ctx, claim.UID)
	if err != nil {
		return ctrl.Result{}, err
	}
	uids := []types.UID{pod.UID}
	if prime != nil && prime.Spec.VolumeName == "" {
		uids = append(uids, prime.UID)
		if imp.Status.Strategy == v1alpha1.StrategySnapshot && prime.Annotations[annotationSelectedNode] != "" {
			if why, _ := c.restoring(ctx, imp, prime, pod.CreationTimestamp.Time); why != "" {
				return c.passOver(ctx, imp, why)
			}
		}
		strayed, err := c.strayed(ctx, claim, prime)
		if err != nil {
			return ctrl.Result{}, err
		}
		if strayed && !scheduled(pod) {
			return c.retry(ctx, imp, outcome{reason: reasonNodeRefused, message: "the storage class has no room on the node of the claim's consumer: another one is asked for"})
		}
	}
	events := c.eventsOf(ctx, uids...)
	if o, ok := nodeCannot(pod, events); ok {
		return c.fail(ctx, imp, o)
	}
	return ctrl.Result{RequeueAfter: lookAgain}, c.record(ctx, imp, podWaiting(pod, events, c.clock.Now()), nil)
}

// adopt writes the record of an attempt whose Job exists already.
func (c *importController) adopt(ctx context.Context, imp *v1alpha1.VMDiskImport, job *batchv1.Job, n int32) error {
	var found *credentials.Credentials
	if !isCopy(imp) {
		var err error
		if found, _, err = readCredentials(ctx, c.live, imp.Namespace, sourceOf(imp)); err != nil {
			return err
		}
	}
	return c.record(ctx, imp, pending(reasonStarting, "the importer is starting"), func(status *v1alpha1.VMDiskImportStatus) {
		status.Attempts = n
		status.NextAttemptTime = nil
		if status.Strategy == "" { // it was launched before it could follow
			status.Strategy, status.Reuses = v1alpha1.StrategyImport, nil
		}
		status.TargetUID = types.UID(job.Annotations[annotationTargetUID])
		if found != nil {
			status.References = found.References
		}
	})
}

// report writes progress, at most once in progressInterval.
func (c *importController) report(ctx context.Context, imp *v1alpha1.VMDiskImport, pod *corev1.Pod) (ctrl.Result, error) {
	again := ctrl.Result{RequeueAfter: progressInterval}
	running := state{phase: v1alpha1.PhaseImporting, reason: reasonImporting, message: "the disk is being imported"}
	if imp.Status.Phase != v1alpha1.PhaseImporting && imp.Status.Phase != v1alpha1.PhaseVerifying {
		return again, c.record(ctx, imp, running, nil)
	}
	if wait := c.pace.wait(imp.UID, c.clock.Now()); wait > 0 {
		return ctrl.Result{RequeueAfter: wait}, nil
	}
	tail, err := c.logs(ctx, pod.Namespace, pod.Name)
	if err != nil {
		// No node, no log: the import itself goes on, and its end is read from the pod.
		ctrl.LoggerFrom(ctx).V(1).Info("No progress to be had", "pod", pod.Name, "why", err.Error())
		return again, nil
	}
	p, ok := parseProgress(tail)
	if !ok {
		return again, nil
	}
	if p.Phase == importer.Verifying {
		running = state{phase: v1alpha1.PhaseVerifying, reason: reasonVerifying, message: "the volume is being synced and checked"}
	}
	progress := progressStatus(p)
	running.message = describe(running.message, progress)
	return again, c.record(ctx, imp, running, func(status *v1alpha1.VMDiskImportStatus) { status.Progress = progress })
}

// describe adds the bytes to a message, for kubectl describe.
func describe(message string, p *v1alpha1.ImportProgress) string {
	message += ": " + formatBytes(p.TransferredBytes)
	if p.TotalBytes > 0 {
		message += " of " + formatBytes(p.TotalBytes)
	}
	if p.Rate != "" {
		message += " at " + p.Rate
	}
	return message
}

// conclude records how an attempt ended. Its Job and pod go only after that is written.
func (c *importController) conclude(ctx context.Context, imp *v1alpha1.VMDiskImport, job *batchv1.Job, o outcome) (ctrl.Result, error) {
	switch o.verdict {
	case verdictFailed:
		if o.reason == string(importer.ScratchRequired) && !imp.Status.ScratchRequired {
			return c.grantScratch(ctx, imp, o)
		}
		if imp.Status.Strategy == v1alpha1.StrategyCopy && (o.reason == string(importer.SourceChanged) || o.reason == string(importer.HostNotFound)) {
			// Somebody has written to the volume meanwhile, or the exporter was away: it has no name then.
			return c.retry(ctx, imp, o)
		}
		if imp.Status.Strategy == v1alpha1.StrategyCopy && o.exit == importer.ExitSource {
			return c.passOver(ctx, imp, o.reason+": "+o.message)
		}
		if restoresReused(imp) && !alsoOfAnImport(&o) {
			return c.passOver(ctx, imp, o.reason+": "+o.message)
		}
		return c.fail(ctx, imp, c.advise(imp, o))
	case verdictRetry:
		return c.retry(ctx, imp, o)
	}
	// Success counts only for the volume that is there now.
	prime, err := c.prime(ctx, imp.Spec.ClaimRef.UID)
	if err != nil {
		return ctrl.Result{}, err
	}
	if prime == nil || string(prime.UID) != job.Annotations[annotationTargetUID] || prime.Spec.VolumeName == "" || !prime.DeletionTimestamp.IsZero() {
		return c.retry(ctx, imp, outcome{reason: reasonVolumeReplaced, message: "the volume was deleted while it was being filled"})
	}
	if o, err := c.disturbed(ctx, imp); o != nil || err != nil {
		return c.interrupt(ctx, imp, o, err)
	}
	result, why, err := c.resultOf(ctx, imp, prime, job, &o.result)
	switch {
	case err != nil:
		return ctrl.Result{}, err
	case why != "":
		return c.passOver(ctx, imp, why)
	}
	finishing := state{phase: v1alpha1.PhaseVerifying, reason: reasonFinishing, message: "the disk is on its volume, the importer is being cleared away"}
	return ctrl.Result{RequeueAfter: clearAgain}, c.record(ctx, imp, finishing, func(status *v1alpha1.VMDiskImportStatus) {
		status.Result = result
		status.VolumeName = prime.Spec.VolumeName
		status.Progress = finalProgress(status.Progress, &o.result)
	})
}

// interrupt gives up an attempt for now.
func (c *importController) interrupt(ctx context.Context, imp *v1alpha1.VMDiskImport, o *outcome, err error) (ctrl.Result, error) {
	if err != nil {
		return ctrl.Result{}, err
	}
	return c.retry(ctx, imp, *o)
}

// advise adds to a failure what the importer cannot know: what becomes of an import that is pinned to what a
// poll has found.
func (c *importController) advise(imp *v1alpha1.VMDiskImport, o outcome) outcome {
	if k := c.kinds.ofImport(imp); k != nil && k.moved != "" && imp.Spec.Pin != nil && o.reason == string(importer.SourceChanged) {
		o.message += ": " + k.moved
	}
	return o
}

// grantScratch has the next attempt made at once, with scratch space.
func (c *importController) grantScratch(ctx context.Context, imp *v1alpha1.VMDiskImport, o outcome) (ctrl.Result, error) {
	now := metav1.NewTime(c.clock.Now().Truncate(time.Second))
	err := c.record(ctx, imp, pending(o.reason, "the image cannot be read where it is: the next attempt gets scratch space"), func(status *v1alpha1.VMDiskImportStatus) {
		status.ScratchRequired = true
		status.NextAttemptTime = &now
	})
	return ctrl.Result{RequeueAfter: clearAgain}, err
}

// retry records a failure that may pass and when the next attempt is made.
func (c *importController) retry(ctx context.Context, imp *v1alpha1.VMDiskImport, o outcome) (ctrl.Result, error) {
	now := c.clock.Now()
	wait := backoff(imp.Status.Attempts, o.retryAfter)
	next := metav1.NewTime(now.Add(wait).Truncate(time.Second))
	s := pending(o.reason, "attempt %d: %s; the next one starts at %s", imp.Status.Attempts, o.message, next.UTC().Format(time.TimeOnly))
	err := c.record(ctx, imp, s, func(status *v1alpha1.VMDiskImportStatus) {
		status.LastFailure = &v1alpha1.ImportFailure{Reason: o.reason, Message: o.message, Time: metav1.NewTime(now)}
		status.NextAttemptTime = &next
	})
	if err != nil {
		return ctrl.Result{}, err
	}
	c.tell(imp, corev1.EventTypeWarning, eventRetry, o.reason+": "+s.message)
	return ctrl.Result{RequeueAfter: clearAgain}, nil
}

// fail records a failure that will not pass.
func (c *importController) fail(ctx context.Context, imp *v1alpha1.VMDiskImport, o outcome) (ctrl.Result, error) {
	err := c.record(ctx, imp, state{phase: v1alpha1.PhaseFailed, reason: o.reason, message: o.message}, func(status *v1alpha1.VMDiskImportStatus) {
		status.LastFailure = &v1alpha1.ImportFailure{Reason: o.reason, Message: o.message, Time: metav1.NewTime(c.clock.Now())}
		status.NextAttemptTime = nil
		if o.passedOver != nil {
			status.PassedOver = o.passedOver
		}
	})
	if err != nil {
		return ctrl.Result{}, err
	}
	c.tell(imp, corev1.EventTypeWarning, eventFailed, o.reason+": "+o.message)
	return ctrl.Result{RequeueAfter: clearAgain}, nil
}

// eventsOf reads the events of objects in the system namespace, where the user cannot look. They
// only explain a wait, so a failure to read them is none of the import.
func (c *importController) eventsOf(ctx context.Context, uids ...types.UID) []corev1.Event {
	var all []corev1.Event
	for _, uid := range uids {
		var list corev1.EventList
		if err := c.live.List(ctx, &list, client.InNamespace(c.namespace), client.MatchingFieldsSelector{
			Selector: fields.OneTermEqualSelector("involvedObject.uid", string(uid))}); err == nil {
			all = append(all, list.Items...)
		}
	}
	slices.SortStableFunc(all, podevents.ByTime)
	return all
}

func jobFailed(job *batchv1.Job) string {
	for _, condition := range job.Status.Conditions {
		if condition.Type == batchv1.JobFailed && condition.Status == corev1.ConditionTrue {
			return condition.Message
		}
	}
	return ""
}

func importResult(r *importer.Result, now time.Time) *v1alpha1.ImportResult {
	return &v1alpha1.ImportResult{
		Content: r.Content, SourceFormat: r.SourceFormat, VirtualSize: r.VirtualSize, Digest: r.Digest, ETag: r.ETag, LastModified: r.LastModified,
		TransferredBytes: r.TransferredBytes, WrittenBytes: r.WrittenBytes, ScratchBytes: r.ScratchBytes, Passes: r.Passes,
		Seconds: strconv.FormatFloat(r.Seconds, 'f', 1, 64), Time: metav1.NewTime(now),
	}
}

// finalProgress is that of an import that is done. What came may be less than the source has, or more: the
// result says it.
func finalProgress(before *v1alpha1.ImportProgress, r *importer.Result) *v1alpha1.ImportProgress {
	total := r.TransferredBytes
	if before != nil && before.TotalBytes > 0 {
		total = before.TotalBytes
	}
	p := &v1alpha1.ImportProgress{TotalBytes: total, TransferredBytes: total, WrittenBytes: r.WrittenBytes, Percent: "100%"}
	if r.Seconds > 0 {
		p.Rate = formatBytes(int64(float64(r.TransferredBytes)/r.Seconds)) + "/s"
	}
	return p
}
