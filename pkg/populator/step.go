package populator

import (
	"strconv"
	"time"

	batchv1 "k8s.io/api/batch/v1"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
)

// step is what the import controller does next.
type step int

const (
	// stepStart makes the next attempt, if nothing stands in its way.
	stepStart step = iota
	// stepWatch follows the attempt that runs.
	stepWatch
	// stepLost finds that the Job of the running attempt is not there.
	stepLost
	// stepRest clears up after an attempt and waits for the next one's time.
	stepRest
	// stepFinish clears up after the attempt that succeeded.
	stepFinish
	// stepGiveUp clears up after an import that failed, and looks for a reason to start anew.
	stepGiveUp
)

// nextStep decides what to do with an import, from its record and the Jobs that exist
// for it. job is the one to watch, wait the time left to rest.
//
// The record is written before an attempt's remains are cleared away, so a crash
// between any two writes leads back to the same step.
func nextStep(imp *v1alpha1.VMDiskImport, jobs []batchv1.Job, now time.Time) (next step, job *batchv1.Job, wait time.Duration) {
	status := &imp.Status
	switch {
	case status.Phase == v1alpha1.PhaseFailed:
		return stepGiveUp, nil, 0
	case status.Result != nil:
		return stepFinish, nil, 0
	}
	for i := range jobs {
		if n := attemptOf(&jobs[i]); n > status.Attempts || n == status.Attempts && status.NextAttemptTime == nil {
			return stepWatch, &jobs[i], 0
		}
	}
	switch {
	case status.NextAttemptTime != nil:
		if wait := status.NextAttemptTime.Sub(now); wait > 0 {
			return stepRest, nil, wait
		}
		return stepStart, nil, 0
	case status.Attempts > 0:
		return stepLost, nil, 0
	default:
		return stepStart, nil, 0
	}
}

// attemptOf is the number of the attempt that a Job is; 0 when it bears none.
func attemptOf(job *batchv1.Job) int32 {
	n, err := strconv.ParseInt(job.Labels[labelAttempt], 10, 32)
	if err != nil {
		return 0
	}
	return int32(n)
}

const (
	firstBackoff = 10 * time.Second
	lastBackoff  = 5 * time.Minute
)

// backoff is how long to wait after attempt n failed: 10 s, doubled with each attempt, at
// most 5 min; a server's own Retry-After wins when it is longer.
func backoff(attempt int32, retryAfter time.Duration) time.Duration {
	wait := firstBackoff
	for ; attempt > 1 && wait < lastBackoff; attempt-- {
		wait *= 2
	}
	return max(min(wait, lastBackoff), retryAfter)
}
