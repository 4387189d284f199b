package main

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/cdi"
	"github.com/gild-project/gild/pkg/datasource"
	"github.com/gild-project/gild/pkg/grant"
	"github.com/gild-project/gild/pkg/poller"
	"github.com/gild-project/gild/pkg/roller"
	"github.com/gild-project/gild/pkg/trim"
)

// clientQPS is enough for ten thousand crons that are written in one minute.
const clientQPS = 250

// rememberedEvents is how many of the latest events are known, so that those which repeat are counted: each
// takes a kilobyte.
const rememberedEvents = 512

// run runs the poller until ctx ends or its lease is lost.
func run(ctx context.Context, o options) error {
	config, err := clientcmd.BuildConfigFromFlags("", o.kubeconfig)
	if err != nil {
		return fmt.Errorf("reading the kubeconfig: %w", err)
	}
	config.QPS, config.Burst = clientQPS, 2*clientQPS
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme, cdi.AddToScheme, grant.AddToScheme} {
		if err := add(scheme); err != nil {
			return fmt.Errorf("making the scheme: %w", err)
		}
	}
	mgr, err := ctrl.NewManager(config, manager.Options{
		Scheme:                        scheme,
		LeaderElection:                o.leaderElect,
		LeaderElectionID:              "poller.gild.dev",
		LeaderElectionNamespace:       o.namespace,
		LeaderElectionReleaseOnCancel: true,
		Metrics:                       metricsserver.Options{BindAddress: o.metricsAddress},
		HealthProbeBindAddress:        o.healthAddress,
		Cache:                         cache.Options{DefaultTransform: trim.Object},
	})
	if err != nil {
		return fmt.Errorf("making the manager: %w", err)
	}
	for _, add := range []func(string, healthz.Checker) error{mgr.AddHealthzCheck, mgr.AddReadyzCheck} {
		if err := add("ping", healthz.Ping); err != nil {
			return fmt.Errorf("adding health checks: %w", err)
		}
	}
	clients, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("making a client: %w", err)
	}
	broadcaster := record.NewBroadcaster(record.WithContext(ctx), record.WithCorrelatorOptions(record.CorrelatorOptions{LRUCacheSize: rememberedEvents}))
	broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: clients.CoreV1().Events("")})
	defer broadcaster.Shutdown()
	events := broadcaster.NewRecorder(scheme, corev1.EventSource{Component: "gild-poller"})
	owner, err := cdi.Add(ctx, mgr, events)
	if err != nil {
		return err
	}
	if owner == cdi.OwnerGild {
		if err := addParts(ctx, mgr, o, events); err != nil {
			return err
		}
	}
	return mgr.Start(ctx)
}

// addParts adds all that works on the kinds of cdi.kubevirt.io.
func addParts(ctx context.Context, mgr manager.Manager, o options, events record.EventRecorder) error {
	now := clock.RealClock{}
	err := poller.Add(mgr, poller.Options{
		MaxPolls: o.maxPolls, MaxPollsPerHost: o.maxPollsPerHost, Prober: prober{registryConfig: o.registryConfig}, Finalizer: roller.Finalizer, Events: events, Metrics: metrics.Registry, Clock: now,
	})
	if err != nil {
		return err
	}
	if err := roller.Add(ctx, mgr, roller.Options{Events: events, Metrics: metrics.Registry, Clock: now}); err != nil {
		return fmt.Errorf("adding the roller: %w", err)
	}
	if err := datasource.Add(ctx, mgr, now); err != nil {
		return fmt.Errorf("adding DataSources: %w", err)
	}
	return nil
}
