package main

import (
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/gild-project/gild/pkg/cdi"
	"github.com/gild-project/gild/pkg/cdiconfig"
	"github.com/gild-project/gild/pkg/datavolume"
	"github.com/gild-project/gild/pkg/grant"
	"github.com/gild-project/gild/pkg/snapshot"
	"github.com/gild-project/gild/pkg/storageprofile"
)

// serveDataVolumes has the populator serve DataVolumes, and keep what KubeVirt reads of storage, once the kinds
// are Gild's.
func serveDataVolumes(mgr manager.Manager, events record.EventRecorder) error {
	return cdi.WhenOurs(mgr, func() error {
		now := clock.RealClock{}
		if err := storageprofile.Add(mgr, now); err != nil {
			return err
		}
		if err := cdiconfig.Add(mgr); err != nil {
			return err
		}
		return datavolume.Add(mgr, datavolume.Options{
			Events:    events,
			Grants:    grant.New(mgr.GetAPIReader(), mgr.GetClient()),
			Snapshots: snapshot.New(mgr.GetClient(), mgr.GetAPIReader()),
			Clock:     now,
		})
	})
}
