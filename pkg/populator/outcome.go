package populator

import (
	"cmp"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/importer"
)

// verdict is how an attempt ended.
type verdict int

const (
	verdictSucceeded verdict = iota
	verdictRetry             // for a reason that may pass
	verdictFailed            // for one that will not
)

// maxRetryAfter bounds, in seconds, how long a server can put an import off.
const maxRetryAfter = 24 * 60 * 60

// outcome is what an importer pod that has ended left behind.
type outcome struct {
	verdict    verdict
	reason     string
	message    string
	result     importer.Result
	retryAfter time.Duration
	// exit is the importer's exit code; 0 when it had none.
	exit int32
	// passedOver are the strategies of a copy that was never begun.
	passedOver []v1alpha1.PassedOver
}

// readOutcome tells how an importer pod ended. ok is false while it runs. The exit codes are
// the importer's contract; everything else that ends a pod may pass.
func readOutcome(pod *corev1.Pod) (o outcome, ok bool) {
	terminated := terminatedState(pod)
	if terminated == nil {
		if pod.Status.Phase != corev1.PodFailed && pod.Status.Phase != corev1.PodSucceeded {
			return outcome{}, false
		}
		reason, message := disruption(pod)
		return outcome{verdict: verdictRetry, reason: cmp.Or(reason, reasonAttemptLost), message: cmp.Or(message, "the importer pod ended without a result")}, true
	}
	// A message that is no result leaves these empty: it is hostile input, not to be shown.
	result, err := importer.ParseResult([]byte(terminated.Message))
	if err == nil {
		o = outcome{result: result, reason: string(result.Reason), message: result.Message}
	}
	if terminated.ExitCode == 0 && result.Reason == importer.Imported {
		o.verdict = verdictSucceeded
		return o, true
	}
	if reason, message := disruption(pod); reason != "" {
		o.verdict, o.reason, o.message = verdictRetry, reason, message
		return o, true
	}
	if terminated.Reason == reasonOOMKilled {
		o.verdict, o.reason = verdictRetry, reasonOOMKilled
		o.message = "the importer ran out of memory: raise the memory limit in the populator's --job-template"
		return o, true
	}
	o.verdict = verdictRetry
	if isFinal(terminated.ExitCode) {
		o.verdict = verdictFailed
	}
	o.exit = terminated.ExitCode
	o.retryAfter = time.Duration(min(result.RetryAfterSeconds, maxRetryAfter)) * time.Second
	o.reason = cmp.Or(o.reason, reasonNoResult)
	o.message = cmp.Or(o.message, fmt.Sprintf("the importer ended with exit code %d and no result: its log says more", terminated.ExitCode))
	return o, true
}

func terminatedState(pod *corev1.Pod) *corev1.ContainerStateTerminated {
	for _, status := range pod.Status.ContainerStatuses {
		if status.Name == importerContainer {
			return status.State.Terminated
		}
	}
	return nil
}

// disruption says what ended a pod from outside: an eviction, a drain, a node that went.
func disruption(pod *corev1.Pod) (reason, message string) {
	if pod.Status.Reason == reasonEvicted {
		return reasonEvicted, "the node evicted the importer: " + pod.Status.Message
	}
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.DisruptionTarget && condition.Status == corev1.ConditionTrue {
			return reasonEvicted, "the importer was evicted: " + condition.Message
		}
	}
	return "", ""
}

// isFinal reports whether another attempt would end with the same exit code. Codes that are not
// the importer's come from outside, from a signal for example, and may pass.
func isFinal(code int32) bool {
	switch code {
	case importer.ExitOptions, importer.ExitSource, importer.ExitVerification,
		importer.ExitImage, importer.ExitSpace, importer.ExitTarget:
		return true
	}
	return false
}
