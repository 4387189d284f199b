package poller

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/clock"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/gild-project/gild/pkg/golden"
	"github.com/gild-project/gild/pkg/grant"
)

const (
	// soon is after how long a write that met a conflict is tried again: the cache has to catch up.
	soon = 500 * time.Millisecond
	// lookAgain is how long a cron is left alone at most: timers do not see that the clock was set.
	lookAgain = 10 * time.Minute
)

// Reasons of the events on a cron.
const (
	eventPollFailed    = "PollFailed"
	eventPollRecovered = "PollRecovered"
)

// poller reconciles DataImportCrons and makes their polls.
type poller struct {
	client client.Client // reads crons from the cache
	live   client.Reader // reads Secrets and the like from the API server
	grants *grant.Grants
	prober Prober
	// finalizer goes on crons of which a revision was found.
	finalizer string
	clock     clock.PassiveClock
	events    record.EventRecorder

	queue    *queue
	memory   *memory
	metrics  *metrics
	finished chan event.GenericEvent
}

// Reconcile looks at one cron: it records a poll that has ended, or queues one that is due. It
// never waits for a source.
func (p *poller) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	cron := &cdiv1.DataImportCron{}
	err := p.client.Get(ctx, request.NamespacedName, cron)
	if apierrors.IsNotFound(err) || err == nil && !cron.DeletionTimestamp.IsZero() {
		p.forget(request.NamespacedName)
		return ctrl.Result{}, nil
	}
	if err != nil {
		return ctrl.Result{}, fmt.Errorf("reading the DataImportCron: %w", err)
	}
	known, fresh := p.memory.of(cron)
	if fresh {
		p.metrics.begin(cron)
	}
	if known.busy {
		return ctrl.Result{}, nil // its end wakes us
	}
	if wait := known.stale(cron, p.clock.Now()); wait > 0 {
		return ctrl.Result{RequeueAfter: wait}, nil // the newer view wakes us
	}
	next := known.next
	o := known.outcome
	if o != nil && o.outdated(cron) {
		// It must not come back when the edit is taken back.
		p.memory.change(request.NamespacedName, cron.UID, func(e *entry) { e.outcome = nil })
		o = nil
	}
	if o != nil {
		if done, err := p.record(ctx, cron, o); err != nil || !done {
			return later(err)
		}
		next = o.next // an edit during the poll has woken nobody, so look on
	}
	due := decide(cron, p.clock.Now(), next)
	switch {
	case due.illegal != nil:
		if done, err := p.record(ctx, cron, refuse(cron, due.illegal)); err != nil || !done {
			return later(err)
		}
		return ctrl.Result{}, nil
	case due.task != taskNone:
		p.memory.change(request.NamespacedName, cron.UID, func(e *entry) { e.busy, e.outcome = true, nil })
		p.queue.push(job{host: hostOf(cron.Spec.Template.Spec.Source), key: request.NamespacedName, uid: cron.UID})
		return ctrl.Result{}, nil
	case due.reschedule:
		before := cron.DeepCopy()
		reschedule(cron, due.next)
		if wrote, err := p.write(ctx, before, cron); err != nil || !wrote {
			return later(err)
		}
	}
	return p.await(cron, due.next), nil
}

// later tries a write again: after an error as the queue has it, after a conflict soon.
func later(err error) (ctrl.Result, error) {
	if err != nil {
		return ctrl.Result{}, err
	}
	return ctrl.Result{RequeueAfter: soon}, nil
}

// record writes down what a poll has found, all of it in one patch, and maybe not at all: times
// alone can wait. Until it is done, the outcome is kept and the source not asked again.
func (p *poller) record(ctx context.Context, cron *cdiv1.DataImportCron, o *outcome) (done bool, err error) {
	before := cron.DeepCopy()
	o.apply(cron, p.clock.Now())
	if p.finalizer != "" && o.failure == nil {
		controllerutil.AddFinalizer(cron, p.finalizer)
	}
	if worthWriting(before, cron, p.clock.Now()) {
		if wrote, err := p.write(ctx, before, cron); err != nil || !wrote {
			return false, err
		}
		p.tell(cron, o)
	}
	p.memory.change(client.ObjectKeyFromObject(cron), cron.UID, func(e *entry) { e.outcome, e.next = nil, o.next })
	if !o.at.IsZero() {
		p.metrics.polled(cron, o)
	}
	return true, nil
}

// write patches a cron as it is in our view. wrote is false when that is not the newest one.
func (p *poller) write(ctx context.Context, before, cron *cdiv1.DataImportCron) (wrote bool, err error) {
	err = p.client.Patch(ctx, cron, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
	switch {
	case apierrors.IsConflict(err), apierrors.IsNotFound(err):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("recording the poll: %w", err)
	}
	p.memory.change(client.ObjectKeyFromObject(cron), cron.UID, func(e *entry) {
		e.written, e.writtenAt = cron.ResourceVersion, p.clock.Now()
		e.said = cron.Annotations[golden.AnnotationNextCronTime]
	})
	return true, nil
}

// await remembers when the next poll is, which need not be written down, and waits for it.
func (p *poller) await(cron *cdiv1.DataImportCron, next time.Time) ctrl.Result {
	p.memory.change(client.ObjectKeyFromObject(cron), cron.UID, func(e *entry) { e.next = next })
	if next.IsZero() {
		return ctrl.Result{}
	}
	return ctrl.Result{RequeueAfter: min(max(next.Sub(p.clock.Now()), time.Millisecond), lookAgain)}
}

// tell makes an event of the first failure in a row, and of the end of failures.
func (p *poller) tell(cron *cdiv1.DataImportCron, o *outcome) {
	switch {
	case o.failure != nil && (o.state.Failures == 1 || o.at.IsZero()):
		p.events.Event(cron, corev1.EventTypeWarning, eventPollFailed, o.reason+": "+o.message)
	case o.failure == nil && o.recovered:
		p.events.Event(cron, corev1.EventTypeNormal, eventPollRecovered, o.reason+": "+o.message)
	}
}

func (p *poller) forget(key types.NamespacedName) {
	p.memory.forget(key)
	p.metrics.forget(key)
}
