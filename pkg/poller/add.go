package poller

import (
	"context"
	"fmt"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/clock"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/gild-project/gild/pkg/grant"
)

const (
	// writers is how many crons are looked at, and maybe written, at once.
	writers = 8
	// backlog is how many polls may have ended before the reconciler takes note of one.
	backlog = 256
)

// Options are the settings of the poller.
type Options struct {
	// MaxPolls is how many polls run at once.
	MaxPolls int
	// MaxPollsPerHost is how many of them ask one host.
	MaxPollsPerHost int
	// Prober asks the sources.
	Prober Prober
	// Finalizer is put on a cron with the first revision that a poll finds, in the same write: it keeps the
	// cron until what is made of that is gone. Whoever takes it off again must be there before; empty for none.
	Finalizer string
	// Events are told about crons.
	Events record.EventRecorder
	// Metrics get the poller's.
	Metrics prometheus.Registerer
	// Clock is the time.
	Clock clock.PassiveClock
}

// Add adds the poller to a manager, whose scheme knows the kinds of cdi.kubevirt.io and of pkg/grant. The cluster
// must have the former, and they must be ours.
func Add(mgr manager.Manager, o Options) error {
	p, err := newPoller(mgr.GetClient(), mgr.GetAPIReader(), o)
	if err != nil {
		return fmt.Errorf("adding the poller: %w", err)
	}
	if err := mgr.Add(&workers{poller: p, count: o.MaxPolls}); err != nil {
		return fmt.Errorf("adding the poller: %w", err)
	}
	err = ctrl.NewControllerManagedBy(mgr).Named("poller").
		For(&cdiv1.DataImportCron{}).
		WatchesRawSource(source.Channel(p.finished, &handler.EnqueueRequestForObject{})).
		WithOptions(controller.Options{MaxConcurrentReconciles: writers}).
		Complete(p)
	if err != nil {
		return fmt.Errorf("adding the poller: %w", err)
	}
	return nil
}

func newPoller(c client.Client, live client.Reader, o Options) (*poller, error) {
	if o.MaxPolls < 1 || o.MaxPollsPerHost < 1 {
		return nil, fmt.Errorf("%d polls at once and %d per host: at least one must be able to run", o.MaxPolls, o.MaxPollsPerHost)
	}
	m, err := newMetrics(o.Metrics)
	if err != nil {
		return nil, fmt.Errorf("registering metrics: %w", err)
	}
	return &poller{
		client: c, live: live, grants: grant.New(live, c), prober: o.Prober, finalizer: o.Finalizer, clock: o.Clock, events: o.Events,
		queue: newQueue(o.MaxPollsPerHost), memory: newMemory(), metrics: m, finished: make(chan event.GenericEvent, backlog),
	}, nil
}

// workers are the goroutines that poll, while we are the leader.
type workers struct {
	poller *poller
	count  int
}

// NeedLeaderElection makes polls the leader's.
func (w *workers) NeedLeaderElection() bool { return true }

// Start polls until ctx ends.
func (w *workers) Start(ctx context.Context) error {
	var all sync.WaitGroup
	for range w.count {
		all.Go(func() { w.poller.work(ctx) })
	}
	all.Wait()
	return nil
}
