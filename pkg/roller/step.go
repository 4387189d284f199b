package roller

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
)

// verb is what a step does.
type verb string

const (
	// dropClaim deletes a claim that was never verified.
	dropClaim verb = "drop"
	// createClaim makes the golden claim of a revision.
	createClaim verb = "create"
	// countFailure notes on a claim that its import has failed once more.
	countFailure verb = "count"
	// restartImport deletes an import that has failed, so that it starts anew.
	restartImport verb = "restart"
	// verifyClaim marks a claim as filled.
	verifyClaim verb = "verify"
	// adoptClaim takes a claim over that CDI has made, or notes which revision that holds.
	adoptClaim verb = "adopt"
	// touchClaim marks a claim as the one used last, with the labels that the cron has now.
	touchClaim verb = "touch"
	// repoint has the DataSource name another claim.
	repoint verb = "repoint"
	// dropSource deletes a DataSource that the cron managed before.
	dropSource verb = "drop source"
	// freeSource takes our labels from a DataSource that the cron managed before.
	freeSource verb = "free source"
	// recordCron writes the cron: its status and annotations.
	recordCron verb = "record"
	// pruneClaim deletes a claim that was good, unless it is in use.
	pruneClaim verb = "prune"
)

// step is one write. What it is written to is seen in the world; what it shall be is in the step.
type step struct {
	do verb
	// seen is the claim that is dropped, counted, restarted, verified, adopted, touched or pruned.
	seen *goldenClaim
	// claim is what is created, or what the claim that is seen shall be.
	claim *corev1.PersistentVolumeClaim
	// imp is deleted.
	imp *v1alpha1.VMDiskImport
	// dataSource is what shall be, without a UID it is created; or what is deleted.
	dataSource *cdiv1.DataSource
	// seenSource is the DataSource that is freed.
	seenSource *cdiv1.DataSource
	// tell is the event on the cron once the step is done; none without a reason.
	tell event
	// result is counted by gild_golden_imports_total once the step is done; empty for none.
	result string
}

// String names the step, for tests.
func (s *step) String() string {
	switch {
	case s.seen != nil:
		return string(s.do) + " " + s.seen.Name
	case s.claim != nil:
		return string(s.do) + " " + s.claim.Name
	case s.do == dropSource, s.do == freeSource:
		return string(s.do) + " " + s.dataSource.Name
	case s.dataSource != nil:
		return string(s.do) + " " + s.dataSource.Name + " to " + s.dataSource.Spec.Source.PVC.Name
	}
	return string(s.do)
}

// event is told about a cron.
type event struct {
	kind    string
	reason  string
	message string
}

// plan is what to do next, in this order.
type plan struct {
	steps []step
	// cron is what the cron shall be.
	cron *cdiv1.DataImportCron
	// again is when to look again if nothing is seen to change; 0 for never.
	again time.Duration
}

// after has the plan made again at the latest after a while.
func (p *plan) after(wait time.Duration) {
	if p.again == 0 || wait < p.again {
		p.again = wait
	}
}
