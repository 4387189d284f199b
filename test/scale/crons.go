package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gild-project/gild/pkg/golden"
)

const (
	namespaces = 20
	// clients is how many requests the preparation has under way.
	clients = 16
	// yearly never comes while the benchmark runs, but on New Year's Eve.
	yearly = "0 0 1 1 *"
)

func cronName(i int) client.ObjectKey {
	return client.ObjectKey{Namespace: fmt.Sprintf("images-%02d", i%namespaces), Name: fmt.Sprintf("image-%05d", i)}
}

// newCron is a cron as users write it.
func newCron(i int, url, schedule string) *cdiv1.DataImportCron {
	key := cronName(i)
	return &cdiv1.DataImportCron{
		ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name},
		Spec: cdiv1.DataImportCronSpec{
			Schedule: schedule, ManagedDataSource: key.Name,
			Template: cdiv1.DataVolume{Spec: cdiv1.DataVolumeSpec{
				Source: &cdiv1.DataVolumeSource{HTTP: &cdiv1.DataVolumeSourceHTTP{URL: url}},
				Storage: &cdiv1.StorageSpec{Resources: corev1.VolumeResourceRequirements{
					Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}}},
			}},
		},
	}
}

// createCrons makes n crons, with the namespaces they live in.
func createCrons(ctx context.Context, c client.Client, n int, url func(int) string) error {
	for i := range namespaces {
		namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: cronName(i).Namespace}}
		if err := c.Create(ctx, namespace); err != nil {
			return fmt.Errorf("creating a namespace: %w", err)
		}
	}
	return each(ctx, n, func(ctx context.Context, i int) error { return c.Create(ctx, newCron(i, url(i), yearly)) })
}

// reschedule edits the schedules of n crons. With a time, it says that they were last polled
// then: the run cannot wait for hours.
func reschedule(ctx context.Context, c client.Client, n int, schedule string, last time.Time) error {
	edit := map[string]any{"spec": map[string]any{"schedule": schedule}}
	if !last.IsZero() {
		edit["metadata"] = map[string]any{"annotations": map[string]string{golden.AnnotationLastCronTime: last.UTC().Format(time.RFC3339)}}
	}
	patch, err := json.Marshal(edit)
	if err != nil {
		return err
	}
	return each(ctx, n, func(ctx context.Context, i int) error {
		key := cronName(i)
		cron := &cdiv1.DataImportCron{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}}
		return c.Patch(ctx, cron, client.RawPatch("application/merge-patch+json", patch))
	})
}

// each does something for 0 to n-1, several at once.
func each(ctx context.Context, n int, do func(ctx context.Context, i int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(clients)
	for i := range n {
		if ctx.Err() != nil {
			break
		}
		group.Go(func() error {
			if err := do(ctx, i); err != nil {
				return fmt.Errorf("preparing cron %s: %w", cronName(i), err)
			}
			return nil
		})
	}
	return group.Wait()
}
