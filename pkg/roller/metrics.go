package roller

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"
)

// metrics are what dashboards and alerts see of the crons.
type metrics struct {
	outdated *prometheus.GaugeVec
	imports  *prometheus.CounterVec
}

func newMetrics(registry prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		outdated: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "gild_dataimportcron_outdated",
			Help: "1 while the DataImportCron has not imported what its source holds, else 0.",
		}, []string{"namespace", "name"}),
		imports: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gild_golden_imports_total",
			Help: "Imports of golden claims that have ended, by result: succeeded or failed.",
		}, []string{"result"}),
	}
	for _, collector := range []prometheus.Collector{m.outdated, m.imports} {
		if err := registry.Register(collector); err != nil {
			return nil, fmt.Errorf("registering metrics: %w", err)
		}
	}
	return m, nil
}

// imported counts an import that has ended.
func (m *metrics) imported(result string) { m.imports.WithLabelValues(result).Inc() }

// show says whether a cron is outdated.
func (m *metrics) show(cron types.NamespacedName, outdated bool) {
	value := 0.0
	if outdated {
		value = 1
	}
	m.outdated.WithLabelValues(cron.Namespace, cron.Name).Set(value)
}

// forget drops what is shown of a cron that is gone.
func (m *metrics) forget(cron types.NamespacedName) {
	m.outdated.DeleteLabelValues(cron.Namespace, cron.Name)
}
