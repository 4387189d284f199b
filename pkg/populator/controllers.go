package populator

import (
	"context"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
)

func addIndexes(ctx context.Context, indexer client.FieldIndexer, all kinds) error {
	for field, value := range map[string]func(*corev1.PersistentVolumeClaim) string{
		indexUID: func(claim *corev1.PersistentVolumeClaim) string { return string(claim.UID) },
		indexClaimSource: func(claim *corev1.PersistentVolumeClaim) string {
			k, name := all.of(claim)
			if k == nil {
				return ""
			}
			return sourceKey(k.name, name)
		},
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
	return indexer.IndexField(ctx, &v1alpha1.VMDiskImport{}, indexImportSource, func(o client.Object) []string {
		if imp, ok := o.(*v1alpha1.VMDiskImport); ok {
			return []string{sourceKey(kindOf(imp), imp.Spec.ImageRef.Name)}
		}
		return nil
	})
}

// watches adds what is watched of a kind, as soon as there is the kind.
type watches struct {
	mgr             manager.Manager
	claims, imports controller.Controller
}

// addControllers and watches.add are the places that say what wakes what.
func addControllers(mgr manager.Manager, claims *claimController, imports *importController) (*watches, error) {
	w := &watches{mgr: mgr}
	var err error
	w.claims, err = ctrl.NewControllerManagedBy(mgr).Named("claim").
		For(&corev1.PersistentVolumeClaim{}).
		Owns(&v1alpha1.VMDiskImport{}).
		Build(&patient{claims})
	if err != nil {
		return nil, err
	}
	byAnnotation := handler.EnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) []reconcile.Request {
		claim, ok := claimKey(o.GetAnnotations())
		if !ok {
			return nil
		}
		return []reconcile.Request{{NamespacedName: claim}}
	})
	w.imports, err = ctrl.NewControllerManagedBy(mgr).Named("import").
		For(&v1alpha1.VMDiskImport{}).
		Watches(&batchv1.Job{}, byAnnotation).
		Watches(&corev1.Pod{}, byAnnotation).
		Watches(&corev1.PersistentVolumeClaim{}, handler.EnqueueRequestsFromMapFunc(importOfClaim(imports.namespace, imports.kinds))).
		WithOptions(controller.Options{MaxConcurrentReconciles: importWorkers}).
		Build(&patient{imports})
	return w, err
}

// add has the sources of a kind wake what refers to them, and looks after the sources themselves.
func (w *watches) add(k *kind) error {
	reader := w.mgr.GetClient()
	err := w.claims.Watch(source.Kind(w.mgr.GetCache(), k.object(), handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, o client.Object) []reconcile.Request {
		return matching(ctx, reader, &corev1.PersistentVolumeClaimList{}, indexClaimSource, k, o)
	}), k.matters))
	if err != nil {
		return err
	}
	err = w.imports.Watch(source.Kind(w.mgr.GetCache(), k.object(), handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, o client.Object) []reconcile.Request {
		return matching(ctx, reader, &v1alpha1.VMDiskImportList{}, indexImportSource, k, o)
	}), k.matters))
	if err != nil {
		return err
	}
	return ctrl.NewControllerManagedBy(w.mgr).Named(strings.ToLower(k.name)).
		For(k.object()).
		Watches(&v1alpha1.VMDiskImport{}, handler.EnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) []reconcile.Request {
			imp, ok := o.(*v1alpha1.VMDiskImport)
			if !ok || kindOf(imp) != k.name {
				return nil
			}
			return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: imp.Namespace, Name: imp.Spec.ImageRef.Name}}}
		})).
		Complete(&patient{k.keeper(holder{client: reader, kind: k}, clock.RealClock{})})
}

// importOfClaim maps a claim to its import, and PVC' to that of the claim it is for.
func importOfClaim(system string, all kinds) handler.MapFunc {
	return func(_ context.Context, o client.Object) []reconcile.Request {
		key := client.ObjectKeyFromObject(o)
		if o.GetNamespace() == system {
			claim, ok := claimKey(o.GetAnnotations())
			if !ok {
				return nil
			}
			key = claim
		} else if claim, ok := o.(*corev1.PersistentVolumeClaim); !ok {
			return nil
		} else if k, _ := all.of(claim); k == nil {
			return nil
		}
		return []reconcile.Request{{NamespacedName: key}}
	}
}

// matching lists what refers to a source by an index, as requests.
func matching(ctx context.Context, reader client.Reader, list client.ObjectList, index string, k *kind, source client.Object) []reconcile.Request {
	if err := reader.List(ctx, list, client.InNamespace(source.GetNamespace()), client.MatchingFields{index: sourceKey(k.name, source.GetName())}); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "Listing what refers to a source", "kind", k.name, "name", source.GetName())
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
		ctrl.LoggerFrom(ctx).Error(err, "Reading what refers to a source", "kind", k.name, "name", source.GetName())
	}
	return requests
}
