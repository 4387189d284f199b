package roller

import (
	"encoding/json"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gild-project/gild/pkg/golden"
)

// annotationSourceChanges on a cron counts the imports in a row that have met another state of the
// source than was polled. Their claims cannot: each new state has a claim of its own.
const annotationSourceChanges = "gild.dev/source-changes"

// sourceChanges is what annotationSourceChanges holds, as JSON.
type sourceChanges struct {
	failures
	// Asked says that a poll was asked for after the last one.
	Asked bool `json:"asked,omitempty"`
}

// pollAgain has the source polled after an import of a name that met another state of it at a time: at
// once after the first, then after 1, 2, 4 … 60 minutes. It returns when the poll is due.
func (d *decision) pollAgain(pending *goldenClaim, name string, at time.Time) time.Time {
	var changes sourceChanges
	if json.Unmarshal([]byte(d.world.cron.Annotations[annotationSourceChanges]), &changes) != nil || changes.Count < 0 {
		changes = sourceChanges{}
	}
	if changes.Last != name {
		changes = sourceChanges{failures: failures{Count: changes.Count + 1, Last: name}}
	}
	due := at
	if changes.Count > 1 {
		due = at.Add(retryAfter(changes.Count - 1))
	}
	switch wait := due.Sub(d.now); {
	case wait > 0:
		d.after(wait)
	case !changes.Asked:
		changes.Asked = true
		metav1.SetMetaDataAnnotation(&d.plan.cron.ObjectMeta, golden.AnnotationPollNow, fmt.Sprintf("source-changed-%s-%s", short(d.desired.Digest), pending.imp.UID))
	}
	text, _ := json.Marshal(changes) // numbers, strings and booleans always marshal
	metav1.SetMetaDataAnnotation(&d.plan.cron.ObjectMeta, annotationSourceChanges, string(text))
	return due
}
