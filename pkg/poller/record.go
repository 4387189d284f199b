package poller

import (
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"github.com/gild-project/gild/pkg/golden"
)

// ConditionSourcePolled says whether the last poll has reached the source.
const ConditionSourcePolled cdiv1.DataImportCronConditionType = "SourcePolled"

// quiet is how long polls that change nothing are not written down, at least. Each cron has up to half as much more:
// crons that were written in one minute would else be written in one minute again, and hold up the next one's polls.
const quiet = 10 * time.Minute

// quietOf is how long polls of one cron that change nothing are not written down.
func quietOf(cron *cdiv1.DataImportCron) time.Duration {
	return quiet + time.Duration(placeOf(cron.UID)*float64(quiet/2))
}

// apply writes an outcome into a cron. A failure leaves what was found before as it is.
func (o *outcome) apply(cron *cdiv1.DataImportCron, now time.Time) {
	cron.Annotations = maps.Clone(cron.Annotations)
	if cron.Annotations == nil {
		cron.Annotations = map[string]string{}
	}
	cron.Annotations[annotationState] = o.state.String()
	setTime(cron, golden.AnnotationNextCronTime, o.next)
	if !o.at.IsZero() {
		setTime(cron, golden.AnnotationLastCronTime, o.at)
		at := metav1.NewTime(o.at.UTC().Truncate(time.Second))
		cron.Status.LastExecutionTimestamp = &at
	}
	status := corev1.ConditionFalse
	if o.failure == nil {
		status = corev1.ConditionTrue
		cron.Annotations[golden.AnnotationDesiredDigest] = o.revision.Digest
		cron.Annotations[golden.AnnotationPolled] = o.revision.String()
		delete(cron.Annotations, golden.AnnotationImageStreamRef)
		if o.image != "" {
			cron.Annotations[golden.AnnotationImageStreamRef] = dockerScheme + o.image
		}
	}
	setCondition(cron, status, o.reason, o.message, now)
}

// reschedule writes down the next time after the schedule was edited.
func reschedule(cron *cdiv1.DataImportCron, next time.Time) {
	cron.Annotations = maps.Clone(cron.Annotations)
	if cron.Annotations == nil {
		cron.Annotations = map[string]string{}
	}
	s := readState(cron)
	s.Schedule = cron.Spec.Schedule
	cron.Annotations[annotationState] = s.String()
	setTime(cron, golden.AnnotationNextCronTime, next)
	if wasIllegal(cron) {
		dropCondition(cron)
	}
}

func setTime(cron *cdiv1.DataImportCron, annotation string, t time.Time) {
	if t.IsZero() {
		delete(cron.Annotations, annotation)
		return
	}
	cron.Annotations[annotation] = t.UTC().Format(time.RFC3339)
}

// condition is the cron's SourcePolled; nil when it has none.
func condition(cron *cdiv1.DataImportCron) *cdiv1.DataImportCronCondition {
	for i := range cron.Status.Conditions {
		if cron.Status.Conditions[i].Type == ConditionSourcePolled {
			return &cron.Status.Conditions[i]
		}
	}
	return nil
}

func setCondition(cron *cdiv1.DataImportCron, status corev1.ConditionStatus, reason, message string, now time.Time) {
	c := condition(cron)
	if c == nil {
		cron.Status.Conditions = append(cron.Status.Conditions, cdiv1.DataImportCronCondition{Type: ConditionSourcePolled})
		c = &cron.Status.Conditions[len(cron.Status.Conditions)-1]
	}
	golden.SetState(&c.ConditionState, status, reason, message, now)
}

func dropCondition(cron *cdiv1.DataImportCron) {
	var kept []cdiv1.DataImportCronCondition
	for _, c := range cron.Status.Conditions {
		if c.Type != ConditionSourcePolled {
			kept = append(kept, c)
		}
	}
	cron.Status.Conditions = kept
}

// worthWriting reports whether a cron must be written now: something has changed but the times, or
// the last write is long ago.
func worthWriting(before, after *cdiv1.DataImportCron, now time.Time) bool {
	if equality.Semantic.DeepEqual(before, after) {
		return false
	}
	written := timeIn(before, golden.AnnotationLastCronTime)
	if written.After(now) || now.Sub(written) >= quietOf(before) {
		return true
	}
	timeless := after.DeepCopy()
	for _, annotation := range []string{golden.AnnotationLastCronTime, golden.AnnotationNextCronTime} {
		delete(timeless.Annotations, annotation)
		if value, ok := before.Annotations[annotation]; ok {
			timeless.Annotations[annotation] = value
		}
	}
	timeless.Status.LastExecutionTimestamp = before.Status.LastExecutionTimestamp
	return !equality.Semantic.DeepEqual(before, timeless)
}
