//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
)

// progressEvery is the least time between two writes of progress.
const progressEvery = 5 * time.Second

// seenImport is one version of an import and when it was seen.
type seenImport struct {
	*v1alpha1.VMDiskImport
	at time.Time
}

// watchImport collects every version of a claim's import until it has succeeded.
func (f *fixture) watchImport(c claim) <-chan []seenImport {
	f.Helper()
	watcher, err := f.Watch(f.ctx, &v1alpha1.VMDiskImportList{}, client.InNamespace(f.namespace))
	require.NoError(f, err)
	collected := make(chan []seenImport, 1)
	go func() {
		defer watcher.Stop()
		var versions []seenImport
		defer func() { collected <- versions }()
		for event := range watcher.ResultChan() {
			imp, ok := event.Object.(*v1alpha1.VMDiskImport)
			if !ok || imp.Name != c.name {
				continue
			}
			versions = append(versions, seenImport{imp, time.Now()})
			if imp.Status.Phase == v1alpha1.PhaseSucceeded {
				return
			}
		}
	}()
	return collected
}

// TestShowsProgress reads from a slow server and counts what is written of it.
func TestShowsProgress(t *testing.T) {
	t.Parallel()
	f := start(t)
	const size = 6 * diskSize
	img := f.Raw(size)
	slow := img.file
	slow.BytesPerSecond = 6 * mib // 24 s in all
	f.VMDiskImage("image", f.Serve("disk", slow).URL)
	c := f.Claim("disk", "image", block, ofSize(size))
	collected := f.watchImport(c)
	f.RequireBound(c)
	versions := <-collected
	f.RequireDisk(c, img.disk)

	var progress []v1alpha1.ImportProgress
	var first, last time.Time
	states := map[string]bool{}
	for _, version := range versions {
		states[string(version.Status.Phase)+ready(version.VMDiskImport).Reason] = true
		p := version.Status.Progress
		if version.Status.Phase != v1alpha1.PhaseImporting || p == nil || p.TransferredBytes == 0 {
			continue
		}
		if first.IsZero() {
			first = version.at
		}
		last = version.at
		if len(progress) == 0 || progress[len(progress)-1] != *p {
			progress = append(progress, *p)
		}
	}
	require.GreaterOrEqual(t, len(progress), 3, "progress is shown while the import runs")
	most := int(last.Sub(first)/progressEvery) + 2
	require.LessOrEqual(t, len(progress), most, "progress is written at most every %s", progressEvery)
	// Besides progress, each state is written once, and so are the record's making and its finalizer.
	require.LessOrEqual(t, len(versions), most+len(states)+4, "the record is written too often: %v", states)
	for i, p := range progress {
		require.Equal(t, size, p.TotalBytes)
		require.LessOrEqual(t, p.TransferredBytes, size)
		percent, err := strconv.ParseFloat(strings.TrimSuffix(p.Percent, "%"), 64)
		require.NoError(t, err)
		require.InDelta(t, 100*float64(p.TransferredBytes)/float64(p.TotalBytes), percent, 1)
		if i > 0 {
			require.Greater(t, p.TransferredBytes, progress[i-1].TransferredBytes)
			require.Regexp(t, `^[0-9.]+ [KM]iB/s$`, p.Rate)
		}
	}
	require.True(t, slices.IsSortedFunc(versions, func(a, b seenImport) int {
		return int(a.Status.Attempts - b.Status.Attempts)
	}))
}

// TestImporterPodIsShutIn looks at the pod while it runs: it has no token, may do nothing on its
// node, and a pod that looks like it reaches the image server and nothing else.
func TestImporterPodIsShutIn(t *testing.T) {
	t.Parallel()
	f := start(t)
	img := f.Raw(diskSize)
	c, source := f.midImport(img)
	pod := f.ImporterPod(c)
	require.False(t, ptr.Deref(pod.Spec.AutomountServiceAccountToken, true))
	for _, volume := range pod.Spec.Volumes {
		require.Nil(t, volume.Projected, "volume %s may hold a token", volume.Name)
	}
	for _, container := range pod.Spec.Containers {
		require.NotEmpty(t, container.Resources.Requests)
		require.NotEmpty(t, container.Resources.Limits.Memory().String())
		require.NotZero(t, container.Resources.Limits.Memory().Value())
		require.NotZero(t, container.Resources.Limits.Cpu().MilliValue())
		require.True(t, ptr.Deref(container.SecurityContext.ReadOnlyRootFilesystem, false))
	}
	require.Equal(t, int64(qemu), ptr.Deref(pod.Spec.SecurityContext.RunAsUser, 0))

	// A restricted namespace takes the same pod.
	spec := pod.Spec.DeepCopy()
	spec.NodeName = ""
	restricted := &corev1.Pod{ObjectMeta: f.meta("restricted"), Spec: *spec}
	require.NoError(t, f.Create(t.Context(), restricted, client.DryRunAll))

	// The wall is real: one way is open, the others are not.
	reach := func(name, address string) corev1.PodPhase { return f.dial(name, address, pod.Labels) }
	api := &corev1.Service{}
	require.NoError(t, f.Get(t.Context(), client.ObjectKey{Namespace: metav1.NamespaceDefault, Name: "kubernetes"}, api))
	require.Equal(t, corev1.PodSucceeded, reach("to-web", fmt.Sprintf("%s:%d", f.host, httpPort)))
	if reach("to-api", api.Spec.ClusterIP+":443") == corev1.PodSucceeded {
		if !f.testCluster {
			t.Skip("the importer works, but this cluster does not enforce NetworkPolicies")
		}
		require.Fail(t, "the importer reaches the API server")
	}
	source.Publish(img.file)
	f.RequireDone(c, img)
}

// dial runs a pod with the labels of an importer that dials address, and returns how it ended.
func (f *fixture) dial(name, address string, labels map[string]string) corev1.PodPhase {
	f.Helper()
	own := map[string]string{runLabel: f.run}
	for _, key := range []string{"app.kubernetes.io/name", "app.kubernetes.io/component"} {
		own[key] = labels[key]
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: systemNamespace, Name: f.namespace + "-" + name, Labels: own},
		Spec: corev1.PodSpec{
			RestartPolicy: corev1.RestartPolicyNever, AutomountServiceAccountToken: ptr.To(false), SecurityContext: restrictedPod(),
			Containers: []corev1.Container{{
				Name: "dial", Image: f.image("gild-imageserver"), Args: []string{"dial", address}, SecurityContext: restrictedContainer(),
			}},
		},
	}
	require.NoError(f, f.Create(f.ctx, pod))
	defer func() { require.NoError(f, f.Delete(f.ctx, pod)) }()
	f.Eventually("dialled "+address, importWithin, func(ctx context.Context) (bool, string, error) {
		err := f.Get(ctx, client.ObjectKeyFromObject(pod), pod)
		ended := pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
		return ended, describePod(pod), err
	})
	return pod.Status.Phase
}

// TestEventsTellTheStory reads what kubectl describe shows of a claim.
func TestEventsTellTheStory(t *testing.T) {
	t.Parallel()
	f := start(t)
	img := f.Raw(diskSize)
	source := f.Serve("disk", img.file)
	f.VMDiskImage("image", source.URL)
	c := f.Claim("disk", "image")
	f.RequireDone(c, img)
	text := f.Kubectl("describe", "pvc", c.name)
	require.Regexp(t, `(?s)ImportStarted.*ImportSucceeded`, text)
	for _, reason := range []string{"ImportStarted", "ImportSucceeded"} {
		events := f.eventsOf(c, reason)
		require.Len(t, events, 1)
		require.LessOrEqual(t, max(events[0].Count, 1), int32(1), "%s is said once", reason)
	}
	for _, event := range f.Events(c) {
		require.NotEqual(t, corev1.EventTypeWarning, event.Type, "%s: %s", event.Reason, event.Message)
	}
}
