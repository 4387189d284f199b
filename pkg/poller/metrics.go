package poller

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/gild-project/gild/pkg/golden"
)

// metrics count polls. Those of a cron are dropped with it; the results are a fixed list.
type metrics struct {
	polls    *prometheus.CounterVec
	success  *prometheus.GaugeVec
	failures *prometheus.GaugeVec
}

// The values of label result.
const (
	resultFound       = "found"
	resultChanged     = "changed"
	resultNotModified = "not_modified"
	resultTransient   = "failed_transient"
	resultPermanent   = "failed_permanent"
)

func newMetrics(registry prometheus.Registerer) (*metrics, error) {
	cron := []string{"namespace", "name"}
	m := &metrics{
		polls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gild_polls_total", Help: "Polls of DataImportCrons that have ended, by result.",
		}, []string{"result"}),
		success: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "gild_poll_last_success_timestamp_seconds", Help: "When a DataImportCron was last polled with success, as a Unix time.",
		}, cron),
		failures: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "gild_poll_failures", Help: "How many polls of a DataImportCron have failed in a row.",
		}, cron),
	}
	for _, result := range []string{resultFound, resultChanged, resultNotModified, resultTransient, resultPermanent} {
		m.polls.WithLabelValues(result)
	}
	for _, c := range []prometheus.Collector{m.polls, m.success, m.failures} {
		if err := registry.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// begin shows what the cron itself tells of its last poll, for the time until the next one.
func (m *metrics) begin(cron *cdiv1.DataImportCron) {
	m.failures.WithLabelValues(cron.Namespace, cron.Name).Set(float64(readState(cron).Failures))
	last := timeIn(cron, golden.AnnotationLastCronTime)
	if c := condition(cron); c != nil && c.Status == corev1.ConditionTrue && !last.IsZero() {
		m.success.WithLabelValues(cron.Namespace, cron.Name).Set(float64(last.Unix()))
	}
}

// polled counts one poll.
func (m *metrics) polled(cron *cdiv1.DataImportCron, o *outcome) {
	m.polls.WithLabelValues(o.result()).Inc()
	m.failures.WithLabelValues(cron.Namespace, cron.Name).Set(float64(o.state.Failures))
	if o.failure == nil {
		m.success.WithLabelValues(cron.Namespace, cron.Name).Set(float64(o.at.Unix()))
	}
}

func (m *metrics) forget(cron types.NamespacedName) {
	m.failures.DeleteLabelValues(cron.Namespace, cron.Name)
	m.success.DeleteLabelValues(cron.Namespace, cron.Name)
}

// result is the label of an outcome.
func (o *outcome) result() string {
	switch {
	case o.failure != nil && o.failure.permanent:
		return resultPermanent
	case o.failure != nil:
		return resultTransient
	}
	results := []string{resultFound, resultChanged, resultNotModified}
	return results[slices.Index([]string{reasonFound, reasonChanged, reasonNotModified}, o.reason)]
}
