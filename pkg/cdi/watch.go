package cdi

import (
	"context"
	"fmt"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
)

// lookEvery is how often a program looks whether CDI has come or gone. It costs seven reads.
const lookEvery = 10 * time.Second

// EventForeign is the reason of the event on the definition of DataImportCron which says that
// Gild leaves the kinds to CDI.
const EventForeign = "LeftToCDI"

// Add tells whose kinds the cluster has. A program serves them only if that is OwnerGild, and
// goes on with its other work if not. When it changes, the manager ends with an error: a
// manager cannot let go of kinds that it watches, so the program starts anew and decides anew.
// The log, the metric gild_cdi_owner and an event say that the kinds are left to CDI.
func Add(ctx context.Context, mgr manager.Manager, events record.EventRecorder) (Owner, error) {
	w := &watcher{reader: mgr.GetAPIReader(), events: events, log: mgr.GetLogger().WithName("cdi"), clock: clock.RealClock{}}
	if err := w.begin(ctx, metrics.Registry); err != nil {
		return "", err
	}
	if err := mgr.Add(w); err != nil {
		return "", fmt.Errorf("looking for CDI: %w", err)
	}
	return w.owner, nil
}

// watcher ends its manager when the owner of the kinds changes.
type watcher struct {
	reader client.Reader
	events record.EventRecorder
	log    logr.Logger
	clock  clock.WithTicker
	owner  Owner
}

// begin finds the owner and tells of it.
func (w *watcher) begin(ctx context.Context, registry prometheus.Registerer) error {
	var err error
	if w.owner, err = FindOwner(ctx, w.reader); err != nil {
		return err
	}
	gauge := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "gild_cdi_owner",
		Help:        "Whose kinds of cdi.kubevirt.io the cluster has: 1 for gild, foreign (CDI, to which Gild leaves them) or none.",
		ConstLabels: prometheus.Labels{"owner": string(w.owner)},
	})
	gauge.Set(1)
	if err := registry.Register(gauge); err != nil {
		return fmt.Errorf("registering a metric: %w", err)
	}
	switch w.owner {
	case OwnerForeign:
		const message = "CDI serves the kinds of cdi.kubevirt.io in this cluster: Gild leaves DataImportCrons, DataSources and DataVolumes to it, and goes on with its own kinds"
		w.log.Info(message)
		w.events.Event(&corev1.ObjectReference{APIVersion: "apiextensions.k8s.io/v1", Kind: "CustomResourceDefinition", Name: CronDefinition},
			corev1.EventTypeNormal, EventForeign, message)
	case OwnerNone:
		w.log.Info("not all kinds of cdi.kubevirt.io are installed: there are no DataImportCrons and DataVolumes until deploy/cdi is applied")
	case OwnerGild:
	}
	return nil
}

// Start returns when ctx ends, or with an error when the owner changes.
func (w *watcher) Start(ctx context.Context) error {
	ticker := w.clock.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C():
		}
		owner, err := FindOwner(ctx, w.reader)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			w.log.Error(err, "going on as before")
		case owner != w.owner:
			return fmt.Errorf("the kinds of cdi.kubevirt.io have another owner, %s instead of %s: starting anew", owner, w.owner)
		}
	}
}

// NeedLeaderElection has each replica watch: all have caches of the kinds.
func (w *watcher) NeedLeaderElection() bool { return false }
