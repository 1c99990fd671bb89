// Package metrics tells Prometheus what a control plane does, and what its
// gateways report. docs/monitoring.md lists what there is.
//
// How many time series there are is bounded, whatever gateways report: the
// ledger bounds those of requests, and this package all others.
package metrics

import (
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Path is where a control plane serves its metrics.
const Path = "/metrics"

// atATime is how many scrapes are answered at a time; others are told to come
// back.
const atATime = 4

// Metrics are those of one control plane. All its methods may be called at any
// time by any number of goroutines.
type Metrics struct {
	registry *prometheus.Registry
	log      *slog.Logger
	compiled prometheus.Histogram
	store    storeMetrics
}

// New returns metrics that are of the process alone until something else is
// observed.
func New(log *slog.Logger) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(), log: log, store: newStoreMetrics(),
		compiled: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "tollgate_compile_duration_seconds",
			Help:    "How long it took to read what had changed in the manifests, to compile it and to publish the table.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120},
		}),
	}
	m.registry.MustRegister(
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), collectors.NewBuildInfoCollector(),
		m.compiled, m.store.operations, m.store.durations,
	)
	return m
}

// Gatherer returns what collects the metrics.
func (m *Metrics) Gatherer() prometheus.Gatherer { return m.registry }

// Handler returns what answers a scrape, in the format that is asked for:
// OpenMetrics, Prometheus' own text, or protobuf.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		ErrorLog: errorLog{m.log}, ErrorHandling: promhttp.ContinueOnError,
		MaxRequestsInFlight: atATime, EnableOpenMetrics: true,
	})
}

// Compiled counts a table, and how long it took to be made.
func (m *Metrics) Compiled(took time.Duration) { m.compiled.Observe(took.Seconds()) }

// collector has metrics that are looked up when they are asked for.
type collector struct {
	descs   []*prometheus.Desc
	collect func(sink)
}

// Describe sends what there may be.
func (c collector) Describe(descs chan<- *prometheus.Desc) {
	for _, desc := range c.descs {
		descs <- desc
	}
}

// Collect sends what there is.
func (c collector) Collect(metrics chan<- prometheus.Metric) { c.collect(metrics) }

// sink is where metrics are sent.
type sink chan<- prometheus.Metric

func (s sink) gauge(desc *prometheus.Desc, value float64, labels ...string) {
	s <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
}

func (s sink) counter(desc *prometheus.Desc, value int64, labels ...string) {
	s <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(value), labels...)
}

// flag returns 1 for true, and 0 for false.
func flag(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

// unix returns a time as seconds since 1970, and 0 for the zero time.
func unix(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}

type errorLog struct{ log *slog.Logger }

// Println logs that some metric could not be had.
func (l errorLog) Println(v ...any) { l.log.Error("metrics are incomplete", "error", v) }
