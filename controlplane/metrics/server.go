package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tollgate-apim/tollgate/controlplane/server"
)

// ObserveServer adds what s serves. It is called once.
func (m *Metrics) ObserveServer(s *server.Server) {
	m.registry.MustRegister(collector{
		[]*prometheus.Desc{
			tableRevision, tablePublished, tableAPIs, tablePlans, tableSubscriptions, tableApplications, tableKeys,
			tableKeptOut, tableWaiting, findings,
		},
		func(to sink) {
			state := s.State()
			to.gauge(tableRevision, float64(state.Revision))
			to.gauge(tablePublished, unix(state.PublishedAt))
			to.gauge(tableAPIs, float64(state.Rows.APIs))
			to.gauge(tablePlans, float64(state.Rows.Plans))
			to.gauge(tableSubscriptions, float64(state.Rows.Subscriptions))
			to.gauge(tableApplications, float64(state.Rows.Applications))
			to.gauge(tableKeys, float64(state.Rows.Keys))
			to.gauge(tableKeptOut, flag(state.KeptOut))
			to.gauge(tableWaiting, float64(state.Waiting))
			for kind, n := range state.Findings {
				to.gauge(findings, float64(n), string(kind.Severity), string(kind.Rule))
			}
		},
	})
}

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
