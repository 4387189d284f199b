package cdi

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/go-logr/logr/testr"
	"github.com/stretchr/testify/require"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
)

// The kinds come one after the other while the API server is away for a while, then CDI takes them over.
func TestArrival(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var away atomic.Bool
		var added atomic.Int32
		cluster := interceptor.NewClient(cluster(t, ours()[1:]...), interceptor.Funcs{
			Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, object client.Object, opts ...client.GetOption) error {
				if away.Load() {
					return errors.New("etcd is away")
				}
				return c.Get(ctx, key, object, opts...)
			},
		})
		a := &arrival{reader: cluster, log: testr.New(t), clock: clock.RealClock{}, add: func() error { added.Add(1); return nil }}
		require.True(t, a.NeedLeaderElection())
		ended := make(chan error, 1)
		go func() { ended <- a.Start(t.Context()) }()
		wait := func() {
			<-clock.RealClock{}.After(3 * lookEvery)
			synctest.Wait()
		}
		wait()
		require.Zero(t, added.Load(), "one is missing")
		require.NoError(t, cluster.Create(t.Context(), ours()[0]))
		wait()
		require.EqualValues(t, 1, added.Load())
		away.Store(true)
		wait()
		away.Store(false)
		require.NoError(t, cluster.Delete(t.Context(), ours()[0]))
		wait()
		require.Empty(t, ended, "a definition that is gone for a while changes nothing")
		require.NoError(t, cluster.Create(t.Context(), ours()[0]))
		wait()
		require.EqualValues(t, 1, added.Load())
		require.NoError(t, cluster.Create(t.Context(), installation()))
		require.ErrorContains(t, <-ended, "another owner, foreign")
	})
}

// Beside CDI nothing is served, and nothing ends.
func TestArrivalBesideCDI(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &arrival{reader: cluster(t, definitionOf(CronDefinition, "")), log: testr.New(t), clock: clock.RealClock{}, add: func() error { return errors.New("not to be called") }}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- a.Start(ctx) }()
		<-clock.RealClock{}.After(3 * lookEvery)
		cancel()
		require.NoError(t, <-ended)
	})
}

func TestArrivalFails(t *testing.T) {
	refusal := errors.New("no such index")
	a := &arrival{reader: cluster(t, ours()...), log: testr.New(t), clock: clock.RealClock{}, add: func() error { return refusal }}
	require.ErrorIs(t, a.Start(t.Context()), refusal)
}
