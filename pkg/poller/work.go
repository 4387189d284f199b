package poller

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/types"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/event"
)

// pollTimeout bounds one poll: a source that takes longer is asked again later, and does not keep
// the polls of others waiting.
const pollTimeout = time.Minute

// work runs polls until ctx ends.
func (p *poller) work(ctx context.Context) {
	for {
		j, ok := p.queue.next(ctx)
		if !ok {
			return
		}
		p.run(ctx, j)
	}
}

// run makes one poll and leaves its outcome for the reconciler.
func (p *poller) run(ctx context.Context, j job) {
	defer p.wake(ctx, j.key)
	defer p.queue.done(j)
	o := p.poll(ctx, j)
	p.memory.change(j.key, j.uid, func(e *entry) { e.busy, e.outcome = false, o })
}

// poll looks again whether the poll is due, which may be long after it was queued, and makes it.
// nil means that there is nothing to record.
func (p *poller) poll(ctx context.Context, j job) *outcome {
	cron := &cdiv1.DataImportCron{}
	if err := p.client.Get(ctx, j.key, cron); err != nil || cron.UID != j.uid || !cron.DeletionTimestamp.IsZero() {
		return nil // the reconciler sees the same
	}
	known, _ := p.memory.of(cron)
	at := p.clock.Now()
	due := decide(cron, at, known.next)
	if due.task == taskNone || hostOf(cron.Spec.Template.Spec.Source) != j.host || known.stale(cron, at) > 0 {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, pollTimeout)
	defer cancel()
	found, err := p.find(limited, cron, due.task)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		found.revision, found.failure = nil, classify(err)
	}
	return conclude(cron, due.task, found, at)
}

// wake has the reconciler look at a cron.
func (p *poller) wake(ctx context.Context, key types.NamespacedName) {
	cron := &cdiv1.DataImportCron{}
	cron.Namespace, cron.Name = key.Namespace, key.Name
	select {
	case p.finished <- event.GenericEvent{Object: cron}:
	case <-ctx.Done():
	}
}
