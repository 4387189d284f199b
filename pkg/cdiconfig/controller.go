package cdiconfig

import (
	"context"
	"fmt"
	"time"

	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/gild-project/gild/pkg/claimshape"
)

// catchUp is how soon the config is looked at again when our view of it was behind.
const catchUp = time.Second

// Add has a manager keep the CDIConfig.
func Add(mgr manager.Manager) error {
	theOne := func(context.Context, client.Object) []reconcile.Request { return []reconcile.Request{request()} }
	err := ctrl.NewControllerManagedBy(mgr).Named("cdiconfig").
		Watches(&cdiv1.CDIConfig{}, handler.EnqueueRequestsFromMapFunc(theOne)).
		Watches(&storagev1.StorageClass{}, handler.EnqueueRequestsFromMapFunc(theOne)).
		WatchesRawSource(source.Func(func(_ context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
			queue.Add(request()) // there may be neither to begin with
			return nil
		})).
		Complete(&controller{client: mgr.GetClient()})
	if err != nil {
		return fmt.Errorf("adding the CDIConfig: %w", err)
	}
	return nil
}

func request() reconcile.Request {
	return reconcile.Request{NamespacedName: types.NamespacedName{Name: claimshape.ConfigName}}
}

// controller keeps the CDIConfig.
type controller struct {
	client client.Client
}

// Reconcile makes the config when there is none, and brings its status in line with its spec and the
// StorageClasses.
func (c *controller) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	var classes storagev1.StorageClassList
	if err := c.client.List(ctx, &classes); err != nil {
		return ctrl.Result{}, fmt.Errorf("listing StorageClasses: %w", err)
	}
	before := &cdiv1.CDIConfig{}
	err := c.client.Get(ctx, request.NamespacedName, before)
	if apierrors.IsNotFound(err) {
		config := &cdiv1.CDIConfig{ObjectMeta: metav1.ObjectMeta{Name: request.Name,
			Labels: map[string]string{"app.kubernetes.io/name": "gild", "app.kubernetes.io/managed-by": "gild-populator"}}}
		config.Status.FilesystemOverhead = overheads(config, classes.Items)
		if err := c.client.Create(ctx, config); client.IgnoreAlreadyExists(err) != nil {
			return ctrl.Result{}, fmt.Errorf("creating CDIConfig %s: %w", request.Name, err)
		}
		return ctrl.Result{}, nil
	}
	if err != nil {
		return ctrl.Result{}, fmt.Errorf("reading CDIConfig %s: %w", request.Name, err)
	}
	after := before.DeepCopy()
	after.Status.FilesystemOverhead = overheads(before, classes.Items)
	if !before.DeletionTimestamp.IsZero() || equality.Semantic.DeepEqual(before.Status, after.Status) {
		return ctrl.Result{}, nil
	}
	err = c.client.Patch(ctx, after, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
	switch {
	case apierrors.IsConflict(err):
		return ctrl.Result{RequeueAfter: catchUp}, nil
	case client.IgnoreNotFound(err) != nil:
		return ctrl.Result{}, fmt.Errorf("writing the status of CDIConfig %s: %w", request.Name, err)
	}
	return ctrl.Result{}, nil
}

// overheads are what a config wants for all, and for each StorageClass.
func overheads(config *cdiv1.CDIConfig, classes []storagev1.StorageClass) *cdiv1.FilesystemOverhead {
	all := &cdiv1.FilesystemOverhead{Global: claimshape.OverheadFor(config, "").Percent()}
	for i := range classes {
		if all.StorageClass == nil {
			all.StorageClass = map[string]cdiv1.Percent{}
		}
		all.StorageClass[classes[i].Name] = claimshape.OverheadFor(config, classes[i].Name).Percent()
	}
	return all
}
