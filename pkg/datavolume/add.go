package datavolume

import (
	"cmp"
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	kitcontroller "sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
)

// workers is how many DataVolumes are looked at at once; each may wait for a write.
const workers = 4

// Options are what Add is given.
type Options struct {
	// Events are told about DataVolumes.
	Events record.EventRecorder
	// Grants and Snapshots look at what is copied.
	Grants    grants
	Snapshots snapshots
	// Clock tells when a condition changed.
	Clock clock.PassiveClock
}

// Add has a manager serve DataVolumes. Its scheme knows the core, storage, CDI and Gild kinds, and its cache
// holds claims and imports whole.
func Add(mgr manager.Manager, o Options) error {
	c := &controller{
		observer: observer{cache: mgr.GetClient(), live: mgr.GetAPIReader(), grants: o.Grants, snapshots: o.Snapshots, clock: o.Clock},
		client:   mgr.GetClient(), events: o.Events,
	}
	byName := handler.EnqueueRequestsFromMapFunc(sameName)
	err := ctrl.NewControllerManagedBy(mgr).Named("datavolume").
		For(&cdiv1.DataVolume{}).
		Watches(&corev1.PersistentVolumeClaim{}, byName).
		Watches(&v1alpha1.VMDiskImport{}, byName).
		Watches(&v1alpha1.VMDiskImage{}, byName).
		Watches(&cdiv1.DataSource{}, handler.EnqueueRequestsFromMapFunc(copiesOf(mgr.GetClient()))).
		Watches(&storagev1.StorageClass{}, handler.EnqueueRequestsFromMapFunc(pending(mgr.GetClient()))).
		WithOptions(kitcontroller.Options{MaxConcurrentReconciles: workers}).
		Complete(c)
	if err != nil {
		return fmt.Errorf("adding DataVolumes: %w", err)
	}
	return nil
}

// sameName names the DataVolume of the name of an object: all that is made for one bears it, and so does
// what stands in its way.
func sameName(_ context.Context, o client.Object) []reconcile.Request {
	return []reconcile.Request{{NamespacedName: client.ObjectKeyFromObject(o)}}
}

// copiesOf names the DataVolumes that may wait for a DataSource, and the one that it may have been made for.
func copiesOf(reader client.Reader) handler.MapFunc {
	return func(ctx context.Context, o client.Object) []reconcile.Request {
		return append(sameName(ctx, o), matching(ctx, reader, func(volume *cdiv1.DataVolume) bool {
			ref := volume.Spec.SourceRef
			return ref != nil && ref.Name == o.GetName() && cmp.Or(ptr.Deref(ref.Namespace, ""), volume.Namespace) == o.GetNamespace() && volume.Status.Phase != cdiv1.Succeeded
		})...)
	}
}

// pending names the DataVolumes that may wait for a StorageClass.
func pending(reader client.Reader) handler.MapFunc {
	return func(ctx context.Context, _ client.Object) []reconcile.Request {
		return matching(ctx, reader, func(volume *cdiv1.DataVolume) bool {
			return volume.Status.Phase == cdiv1.PhaseUnset || volume.Status.Phase == cdiv1.Pending
		})
	}
}

func matching(ctx context.Context, reader client.Reader, wanted func(*cdiv1.DataVolume) bool) []reconcile.Request {
	var volumes cdiv1.DataVolumeList
	if err := reader.List(ctx, &volumes); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "Listing DataVolumes that may wait")
		return nil
	}
	var all []reconcile.Request
	for i := range volumes.Items {
		if volume := &volumes.Items[i]; wanted(volume) {
			all = append(all, reconcile.Request{NamespacedName: types.NamespacedName{Namespace: volume.Namespace, Name: volume.Name}})
		}
	}
	return all
}
