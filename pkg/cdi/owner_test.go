package cdi

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/go-logr/logr/testr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/clock"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
)

func definitionOf(name, label string) *apiextensionsv1.CustomResourceDefinition {
	d := &apiextensionsv1.CustomResourceDefinition{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if label != "" {
		d.Labels = map[string]string{LabelOwned: label}
	}
	return d
}

func ours() []client.Object {
	var all []client.Object
	for _, name := range definitions() {
		all = append(all, definitionOf(name, "true"))
	}
	return all
}

// installation is one of CDI.
func installation() client.Object { return &cdiv1.CDI{ObjectMeta: metav1.ObjectMeta{Name: "cdi"}} }

func cluster(t *testing.T, definitions ...client.Object) client.WithWatch {
	t.Helper()
	scheme := runtime.NewScheme()
	require.NoError(t, apiextensionsv1.AddToScheme(scheme))
	scheme.AddKnownTypes(cdiv1.SchemeGroupVersion, &cdiv1.CDI{}, &cdiv1.CDIList{})
	return fake.NewClientBuilder().WithScheme(scheme).WithObjects(definitions...).Build()
}

func TestFindOwner(t *testing.T) {
	for name, test := range map[string]struct {
		definitions []client.Object
		owner       Owner
	}{
		"nobody's":                       {nil, OwnerNone},
		"ours":                           {ours(), OwnerGild},
		"one of ours is missing":         {ours()[1:], OwnerNone},
		"an earlier version's":           {[]client.Object{definitionOf(CronDefinition, "true"), definitionOf(SourceDefinition, "true"), definitionOf(ProfileDefinition, "true")}, OwnerNone},
		"CDI's":                          {[]client.Object{definitionOf(CronDefinition, ""), definitionOf(SourceDefinition, ""), definitionOf(ProfileDefinition, ""), definitionOf(InstallDefinition, "")}, OwnerForeign},
		"one of CDI's":                   {append(ours()[:5], definitionOf(VolumeDefinition, "")), OwnerForeign},
		"only one, and CDI's":            {[]client.Object{definitionOf(SourceDefinition, "")}, OwnerForeign},
		"CDI's, from before Gild's":      {append(ours()[1:], definitionOf(InstallDefinition, "")), OwnerForeign},
		"CDI is installed over ours":     {append(ours(), installation()), OwnerForeign},
		"a label with another value":     {append(ours()[:5], definitionOf(VolumeDefinition, "false")), OwnerForeign},
		"a definition of CDI's not ours": {append(ours(), definitionOf("volumeimportsources.cdi.kubevirt.io", "")), OwnerGild},
	} {
		t.Run(name, func(t *testing.T) {
			reader := cluster(t, test.definitions...)
			owner, err := FindOwner(t.Context(), reader)
			require.NoError(t, err)
			require.Equal(t, test.owner, owner)
			foreign, err := Foreign(t.Context(), reader)
			require.NoError(t, err)
			require.Equal(t, test.owner == OwnerForeign, foreign)
		})
	}
}

// A cluster that cannot be asked is not one without CDI.
func TestFindOwnerFails(t *testing.T) {
	refusal := errors.New("etcd is away")
	reader := interceptor.NewClient(cluster(t, ours()...), interceptor.Funcs{
		Get: func(context.Context, client.WithWatch, client.ObjectKey, client.Object, ...client.GetOption) error {
			return refusal
		},
	})
	_, err := FindOwner(t.Context(), reader)
	require.ErrorIs(t, err, refusal)
	_, err = Foreign(t.Context(), reader)
	require.ErrorContains(t, err, "looking for CDI: getting the definition")
}

func watcherOf(t *testing.T, reader client.Reader) (*watcher, *record.FakeRecorder, *prometheus.Registry) {
	t.Helper()
	events, registry := record.NewFakeRecorder(10), prometheus.NewRegistry()
	w := &watcher{reader: reader, events: events, log: testr.New(t), clock: clock.RealClock{}}
	require.NoError(t, w.begin(t.Context(), registry))
	return w, events, registry
}

func TestWhatIsToldOfTheOwner(t *testing.T) {
	for owner, definitions := range map[Owner][]client.Object{
		OwnerNone:    nil,
		OwnerGild:    ours(),
		OwnerForeign: {definitionOf(CronDefinition, "")},
	} {
		t.Run(string(owner), func(t *testing.T) {
			w, events, registry := watcherOf(t, cluster(t, definitions...))
			require.Equal(t, owner, w.owner)
			families, err := registry.Gather()
			require.NoError(t, err)
			require.Len(t, families, 1)
			require.Equal(t, "gild_cdi_owner", families[0].GetName())
			require.Equal(t, string(owner), families[0].GetMetric()[0].GetLabel()[0].GetValue())
			require.InDelta(t, 1, families[0].GetMetric()[0].GetGauge().GetValue(), 0)
			if owner != OwnerForeign {
				require.Empty(t, events.Events)
				return
			}
			require.Contains(t, <-events.Events, "Normal LeftToCDI CDI serves the kinds")
		})
	}
}

// The watcher ends when CDI comes or goes, and only then: an API server that is away for a while changes nothing.
func TestWatch(t *testing.T) {
	for name, test := range map[string]struct {
		definitions []client.Object
		change      func(context.Context, client.Client) error
		want        string
	}{
		"CDI takes the kinds over": {ours(), func(ctx context.Context, c client.Client) error {
			return c.Patch(ctx, definitionOf(SourceDefinition, ""), client.RawPatch(types.MergePatchType, []byte(`{"metadata": {"labels": null}}`)))
		}, "foreign instead of gild"},
		"CDI is installed": {ours(), func(ctx context.Context, c client.Client) error {
			return c.Create(ctx, installation())
		}, "foreign instead of gild"},
		"CDI goes": {[]client.Object{definitionOf(CronDefinition, "")}, func(ctx context.Context, c client.Client) error {
			return c.Delete(ctx, definitionOf(CronDefinition, ""))
		}, "none instead of foreign"},
		"deploy/cdi is applied": {ours()[:5], func(ctx context.Context, c client.Client) error {
			return c.Create(ctx, definitionOf(VolumeDefinition, "true"))
		}, "gild instead of none"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var away atomic.Bool
				cluster := interceptor.NewClient(cluster(t, test.definitions...), interceptor.Funcs{
					Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, object client.Object, opts ...client.GetOption) error {
						if away.Load() {
							return errors.New("etcd is away")
						}
						return c.Get(ctx, key, object, opts...)
					},
				})
				w, _, _ := watcherOf(t, cluster)
				ended := make(chan error, 1)
				go func() { ended <- w.Start(t.Context()) }()
				require.False(t, w.NeedLeaderElection())
				for _, gone := range []bool{false, true, false} {
					away.Store(gone)
					<-clock.RealClock{}.After(10 * lookEvery)
					synctest.Wait()
					require.Empty(t, ended)
				}
				require.NoError(t, test.change(t.Context(), cluster))
				before := clock.RealClock{}.Now()
				require.ErrorContains(t, <-ended, test.want)
				require.LessOrEqual(t, clock.RealClock{}.Since(before), lookEvery)
			})
		})
	}
}

func TestWatchEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _, _ := watcherOf(t, cluster(t, ours()...))
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- w.Start(ctx) }()
		<-clock.RealClock{}.After(3 * lookEvery)
		cancel()
		require.NoError(t, <-ended)
	})
}
