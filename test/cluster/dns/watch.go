package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// source says where the names come from.
type source struct {
	domain         string
	hostsNamespace string
	hostsName      string
}

// watch calls publish with all names, now and after each change, until ctx
// ends. It returns after the first time.
func (s source) watch(ctx context.Context, client kubernetes.Interface, publish func(zone)) error {
	everywhere := informers.NewSharedInformerFactory(client, 0)
	services := everywhere.Core().V1().Services()
	slices := everywhere.Discovery().V1().EndpointSlices()
	hosts := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(s.hostsNamespace),
		informers.WithTweakListOptions(func(options *metav1.ListOptions) {
			options.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, s.hostsName).String()
		}))
	configMaps := hosts.Core().V1().ConfigMaps()

	var mutex sync.Mutex // handlers of several informers run at the same time
	rebuild := func() {
		mutex.Lock()
		defer mutex.Unlock()
		names, err := s.read(services.Lister().List, slices.Lister().List, configMaps.Lister().List)
		if err != nil {
			slog.Error("reading names; the earlier ones stay", "error", err)
			return
		}
		publish(names)
	}
	handler := cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { rebuild() },
		UpdateFunc: func(any, any) { rebuild() },
		DeleteFunc: func(any) { rebuild() },
	}
	var synced []cache.InformerSynced
	for _, informer := range []cache.SharedIndexInformer{services.Informer(), slices.Informer(), configMaps.Informer()} {
		registration, err := informer.AddEventHandler(handler)
		if err != nil {
			return fmt.Errorf("watching names: %w", err)
		}
		synced = append(synced, registration.HasSynced)
	}
	everywhere.Start(ctx.Done())
	hosts.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), synced...) {
		return errors.New("watching names: stopped before all were read")
	}
	rebuild()
	return nil
}

// lister lists objects from a cache.
type lister[T any] func(labels.Selector) ([]T, error)

// read computes the names from what the caches hold now.
func (s source) read(
	services lister[*corev1.Service], slices lister[*discoveryv1.EndpointSlice], hosts lister[*corev1.ConfigMap],
) (zone, error) {
	allServices, err := services(labels.Everything())
	if err != nil {
		return nil, fmt.Errorf("listing services: %w", err)
	}
	allSlices, err := slices(labels.Everything())
	if err != nil {
		return nil, fmt.Errorf("listing endpoints: %w", err)
	}
	allHosts, err := hosts(labels.Everything())
	if err != nil {
		return nil, fmt.Errorf("listing hosts: %w", err)
	}
	more := map[string]string{}
	for _, configMap := range allHosts { // one at most
		more = configMap.Data
	}
	return newZone(s.domain, allServices, allSlices, more), nil
}
