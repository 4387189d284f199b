package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// retryAfter is how long to wait after the table could not be written.
const retryAfter = time.Second

// watch writes the table now and after each change, until ctx ends. It returns
// after the first time.
func (e *enforcer) watch(ctx context.Context, client kubernetes.Interface) error {
	factory := informers.NewSharedInformerFactory(client, 0)
	pods, namespaces := factory.Core().V1().Pods(), factory.Core().V1().Namespaces()
	policies := factory.Networking().V1().NetworkPolicies()
	e.pods, e.namespaces, e.policies = pods.Lister(), namespaces.Lister(), policies.Lister()

	changed := make(chan struct{}, 1)
	notify := func() {
		select {
		case changed <- struct{}{}:
		default: // a change that is not seen yet stands for this one too
		}
	}
	handler := cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { notify() },
		UpdateFunc: func(any, any) { notify() },
		DeleteFunc: func(object any) {
			if missed, ok := object.(cache.DeletedFinalStateUnknown); ok {
				object = missed.Obj
			}
			if p, ok := object.(*corev1.Pod); ok {
				e.forget(string(p.UID))
			}
			notify()
		},
	}
	var synced []cache.InformerSynced
	for _, informer := range []cache.SharedIndexInformer{pods.Informer(), namespaces.Informer(), policies.Informer()} {
		registration, err := informer.AddEventHandler(handler)
		if err != nil {
			return fmt.Errorf("watching policies: %w", err)
		}
		synced = append(synced, registration.HasSynced)
	}
	factory.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), synced...) {
		return errors.New("watching policies: stopped before all were read")
	}
	if err := e.apply(ctx); err != nil {
		return err
	}
	go e.follow(ctx, changed, notify)
	return nil
}

// follow writes the table after each change.
func (e *enforcer) follow(ctx context.Context, changed <-chan struct{}, again func()) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
		if err := e.apply(ctx); err != nil && ctx.Err() == nil {
			slog.Error("applying policies; trying again", "error", err)
			time.AfterFunc(retryAfter, again)
		}
	}
}
