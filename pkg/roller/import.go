package roller

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"github.com/gild-project/gild/pkg/golden"
)

// importWait is how long a claim may have no import before that is told.
const importWait = time.Minute

// fill takes the next step towards a claim that holds the desired revision. It returns the current
// claim when that turns out to hold the same bytes.
func (d *decision) fill(pending *goldenClaim) *goldenClaim {
	if pending == nil {
		d.create()
		return nil
	}
	d.plan.cron.Status.CurrentImports = []cdiv1.ImportStatus{{DataVolumeName: pending.Name, Digest: d.desired.Digest}}
	digest, filled := pending.result()
	switch {
	case filled && d.isSame(digest):
		return d.current()
	case filled:
		// What is said of the import stays as it is: soon it is said that all is done.
		if !outdated(d.plan.cron) {
			d.upToDate(corev1.ConditionFalse, reasonOutdated, messageOutdated)
		}
		d.add(step{do: verifyClaim, seen: pending, result: "succeeded", claim: pending.with(map[string]string{
			golden.AnnotationVerified: digest, golden.AnnotationLastUseTime: d.useTime(pending)})})
	case pending.failed():
		d.failed(pending)
	default:
		d.importing(pending)
	}
	return nil
}

// isSame reports whether the current claim holds bytes of a digest.
func (d *decision) isSame(digest string) bool {
	current := d.current()
	return digest != unknownDigest && current != nil && d.onClass(current) && current.Annotations[golden.AnnotationVerified] == digest
}

// importing tells how an import goes that has neither failed nor succeeded.
func (d *decision) importing(pending *goldenClaim) {
	reason, message := pending.says()
	detail := ""
	if message != "" {
		detail = ": " + reason + ": " + message
	}
	if pending.imp == nil && pending.Status.Phase != corev1.ClaimBound {
		if wait := pending.CreationTimestamp.Add(importWait).Sub(d.now); wait > 0 {
			d.after(wait)
		} else {
			detail = ": claim " + pending.Name + " has no import yet; its events say why"
		}
	}
	switch {
	case pending.Status.Phase == corev1.ClaimBound:
		d.importFailed(reasonForeignVolume, "the golden claim "+pending.Name+" was bound to a volume that its import has not filled: use a StorageClass that has no such volume, then delete the claim")
	case pending.imp == nil || pending.imp.Status.Attempts == 0 && pending.imp.Status.Strategy == "":
		d.progressing(corev1.ConditionFalse, reasonScheduled, messageScheduled+detail)
		d.upToDate(corev1.ConditionFalse, reasonOutdated, messageOutdated)
	default:
		// How far it is, is told by the import itself: this is written only when it halts.
		if pending.imp.Status.NextAttemptTime == nil {
			detail = ""
		}
		d.progressing(corev1.ConditionTrue, reasonProgressing, messageProgressing+detail)
		d.upToDate(corev1.ConditionFalse, reasonProgressing, messageProgressing)
	}
}

// failed counts the failure of an import, and has it start anew when its time has come.
func (d *decision) failed(pending *goldenClaim) {
	reason, message := pending.says()
	if pending.Status.Phase == corev1.ClaimBound {
		d.importFailed(reason, message)
		return
	}
	count := failuresOf(pending)
	name, at := failureOf(pending.imp)
	isNew := count.Last != name
	if isNew {
		count = failures{Count: count.Count + 1, Last: name}
		d.add(step{do: countFailure, seen: pending, claim: pending.with(map[string]string{annotationFailures: count.String()}), result: "failed",
			tell: event{corev1.EventTypeWarning, eventImportFailed, fmt.Sprintf("importing %s to %s: %s: %s", d.desired.Digest, pending.Name, reason, message)}})
	}
	due := at.Add(retryAfter(count.Count))
	if reason == reasonSourceChanged {
		// What was polled is no longer served: only a poll finds what is, and has its time before
		// the same is tried again.
		if polled := d.pollAgain(pending, name, at).Add(firstRetry); due.Before(polled) {
			due = polled
		}
	}
	d.importFailed(reason, fmt.Sprintf("%s; try %d starts at %s", message, count.Count+1, clockTime(due)))
	switch wait := due.Sub(d.now); {
	case wait > 0:
		d.after(wait)
	case !isNew:
		d.add(step{do: restartImport, seen: pending, imp: pending.imp})
	}
}

// importFailed tells why the desired revision is not imported.
func (d *decision) importFailed(reason, message string) {
	d.progressing(corev1.ConditionFalse, reason, "Import failed: "+message)
	d.upToDate(corev1.ConditionFalse, reasonOutdated, messageOutdated)
}
