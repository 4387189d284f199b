package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"sync"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/golden"
)

// filler stands in for the populator and the volumes: each golden claim gets the record of an
// import that has succeeded, and is bound. The poller under test sees what it would see in a
// cluster; no disk is moved.
type filler struct {
	client client.Client
	queue  workqueue.TypedRateLimitingInterface[types.NamespacedName]
	stop   func()
	done   sync.WaitGroup
	filled atomic.Int64
	failed atomic.Pointer[error]
}

// startFiller fills claims until stop is called.
func startFiller(ctx context.Context, a *api) (*filler, error) {
	claims := &metav1.PartialObjectMetadata{}
	claims.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("PersistentVolumeClaim"))
	c, err := cache.New(a.config, cache.Options{Scheme: a.client.Scheme(), Mapper: a.client.RESTMapper()})
	if err != nil {
		return nil, fmt.Errorf("watching claims: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	f := &filler{client: a.client, queue: workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[types.NamespacedName]())}
	f.stop = func() {
		cancel()
		f.queue.ShutDown()
		f.done.Wait()
	}
	f.done.Go(func() { _ = c.Start(ctx) }) // without its events nothing is filled, which is seen
	informer, err := c.GetInformer(ctx, claims)
	if err != nil {
		f.stop()
		return nil, fmt.Errorf("watching claims: %w", err)
	}
	_, err = informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{AddFunc: func(object any) {
		if claim, ok := object.(*metav1.PartialObjectMetadata); ok && claim.Labels[golden.LabelCron] != "" {
			f.queue.Add(client.ObjectKeyFromObject(claim))
		}
	}})
	if err != nil {
		f.stop()
		return nil, fmt.Errorf("watching claims: %w", err)
	}
	for range clients {
		f.done.Go(func() {
			for f.next(ctx) {
			}
		})
	}
	return f, nil
}

// next fills one claim; false once there are no more.
func (f *filler) next(ctx context.Context) bool {
	key, closed := f.queue.Get()
	if closed {
		return false
	}
	defer f.queue.Done(key)
	switch err := f.fill(ctx, key); {
	case err == nil:
		f.filled.Add(1)
	case apierrors.IsConflict(err):
		f.queue.AddRateLimited(key)
	default:
		f.failed.Store(&err)
	}
	return true
}

// err is why a claim could not be filled; nil when all could.
func (f *filler) err() error {
	if err := f.failed.Load(); err != nil {
		return fmt.Errorf("filling a claim: %w", *err)
	}
	return nil
}

func (f *filler) fill(ctx context.Context, key client.ObjectKey) error {
	claim := &corev1.PersistentVolumeClaim{}
	if err := f.client.Get(ctx, key, claim); err != nil {
		return client.IgnoreNotFound(err)
	}
	if claim.Spec.VolumeName == "" {
		claim.Spec.VolumeName = "pv-" + string(claim.UID)
		if err := f.client.Update(ctx, claim); err != nil {
			return fmt.Errorf("naming the volume: %w", err)
		}
	}
	if err := f.record(ctx, claim); err != nil {
		return err
	}
	claim.Status = corev1.PersistentVolumeClaimStatus{
		Phase: corev1.ClaimBound, Capacity: claim.Spec.Resources.Requests, AccessModes: claim.Spec.AccessModes,
	}
	if err := f.client.Status().Update(ctx, claim); err != nil {
		return fmt.Errorf("binding the claim: %w", err)
	}
	return nil
}

// record makes the VMDiskImport of a claim as the populator does.
func (f *filler) record(ctx context.Context, claim *corev1.PersistentVolumeClaim) error {
	revision, err := golden.ParseRevision(claim.Annotations[golden.AnnotationRevision])
	if err != nil {
		return err
	}
	controller := true
	record := &v1alpha1.VMDiskImport{
		ObjectMeta: metav1.ObjectMeta{Namespace: claim.Namespace, Name: claim.Name, OwnerReferences: []metav1.OwnerReference{{
			APIVersion: "v1", Kind: "PersistentVolumeClaim", Name: claim.Name, UID: claim.UID, Controller: &controller}}},
		Spec: v1alpha1.VMDiskImportSpec{
			ClaimRef:  v1alpha1.ClaimReference{Name: claim.Name, UID: claim.UID},
			ImageRef:  v1alpha1.ImageReference{Kind: golden.CronKind, Name: claim.Labels[golden.LabelCron], UID: "00000000-0000-0000-0000-000000000000"},
			ImageSpec: v1alpha1.ImageSpec{Source: revision.Source, Checksum: revision.Checksum},
			Pin:       revision.Pin, RecordDigest: true,
		},
	}
	if err := f.client.Create(ctx, record); err != nil {
		if !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("recording the import: %w", err)
		}
		if err := f.client.Get(ctx, client.ObjectKeyFromObject(record), record); err != nil {
			return fmt.Errorf("recording the import: %w", err)
		}
	}
	record.Status = v1alpha1.VMDiskImportStatus{
		Phase: v1alpha1.PhaseSucceeded, VolumeName: claim.Spec.VolumeName, Attempts: 1,
		Result: &v1alpha1.ImportResult{Digest: fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(claim.UID))), Time: metav1.Now()},
		Conditions: []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: "Succeeded",
			Message: "the disk is on the volume", LastTransitionTime: metav1.Now()}},
	}
	if err := f.client.Status().Update(ctx, record); err != nil {
		return fmt.Errorf("recording the result: %w", err)
	}
	return nil
}
