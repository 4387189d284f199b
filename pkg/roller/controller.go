package roller

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/record"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/gild-project/gild/pkg/golden"
)

// catchUp is how soon a cron is looked at again when our view of it was behind.
const catchUp = time.Second

// formerFinalizer was put on crons by old versions of CDI, and nobody takes it off any more.
const formerFinalizer = "cdi.kubevirt.io/dataImportCronFinalizer"

// controller carries out what is decided.
type controller struct {
	observer
	client  client.Client
	events  record.EventRecorder
	metrics *metrics
}

// Reconcile takes the next steps of one cron.
func (c *controller) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	cron := &cdiv1.DataImportCron{}
	err := c.client.Get(ctx, request.NamespacedName, cron)
	switch {
	case apierrors.IsNotFound(err):
		c.metrics.forget(request.NamespacedName)
		return ctrl.Result{}, nil
	case err != nil:
		return ctrl.Result{}, fmt.Errorf("reading the DataImportCron: %w", err)
	case !cron.DeletionTimestamp.IsZero():
		c.metrics.forget(request.NamespacedName)
		return patiently(ctrl.Result{}, c.dissolve(ctx, cron))
	}
	w, err := c.observe(ctx, cron)
	if err != nil {
		return ctrl.Result{}, err
	}
	p := decide(w)
	err = c.act(ctx, w, &p)
	c.metrics.show(request.NamespacedName, outdated(p.cron))
	return patiently(ctrl.Result{RequeueAfter: p.again}, err)
}

// patiently takes a view that was behind for what it is: no error.
func patiently(result ctrl.Result, err error) (ctrl.Result, error) {
	switch {
	case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err), apierrors.IsNotFound(err):
		return ctrl.Result{RequeueAfter: catchUp}, nil
	case err != nil:
		return ctrl.Result{}, err
	}
	return result, nil
}

// dissolve deletes what goes with a cron, then lets the cron go: its golden claims and its
// DataSources when it keeps nothing, else only claims that were never good. It reads from the API
// server, since what is missed now is left behind for good.
func (c *controller) dissolve(ctx context.Context, cron *cdiv1.DataImportCron) error {
	if !controllerutil.ContainsFinalizer(cron, Finalizer) && !controllerutil.ContainsFinalizer(cron, formerFinalizer) {
		return nil
	}
	if goesWithCron(cron) {
		if err := c.deleteDataSources(ctx, cron); err != nil {
			return err
		}
	}
	var claims corev1.PersistentVolumeClaimList
	if err := c.live.List(ctx, &claims, client.InNamespace(cron.Namespace), client.MatchingLabels{golden.LabelCron: cron.Name}); err != nil {
		return fmt.Errorf("listing golden claims: %w", err)
	}
	for i := range claims.Items {
		claim, ok := asGolden(&claims.Items[i], cron.Name)
		if !ok || claim.going() || claim.verified() && !goesWithCron(cron) {
			continue
		}
		if _, err := c.remove(ctx, cron.Name, claim); err != nil {
			return fmt.Errorf("deleting golden claim %s: %w", claim.Name, err)
		}
	}
	after := cron.DeepCopy()
	controllerutil.RemoveFinalizer(after, Finalizer)
	controllerutil.RemoveFinalizer(after, formerFinalizer)
	if err := c.patch(ctx, after, cron); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("letting the cron go: %w", err)
	}
	return nil
}

// deleteDataSources deletes the cron's DataSources, before the claims that they name. An edit may have
// left it more than one.
func (c *controller) deleteDataSources(ctx context.Context, cron *cdiv1.DataImportCron) error {
	var sources cdiv1.DataSourceList
	if err := c.live.List(ctx, &sources, client.InNamespace(cron.Namespace), client.MatchingLabels{golden.LabelCron: cron.Name}); err != nil {
		return fmt.Errorf("listing the DataSources of the cron: %w", err)
	}
	for i := range sources.Items {
		source := &sources.Items[i]
		if err := c.client.Delete(ctx, source, client.Preconditions{UID: &source.UID}); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("deleting DataSource %s: %w", source.Name, err)
		}
	}
	return nil
}
