//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// TestImporterPodKilled ends importer pods half-way. The import is tried again and ends right.
func TestImporterPodKilled(t *testing.T) {
	t.Parallel()
	for name, kill := range map[string]func(*fixture, *corev1.Pod) error{
		"deleted": func(f *fixture, pod *corev1.Pod) error { return f.Delete(f.ctx, pod) },
		"deleted by force": func(f *fixture, pod *corev1.Pod) error {
			return f.Delete(f.ctx, pod, client.GracePeriodSeconds(0))
		},
		"evicted": func(f *fixture, pod *corev1.Pod) error {
			return f.typed.PolicyV1().Evictions(pod.Namespace).Evict(f.ctx, &policyv1.Eviction{ObjectMeta: pod.ObjectMeta})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t)
			img := f.Qcow2(diskSize)
			c, source := f.midImport(img)
			require.NoError(t, kill(f, f.ImporterPod(c)))
			f.WaitEvent(c, "ImportRetry", "")
			source.Publish(img.file)
			f.RequireDone(c, img)
			imp := f.Import(c)
			require.EqualValues(t, 2, imp.Status.Attempts)
			require.NotNil(t, imp.Status.LastFailure, "the first attempt is not forgotten")
		})
	}
}

// TestPopulatorKilled kills the populator while an import runs. The import goes on without it.
func TestPopulatorKilled(t *testing.T) {
	f := start(t)
	img := f.Raw(diskSize)
	c, source := f.midImport(img)
	for _, pod := range f.populators() {
		require.NoError(t, f.Delete(t.Context(), &pod, client.GracePeriodSeconds(0)))
	}
	source.Publish(img.file)
	f.RequireDone(c, img)
	require.EqualValues(t, 1, f.Import(c).Status.Attempts)
	require.NoError(t, f.waitPopulator(t.Context()))
}

// TestPopulatorKilledWhileAClaimGoes kills the populator just after a claim is deleted half-way:
// what is to be cleaned up must not depend on its memory.
func TestPopulatorKilledWhileAClaimGoes(t *testing.T) {
	f := start(t)
	c, _ := f.midImport(f.Raw(diskSize))
	require.NoError(t, f.Delete(t.Context(), f.PVC(c)))
	for _, pod := range f.populators() {
		require.NoError(t, f.Delete(t.Context(), &pod, client.GracePeriodSeconds(0)))
	}
	require.NoError(t, f.waitPopulator(t.Context()))
	f.WaitGone(c)
	f.RequireNothingLeft(c)
}

// TestLeaderKilled runs two populators and kills the one that leads while an import runs.
func TestLeaderKilled(t *testing.T) {
	f := start(t)
	f.scalePopulator(2)
	t.Cleanup(func() { f.scalePopulator(1) })
	img := f.Raw(diskSize)
	c, source := f.midImport(img)
	leader := f.leader("")
	require.NoError(t, f.Delete(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: systemNamespace, Name: leader}}, client.GracePeriodSeconds(0)))
	source.Publish(img.file)
	require.NotEqual(t, leader, f.leader(leader))
	f.RequireDone(c, img)
	require.EqualValues(t, 1, f.Import(c).Status.Attempts)
	require.Len(t, f.eventsOf(c, "ImportStarted"), 1, "two populators never do the same")
	require.Len(t, f.eventsOf(c, "ImportSucceeded"), 1)
}

// populators are the populator's pods.
func (f *fixture) populators() []corev1.Pod {
	f.Helper()
	var pods corev1.PodList
	require.NoError(f, f.List(f.ctx, &pods, client.InNamespace(systemNamespace), client.MatchingLabels{"app.kubernetes.io/component": "populator"}))
	require.NotEmpty(f, pods.Items)
	return pods.Items
}

// scalePopulator sets how many populators run and waits until they do. It works at the end of a test too.
func (f *fixture) scalePopulator(replicas int32) {
	f.Helper()
	ctx := context.WithoutCancel(f.ctx)
	f.editPopulator(ctx, func(deployment *appsv1.Deployment) { deployment.Spec.Replicas = &replicas })
	require.NoError(f, f.waitPopulator(ctx))
}

func (f *fixture) editPopulator(ctx context.Context, edit func(*appsv1.Deployment)) {
	f.Helper()
	f.editDeployment(ctx, populatorName, edit)
}

// editDeployment changes one of Gild's Deployments.
func (f *fixture) editDeployment(ctx context.Context, name string, edit func(*appsv1.Deployment)) {
	f.Helper()
	require.NoError(f, retry.RetryOnConflict(retry.DefaultRetry, func() error {
		deployment := &appsv1.Deployment{}
		if err := f.Get(ctx, client.ObjectKey{Namespace: systemNamespace, Name: name}, deployment); err != nil {
			return err
		}
		edit(deployment)
		return f.Update(ctx, deployment)
	}))
}

// leader waits until a populator other than the one named leads, and returns its pod's name.
func (f *fixture) leader(other string) string {
	f.Helper()
	var name string
	f.Eventually("a leader", time.Minute, func(ctx context.Context) (bool, string, error) {
		var leases coordinationv1.LeaseList
		if err := f.List(ctx, &leases, client.InNamespace(systemNamespace)); err != nil {
			return false, "", err
		}
		for _, pod := range f.populators() {
			for _, lease := range leases.Items {
				holder := ptr.Deref(lease.Spec.HolderIdentity, "")
				if pod.Name != other && pod.DeletionTimestamp.IsZero() && len(holder) > len(pod.Name) && holder[:len(pod.Name)] == pod.Name {
					name = pod.Name
					return true, "", nil
				}
			}
		}
		return false, fmt.Sprintf("%d leases", len(leases.Items)), nil
	})
	return name
}
