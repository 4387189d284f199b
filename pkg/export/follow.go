package export

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	// maxTries bounds the pods of one export: whatever kills five of them kills the sixth too.
	maxTries = 5
	// maxMessage bounds what a pod says of its end, in bytes.
	maxMessage = 1 << 10
	// exitTransient is the exit code of an exporter that was told to stop or met a fault that may pass.
	exitTransient = 1
)

// follow says how the pod is, and puts another one in its place after one that was killed, or
// that has ended because nobody read.
func (e *Exports) follow(ctx context.Context, spec Spec, pod *corev1.Pod, state *State) error {
	switch {
	case pod.DeletionTimestamp != nil:
		state.Waiting = "the exporter before this one is ending"
		if pod.Spec.NodeName != "" {
			state.Waiting += " on node " + pod.Spec.NodeName
		}
		return nil
	case ended(pod):
		return e.again(ctx, spec, pod, state)
	case isReady(pod):
		state.Ready = true
		return nil
	}
	var events corev1.EventList
	if err := e.live.List(ctx, &events, client.InNamespace(pod.Namespace), client.MatchingFields{"involvedObject.uid": string(pod.UID)}); err != nil {
		return fmt.Errorf("reading the events of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	state.Waiting = waiting(pod, events.Items, e.clock.Now())
	return nil
}

// again puts the next pod in the place of one that has ended.
func (e *Exports) again(ctx context.Context, spec Spec, pod *corev1.Pod, state *State) error {
	if failure := failureOf(pod); failure != "" {
		state.Failure = failure
		return nil
	}
	// Somebody may have changed it: what is no number counts as none.
	try, _ := strconv.Atoi(pod.Annotations[annotationTry])
	if try < 1 || try >= maxTries {
		state.Failure = fmt.Sprintf("the exporter was started %d times and ended each time: %s", maxTries, endOf(pod))
		return nil
	}
	state.Waiting = "the exporter is started again: " + endOf(pod)
	if err := e.delete(ctx, pod); err != nil {
		return err
	}
	// The API server waits for no grace of a pod that has ended: its name is free.
	if err := e.client.Create(ctx, newPod(spec, try+1)); err != nil {
		return fmt.Errorf("making the export of claim %s: %w", spec.Claim, err)
	}
	state.Started = e.clock.Now()
	return nil
}

func ended(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

func isReady(pod *corev1.Pod) bool { return conditionOf(pod, corev1.PodReady) == corev1.ConditionTrue }

func conditionOf(pod *corev1.Pod, kind corev1.PodConditionType) corev1.ConditionStatus {
	for _, c := range pod.Status.Conditions {
		if c.Type == kind {
			return c.Status
		}
	}
	return ""
}

// failureOf says what is wrong with the volume or the export when its exporter ended for a
// reason that stays, empty when it was killed or nobody read.
func failureOf(pod *corev1.Pod) string {
	end := terminated(pod)
	if pod.Status.Phase == corev1.PodSucceeded || end == nil || end.ExitCode == exitTransient || end.ExitCode > 128 {
		return ""
	}
	return fmt.Sprintf("the exporter ended with exit code %d: %s", end.ExitCode, clean(cmp.Or(end.Message, end.Reason)))
}

// endOf says how a pod ended.
func endOf(pod *corev1.Pod) string {
	end := terminated(pod)
	switch {
	case pod.Status.Phase == corev1.PodSucceeded:
		return "nobody had read for a while"
	case pod.Status.Reason != "":
		return clean(pod.Status.Reason + ": " + pod.Status.Message)
	case end == nil:
		return "its node lost it"
	}
	return fmt.Sprintf("exit code %d: %s", end.ExitCode, clean(cmp.Or(end.Message, end.Reason)))
}

// terminated is how the container ended, nil when nobody knows.
func terminated(pod *corev1.Pod) *corev1.ContainerStateTerminated {
	for _, status := range pod.Status.ContainerStatuses {
		if status.Name == container {
			return status.State.Terminated
		}
	}
	return nil
}

// clean makes one bounded line of what a pod or a node says.
func clean(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > maxMessage {
		text = strings.ToValidUTF8(text[:maxMessage], "") + "…"
	}
	return text
}
