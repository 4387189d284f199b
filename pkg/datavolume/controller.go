package datavolume

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/record"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	// catchUp is how soon a DataVolume is looked at again when our view of it was behind.
	catchUp = time.Second
	// askAgain is how often one is looked at that waits for what is not watched.
	askAgain = 10 * time.Second
)

// controller carries out what is decided.
type controller struct {
	observer
	client client.Client
	events record.EventRecorder
}

// Reconcile brings the claim of one DataVolume, and its status, in line with it.
func (c *controller) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	volume := &cdiv1.DataVolume{}
	if err := c.cache.Get(ctx, request.NamespacedName, volume); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !volume.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, nil // what it owns goes with it
	}
	v, err := c.observe(ctx, volume)
	if err != nil {
		return ctrl.Result{}, err
	}
	p := decide(v)
	if err := c.act(ctx, p); err != nil {
		return c.behind(err)
	}
	if err := c.tell(ctx, volume, statusOf(v, p.trouble), p.trouble); err != nil {
		return c.behind(err)
	}
	if p.trouble != nil || waitsForOrigin(v) {
		return ctrl.Result{RequeueAfter: askAgain}, nil
	}
	return ctrl.Result{}, nil
}

// waitsForOrigin reports whether the claim waits for what it copies, which may not be watched.
func waitsForOrigin(v *view) bool { return v.origin != nil && v.origin.waiting != nil }

// behind takes a view that was behind for what it is: no error.
func (c *controller) behind(err error) (ctrl.Result, error) {
	if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err) {
		return ctrl.Result{RequeueAfter: catchUp}, nil
	}
	return ctrl.Result{}, err
}

// act makes the writes of a plan. A claim that the API server does not take is trouble, and no error.
func (c *controller) act(ctx context.Context, p *plan) error {
	for _, change := range p.change {
		if err := c.client.Patch(ctx, change.to, client.MergeFromWithOptions(change.from, client.MergeFromWithOptimisticLock{})); err != nil {
			return fmt.Errorf("changing %T %s: %w", change.to, change.to.GetName(), err)
		}
	}
	for _, object := range p.create {
		err := c.client.Create(ctx, object)
		switch {
		case err == nil, apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
			continue
		case refused(err) != nil:
			p.trouble = refused(err)
			return nil
		}
		return fmt.Errorf("creating %T %s: %w", object, object.GetName(), err)
	}
	for _, object := range p.remove {
		if err := c.client.Delete(ctx, object, client.Preconditions{UID: new(object.GetUID())}); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("deleting %T %s: %w", object, object.GetName(), err)
		}
	}
	return nil
}

// tell writes the status, when it has changed, and says so in events.
func (c *controller) tell(ctx context.Context, before *cdiv1.DataVolume, status *cdiv1.DataVolumeStatus, why *trouble) error {
	if equality.Semantic.DeepEqual(&before.Status, status) {
		return nil
	}
	after := before.DeepCopy()
	after.Status = *status
	if err := c.client.Status().Patch(ctx, after, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
		return fmt.Errorf("writing the status: %w", err)
	}
	if why != nil && !why.silent && isNews(before, status) {
		c.events.Event(after, corev1.EventTypeWarning, why.reason, why.message)
	}
	if before.Status.Phase == status.Phase {
		return nil
	}
	switch status.Phase {
	case cdiv1.Succeeded:
		c.events.Event(after, corev1.EventTypeNormal, eventSucceeded, fmt.Sprintf("PVC %s holds the disk", after.Name))
	case cdiv1.Failed:
		c.events.Event(after, corev1.EventTypeWarning, eventFailed, conditionOf(status, cdiv1.DataVolumeRunning).Message)
	default:
		c.events.Event(after, corev1.EventTypeNormal, string(status.Phase), fmt.Sprintf("PVC %s: phase %s", after.Name, status.Phase))
	}
	return nil
}

// Reasons of events.
const (
	eventSucceeded = "ImportSucceeded"
	eventFailed    = "ImportFailed"
)

// isNews reports whether the condition Ready says something else than before.
func isNews(before *cdiv1.DataVolume, status *cdiv1.DataVolumeStatus) bool {
	was, is := conditionOf(&before.Status, cdiv1.DataVolumeReady), conditionOf(status, cdiv1.DataVolumeReady)
	return was.Reason != is.Reason || was.Message != is.Message
}
