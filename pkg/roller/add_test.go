package roller

import (
	"net/http"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/golden"
)

// TestAdd adds the roller to a manager that is never started: its watches, indexes and metrics go together.
func TestAdd(t *testing.T) {
	scheme := newScheme(t)
	mapper := meta.NewDefaultRESTMapper(scheme.PrioritizedVersionsAllGroups())
	for kind := range scheme.AllKnownTypes() {
		mapper.Add(kind, meta.RESTScopeNamespace)
	}
	mgr, err := manager.New(&rest.Config{Host: "https://192.0.2.1"}, manager.Options{
		Scheme: scheme, Metrics: metricsserver.Options{BindAddress: "0"},
		MapperProvider: func(*rest.Config, *http.Client) (meta.RESTMapper, error) { return mapper, nil },
	})
	require.NoError(t, err)
	registry := prometheus.NewRegistry()
	options := Options{Events: record.NewFakeRecorder(1), Metrics: registry, Clock: clock.RealClock{}}
	require.NoError(t, Add(t.Context(), mgr, options))
	require.ErrorContains(t, Add(t.Context(), mgr, options), "registering metrics")
}

// TestWhatWakesACron asks which crons an event is about.
func TestWhatWakesACron(t *testing.T) {
	other := testCron()
	other.Name = "other-cron"
	other.Spec.Template.Spec.Storage.StorageClassName = ptr.To("slow")
	elsewhere := testCron()
	elsewhere.Namespace = "elsewhere"
	store := newStore(t, testCron(), other, elsewhere)
	object := func(namespace, name string, labels map[string]string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: labels}
	}
	byLabel := map[string]string{golden.LabelCron: "fedora-cron"}
	ofCron := v1alpha1.VMDiskImportSpec{ImageRef: v1alpha1.ImageReference{Kind: golden.CronKind, Name: "fedora-cron"}}
	for _, test := range []struct {
		name   string
		mapper handler.MapFunc
		event  client.Object
		want   []string
	}{
		{"a golden claim", cronOfClaim, &corev1.PersistentVolumeClaim{ObjectMeta: object(namespace, "x", byLabel)}, []string{"golden-images/fedora-cron"}},
		{"any other claim", cronOfClaim, &corev1.PersistentVolumeClaim{ObjectMeta: object(namespace, "x", nil)}, nil},
		{"its import", cronOfImport, &v1alpha1.VMDiskImport{ObjectMeta: object(namespace, "x", nil), Spec: ofCron}, []string{"golden-images/fedora-cron"}},
		{"the import of a VMDiskImage", cronOfImport, &v1alpha1.VMDiskImport{ObjectMeta: object(namespace, "x", nil)}, nil},
		{"a DataSource", cronsOfDataSource(store), &cdiv1.DataSource{ObjectMeta: object(namespace, "fedora", nil)}, []string{"golden-images/fedora-cron", "golden-images/other-cron"}},
		{"another DataSource", cronsOfDataSource(store), &cdiv1.DataSource{ObjectMeta: object(namespace, "debian", nil)}, nil},
		{"a cron", rivalsOf(store), testCron(), []string{"golden-images/other-cron"}},
		{"a class", cronsOfDefault(store), testClass("fast"), []string{"golden-images/fedora-cron", "elsewhere/fedora-cron"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var got []string
			for _, request := range test.mapper(t.Context(), test.event) {
				got = append(got, request.String())
			}
			require.ElementsMatch(t, test.want, got)
		})
	}
}
