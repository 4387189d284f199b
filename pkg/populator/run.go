package populator

import (
	"context"
	"fmt"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/cdi"
	"github.com/gild-project/gild/pkg/export"
	"github.com/gild-project/gild/pkg/grant"
	"github.com/gild-project/gild/pkg/snapshot"
)

const (
	// indexUID finds a claim by its UID.
	indexUID = "metadata.uid"
	// indexClaimSource finds the claims that refer to a source by its sourceKey.
	indexClaimSource = "spec.dataSourceRef"
	// indexReleased finds the released volumes of PVC's, by their namespace.
	indexReleased = "status.released"
	// importWorkers is how many imports are looked at at once; each may wait for a log.
	importWorkers = 4
	// clientQPS is enough for a hundred imports that start together.
	clientQPS = 50
)

// Part adds to the populator's manager what else its process does.
type Part func(mgr manager.Manager, events record.EventRecorder) error

// Run runs the populator and its parts until ctx ends or its lease is lost. The manager's scheme knows the
// core, storage, CDI, snapshot and Gild kinds, and its cache holds claims and imports whole.
func Run(ctx context.Context, o Options, parts ...Part) error {
	template, err := readJobTemplate(o.JobTemplate)
	if err != nil {
		return err
	}
	if err := checkTemplate(template); err != nil {
		return err
	}
	quietLibrary()
	config, err := clientcmd.BuildConfigFromFlags("", o.Kubeconfig)
	if err != nil {
		return fmt.Errorf("reading the kubeconfig: %w", err)
	}
	config.QPS, config.Burst = clientQPS, 2*clientQPS
	clients, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("making a client: %w", err)
	}
	mgr, err := newManager(config, &o)
	if err != nil {
		return fmt.Errorf("making the manager: %w", err)
	}
	all := newKinds()
	if err := addIndexes(ctx, mgr.GetFieldIndexer(), all); err != nil {
		return fmt.Errorf("indexing claims: %w", err)
	}
	broadcaster := record.NewBroadcaster(record.WithContext(ctx))
	broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: clients.CoreV1().Events("")})
	defer broadcaster.Shutdown()
	events := newEventRecorder(broadcaster.NewRecorder(mgr.GetScheme(), corev1.EventSource{Component: "gild-populator"}), clock.RealClock{})

	remains := remains{client: mgr.GetClient(), live: mgr.GetAPIReader(), namespace: o.Namespace}
	taken := snapshot.New(mgr.GetClient(), mgr.GetAPIReader())
	exported := export.New(mgr.GetClient(), mgr.GetAPIReader(), o.Namespace, clock.RealClock{})
	granted := grant.New(mgr.GetAPIReader(), mgr.GetClient())
	var libraries []*machinery
	wake := func(claim types.NamespacedName) {
		for _, library := range libraries {
			library.wake(claim)
		}
	}
	imports := &importController{
		kinds: all, logs: NewLogTail(clients), clock: clock.RealClock{}, events: events, wake: wake, remains: remains,
		queue: newQueue(o.MaxImports, o.MaxImportsPerHost), pace: newPace(), leaders: newLeaders(),
		snapshots: taken, grants: granted, exports: exported, copies: o.Copy,
		importerImage: o.ImporterImage, template: template,
	}
	claims := &claimController{kinds: all, events: events, clock: clock.RealClock{}, wake: wake, remains: remains}
	watches, err := addControllers(mgr, claims, imports)
	if err != nil {
		return fmt.Errorf("adding controllers: %w", err)
	}
	for _, k := range all {
		libraries = append(libraries, &machinery{
			kind: k, kubeconfig: o.Kubeconfig, discovery: clients.Discovery(), events: events, remains: remains, snapshots: taken, grants: granted, leaders: imports.leaders, queue: newLibraryQueue(),
			arrived: func() error { return watches.add(k) },
		})
	}
	for _, library := range libraries {
		if err := mgr.Add(library); err != nil {
			return fmt.Errorf("adding lib-volume-populator for %s: %w", library.kind.name, err)
		}
	}
	if err := mgr.Add(&sweeper{remains: remains, snapshots: taken, exports: exported}); err != nil {
		return fmt.Errorf("adding the sweeper: %w", err)
	}
	for _, add := range parts {
		if err := add(mgr, events); err != nil {
			return err
		}
	}
	return mgr.Start(ctx)
}

func newManager(config *rest.Config, o *Options) (manager.Manager, error) {
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		return nil, err
	}
	for _, add := range []func(*runtime.Scheme) error{v1alpha1.AddToScheme, cdi.AddToScheme, snapshot.AddToScheme, grant.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	ours := cache.ByObject{Namespaces: map[string]cache.Config{o.Namespace: {}}}
	mgr, err := ctrl.NewManager(config, manager.Options{
		Scheme:                        scheme,
		LeaderElection:                o.LeaderElect,
		LeaderElectionID:              "populator." + Prefix,
		LeaderElectionNamespace:       o.Namespace,
		LeaderElectionReleaseOnCancel: true,
		Metrics:                       metricsserver.Options{BindAddress: o.MetricsAddress},
		HealthProbeBindAddress:        o.HealthAddress,
		Cache: cache.Options{
			DefaultTransform: cache.TransformStripManagedFields(),
			ByObject:         map[client.Object]cache.ByObject{&batchv1.Job{}: ours, &corev1.Pod{}: ours},
		},
	})
	if err != nil {
		return nil, err
	}
	if err := mgr.AddHealthzCheck("ping", healthz.Ping); err != nil {
		return nil, err
	}
	return mgr, mgr.AddReadyzCheck("ping", healthz.Ping)
}
