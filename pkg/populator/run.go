package populator

import (
	"context"
	"fmt"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
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
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
)

const (
	// indexUID finds a claim by its UID.
	indexUID = "metadata.uid"
	// indexClaimImage finds the claims that refer to a VMDiskImage by its name.
	indexClaimImage = "spec.dataSourceRef.name"
	// indexReleased finds the released volumes of PVC's, by their namespace.
	indexReleased = "status.released"
	// importWorkers is how many imports are looked at at once; each may wait for a log.
	importWorkers = 4
	// clientQPS is enough for a hundred imports that start together.
	clientQPS = 50
)

// Run runs the populator until ctx ends or its lease is lost.
func Run(ctx context.Context, o Options) error {
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
	if err := addIndexes(ctx, mgr.GetFieldIndexer()); err != nil {
		return fmt.Errorf("indexing claims: %w", err)
	}
	broadcaster := record.NewBroadcaster(record.WithContext(ctx))
	broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: clients.CoreV1().Events("")})
	defer broadcaster.Shutdown()
	events := newEventRecorder(broadcaster.NewRecorder(mgr.GetScheme(), corev1.EventSource{Component: "gild-populator"}), clock.RealClock{})

	remains := remains{client: mgr.GetClient(), live: mgr.GetAPIReader(), namespace: o.Namespace}
	library := &machinery{kubeconfig: o.Kubeconfig, discovery: clients.Discovery(), events: events, remains: remains, queue: newLibraryQueue()}
	imports := &importController{
		logs: NewLogTail(clients), clock: clock.RealClock{}, events: events, wake: library.wake, remains: remains,
		queue: newQueue(o.MaxImports, o.MaxImportsPerHost), pace: newPace(),
		importerImage: o.ImporterImage, template: template,
	}
	claims := &claimController{events: events, clock: clock.RealClock{}, wake: library.wake, remains: remains}
	if err := addControllers(mgr, claims, imports, &imageController{client: mgr.GetClient(), clock: clock.RealClock{}}); err != nil {
		return fmt.Errorf("adding controllers: %w", err)
	}
	for _, runnable := range []manager.Runnable{library, &sweeper{remains: remains}} {
		if err := mgr.Add(runnable); err != nil {
			return fmt.Errorf("adding %T: %w", runnable, err)
		}
	}
	return mgr.Start(ctx)
}

func newManager(config *rest.Config, o *Options) (manager.Manager, error) {
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		return nil, err
	}
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return nil, err
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

func addIndexes(ctx context.Context, indexer client.FieldIndexer) error {
	for field, value := range map[string]func(*corev1.PersistentVolumeClaim) string{
		indexUID:        func(claim *corev1.PersistentVolumeClaim) string { return string(claim.UID) },
		indexClaimImage: imageOf,
	} {
		err := indexer.IndexField(ctx, &corev1.PersistentVolumeClaim{}, field, func(o client.Object) []string {
			if claim, ok := o.(*corev1.PersistentVolumeClaim); ok {
				return []string{value(claim)}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	err := indexer.IndexField(ctx, &corev1.PersistentVolume{}, indexReleased, func(o client.Object) []string {
		if pv, ok := o.(*corev1.PersistentVolume); ok {
			return []string{releasedFrom(pv)}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return indexer.IndexField(ctx, &v1alpha1.VMDiskImport{}, indexImportImage, func(o client.Object) []string {
		if imp, ok := o.(*v1alpha1.VMDiskImport); ok {
			return []string{imp.Spec.ImageRef.Name}
		}
		return nil
	})
}

// addControllers is the one place that says what wakes what.
func addControllers(mgr manager.Manager, claims *claimController, imports *importController, images *imageController) error {
	// A VMDiskImage's status follows its imports: it must not wake them.
	edited := builder.WithPredicates(predicate.GenerationChangedPredicate{})
	err := ctrl.NewControllerManagedBy(mgr).Named("claim").
		For(&corev1.PersistentVolumeClaim{}).
		Owns(&v1alpha1.VMDiskImport{}).
		Watches(&v1alpha1.VMDiskImage{}, handler.EnqueueRequestsFromMapFunc(claimsOfImage(mgr.GetClient())), edited).
		Complete(&patient{claims})
	if err != nil {
		return err
	}
	byAnnotation := handler.EnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) []reconcile.Request {
		claim, ok := claimKey(o.GetAnnotations())
		if !ok {
			return nil
		}
		return []reconcile.Request{{NamespacedName: claim}}
	})
	err = ctrl.NewControllerManagedBy(mgr).Named("import").
		For(&v1alpha1.VMDiskImport{}).
		Watches(&batchv1.Job{}, byAnnotation).
		Watches(&corev1.Pod{}, byAnnotation).
		Watches(&corev1.PersistentVolumeClaim{}, handler.EnqueueRequestsFromMapFunc(importOfClaim(imports.namespace))).
		Watches(&v1alpha1.VMDiskImage{}, handler.EnqueueRequestsFromMapFunc(importsOfImage(mgr.GetClient())), edited).
		WithOptions(controller.Options{MaxConcurrentReconciles: importWorkers}).
		Complete(&patient{imports})
	if err != nil {
		return err
	}
	return ctrl.NewControllerManagedBy(mgr).Named("image").
		For(&v1alpha1.VMDiskImage{}).
		Watches(&v1alpha1.VMDiskImport{}, handler.EnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) []reconcile.Request {
			imp, ok := o.(*v1alpha1.VMDiskImport)
			if !ok {
				return nil
			}
			return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: imp.Namespace, Name: imp.Spec.ImageRef.Name}}}
		})).
		Complete(&patient{images})
}

// importOfClaim maps a claim to its import, and PVC' to that of the claim it is for.
func importOfClaim(system string) handler.MapFunc {
	return func(_ context.Context, o client.Object) []reconcile.Request {
		key := client.ObjectKeyFromObject(o)
		if o.GetNamespace() == system {
			claim, ok := claimKey(o.GetAnnotations())
			if !ok {
				return nil
			}
			key = claim
		} else if claim, ok := o.(*corev1.PersistentVolumeClaim); !ok || imageOf(claim) == "" {
			return nil
		}
		return []reconcile.Request{{NamespacedName: key}}
	}
}

func claimsOfImage(reader client.Reader) handler.MapFunc {
	return func(ctx context.Context, image client.Object) []reconcile.Request {
		return matching(ctx, reader, &corev1.PersistentVolumeClaimList{}, indexClaimImage, image)
	}
}

func importsOfImage(reader client.Reader) handler.MapFunc {
	return func(ctx context.Context, image client.Object) []reconcile.Request {
		return matching(ctx, reader, &v1alpha1.VMDiskImportList{}, indexImportImage, image)
	}
}

// matching lists what refers to an image by an index, as requests.
func matching(ctx context.Context, reader client.Reader, list client.ObjectList, index string, image client.Object) []reconcile.Request {
	if err := reader.List(ctx, list, client.InNamespace(image.GetNamespace()), client.MatchingFields{index: image.GetName()}); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "Listing what refers to a VMDiskImage", "name", image.GetName())
		return nil
	}
	var requests []reconcile.Request
	err := meta.EachListItem(list, func(item runtime.Object) error {
		o, err := meta.Accessor(item)
		if err != nil {
			return err
		}
		requests = append(requests, reconcile.Request{NamespacedName: types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetName()}})
		return nil
	})
	if err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "Reading what refers to a VMDiskImage", "name", image.GetName())
	}
	return requests
}
