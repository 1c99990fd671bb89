package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tollgate-apim/tollgate/controlplane/server"
)

// ObserveServer adds what s serves. It is called once.
func (m *Metrics) ObserveServer(s *server.Server) { m.registry.MustRegister(serverCollector{s}) }

type serverCollector struct{ server *server.Server }

var (
	tableRevision = prometheus.NewDesc("tollgate_table_revision",
		"Revision of the table that is served; 0 before the first.", nil, nil)
	tablePublished = prometheus.NewDesc("tollgate_table_published_timestamp_seconds",
		"When this control plane began to serve that table; 0 before the first.", nil, nil)
	tableAPIs = prometheus.NewDesc("tollgate_table_apis",
		"APIs in the table that is served.", nil, nil)
	tablePlans = prometheus.NewDesc("tollgate_table_plans",
		"Plans in the table that is served.", nil, nil)
	tableSubscriptions = prometheus.NewDesc("tollgate_table_subscriptions",
		"Subscriptions in the table that is served.", nil, nil)
	tableApplications = prometheus.NewDesc("tollgate_table_applications",
		"Applications in the table that is served.", nil, nil)
	tableKeys = prometheus.NewDesc("tollgate_table_keys",
		"API keys in the table that is served.", nil, nil)
	tableKeptOut = prometheus.NewDesc("tollgate_table_change_kept_out",
		"1 if the last change of the manifests could not be read, so that the table before it stays in force; else 0.", nil, nil)
	tableWaiting = prometheus.NewDesc("tollgate_table_requests_waiting",
		"Requests that are being held until the table changes: one for each gateway that waits.", nil, nil)
	findings = prometheus.NewDesc("tollgate_findings",
		"What is wrong in the manifests as last read, by how grave it is and by the check that found it.", []string{"severity", "check"}, nil)
)

// Describe sends what there may be.
func (c serverCollector) Describe(descs chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{
		tableRevision, tablePublished, tableAPIs, tablePlans, tableSubscriptions, tableApplications, tableKeys,
		tableKeptOut, tableWaiting, findings,
	} {
		descs <- desc
	}
}

// Collect sends what there is.
func (c serverCollector) Collect(metrics chan<- prometheus.Metric) {
	state := c.server.State()
	published, keptOut := 0.0, 0.0
	if !state.PublishedAt.IsZero() {
		published = float64(state.PublishedAt.UnixMilli()) / 1000
	}
	if state.KeptOut {
		keptOut = 1
	}
	for _, gauge := range []struct {
		desc  *prometheus.Desc
		value float64
	}{
		{tableRevision, float64(state.Revision)},
		{tablePublished, published},
		{tableAPIs, float64(state.Rows.APIs)},
		{tablePlans, float64(state.Rows.Plans)},
		{tableSubscriptions, float64(state.Rows.Subscriptions)},
		{tableApplications, float64(state.Rows.Applications)},
		{tableKeys, float64(state.Rows.Keys)},
		{tableKeptOut, keptOut},
		{tableWaiting, float64(state.Waiting)},
	} {
		metrics <- prometheus.MustNewConstMetric(gauge.desc, prometheus.GaugeValue, gauge.value)
	}
	for kind, n := range state.Findings {
		metrics <- prometheus.MustNewConstMetric(findings, prometheus.GaugeValue, float64(n), string(kind.Severity), string(kind.Rule))
	}
}
