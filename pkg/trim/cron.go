package trim

import (
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"github.com/gild-project/gild/pkg/golden"
)

// keepCron keeps all but what bare takes. What was polled and what was imported is the same most of the
// time, and then it is kept once.
func keepCron(cron *cdiv1.DataImportCron) *cdiv1.DataImportCron {
	polled := cron.Annotations[golden.AnnotationPolled]
	if polled != "" && polled == cron.Annotations[golden.AnnotationImported] {
		kept := *cron
		kept.Annotations = only(cron.Annotations, func(string) bool { return true })
		kept.Annotations[golden.AnnotationImported] = polled
		cron = &kept
	}
	bare(cron)
	return cron
}
