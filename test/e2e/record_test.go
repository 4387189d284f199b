//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/watch"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
)

// record writes what Gild shows of itself into the records' folder until ctx ends: every
// version of the objects that people can read, one JSON line each, and the logs of all
// containers in its namespace.
func (c *cluster) record(ctx context.Context) {
	var recorders sync.WaitGroup
	for name, list := range map[string]client.ObjectList{
		"pods": &corev1.PodList{}, "jobs": &batchv1.JobList{}, "claims": &corev1.PersistentVolumeClaimList{},
		"events": &corev1.EventList{}, "images": &v1alpha1.VMDiskImageList{}, "imports": &v1alpha1.VMDiskImportList{},
		"crons": &cdiv1.DataImportCronList{}, "datasources": &cdiv1.DataSourceList{},
	} {
		recorders.Go(func() { c.recordObjects(ctx, name, list, &recorders) })
	}
	recorders.Wait()
}

// recordObjects follows one kind in the whole cluster. A watch that breaks, or a kind that
// is not there yet, is tried again.
func (c *cluster) recordObjects(ctx context.Context, name string, list client.ObjectList, logs *sync.WaitGroup) {
	file, err := os.Create(filepath.Join(c.settings.record, name+".jsonl"))
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e: recording:", err)
		return
	}
	defer func() { _ = file.Close() }()
	followed := map[string]bool{}
	for ctx.Err() == nil {
		watcher, err := c.Watch(ctx, list)
		if err != nil {
			select {
			case <-ctx.Done():
			case <-time.After(pollInterval):
			}
			continue
		}
		for event := range watcher.ResultChan() {
			c.recordEvent(ctx, file, event, followed, logs)
		}
		watcher.Stop()
	}
}

func (c *cluster) recordEvent(ctx context.Context, file io.Writer, event watch.Event, followed map[string]bool, logs *sync.WaitGroup) {
	object, ok := event.Object.(client.Object)
	if !ok || !c.concerns(object.GetNamespace()) {
		return
	}
	object.SetManagedFields(nil)
	line, err := json.Marshal(map[string]any{"seen": time.Now(), "event": event.Type, "object": object})
	if err == nil {
		_, err = file.Write(append(line, '\n'))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e: recording:", err)
	}
	pod, ok := object.(*corev1.Pod)
	if !ok || pod.Namespace != systemNamespace || followed[string(pod.UID)] {
		return
	}
	for _, status := range pod.Status.ContainerStatuses {
		if status.State.Running != nil || status.State.Terminated != nil {
			followed[string(pod.UID)] = true
			logs.Go(func() { c.recordLog(ctx, pod) })
		}
	}
}

// concerns reports whether a namespace is one that the tests look at.
func (c *cluster) concerns(namespace string) bool {
	named := []string{systemNamespace, seedNamespace, streamNamespace, wildImages, wildMachines}
	return slices.Contains(named, namespace) || strings.HasPrefix(namespace, "gild-e2e-"+c.run)
}

// recordLog copies a pod's log until the pod ends.
func (c *cluster) recordLog(ctx context.Context, pod *corev1.Pod) {
	stream, err := c.typed.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, &corev1.PodLogOptions{Follow: true, Timestamps: true}).Stream(ctx)
	if err != nil {
		return // the pod is gone already: its log is nobody's any more
	}
	defer func() { _ = stream.Close() }()
	file, err := os.Create(filepath.Join(c.settings.record, pod.Name+".log"))
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e: recording:", err)
		return
	}
	defer func() { _ = file.Close() }()
	// A log that breaks off with its pod is complete all the same.
	_, _ = io.Copy(file, stream)
}

// recorded returns the names of the records that contain text, plain or within base64.
func (c *cluster) recorded(text string) ([]string, error) {
	entries, err := os.ReadDir(c.settings.record)
	if err != nil {
		return nil, fmt.Errorf("reading the records: %w", err)
	}
	var names []string
	for _, entry := range entries {
		content, err := os.ReadFile(filepath.Join(c.settings.record, entry.Name()))
		if err != nil {
			return nil, fmt.Errorf("reading the records: %w", err)
		}
		for _, spelling := range spellings(text) {
			if bytes.Contains(content, []byte(spelling)) {
				names = append(names, entry.Name())
				break
			}
		}
	}
	return names, nil
}

// spellings are text itself and what base64 makes of it, wherever it begins in the
// encoded bytes.
func spellings(text string) []string {
	all := []string{text}
	for shift := range 3 {
		encoded := base64.StdEncoding.EncodeToString([]byte(strings.Repeat(" ", shift) + text))
		// The first and the last group of four may hold bytes of the neighbours.
		all = append(all, encoded[min(shift, 1)*4:len(encoded)/4*4-4])
	}
	return all
}

// canaryStem begins every secret value of this run.
func (s settings) canaryStem() string { return "canary-" + s.run + "-" }

// findCanaries returns an error when a secret of any test can be read in the records.
func (c *cluster) findCanaries() error {
	names, err := c.recorded(c.canaryStem())
	if err != nil {
		return err
	}
	if len(names) > 0 {
		return fmt.Errorf("looking for secrets in what everybody can read: found in %s", strings.Join(names, ", "))
	}
	return nil
}
