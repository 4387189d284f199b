package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
)

const (
	// runLabel is on the claims that are measured.
	runLabel = "copies.gild.dev/run"
	// clients is how many claims are being created at any time.
	clients = 16
)

// measure makes n claims at once, follows them to their end, and removes them.
func (b *benchmark) measure(ctx context.Context, w way, n int) error {
	before, err := b.cluster.writes(ctx)
	if err != nil {
		return err
	}
	served := b.image.served.Load()
	t, err := b.follow(ctx, w, n)
	if err != nil {
		return errors.Join(err, b.explain(ctx))
	}
	after, err := b.cluster.writes(ctx)
	if err != nil {
		return err
	}
	f := figuresOf(w, n, t)
	f.Bytes, f.Writes = b.image.served.Load()-served, since(before, after)
	if w.name != libraryWay {
		if err := b.readImports(ctx, &f); err != nil {
			return err
		}
	}
	b.report.Measured = append(b.report.Measured, f)
	return b.removeClaims(ctx)
}

// follow makes the claims, and watches until each is bound and PVC' is cleared away.
func (b *benchmark) follow(ctx context.Context, w way, n int) (*timeline, error) {
	ctx, cancel := context.WithTimeout(ctx, b.patience)
	defer cancel()
	claims := b.cluster.core.CoreV1().PersistentVolumeClaims(metav1.NamespaceAll)
	list, err := claims.List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("listing claims: %w", err)
	}
	// The API server may end a watch at any time: this one goes on.
	watcher, err := watchtools.NewRetryWatcherWithContext(ctx, list.ResourceVersion, &cache.ListWatch{WatchFuncWithContext: claims.Watch})
	if err != nil {
		return nil, fmt.Errorf("watching claims: %w", err)
	}
	defer watcher.Stop()
	t := newTimeline(time.Now())
	making, ctx := errgroup.WithContext(ctx)
	making.Go(func() error { return b.createClaims(ctx, w, n) })
	making.Go(func() error { return t.watch(ctx, watcher.ResultChan(), n) })
	return t, making.Wait()
}

// watch observes until n claims are cleared.
func (t *timeline) watch(ctx context.Context, events <-chan watch.Event, n int) error {
	for t.count(cleared) < n {
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for the claims: %w (%d of %d are bound)", context.Cause(ctx), t.count(bound), n)
		case event, ok := <-events:
			if !ok {
				return errors.Join(fmt.Errorf("watching claims: it ended (%d of %d are bound)", t.count(bound), n), context.Cause(ctx))
			}
			if event.Type == watch.Error {
				return fmt.Errorf("watching claims: %w (%d of %d are bound)", apierrors.FromObject(event.Object), t.count(bound), n)
			}
			if claim, ok := event.Object.(*corev1.PersistentVolumeClaim); ok {
				t.observe(event.Type, claim, time.Now())
			}
		}
	}
	return nil
}

func (b *benchmark) createClaims(ctx context.Context, w way, n int) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(clients)
	for i := range n {
		group.Go(func() error {
			claim := &corev1.PersistentVolumeClaim{
				ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "copy-" + strconv.Itoa(i), Labels: map[string]string{runLabel: w.name}},
				Spec: corev1.PersistentVolumeClaimSpec{
					AccessModes:      []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
					StorageClassName: &w.class, Resources: request(copySize), DataSourceRef: w.source(),
				},
			}
			if err := b.cluster.client.Create(ctx, claim); err != nil {
				return fmt.Errorf("creating a claim: %w", err)
			}
			return nil
		})
	}
	return group.Wait()
}

// imports are those of the claims that are measured.
func (b *benchmark) imports(ctx context.Context) ([]v1alpha1.VMDiskImport, error) {
	var all v1alpha1.VMDiskImportList
	if err := b.cluster.client.List(ctx, &all, client.InNamespace(namespace)); err != nil {
		return nil, fmt.Errorf("listing imports: %w", err)
	}
	var found []v1alpha1.VMDiskImport
	for _, imp := range all.Items {
		if imp.Spec.CopyOf != nil {
			found = append(found, imp)
		}
	}
	return found, nil
}

// readImports counts which strategies were used, and the seconds that importers took.
func (b *benchmark) readImports(ctx context.Context, f *figures) error {
	all, err := b.imports(ctx)
	if err != nil {
		return err
	}
	f.Strategies = map[v1alpha1.Strategy]int{}
	for _, imp := range all {
		f.Strategies[imp.Status.Strategy]++
		if imp.Status.Result == nil || imp.Status.Attempts == 0 {
			continue // no importer has run
		}
		seconds, err := strconv.ParseFloat(imp.Status.Result.Seconds, 64)
		if err != nil {
			return fmt.Errorf("reading how long import %s took: %w", imp.Name, err)
		}
		f.Importer += seconds / float64(len(all))
	}
	return nil
}

// explain says what an import waits for, as an error.
func (b *benchmark) explain(ctx context.Context) error {
	all, err := b.imports(context.WithoutCancel(ctx))
	if err != nil {
		return err
	}
	for _, imp := range all {
		for _, condition := range imp.Status.Conditions {
			if condition.Type == v1alpha1.ConditionReady && condition.Status != metav1.ConditionTrue {
				return fmt.Errorf("import %s is not ready: %s: %s", imp.Name, condition.Reason, condition.Message)
			}
		}
	}
	return nil
}

// removeClaims deletes the claims, and waits until their imports and volumes are gone.
func (b *benchmark) removeClaims(ctx context.Context) error {
	c := b.cluster.client
	err := c.DeleteAllOf(ctx, &corev1.PersistentVolumeClaim{}, client.InNamespace(namespace), client.HasLabels{runLabel})
	if err != nil {
		return fmt.Errorf("deleting the claims: %w", err)
	}
	err = b.until(ctx, func(ctx context.Context) (bool, error) {
		var claims corev1.PersistentVolumeClaimList
		if err := c.List(ctx, &claims, client.InNamespace(namespace), client.HasLabels{runLabel}); err != nil || len(claims.Items) > 0 {
			return false, err
		}
		if all, err := b.imports(ctx); err != nil || len(all) > 0 {
			return false, err
		}
		return b.noVolumes(ctx)
	})
	if err != nil {
		return fmt.Errorf("waiting until the claims are gone: %w", err)
	}
	return nil
}

// noVolumes reports whether every volume belongs to a claim that exists.
func (b *benchmark) noVolumes(ctx context.Context) (bool, error) {
	var volumes corev1.PersistentVolumeList
	if err := b.cluster.client.List(ctx, &volumes); err != nil {
		return false, err
	}
	for _, pv := range volumes.Items {
		ref := pv.Spec.ClaimRef
		if ref == nil || ref.Namespace != namespace {
			continue
		}
		err := b.cluster.client.Get(ctx, client.ObjectKey{Namespace: ref.Namespace, Name: ref.Name}, &corev1.PersistentVolumeClaim{})
		if err != nil {
			return false, client.IgnoreNotFound(err)
		}
	}
	return true, nil
}
