package poller

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"github.com/gild-project/gild/pkg/golden"
)

// annotationState is what the poller knows of a cron from poll to poll, as the JSON of state.
const annotationState = "gild.dev/poll"

// state is what was taken note of at the last poll. A difference to the cron as it is makes a
// poll due.
type state struct {
	// Schedule is the one that the next time was computed from.
	Schedule string `json:"schedule,omitempty"`
	// Source is the fingerprint of the source that was polled; empty before the first poll.
	Source string `json:"source,omitempty"`
	// PollNow is the fingerprint of the request that the last poll has answered.
	PollNow string `json:"pollNow,omitempty"`
	// Desired is the digest, written by hand, that the last poll has tried to complete.
	Desired string `json:"desired,omitempty"`
	// Completed is the digest, written by hand, that was completed last; empty when a poll has found
	// another since.
	Completed string `json:"completed,omitempty"`
	// Fresh tells that an import has met another state of this source than the poll before it. Its
	// answers to HEAD may be about another file than those to GET, so that imports would fail for ever.
	Fresh bool `json:"fresh,omitempty"`
	// Failures is how many polls have failed in a row.
	Failures int `json:"failures,omitempty"`
	// Transient tells that the last failure may pass: the poll is repeated before the schedule's next time.
	Transient bool `json:"transient,omitempty"`
	// NotBefore is when the source asked to come back at the earliest.
	NotBefore *metav1.Time `json:"notBefore,omitempty"`
}

// readState reads the annotation. One that cannot be read counts as none: the cron is polled
// once more.
func readState(cron *cdiv1.DataImportCron) state {
	var s state
	if json.Unmarshal([]byte(cron.Annotations[annotationState]), &s) != nil {
		return state{}
	}
	return s
}

// String is the JSON that readState reads.
func (s state) String() string {
	text, _ := json.Marshal(s) // strings, numbers and a time always marshal
	return string(text)
}

// fingerprint is short and tells texts apart.
func fingerprint(text string) string {
	const length = 8
	if text == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:length])
}

// sourceOf is the fingerprint of all that says what is polled.
func sourceOf(cron *cdiv1.DataImportCron) string {
	text, _ := json.Marshal(cron.Spec.Template.Spec.Source) // strings always marshal
	return fingerprint(string(text) + "\n" + cron.Annotations[golden.AnnotationChecksumURL])
}

// sourceChanged begins the value of AnnotationPollNow that the roller writes, when an import has met
// another state of the source than was polled.
const sourceChanged = "source-changed-"

// wasPolledByCDI reports whether CDI has polled and imported for a cron, and we have not polled it yet.
func wasPolledByCDI(cron *cdiv1.DataImportCron, before *state) bool {
	return before.Source == "" && cron.Status.LastImportedPVC != nil
}

// pollNow reports whether a poll is asked for, and whether the roller asks because the source has changed.
func pollNow(cron *cdiv1.DataImportCron, s *state) (asked, changed bool) {
	wish := cron.Annotations[golden.AnnotationPollNow]
	asked = wish != "" && fingerprint(wish) != s.PollNow
	return asked, asked && strings.HasPrefix(wish, sourceChanged)
}

// needsFresh reports whether a source is to be asked as an import asks it.
func needsFresh(cron *cdiv1.DataImportCron) bool {
	s := readState(cron)
	_, changed := pollNow(cron, &s)
	return changed || s.Fresh && s.Source == sourceOf(cron)
}

// polled is the revision that the last poll has found; nil when there is none to be read.
func polled(cron *cdiv1.DataImportCron) *golden.Revision {
	return revisionIn(cron, golden.AnnotationPolled)
}

// imported is the revision of the last import that has succeeded; nil when there is none to be read.
func imported(cron *cdiv1.DataImportCron) *golden.Revision {
	return revisionIn(cron, golden.AnnotationImported)
}

func revisionIn(cron *cdiv1.DataImportCron, annotation string) *golden.Revision {
	revision, err := golden.ParseRevision(cron.Annotations[annotation])
	if err != nil {
		return nil
	}
	return revision
}

// timeIn reads the time in an annotation; zero when there is none to be read.
func timeIn(cron *cdiv1.DataImportCron, annotation string) time.Time {
	t, err := time.Parse(time.RFC3339, cron.Annotations[annotation])
	if err != nil {
		return time.Time{}
	}
	return t.UTC()
}
