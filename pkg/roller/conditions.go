package roller

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"github.com/gild-project/gild/pkg/golden"
)

// Reasons of the conditions Progressing and UpToDate that CDI has too.
const (
	reasonNoDigest    = "NoDigest"
	reasonNoImport    = "NoImport"
	reasonOutdated    = "Outdated"
	reasonScheduled   = "ImportScheduled"
	reasonProgressing = "ImportProgressing"
	reasonUpToDate    = "UpToDate"
)

// Reasons of our own. A failed import adds its reason.
const (
	reasonSourceGone     = "SourceNotFound"
	reasonNoClass        = "NoStorageClass"
	reasonTemplate       = "InvalidTemplate"
	reasonNameTaken      = "ClaimNameTaken"
	reasonQuota          = "ErrExceededQuota"
	reasonRefused        = "ErrClaimRefused"
	reasonAlreadyManaged = "ErrDataSourceAlreadyManaged"
	reasonNotManaged     = "DataSourceNotManaged"
	reasonForeignVolume  = "BoundToForeignVolume"
	// reasonSourceChanged is the importer's.
	reasonSourceChanged = "SourceChanged"
)

// The messages of CDI; what there is to say more follows after a colon.
const (
	messageNoDigest          = "No source digest"
	messageNoImport          = "No current import"
	messageOutdated          = "Source digest updated since last import"
	messageScheduled         = "Import is scheduled"
	messageProgressing       = "Import is progressing"
	messageUpToDate          = "Latest import is up to date"
	messageUpToDateSameBytes = "Latest import is up to date: the source has changed, its bytes have not"
)

// setCondition sets a condition of a cron.
func setCondition(cron *cdiv1.DataImportCron, kind cdiv1.DataImportCronConditionType, status corev1.ConditionStatus, reason, message string, now time.Time) {
	golden.SetState(&conditionOf(cron, kind).ConditionState, status, reason, message, now)
}

// steady gives conditions that say what they said before the times that they had before. What was
// set in between is no change.
func steady(before, after *cdiv1.DataImportCron) {
	for i := range before.Status.Conditions {
		was := &before.Status.Conditions[i]
		is := conditionOf(after, was.Type)
		if is.Status != was.Status {
			continue
		}
		is.LastTransitionTime = was.LastTransitionTime
		if is.Reason == was.Reason && is.Message == was.Message {
			*is = *was
		}
	}
}

// conditionOf is a condition of a cron, added when it is missing.
func conditionOf(cron *cdiv1.DataImportCron, kind cdiv1.DataImportCronConditionType) *cdiv1.DataImportCronCondition {
	for i := range cron.Status.Conditions {
		if cron.Status.Conditions[i].Type == kind {
			return &cron.Status.Conditions[i]
		}
	}
	cron.Status.Conditions = append(cron.Status.Conditions, cdiv1.DataImportCronCondition{Type: kind})
	return &cron.Status.Conditions[len(cron.Status.Conditions)-1]
}

// outdated reports whether a cron has not got what it should have.
func outdated(cron *cdiv1.DataImportCron) bool {
	for _, condition := range cron.Status.Conditions {
		if condition.Type == cdiv1.DataImportCronUpToDate {
			return condition.Status != corev1.ConditionTrue
		}
	}
	return true
}
