package datasource

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gild-project/gild/pkg/golden"
)

const (
	// catchUp is how soon a DataSource is looked at again when our view of it was behind.
	catchUp = time.Second
	// askSnapshot and askReadySnapshot are how often a snapshot is looked at. Nothing watches
	// them: their kind may be missing, or come later.
	askSnapshot      = 10 * time.Second
	askReadySnapshot = 2 * time.Minute
)

// controller writes the status of DataSources.
type controller struct {
	client client.Client
	live   client.Reader
	clock  clock.PassiveClock
}

// Reconcile brings the status of one DataSource in line with what it names.
func (c *controller) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	before := &cdiv1.DataSource{}
	if err := c.client.Get(ctx, request.NamespacedName, before); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !before.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, nil
	}
	v, err := readers{c.client, c.live}.observe(ctx, before)
	if err != nil {
		return ctrl.Result{}, err
	}
	verdict := judge(v)
	after := before.DeepCopy()
	apply(after, verdict, v.resolved(), c.clock.Now())
	if !equality.Semantic.DeepEqual(before, after) {
		err := c.client.Patch(ctx, after, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
		switch {
		case apierrors.IsConflict(err):
			return ctrl.Result{RequeueAfter: catchUp}, nil
		case client.IgnoreNotFound(err) != nil:
			return ctrl.Result{}, fmt.Errorf("writing the status: %w", err)
		}
	}
	switch {
	case v.resolved().Snapshot == nil:
		return ctrl.Result{}, nil
	case verdict.ready:
		return ctrl.Result{RequeueAfter: askReadySnapshot}, nil
	}
	return ctrl.Result{RequeueAfter: askSnapshot}, nil
}

// SetReady has a DataSource say what its controller would find a moment later: that the claim which it
// names itself, in its own namespace, can be used. Whoever repoints it to a claim that is known to be good
// writes both at once, so that its status never belongs to the claim before.
func SetReady(dataSource *cdiv1.DataSource, claim *corev1.PersistentVolumeClaim, now time.Time) {
	apply(dataSource, ready(claim.Labels), &dataSource.Spec.Source, now)
}

// apply writes a verdict into a DataSource: the condition as CDI spells it, the resolved source
// while it is ready, and the labels of what it names.
func apply(dataSource *cdiv1.DataSource, v *verdict, resolved *cdiv1.DataSourceSource, now time.Time) {
	status := corev1.ConditionFalse
	dataSource.Status.Source = cdiv1.DataSourceSource{}
	if v.ready {
		status = corev1.ConditionTrue
		resolved.DeepCopyInto(&dataSource.Status.Source)
	}
	for key, value := range v.labels {
		if golden.PassesLabel(key) {
			metav1.SetMetaDataLabel(&dataSource.ObjectMeta, key, value)
		}
	}
	golden.SetState(&readyOf(dataSource).ConditionState, status, v.reason, v.message, now)
}

// readyOf is the condition Ready of a DataSource, added when it is missing.
func readyOf(dataSource *cdiv1.DataSource) *cdiv1.DataSourceCondition {
	for i := range dataSource.Status.Conditions {
		if dataSource.Status.Conditions[i].Type == cdiv1.DataSourceReady {
			return &dataSource.Status.Conditions[i]
		}
	}
	dataSource.Status.Conditions = append(dataSource.Status.Conditions, cdiv1.DataSourceCondition{Type: cdiv1.DataSourceReady})
	return &dataSource.Status.Conditions[len(dataSource.Status.Conditions)-1]
}
