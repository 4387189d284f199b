package populator

import (
	"context"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// patient wraps a reconciler that writes with optimistic locks: a write from an outdated view is no
// error, the cache only has to catch up.
type patient struct {
	reconcile.Reconciler
}

// Reconcile passes on. With an error the result does not count, so it is dropped.
func (p *patient) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	result, err := p.Reconciler.Reconcile(ctx, request)
	switch {
	case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err):
		return ctrl.Result{RequeueAfter: clearAgain}, nil
	case err != nil:
		return ctrl.Result{}, err
	}
	return result, nil
}
