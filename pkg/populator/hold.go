package populator

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
)

// holder holds a source that is being deleted until no import of it runs: lib-volume-populator
// forgets claims whose source has gone.
type holder struct {
	client client.Client
	kind   *kind
}

// indexImportSource finds the imports of a source by its sourceKey.
const indexImportSource = "spec.imageRef"

// Reconcile lets one source go when it may.
func (h *holder) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	source := h.kind.object()
	if err := h.client.Get(ctx, request.NamespacedName, source); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if source.GetDeletionTimestamp().IsZero() {
		return ctrl.Result{}, nil
	}
	imports, err := h.imports(ctx, source)
	if err != nil {
		return ctrl.Result{}, err
	}
	return h.release(ctx, source, imports)
}

func (h *holder) imports(ctx context.Context, source client.Object) ([]v1alpha1.VMDiskImport, error) {
	var imports v1alpha1.VMDiskImportList
	err := h.client.List(ctx, &imports, client.InNamespace(source.GetNamespace()), client.MatchingFields{indexImportSource: sourceKey(h.kind.name, source.GetName())})
	if err != nil {
		return nil, fmt.Errorf("listing the imports of %s %s: %w", h.kind.name, source.GetName(), err)
	}
	return imports.Items, nil
}

// hold keeps a source until release. Others write to it too, so the write is refused if they did meanwhile.
func hold(ctx context.Context, c client.Client, source client.Object, finalizer string) error {
	before, ok := source.DeepCopyObject().(client.Object)
	if !ok || !controllerutil.AddFinalizer(source, finalizer) {
		return nil
	}
	return c.Patch(ctx, source, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
}

// release lets a deleted source go once nothing needs it.
func (h *holder) release(ctx context.Context, source client.Object, imports []v1alpha1.VMDiskImport) (ctrl.Result, error) {
	before, ok := source.DeepCopyObject().(client.Object)
	if !ok || !controllerutil.RemoveFinalizer(source, h.kind.finalizer) {
		return ctrl.Result{}, nil
	}
	for i := range imports {
		busy, err := h.needed(ctx, &imports[i])
		if err != nil || busy {
			return ctrl.Result{RequeueAfter: askAgain}, err
		}
	}
	err := h.client.Patch(ctx, source, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
	return ctrl.Result{}, client.IgnoreNotFound(err)
}

// needed reports whether an import runs, or its volume is not handed over yet.
func (h *holder) needed(ctx context.Context, imp *v1alpha1.VMDiskImport) (bool, error) {
	if inFlight(imp) {
		return true, nil
	}
	if imp.Status.Phase != v1alpha1.PhaseSucceeded {
		return false, nil
	}
	claim := &corev1.PersistentVolumeClaim{}
	if err := h.client.Get(ctx, claimOf(imp), claim); err != nil {
		return false, client.IgnoreNotFound(err)
	}
	return owns(claim, imp) && controllerutil.ContainsFinalizer(claim, finalizerClaim), nil
}
