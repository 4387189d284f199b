package roller

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"github.com/gild-project/gild/pkg/golden"
)

const (
	// nameWait is how long a claim that is being deleted may keep its name from the one that
	// follows it; after that the follower gets another name.
	nameWait = 2 * time.Minute
	// askAgain is how often a claim is asked for that cannot be made.
	askAgain = time.Minute
)

// create makes the golden claim of the desired revision, or tells what is missing for it.
func (d *decision) create() {
	d.upToDate(corev1.ConditionFalse, reasonOutdated, messageOutdated)
	name, wait := d.freeName()
	source := d.desired.Claim
	switch {
	case source != nil && (d.origin == nil || d.origin.UID != source.UID):
		d.cannot(reasonSourceGone, fmt.Sprintf("claim %s/%s, which is to be copied, is gone", source.Namespace, source.Name))
		d.after(askAgain) // it is not watched
	case d.class == "":
		d.cannot(reasonNoClass, "there is no default StorageClass, and the template names none: name one, or mark a default")
	case wait > 0:
		d.progressing(corev1.ConditionFalse, reasonScheduled, messageScheduled+": an earlier claim of its name is being deleted")
		d.after(wait)
	case name == "":
		d.cannot(reasonNameTaken, fmt.Sprintf("claim %s exists and was not made for this DataImportCron: delete it", golden.ClaimName(d.world.cron.Spec.ManagedDataSource, d.desired.Digest)))
		d.after(askAgain)
	default:
		claim, err := claimFor(d.world.cron, d.desired, d.class, d.facts(d.class))
		if err != nil {
			d.cannot(reasonTemplate, err.Error())
			return
		}
		claim.Name = name
		d.plan.cron.Status.CurrentImports = []cdiv1.ImportStatus{{DataVolumeName: name, Digest: d.desired.Digest}}
		d.progressing(corev1.ConditionFalse, reasonScheduled, messageScheduled)
		d.add(step{do: createClaim, claim: claim, tell: event{corev1.EventTypeNormal, eventRolled,
			fmt.Sprintf("importing %s to golden claim %s", d.desired.Digest, name)}})
	}
}

// cannot tells why no golden claim is made.
func (d *decision) cannot(reason, message string) {
	d.progressing(corev1.ConditionFalse, reason, message)
}

// freeName is a name for the claim of the desired revision that nobody bears: the one that CDI
// gives, else one of its own for the class. wait is for how long the name may become free yet.
func (d *decision) freeName() (name string, wait time.Duration) {
	dataSource := d.world.cron.Spec.ManagedDataSource
	for _, name := range []string{golden.ClaimName(dataSource, d.desired.Digest), golden.SecondClaimName(dataSource, d.desired.Digest, d.class)} {
		claim := d.claim(name)
		switch {
		case claim == nil && !slices.Contains(d.taken, name):
			return name, 0
		case claim != nil && claim.going():
			if wait := claim.DeletionTimestamp.Add(nameWait).Sub(d.now); wait > 0 {
				return "", wait
			}
		case claim != nil && (!claim.verified() || claim.worthless()):
			return "", nameWait // it is being dropped
		}
	}
	return "", 0
}

// refused tells why the API server does not take a golden claim, and has it asked for again.
func (p *plan) refused(err error, w *world) {
	reason := reasonRefused
	if strings.Contains(err.Error(), "exceeded quota") {
		reason = reasonQuota
	}
	p.cron.Status.CurrentImports = w.cron.Status.CurrentImports
	setCondition(p.cron, cdiv1.DataImportCronProgressing, corev1.ConditionFalse, reason, err.Error(), w.now)
	steady(w.cron, p.cron)
	p.after(askAgain)
}

// short is the part of a digest that stands in names.
func short(digest string) string {
	return strings.TrimPrefix(golden.ClaimName("", digest), "-")
}
