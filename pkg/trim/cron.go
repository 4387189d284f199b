package trim

import (
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"github.com/gild-project/gild/pkg/golden"
)

// Cron keeps all that Object keeps. What was polled and what was imported is the same most of the time,
// and then it is kept once.
func Cron(in any) (any, error) {
	cron, ok := in.(*cdiv1.DataImportCron)
	if !ok {
		return in, nil
	}
	polled := cron.Annotations[golden.AnnotationPolled]
	if polled == "" || polled != cron.Annotations[golden.AnnotationImported] {
		return Object(in)
	}
	kept := *cron
	kept.Annotations = only(cron.Annotations, func(string) bool { return true })
	kept.Annotations[golden.AnnotationImported] = polled
	return Object(&kept)
}
