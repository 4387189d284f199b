package roller

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/clock"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	kitcontroller "sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/claimshape"
	"github.com/gild-project/gild/pkg/golden"
)

const (
	// indexCron finds the golden claims of a cron.
	indexCron = "gild.dev/golden-claims-of"
	// indexManaged finds the crons that manage a DataSource.
	indexManaged = "gild.dev/crons-of-datasource"
	// workers is how many crons are looked at at once; each may wait for a write.
	workers = 4
)

// Options are what the roller is given.
type Options struct {
	// Events are told about crons.
	Events record.EventRecorder
	// Metrics get the roller's.
	Metrics prometheus.Registerer
	// Clock tells when a claim was used and when a failed import starts anew.
	Clock clock.PassiveClock
}

// Add has a manager roll, repoint and prune. Its scheme knows the core, storage, CDI and Gild kinds.
func Add(ctx context.Context, mgr manager.Manager, o Options) error {
	m, err := newMetrics(o.Metrics)
	if err != nil {
		return err
	}
	c := &controller{
		observer: observer{cache: mgr.GetClient(), live: mgr.GetAPIReader(), clock: o.Clock, since: o.Clock.Now()},
		client:   mgr.GetClient(), events: o.Events, metrics: m,
	}
	indexer := mgr.GetFieldIndexer()
	if err := indexer.IndexField(ctx, &corev1.PersistentVolumeClaim{}, indexCron, cronOfLabel); err != nil {
		return err
	}
	if err := indexer.IndexField(ctx, &cdiv1.DataImportCron{}, indexManaged, managedBy); err != nil {
		return err
	}
	return ctrl.NewControllerManagedBy(mgr).Named("roller").
		For(&cdiv1.DataImportCron{}).
		Watches(&cdiv1.DataImportCron{}, handler.EnqueueRequestsFromMapFunc(rivalsOf(mgr.GetClient()))).
		Watches(&corev1.PersistentVolumeClaim{}, handler.EnqueueRequestsFromMapFunc(cronOfClaim)).
		Watches(&v1alpha1.VMDiskImport{}, handler.EnqueueRequestsFromMapFunc(cronOfImport)).
		Watches(&cdiv1.DataSource{}, handler.EnqueueRequestsFromMapFunc(cronsOfDataSource(mgr.GetClient()))).
		Watches(&storagev1.StorageClass{}, handler.EnqueueRequestsFromMapFunc(cronsOfDefault(mgr.GetClient()))).
		WithOptions(kitcontroller.Options{MaxConcurrentReconciles: workers}).
		Complete(c)
}

// cronOfLabel names the cron of a golden claim.
func cronOfLabel(o client.Object) []string {
	if name := o.GetLabels()[golden.LabelCron]; name != "" {
		return []string{name}
	}
	return nil
}

// managedBy names the DataSource that a cron manages.
func managedBy(o client.Object) []string {
	if cron, ok := o.(*cdiv1.DataImportCron); ok {
		return []string{cron.Spec.ManagedDataSource}
	}
	return nil
}

func cronOfClaim(_ context.Context, o client.Object) []reconcile.Request {
	return requests(o.GetNamespace(), cronOfLabel(o)...)
}

// cronOfImport names the cron whose revision an import fills a claim with.
func cronOfImport(_ context.Context, o client.Object) []reconcile.Request {
	imp, ok := o.(*v1alpha1.VMDiskImport)
	if !ok || imp.Spec.ImageRef.Kind != golden.CronKind {
		return nil
	}
	return requests(imp.Namespace, imp.Spec.ImageRef.Name)
}

// cronsOfDataSource names the crons that manage a DataSource, and the one that says so.
func cronsOfDataSource(reader client.Reader) handler.MapFunc {
	return func(ctx context.Context, o client.Object) []reconcile.Request {
		return append(requests(o.GetNamespace(), cronOfLabel(o)...), managersOf(ctx, reader, o.GetNamespace(), o.GetName(), "")...)
	}
}

// rivalsOf names the other crons that manage the DataSource of a cron: when it goes, one follows.
func rivalsOf(reader client.Reader) handler.MapFunc {
	return func(ctx context.Context, o client.Object) []reconcile.Request {
		cron, ok := o.(*cdiv1.DataImportCron)
		if !ok {
			return nil
		}
		return managersOf(ctx, reader, cron.Namespace, cron.Spec.ManagedDataSource, cron.Name)
	}
}

func managersOf(ctx context.Context, reader client.Reader, namespace, dataSource, but string) []reconcile.Request {
	var crons cdiv1.DataImportCronList
	if err := reader.List(ctx, &crons, client.InNamespace(namespace), client.MatchingFields{indexManaged: dataSource}); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "Listing the DataImportCrons of a DataSource", "namespace", namespace, "name", dataSource)
		return nil
	}
	var all []reconcile.Request
	for i := range crons.Items {
		if crons.Items[i].Name != but {
			all = append(all, requests(namespace, crons.Items[i].Name)...)
		}
	}
	return all
}

// cronsOfDefault names the crons that leave the StorageClass open.
func cronsOfDefault(reader client.Reader) handler.MapFunc {
	return func(ctx context.Context, _ client.Object) []reconcile.Request {
		var crons cdiv1.DataImportCronList
		if err := reader.List(ctx, &crons); err != nil {
			ctrl.LoggerFrom(ctx).Error(err, "Listing the DataImportCrons without a StorageClass")
			return nil
		}
		var all []reconcile.Request
		for i := range crons.Items {
			if _, named := claimshape.NamedClass(&crons.Items[i].Spec.Template.Spec); !named {
				all = append(all, requests(crons.Items[i].Namespace, crons.Items[i].Name)...)
			}
		}
		return all
	}
}

func requests(namespace string, names ...string) []reconcile.Request {
	var all []reconcile.Request
	for _, name := range names {
		all = append(all, reconcile.Request{NamespacedName: types.NamespacedName{Namespace: namespace, Name: name}})
	}
	return all
}
