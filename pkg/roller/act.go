package roller

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gild-project/gild/pkg/datasource"
)

// lookAgain is how often a claim that would be pruned is looked at while it is in use.
const lookAgain = 10 * time.Minute

// act takes the steps of a plan, and stops at the first that fails.
func (c *controller) act(ctx context.Context, w *world, p *plan) error {
	var used *users
	for i := range p.steps {
		s := &p.steps[i]
		if s.do == pruneClaim && used == nil {
			var err error
			if used, err = c.seeUsers(ctx, w.cron.Namespace); err != nil {
				return err
			}
		}
		done, err := c.take(ctx, w, p, s, used)
		if err != nil {
			return fmt.Errorf("%s: %w", gerund(s), err)
		}
		if !done {
			continue
		}
		if s.tell.reason != "" {
			c.events.Event(w.cron, s.tell.kind, s.tell.reason, s.tell.message)
		}
		if s.result != "" {
			c.metrics.imported(s.result)
		}
	}
	return nil
}

// take takes one step; done is false when it turned out not to be wanted.
func (c *controller) take(ctx context.Context, w *world, p *plan, s *step, used *users) (done bool, err error) {
	switch s.do {
	case createClaim:
		err := c.client.Create(ctx, s.claim.DeepCopy())
		if apierrors.IsForbidden(err) || apierrors.IsInvalid(err) || apierrors.IsBadRequest(err) {
			p.refused(err, w)
			return false, nil
		}
		return true, err
	case dropClaim:
		return true, c.delete(ctx, s.seen.PersistentVolumeClaim)
	case pruneClaim:
		if used.of(s.seen.PersistentVolumeClaim) != "" {
			p.after(lookAgain)
			return false, nil
		}
		done, err := c.remove(ctx, w.cron.Name, s.seen)
		if !done {
			p.after(lookAgain)
		}
		return done, err
	case restartImport:
		return true, c.delete(ctx, s.imp)
	case countFailure, touchClaim, verifyClaim, adoptClaim:
		return true, c.patch(ctx, s.claim.DeepCopy(), s.seen.PersistentVolumeClaim)
	case dropSource:
		return true, c.delete(ctx, s.dataSource)
	case freeSource:
		return true, c.patch(ctx, s.dataSource.DeepCopy(), s.seenSource)
	case repoint:
		return true, c.repoint(ctx, w, s.dataSource)
	default:
		// A claim that was refused may have left nothing to say.
		if equality.Semantic.DeepEqual(w.cron, p.cron) {
			return false, nil
		}
		return true, c.patch(ctx, p.cron.DeepCopy(), w.cron)
	}
}

// repoint has the DataSource name a claim, if that is still good: our view may be behind. That it is
// ready goes into the same write: the kind has no status of its own.
func (c *controller) repoint(ctx context.Context, w *world, wanted *cdiv1.DataSource) error {
	claim := &corev1.PersistentVolumeClaim{}
	if err := c.live.Get(ctx, client.ObjectKey{Namespace: wanted.Namespace, Name: wanted.Spec.Source.PVC.Name}, claim); err != nil {
		return err
	}
	if seen, ok := asGolden(claim, w.cron.Name); !ok || !seen.good() {
		return fmt.Errorf("golden claim %s is not good any more", claim.Name)
	}
	wanted = wanted.DeepCopy()
	datasource.SetReady(wanted, claim, w.now)
	if w.dataSource == nil {
		return c.client.Create(ctx, wanted)
	}
	return c.patch(ctx, wanted, w.dataSource)
}

// patch writes what has changed, unless somebody else has written since.
func (c *controller) patch(ctx context.Context, after, before client.Object) error {
	return c.client.Patch(ctx, after, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
}

// delete deletes an object as it was seen: a claim that has been marked since stays, and so does an
// import that has started anew.
func (c *controller) delete(ctx context.Context, o client.Object) error {
	uid, version := o.GetUID(), o.GetResourceVersion()
	return client.IgnoreNotFound(c.client.Delete(ctx, o, client.Preconditions{UID: &uid, ResourceVersion: &version}))
}

// gerund names a step that failed.
func gerund(s *step) string {
	switch s.do {
	case dropClaim:
		return "deleting claim " + s.seen.Name + ", which leads nowhere"
	case pruneClaim:
		return "pruning claim " + s.seen.Name
	case createClaim:
		return "creating golden claim " + s.claim.Name
	case restartImport:
		return "starting the import of " + s.seen.Name + " anew"
	case repoint:
		return "repointing DataSource " + s.dataSource.Name
	case dropSource, freeSource:
		return "letting go of DataSource " + s.dataSource.Name
	case recordCron:
		return "recording the state of the cron"
	}
	return "marking claim " + s.seen.Name
}
