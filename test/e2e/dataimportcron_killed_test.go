//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
)

// manyCrons is how many golden images are under way while Gild is replaced.
const manyCrons = 20

// TestDataImportCronsOutliveTheirPoller replaces populator and poller while many golden images are imported, and
// then deletes crons while there is no poller.
func TestDataImportCronsOutliveTheirPoller(t *testing.T) {
	f := start(t)
	img := f.Revision(0)
	source := f.Serve("disk", img.Held())
	policies := []cdiv1.DataImportCronRetentionPolicy{cdiv1.DataImportCronRetainNone, cdiv1.DataImportCronRetainAll}
	var crons []string
	for i := range manyCrons {
		name := fmt.Sprintf("cron-%d", i)
		crons = append(crons, name)
		f.Cron(name, httpSource(source.On(f.Host(f.namespace+"-"+name))), func(cron *cdiv1.DataImportCron) {
			cron.Spec.RetentionPolicy = ptr.To(policies[i%2])
			cron.Spec.Template.Spec.Storage.VolumeMode = ptr.To(corev1.PersistentVolumeBlock)
		})
	}
	f.Eventually("imports of all", importWithin, func(ctx context.Context) (bool, string, error) {
		var imports v1alpha1.VMDiskImportList
		err := f.List(ctx, &imports, client.InNamespace(f.namespace))
		running := 0
		for i := range imports.Items {
			if imports.Items[i].Status.Phase == v1alpha1.PhaseImporting {
				running++
			}
		}
		return len(imports.Items) == manyCrons && running > 1, fmt.Sprintf("%d imports, %d of them running", len(imports.Items), running), err
	})
	for _, name := range []string{populatorName, pollerName} {
		f.editDeployment(f.ctx, name, func(deployment *appsv1.Deployment) {
			metav1.SetMetaDataAnnotation(&deployment.Spec.Template.ObjectMeta, "kubectl.kubernetes.io/restartedAt", time.Now().Format(time.RFC3339))
		})
	}
	for _, name := range []string{populatorName, pollerName} {
		require.NoError(t, f.waitDeployment(f.ctx, name))
	}
	source.Publish(img.file)
	claims := map[string]claim{}
	for _, name := range crons {
		claims[name] = f.WaitRolled(name)
		require.EqualValues(t, 1, f.Import(claims[name]).Status.Attempts)
	}
	f.RequireDisk(claims[crons[1]], img.disk)

	f.scalePoller(0)
	t.Cleanup(func() { f.scalePoller(1) })
	for _, name := range crons {
		require.NoError(t, f.Delete(f.ctx, f.ReadCron(name)))
	}
	// With CDI in the cluster the kinds are CDI's.
	foreign := &cdiv1.CDI{ObjectMeta: metav1.ObjectMeta{Name: "cdi", Labels: map[string]string{runLabel: f.run}}}
	require.NoError(t, f.Create(f.ctx, foreign))
	t.Cleanup(func() { require.NoError(t, client.IgnoreNotFound(f.Delete(context.WithoutCancel(f.ctx), foreign))) })
	f.scalePoller(1)
	f.WaitPollerSays("CDI serves the kinds")
	for _, name := range crons {
		require.NotNil(t, f.ReadCron(name).DeletionTimestamp, "what is CDI's is left alone")
	}
	require.NoError(t, f.Delete(f.ctx, foreign))
	for i, name := range crons {
		f.Eventually("cron gone", goneWithin, func(ctx context.Context) (bool, string, error) {
			return f.gone(ctx, &cdiv1.DataImportCron{}, name)
		})
		if policies[i%2] == cdiv1.DataImportCronRetainAll {
			f.RequireSource(name, claims[name])
			continue
		}
		f.WaitGone(claims[name])
		f.Eventually("DataSource gone", goneWithin, func(ctx context.Context) (bool, string, error) {
			return f.gone(ctx, &cdiv1.DataSource{}, name)
		})
	}
}

// WaitPollerSays waits until the log of the poller has a text.
func (f *fixture) WaitPollerSays(text string) {
	f.Helper()
	f.Eventually("the log of the poller", polledWithin, func(ctx context.Context) (bool, string, error) {
		pod := f.pollerPod()
		log, err := f.typed.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, &corev1.PodLogOptions{}).DoRaw(ctx)
		return strings.Contains(string(log), text), lastLines(string(log), 5), err
	})
}

// gone tells whether there is no object of a name, and else what holds it.
func (f *fixture) gone(ctx context.Context, object client.Object, name string) (bool, string, error) {
	err := f.Get(ctx, f.key(name), object)
	return apierrors.IsNotFound(err), describeFinalizers(object), client.IgnoreNotFound(err)
}

// scalePoller sets how many pollers run and waits until they do. It works at the end of a test too.
func (f *fixture) scalePoller(replicas int32) {
	f.Helper()
	ctx := context.WithoutCancel(f.ctx)
	f.editDeployment(ctx, pollerName, func(deployment *appsv1.Deployment) { deployment.Spec.Replicas = &replicas })
	require.NoError(f, f.waitDeployment(ctx, pollerName))
}
