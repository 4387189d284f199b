package datasource

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/clock"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	kitcontroller "sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
)

const (
	// indexClaim finds the DataSources that name a claim, by its namespace and name.
	indexClaim = "gild.dev/datasources-of-claim"
	// indexPointed finds the DataSources that refer to another one, by its name.
	indexPointed = "gild.dev/datasources-of-datasource"
	// workers is how many DataSources are looked at at once.
	workers = 2
)

// Add has a manager write the status of DataSources. Its scheme knows the core, CDI and Gild kinds.
func Add(ctx context.Context, mgr manager.Manager, clock clock.PassiveClock) error {
	for field, value := range map[string]client.IndexerFunc{indexClaim: claimOf, indexPointed: pointedBy} {
		if err := mgr.GetFieldIndexer().IndexField(ctx, &cdiv1.DataSource{}, field, value); err != nil {
			return err
		}
	}
	c := &controller{client: mgr.GetClient(), live: mgr.GetAPIReader(), clock: clock}
	ofClaim := handler.EnqueueRequestsFromMapFunc(sourcesOfClaim(mgr.GetClient()))
	return ctrl.NewControllerManagedBy(mgr).Named("datasource").
		For(&cdiv1.DataSource{}).
		Watches(&cdiv1.DataSource{}, handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, o client.Object) []reconcile.Request {
			return matching(ctx, mgr.GetClient(), client.InNamespace(o.GetNamespace()), client.MatchingFields{indexPointed: o.GetName()})
		})).
		Watches(&corev1.PersistentVolumeClaim{}, ofClaim).
		Watches(&v1alpha1.VMDiskImport{}, ofClaim). // it bears the name of its claim
		WithOptions(kitcontroller.Options{MaxConcurrentReconciles: workers}).
		Complete(c)
}

// claimOf names the claim that a DataSource names itself.
func claimOf(o client.Object) []string {
	source, ok := o.(*cdiv1.DataSource)
	if !ok || source.Spec.Source.PVC == nil {
		return nil
	}
	return []string{orElse(source.Spec.Source.PVC.Namespace, source.Namespace) + "/" + source.Spec.Source.PVC.Name}
}

// pointedBy names the DataSource that a DataSource refers to.
func pointedBy(o client.Object) []string {
	source, ok := o.(*cdiv1.DataSource)
	if !ok || source.Spec.Source.DataSource == nil {
		return nil
	}
	return []string{source.Spec.Source.DataSource.Name}
}

// sourcesOfClaim names the DataSources that name a claim, and those that refer to one of them.
func sourcesOfClaim(reader client.Reader) handler.MapFunc {
	return func(ctx context.Context, o client.Object) []reconcile.Request {
		named := matching(ctx, reader, client.MatchingFields{indexClaim: o.GetNamespace() + "/" + o.GetName()})
		all := named
		for _, request := range named {
			all = append(all, matching(ctx, reader, client.InNamespace(request.Namespace), client.MatchingFields{indexPointed: request.Name})...)
		}
		return all
	}
}

func matching(ctx context.Context, reader client.Reader, by ...client.ListOption) []reconcile.Request {
	var sources cdiv1.DataSourceList
	if err := reader.List(ctx, &sources, by...); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "Listing the DataSources that an event is about")
		return nil
	}
	var all []reconcile.Request
	for i := range sources.Items {
		all = append(all, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&sources.Items[i])})
	}
	return all
}
