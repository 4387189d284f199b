package populator

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/importer"
)

// start makes the next attempt, or says what it waits for.
func (c *importController) start(ctx context.Context, imp *v1alpha1.VMDiskImport, claim *corev1.PersistentVolumeClaim) (ctrl.Result, error) {
	if edited, err := c.imageEdited(ctx, imp); edited || err != nil {
		if err == nil {
			err = c.remove(ctx, imp)
		}
		return ctrl.Result{}, err
	}
	if imp.Spec.Format == v1alpha1.DiskFormatQcow2 && isBlock(claim) {
		return c.fail(ctx, imp, outcome{reason: reasonFormatNeedsFiles,
			message: "format qcow2 needs a Filesystem volume, and the claim has volumeMode Block: ask for format raw, or for a Filesystem claim"})
	}
	credentials, waiting, err := readCredentials(ctx, c.live, imp.Namespace, &imp.Spec.Source)
	if err != nil {
		return ctrl.Result{}, err
	}
	if waiting != nil {
		return c.wait(ctx, imp, *waiting)
	}
	target, waiting, err := c.target(ctx, claim)
	if err != nil {
		return ctrl.Result{}, err
	}
	if waiting != nil {
		c.wake(claimOf(imp))
		return c.wait(ctx, imp, *waiting)
	}
	running, err := c.running(ctx)
	if err != nil {
		return ctrl.Result{}, err
	}
	if why, ok := c.queue.enter(claim.UID, hostOf(&imp.Spec.Source), imp.CreationTimestamp.Time, running); !ok {
		return c.wait(ctx, imp, state{phase: v1alpha1.PhaseQueued, reason: reasonQueued, message: why})
	}
	if clean, err := c.ready(ctx, imp); err != nil || !clean {
		return ctrl.Result{RequeueAfter: clearAgain}, err
	}
	return c.launch(ctx, imp, &attempt{
		number: imp.Status.Attempts + 1, spec: imp.Spec, claim: claim, target: target,
		credentials: credentials, image: c.importerImage, template: c.template,
	})
}

// running lists the hosts of all imports that have a Job, by claim.
func (c *importController) running(ctx context.Context) (map[types.UID]string, error) {
	var jobs batchv1.JobList
	if err := c.client.List(ctx, &jobs, client.InNamespace(c.namespace), client.HasLabels{labelClaimUID}); err != nil {
		return nil, fmt.Errorf("listing Jobs: %w", err)
	}
	running := map[types.UID]string{}
	for i := range jobs.Items {
		running[types.UID(jobs.Items[i].Labels[labelClaimUID])] = jobs.Items[i].Annotations[annotationHost]
	}
	return running, nil
}

// target reads PVC' and proves that its volume is still its own: a volume that has been handed
// over must never be written to again.
func (c *importController) target(ctx context.Context, claim *corev1.PersistentVolumeClaim) (*corev1.PersistentVolumeClaim, *state, error) {
	prime := &corev1.PersistentVolumeClaim{}
	err := c.live.Get(ctx, types.NamespacedName{Namespace: c.namespace, Name: primeName(claim.UID)}, prime)
	if apierrors.IsNotFound(err) {
		waiting, err := c.volumeWaiting(ctx, claim)
		return nil, &waiting, err
	}
	if err != nil {
		return nil, nil, fmt.Errorf("reading PVC': %w", err)
	}
	if !prime.DeletionTimestamp.IsZero() {
		waiting := pending(reasonWaitingForVolume, "the volume of an earlier attempt is being deleted")
		return nil, &waiting, nil
	}
	if prime.Spec.VolumeName == "" {
		return prime, nil, nil
	}
	pv := &corev1.PersistentVolume{}
	if err := c.live.Get(ctx, types.NamespacedName{Name: prime.Spec.VolumeName}, pv); err != nil {
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
			class.Name, annotationBindImmediately), nil
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
	return c.clearAttempts(ctx, imp.Spec.ClaimRef.UID)
}

// launch creates the copies and the Job, then records the attempt. A crash in between is harmless:
// the Job's name is the attempt's, and nextStep takes up a Job that is ahead of the record.
func (c *importController) launch(ctx context.Context, imp *v1alpha1.VMDiskImport, a *attempt) (ctrl.Result, error) {
	for _, object := range a.credentials.objects(c.namespace, imp) {
		if err := c.client.Create(ctx, object); err != nil {
			return ctrl.Result{}, fmt.Errorf("copying what the source refers to: %w", err)
		}
	}
	job, err := importJob(a)
	if err != nil {
		return ctrl.Result{}, err
	}
	if err := c.client.Create(ctx, job); err != nil {
		return ctrl.Result{}, fmt.Errorf("creating Job %s: %w", job.Name, err)
	}
	starting := pending(reasonStarting, "the importer is starting")
	err = c.record(ctx, imp, starting, func(status *v1alpha1.VMDiskImportStatus) {
		status.Attempts = a.number
		status.NextAttemptTime = nil
		status.Progress = nil
		status.TargetUID = a.target.UID
		status.References = a.credentials.references
	})
	if err != nil {
		return ctrl.Result{}, err
	}
	c.tell(imp, corev1.EventTypeNormal, eventStarted, fmt.Sprintf("attempt %d: importing VMDiskImage %s", a.number, imp.Spec.ImageRef.Name))
	return ctrl.Result{RequeueAfter: progressInterval}, nil
}

// watch follows the attempt that runs.
func (c *importController) watch(ctx context.Context, imp *v1alpha1.VMDiskImport, job *batchv1.Job) (ctrl.Result, error) {
	if n := attemptOf(job); n > imp.Status.Attempts {
		// The Job was created and its record was not written, or is not in our cache yet.
		return ctrl.Result{RequeueAfter: clearAgain}, c.adopt(ctx, imp, job, n)
	}
	var pods corev1.PodList
	if err := c.client.List(ctx, &pods, client.InNamespace(c.namespace), client.MatchingLabels{
		labelClaimUID: string(imp.Spec.ClaimRef.UID), labelAttempt: strconv.Itoa(int(imp.Status.Attempts))}); err != nil {
		return ctrl.Result{}, fmt.Errorf("listing importer pods: %w", err)
	}
	if len(pods.Items) == 0 {
		if failed := jobFailed(job); failed != "" {
			return c.retry(ctx, imp, outcome{reason: reasonPodNotCreated, message: failed})
		}
		return c.wait(ctx, imp, noPod(c.eventsOf(ctx, job.Name)))
	}
	pod := &pods.Items[0]
	if o, ended := readOutcome(pod); ended {
		return c.conclude(ctx, imp, job, o)
	}
	if pod.Status.Phase == corev1.PodRunning {
		return c.report(ctx, imp, pod)
	}
	return c.wait(ctx, imp, podWaiting(pod, c.eventsOf(ctx, pod.Name, primeName(imp.Spec.ClaimRef.UID)), c.clock.Now()))
}

// adopt writes the record of an attempt whose Job exists already.
func (c *importController) adopt(ctx context.Context, imp *v1alpha1.VMDiskImport, job *batchv1.Job, n int32) error {
	credentials, _, err := readCredentials(ctx, c.live, imp.Namespace, &imp.Spec.Source)
	if err != nil {
		return err
	}
	return c.record(ctx, imp, pending(reasonStarting, "the importer is starting"), func(status *v1alpha1.VMDiskImportStatus) {
		status.Attempts = n
		status.NextAttemptTime = nil
		status.TargetUID = types.UID(job.Annotations[annotationTargetUID])
		if credentials != nil {
			status.References = credentials.references
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
	if p.TotalBytes > 0 {
		return fmt.Sprintf("%s: %s of %s, %s", message, formatBytes(p.TransferredBytes), formatBytes(p.TotalBytes), p.Rate)
	}
	return fmt.Sprintf("%s: %s, %s", message, formatBytes(p.TransferredBytes), p.Rate)
}

// conclude records how an attempt ended. Its Job and pod go only after that is written.
func (c *importController) conclude(ctx context.Context, imp *v1alpha1.VMDiskImport, job *batchv1.Job, o outcome) (ctrl.Result, error) {
	switch o.verdict {
	case verdictFailed:
		return c.fail(ctx, imp, o)
	case verdictRetry:
		return c.retry(ctx, imp, o)
	}
	// Success counts only for the volume that is there now.
	prime := &corev1.PersistentVolumeClaim{}
	err := c.live.Get(ctx, types.NamespacedName{Namespace: c.namespace, Name: primeName(imp.Spec.ClaimRef.UID)}, prime)
	if client.IgnoreNotFound(err) != nil {
		return ctrl.Result{}, fmt.Errorf("reading PVC': %w", err)
	}
	if string(prime.UID) != job.Annotations[annotationTargetUID] || prime.UID == "" || !prime.DeletionTimestamp.IsZero() {
		return c.retry(ctx, imp, outcome{reason: reasonVolumeReplaced, message: "the volume was deleted while it was being filled"})
	}
	finishing := state{phase: v1alpha1.PhaseVerifying, reason: reasonFinishing, message: "the disk is on its volume, the importer is being cleared away"}
	return ctrl.Result{RequeueAfter: clearAgain}, c.record(ctx, imp, finishing, func(status *v1alpha1.VMDiskImportStatus) {
		status.Result = importResult(&o.result, c.clock.Now())
		status.Progress = finalProgress(&o.result)
	})
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
	})
	if err != nil {
		return ctrl.Result{}, err
	}
	c.tell(imp, corev1.EventTypeWarning, eventFailed, o.reason+": "+o.message)
	return ctrl.Result{RequeueAfter: clearAgain}, nil
}

// wait records what the import waits for and looks again soon.
func (c *importController) wait(ctx context.Context, imp *v1alpha1.VMDiskImport, s state) (ctrl.Result, error) {
	return ctrl.Result{RequeueAfter: askAgain}, c.record(ctx, imp, s, nil)
}

// eventsOf reads the events of objects in the system namespace, where the user cannot look. They
// only explain a wait, so a failure to read them is none of the import.
func (c *importController) eventsOf(ctx context.Context, names ...string) []corev1.Event {
	var all []corev1.Event
	for _, name := range names {
		var list corev1.EventList
		if err := c.live.List(ctx, &list, client.InNamespace(c.namespace), client.MatchingFieldsSelector{
			Selector: fields.OneTermEqualSelector("involvedObject.name", name)}); err == nil {
			all = append(all, list.Items...)
		}
	}
	slices.SortStableFunc(all, byTime)
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
		SourceFormat: r.SourceFormat, VirtualSize: r.VirtualSize, Digest: r.Digest, ETag: r.ETag, LastModified: r.LastModified,
		TransferredBytes: r.TransferredBytes, WrittenBytes: r.WrittenBytes, ScratchBytes: r.ScratchBytes,
		Seconds: strconv.FormatFloat(r.Seconds, 'f', 1, 64), Time: metav1.NewTime(now),
	}
}

func finalProgress(r *importer.Result) *v1alpha1.ImportProgress {
	p := &v1alpha1.ImportProgress{
		TotalBytes: r.TransferredBytes, TransferredBytes: r.TransferredBytes, WrittenBytes: r.WrittenBytes, Percent: "100%",
	}
	if r.Seconds > 0 {
		p.Rate = formatBytes(int64(float64(r.TransferredBytes)/r.Seconds)) + "/s"
	}
	return p
}

// hostOf is the host that an import reads from, for the limit per host.
func hostOf(source *v1alpha1.DiskSource) string {
	if source.HTTP == nil {
		return ""
	}
	u, err := url.Parse(source.HTTP.URL)
	if err != nil {
		return ""
	}
	return u.Host
}
