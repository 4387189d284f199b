package roller

import (
	"encoding/json"
	"time"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
)

const (
	// annotationFailures on a golden claim counts the imports that have failed.
	annotationFailures = "gild.dev/failed-imports"
	// firstRetry and lastRetry bound the wait after a failed import; each wait is twice the one before.
	firstRetry = time.Minute
	lastRetry  = time.Hour
)

// failures counts how often the import of one claim has failed. The import itself cannot: it is
// deleted to start anew.
type failures struct {
	Count int `json:"count"`
	// Last names the failure that was counted last, so that none counts twice.
	Last string `json:"last"`
}

// failuresOf reads what was counted. What cannot be read starts again from nothing.
func failuresOf(claim *goldenClaim) failures {
	var f failures
	if json.Unmarshal([]byte(claim.Annotations[annotationFailures]), &f) != nil || f.Count < 0 {
		return failures{}
	}
	return f
}

// String is what failuresOf reads.
func (f failures) String() string {
	text, _ := json.Marshal(f) // numbers and strings always marshal
	return string(text)
}

// failureOf names the failure of an import and says when it was.
func failureOf(imp *v1alpha1.VMDiskImport) (name string, at time.Time) {
	last := imp.Status.LastFailure
	if last == nil {
		last = &v1alpha1.ImportFailure{Time: imp.CreationTimestamp}
	}
	return string(imp.UID) + " " + last.Time.UTC().Format(time.RFC3339), last.Time.Time
}

// retryAfter is how long to wait after the nth failure: 1, 2, 4 … 60 minutes.
func retryAfter(n int) time.Duration {
	wait := firstRetry
	for ; n > 1 && wait < lastRetry; n-- {
		wait *= 2
	}
	return min(wait, lastRetry)
}

// clockTime spells a time in messages.
func clockTime(t time.Time) string { return t.UTC().Format(time.RFC3339) }
