package roller

import (
	"fmt"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/gild-project/gild/pkg/golden"
)

// Finalizer keeps a cron until what goes with it is gone.
const Finalizer = "gild.dev/cron"

// Events on a cron.
const (
	eventRolled       = "Rolled"
	eventRepointed    = "Repointed"
	eventImportFailed = "ImportFailed"
	eventPruned       = "Pruned"
)

// decision makes the plan for a world.
type decision struct {
	*world
	plan
}

// decide says what to do next. It depends on nothing but the world, and what it decides for a
// world that a crash has left behind is what was not done yet.
func decide(w *world) plan {
	d := &decision{world: w, plan: plan{cron: w.cron.DeepCopy()}}
	var prune []step
	isNew := controllerutil.AddFinalizer(d.plan.cron, Finalizer)
	switch {
	case w.rival != "":
		d.progressing(corev1.ConditionFalse, reasonAlreadyManaged, fmt.Sprintf(
			"DataSource %s is already managed by DataImportCron %s: give this one another managedDataSource", w.cron.Spec.ManagedDataSource, w.rival))
	case w.desired == nil:
		d.wait()
	case isNew:
		// First the hold on the cron, then what must not outlive it.
	default:
		prune = d.roll()
	}
	if d.changes() {
		d.add(step{do: recordCron, tell: d.warning()})
	}
	d.steps = append(d.steps, prune...)
	return d.plan
}

func (d *decision) add(s step) { d.steps = append(d.steps, s) }

// wait keeps things as they are while nobody knows what is desired.
func (d *decision) wait() {
	switch {
	case d.world.cron.Annotations[golden.AnnotationDesiredDigest] == "":
		d.upToDate(corev1.ConditionFalse, reasonNoDigest, messageNoDigest)
		d.progressing(corev1.ConditionFalse, reasonNoImport, messageNoImport)
	case !d.isDigestImported():
		d.upToDate(corev1.ConditionFalse, reasonOutdated, messageOutdated)
		d.progressing(corev1.ConditionFalse, reasonNoImport, messageNoImport+": "+d.undecided)
	}
	if current := d.current(); current != nil {
		d.point(current)
	}
}

// isDigestImported reports whether the digest that is asked for is that of the last import.
func (d *decision) isDigestImported() bool {
	return d.imported != nil && d.imported.Digest == d.world.cron.Annotations[golden.AnnotationDesiredDigest]
}

// roll brings the cron to the desired revision; what it returns is done last.
func (d *decision) roll() (prune []step) {
	target, pending := d.holder(), (*goldenClaim)(nil)
	if target == nil {
		pending = d.pending()
	}
	for _, claim := range d.claims {
		if claim != pending && !claim.going() && (!claim.verified() || claim.worthless()) {
			d.add(step{do: dropClaim, seen: claim})
		}
	}
	if target == nil {
		target = d.fill(pending)
	}
	if target == nil {
		// The last good one stays what it is, whatever becomes of the new one.
		if current := d.current(); current != nil {
			d.point(current)
		}
		return nil
	}
	if !d.touch(target) || !d.point(target) {
		return nil
	}
	if d.settle(target) {
		return nil
	}
	return d.outdatedClaims(target)
}

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
		d.progressing(corev1.ConditionTrue, reasonProgressing, messageProgressing)
		d.upToDate(corev1.ConditionFalse, reasonProgressing, messageProgressing)
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
	switch {
	case pending.Status.Phase == corev1.ClaimBound:
		d.importFailed(reasonForeignVolume, "the golden claim "+pending.Name+" was bound to a volume that its import has not filled: use a StorageClass that has no such volume, then delete the claim")
	case pending.revision.Claim != nil && d.classWaits:
		// The populator fills claims without a consumer; this one is filled by the CSI driver.
		d.importFailed(reasonNeedsConsumer, fmt.Sprintf("volumes of StorageClass %s wait for a consumer, and a golden copy has none: name a class that binds at once", d.class))
	case pending.revision.Claim != nil:
		d.progressing(corev1.ConditionTrue, reasonProgressing, messageProgressing)
		d.upToDate(corev1.ConditionFalse, reasonProgressing, messageProgressing)
	case pending.imp == nil || pending.imp.Status.Attempts == 0:
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
	if reason == reasonSourceChanged {
		// What was polled is no longer served: only a poll finds what is.
		metav1.SetMetaDataAnnotation(&d.plan.cron.ObjectMeta, golden.AnnotationPollNow, fmt.Sprintf("source-changed-%s-%s", short(d.desired.Digest), pending.imp.UID))
	}
	due := at.Add(retryAfter(count.Count))
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

// touch has the target be the claim that was used last. A prune that sees less than we do fails
// on it then, and the newest stay. Its labels follow the cron's: its DataSources have them too.
func (d *decision) touch(target *goldenClaim) (done bool) {
	wanted := target.DeepCopy()
	setLabels(&wanted.ObjectMeta, d.world.cron)
	isNewest := target.lastUse().After(d.newestUse(target))
	if isNewest && maps.Equal(wanted.Labels, target.Labels) {
		return true
	}
	if !isNewest {
		metav1.SetMetaDataAnnotation(&wanted.ObjectMeta, golden.AnnotationLastUseTime, d.useTime(target))
	}
	d.add(step{do: touchClaim, seen: target, claim: wanted})
	return false
}

// useTime is now, and later than every use of the other claims whatever the clock says.
func (d *decision) useTime(claim *goldenClaim) string {
	at := d.now
	if newest := d.newestUse(claim); !at.After(newest) {
		at = newest.Add(time.Nanosecond)
	}
	return at.UTC().Format(time.RFC3339Nano)
}

// point has the DataSource name a good claim; done is false while that is under way.
func (d *decision) point(target *goldenClaim) (done bool) {
	wanted, managed := dataSourceFor(d.world, target)
	switch {
	case !managed:
		return true // it is nobody's to change
	case d.dataSource == nil:
	case !d.dataSource.DeletionTimestamp.IsZero():
		return false // made anew once it is gone
	case equality.Semantic.DeepEqual(d.dataSource.Spec, wanted.Spec) && maps.Equal(d.dataSource.Labels, wanted.Labels):
		return true
	}
	s := step{do: repoint, dataSource: wanted}
	if d.dataSource == nil || !equality.Semantic.DeepEqual(d.dataSource.Spec, wanted.Spec) {
		s.tell = event{corev1.EventTypeNormal, eventRepointed, fmt.Sprintf("DataSource %s names %s now", wanted.Name, target.Name)}
	}
	d.add(s)
	return false
}

// settle has the cron's status say that the target holds what is desired; it returns whether that
// has to be written first.
func (d *decision) settle(target *goldenClaim) (writes bool) {
	status := &d.plan.cron.Status
	named := cdiv1.DataVolumeSourcePVC{Namespace: target.Namespace, Name: target.Name}
	if status.LastImportedPVC == nil || *status.LastImportedPVC != named {
		status.LastImportedPVC = &named
		status.LastImportTimestamp = ptr.To(metav1.NewTime(d.now.Truncate(time.Second)))
	}
	status.CurrentImports = []cdiv1.ImportStatus{{DataVolumeName: target.Name, Digest: d.desired.Digest}}
	status.SourceFormat = ptr.To(cdiv1.DataImportCronSourceFormatPvc)
	if d.plan.cron.Annotations[golden.AnnotationImported] != d.desired.String() {
		metav1.SetMetaDataAnnotation(&d.plan.cron.ObjectMeta, golden.AnnotationImported, d.desired.String())
	}
	d.progressing(corev1.ConditionFalse, reasonNoImport, messageNoImport)
	if source, managed := dataSourceFor(d.world, target); !managed {
		d.progressing(corev1.ConditionFalse, reasonNotManaged, fmt.Sprintf(
			"DataSource %s was not made by this DataImportCron and is left alone: delete it, or label it %s=%s, and it names %s",
			source.Name, golden.LabelCron, d.world.cron.Name, target.Name))
	}
	message := messageUpToDate
	if target.revision.Digest != d.desired.Digest {
		message = messageUpToDateSameBytes
	}
	d.upToDate(corev1.ConditionTrue, reasonUpToDate, message)
	return d.changes()
}

// changes reports whether the cron is to be written.
func (d *decision) changes() bool {
	steady(d.world.cron, d.plan.cron)
	return !equality.Semantic.DeepEqual(d.world.cron, d.plan.cron)
}

func (d *decision) progressing(status corev1.ConditionStatus, reason, message string) {
	setCondition(d.plan.cron, cdiv1.DataImportCronProgressing, status, reason, message, d.now)
}

func (d *decision) upToDate(status corev1.ConditionStatus, reason, message string) {
	setCondition(d.plan.cron, cdiv1.DataImportCronUpToDate, status, reason, message, d.now)
}

// warning is the event that goes with a new state which somebody has to end.
func (d *decision) warning() event {
	before, after := conditionOf(d.world.cron.DeepCopy(), cdiv1.DataImportCronProgressing), conditionOf(d.plan.cron.DeepCopy(), cdiv1.DataImportCronProgressing)
	if before.Reason == after.Reason {
		return event{}
	}
	switch after.Reason {
	case reasonAlreadyManaged, reasonNotManaged, reasonNotSupported, reasonNoClass, reasonTemplate, reasonNameTaken, reasonSourceGone, reasonForeignVolume, reasonNeedsConsumer:
		return event{corev1.EventTypeWarning, after.Reason, after.Message}
	}
	return event{}
}
