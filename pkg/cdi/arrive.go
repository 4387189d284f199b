package cdi

import (
	"context"
	"fmt"

	"github.com/go-logr/logr"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
)

// WhenOurs has the leader of a manager call add as soon as the kinds are all Gild's. When they are CDI's after
// that, the manager ends with an error, since it cannot let go of what it watches: the program starts anew,
// and leaves the kinds alone. It is for programs that have work without them; Add is for the others.
func WhenOurs(mgr manager.Manager, add func() error) error {
	a := &arrival{reader: mgr.GetAPIReader(), log: mgr.GetLogger().WithName("cdi"), clock: clock.RealClock{}, add: add}
	if err := mgr.Add(a); err != nil {
		return fmt.Errorf("looking for the kinds of cdi.kubevirt.io: %w", err)
	}
	return nil
}

// arrival waits for the kinds.
type arrival struct {
	reader client.Reader
	log    logr.Logger
	clock  clock.WithTicker
	add    func() error
}

// Start returns when ctx ends, or with an error when the kinds go to CDI or cannot be served.
func (a *arrival) Start(ctx context.Context) error {
	ticker := a.clock.NewTicker(lookEvery)
	defer ticker.Stop()
	for arrived := false; ; {
		owner, err := FindOwner(ctx, a.reader)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			a.log.Error(err, "going on as before")
		case owner == OwnerGild && !arrived:
			if err := a.add(); err != nil {
				return fmt.Errorf("serving the kinds of cdi.kubevirt.io: %w", err)
			}
			arrived = true
		case owner == OwnerForeign && arrived:
			return fmt.Errorf("the kinds of cdi.kubevirt.io have another owner, %s: starting anew", owner)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C():
		}
	}
}

// NeedLeaderElection makes it the leader's.
func (a *arrival) NeedLeaderElection() bool { return true }
