package export

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Clear removes an export, its pod first: what is left keeps that closed until it has ended. gone
// tells that nothing is left; until then it is to be called again. An object of that name that is
// not ours stays.
func (e *Exports) Clear(ctx context.Context, namespace, id string) (gone bool, err error) {
	spec := Spec{ID: id, Claim: types.NamespacedName{Namespace: namespace}}
	if gone, err = e.remove(ctx, spec, &corev1.Pod{}); err != nil || !gone {
		return false, err
	}
	gone = true
	for _, o := range []client.Object{&corev1.Service{}, &corev1.Secret{}, &networkingv1.NetworkPolicy{}} {
		removed, err := e.remove(ctx, spec, o)
		if err != nil {
			return false, err
		}
		gone = gone && removed
	}
	return gone, nil
}

// remove removes one object of an export. gone tells that it is not there any more.
func (e *Exports) remove(ctx context.Context, spec Spec, o client.Object) (gone bool, err error) {
	key := types.NamespacedName{Namespace: spec.Claim.Namespace, Name: nameOf(spec.ID)}
	err = e.live.Get(ctx, key, o)
	switch {
	case apierrors.IsNotFound(err):
		return true, nil
	case err != nil:
		return false, fmt.Errorf("removing the export %s: %w", key, err)
	case !isOurs(spec, o):
		return true, nil
	case o.GetDeletionTimestamp() != nil:
		return false, nil
	}
	if err := e.delete(ctx, o); err != nil {
		return false, err
	}
	// A pod takes its time, and what has finalizers waits for them.
	_, pod := o.(*corev1.Pod)
	return !pod && len(o.GetFinalizers()) == 0, nil
}

// delete deletes this very object, and never one that has taken its place.
func (e *Exports) delete(ctx context.Context, o client.Object) error {
	uid := o.GetUID()
	err := e.client.Delete(ctx, o, client.Preconditions{UID: &uid})
	if client.IgnoreNotFound(err) != nil && !apierrors.IsConflict(err) {
		return fmt.Errorf("removing %s %s of an export: %w", kindOf(o), o.GetName(), err)
	}
	return nil
}

// kindOf is the kind of an object for people.
func kindOf(o client.Object) string {
	switch o.(type) {
	case *corev1.Pod:
		return "Pod"
	case *corev1.Service:
		return "Service"
	case *corev1.Secret:
		return "Secret"
	}
	return "NetworkPolicy"
}
