package roller

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
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
	eventAdopted      = "Adopted"
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
	case isNew && w.awaited() > 0:
		return plan{cron: w.cron, again: w.awaited()}
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
	case !d.isDigestImported() && !d.wasUpToDate():
		d.upToDate(corev1.ConditionFalse, reasonOutdated, messageOutdated)
		d.progressing(corev1.ConditionFalse, reasonNoImport, messageNoImport+": "+d.undecided)
	}
	d.keep()
}

// keep has the last good claim stay what it is, whatever becomes of a newer one. Labels get to the
// claim first: the DataSource is given those of the claim that it names.
func (d *decision) keep() {
	if current := d.current(); current != nil && d.relabel(current) {
		d.point(current)
	}
}

// isDigestImported reports whether the digest that is asked for is that of the last import.
func (d *decision) isDigestImported() bool {
	return d.imported != nil && d.imported.Digest == d.world.cron.Annotations[golden.AnnotationDesiredDigest]
}

// roll brings the cron to the desired revision; what it returns is done last.
func (d *decision) roll() (prune []step) {
	if d.adopt() {
		return nil
	}
	target, pending := d.holder(), (*goldenClaim)(nil)
	if target == nil && !d.inSnapshot() {
		pending = d.pending()
	}
	for _, claim := range d.claims {
		if claim != pending && !claim.going() && (!claim.verified() || claim.worthless()) {
			d.add(step{do: dropClaim, seen: claim})
		}
	}
	switch {
	case target == nil && d.inSnapshot():
		d.rest()
		return nil
	case target == nil:
		target = d.fill(pending)
	}
	if target == nil {
		d.keep()
		return nil
	}
	if !d.tie(target) || !d.touch(target) || !d.point(target) {
		return nil
	}
	if d.settle(target) {
		return nil
	}
	return append(d.release(target), d.outdatedClaims(target)...)
}

// release lets go of the DataSources that the cron managed before, once another one is pointed.
func (d *decision) release(target *goldenClaim) []step {
	if _, managed := dataSourceFor(d.world, target); !managed {
		return nil
	}
	var steps []step
	for _, source := range d.former {
		s := step{do: dropSource, dataSource: source}
		if !goesWithCron(d.world.cron) {
			s = step{do: freeSource, seenSource: source, dataSource: source.DeepCopy()}
			delete(s.dataSource.Labels, golden.LabelCron)
			delete(s.dataSource.Labels, golden.LabelCleanup)
		}
		steps = append(steps, s)
	}
	return steps
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
	case reasonAlreadyManaged, reasonNotManaged, reasonNoClass, reasonTemplate, reasonNameTaken, reasonSourceGone, reasonForeignVolume:
		return event{corev1.EventTypeWarning, after.Reason, after.Message}
	}
	return event{}
}
