//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// attemptLabel is the number of the attempt that a pod makes.
const attemptLabel = "gild.dev/attempt"

// ImporterPod waits for the pod that fills a claim to run and returns it.
func (f *fixture) ImporterPod(c claim) *corev1.Pod {
	f.Helper()
	var running *corev1.Pod
	f.Eventually("importer pod running", importWithin, func(ctx context.Context) (bool, string, error) {
		pods, err := f.importerPods(ctx, c)
		for i := range pods {
			if pods[i].Status.Phase == corev1.PodRunning && pods[i].DeletionTimestamp.IsZero() {
				running = &pods[i]
				return true, "", nil
			}
		}
		return false, describePods(pods), err
	})
	return running
}

func (f *fixture) importerPods(ctx context.Context, c claim) ([]corev1.Pod, error) {
	var pods corev1.PodList
	err := f.List(ctx, &pods, client.InNamespace(systemNamespace), client.MatchingLabels{claimUIDLabel: c.uid})
	return pods.Items, err
}

// AttemptPods are the pods of a claim's attempts as they were last seen, the first n attempts in order.
func (f *fixture) AttemptPods(c claim, n int) []corev1.Pod {
	f.Helper()
	var pods []corev1.Pod
	f.Eventually("importer pods recorded", time.Minute, func(context.Context) (bool, string, error) {
		var err error
		pods, err = f.recordedPods(c)
		return len(pods) == n, describePods(pods), err
	})
	return pods
}

// recordedPods reads the importer pods of a claim from the records.
func (f *fixture) recordedPods(c claim) ([]corev1.Pod, error) {
	file, err := os.Open(filepath.Join(f.settings.record, "pods.jsonl"))
	if err != nil {
		return nil, fmt.Errorf("reading the records: %w", err)
	}
	defer func() { _ = file.Close() }()
	attempts := map[string]corev1.Pod{}
	for lines := bufio.NewReader(file); ; {
		text, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			break // the last line may not be complete yet
		} else if err != nil {
			return nil, fmt.Errorf("reading the records: %w", err)
		}
		if !bytes.Contains(text, []byte(c.uid)) {
			continue // all pods of a run are many
		}
		var line struct {
			Object corev1.Pod `json:"object"`
		}
		if err := json.Unmarshal(text, &line); err != nil {
			return nil, fmt.Errorf("reading the records: %w", err)
		}
		if labels := line.Object.Labels; labels[claimUIDLabel] == c.uid {
			attempts[labels[attemptLabel]] = line.Object
		}
	}
	var pods []corev1.Pod
	for _, attempt := range slices.Sorted(maps.Keys(attempts)) {
		pods = append(pods, attempts[attempt])
	}
	return pods, nil
}

func describePods(pods []corev1.Pod) string {
	var texts []string
	for i := range pods {
		texts = append(texts, describePod(&pods[i]))
	}
	return strings.Join(texts, "; ")
}

// RequireRecordedLog checks that the recorder has seen a pod's log: without it, finding no
// secret in the records proves nothing.
func (f *fixture) RequireRecordedLog(pod string) {
	f.Helper()
	f.Eventually("log of "+pod, time.Minute, func(context.Context) (bool, string, error) {
		text, err := os.ReadFile(filepath.Join(f.settings.record, pod+".log"))
		if os.IsNotExist(err) {
			return false, "no log", nil
		}
		return len(text) > 0, "an empty log", err
	})
}

// midImport starts the import of a claim of the image, which stops half-way until the returned
// source is published again.
func (f *fixture) midImport(img image, edit ...func(*corev1.PersistentVolumeClaim)) (claim, *served) {
	f.Helper()
	source := f.Serve("disk", img.Held())
	f.VMDiskImage("image", source.URL)
	c := f.Claim("disk", "image", edit...)
	source.WaitServed(img.length / 2)
	return c, source
}

// RequireDone waits until a claim is bound to its disk and nothing else is left of the import.
func (f *fixture) RequireDone(c claim, img image) {
	f.Helper()
	f.RequireBound(c)
	f.RequireDisk(c, img.disk)
	f.RequireNothingLeft(c)
}
