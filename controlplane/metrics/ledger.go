package metrics

import (
	"cmp"
	"slices"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tollgate-apim/tollgate/controlplane/ledger"
)

const (
	// mostGateways is how many gateways are told of one by one.
	mostGateways = 1_000
	// mostRevisions is how many revisions gateways are counted by; those of lower
	// ones are counted together.
	mostRevisions = 20
)

// ObserveLedger adds what gateways reported to l. It is called once.
func (m *Metrics) ObserveLedger(l *ledger.Ledger) {
	m.registry.MustRegister(collector{
		[]*prometheus.Desc{requests, dryRunRequests, reports, storeUp, gateways, gatewayRevision, gatewayTableAge, gatewayLastReport},
		func(to sink) {
			collectRequests(to, l.Requests())
			collectGateways(to, l.Gateways())
			n := l.Reports()
			to.counter(reports, n.Accepted, "accepted")
			to.counter(reports, n.Duplicate, "duplicate")
			to.counter(reports, n.Refused, "refused")
			to.counter(reports, n.Failed, "failed")
			to.counter(reports, n.Deferred, "deferred")
			to.counter(reports, n.Lost, "lost")
			health := l.Health()
			to.gauge(storeUp, flag(health.Failure == "" && !health.Since.IsZero()))
		},
	})
}

var (
	requestLabels = []string{"api", "application", "key_title", "subscription", "plan", "code", "reason"}
	requests      = prometheus.NewDesc("tollgate_requests_total",
		"Requests that gateways reported, by caller and by what they were answered; code and reason are empty for those that were admitted.", requestLabels, nil)
	dryRunRequests = prometheus.NewDesc("tollgate_dry_run_requests_total",
		"Requests that gateways reported that a dry run admitted and that would have been refused for that reason.", requestLabels, nil)

	reports = prometheus.NewDesc("tollgate_reports_total",
		"Reports of gateways that arrived, by what became of them.", []string{"result"}, nil)
	gateways = prometheus.NewDesc("tollgate_gateways",
		"Gateways that reported in the last ten minutes, by the revision of their table.", []string{"revision"}, nil)
	storeUp = prometheus.NewDesc("tollgate_store_up",
		"1 if the store answered when it was last asked; 0 if it did not, or has not been asked.", nil, nil)

	gatewayLabels   = []string{"gateway", "host"}
	gatewayRevision = prometheus.NewDesc("tollgate_gateway_revision",
		"Revision of the table that a gateway decides by, as it last reported; 0 if it has none.", gatewayLabels, nil)
	gatewayTableAge = prometheus.NewDesc("tollgate_gateway_table_age_seconds",
		"How long ago a gateway's table was last confirmed to be the newest, as far as is known.", gatewayLabels, nil)
	gatewayLastReport = prometheus.NewDesc("tollgate_gateway_last_report_timestamp_seconds",
		"When a gateway's last report arrived.", gatewayLabels, nil)
)

// collectRequests sends sums, of which the ledger sees to it that there are not
// too many.
func collectRequests(to sink, sums []ledger.Requests) {
	for _, sum := range sums {
		desc, code := requests, ""
		if sum.DryRun {
			desc = dryRunRequests
		}
		if sum.Code != 0 {
			code = strconv.Itoa(sum.Code)
		}
		to.counter(desc, sum.Count,
			sum.API, sum.Application, sum.KeyTitle, sum.Subscription, sum.Plan, code, sum.Reason)
	}
}

// collectGateways sends what is known of gateways. Of too many, those that have
// had no newer table for longest are told of one by one.
func collectGateways(to sink, known []ledger.Gateway) {
	byRevision := map[int64]int{}
	for i := range known {
		byRevision[known[i].Revision]++
	}
	revisions := make([]int64, 0, len(byRevision))
	for revision := range byRevision {
		revisions = append(revisions, revision)
	}
	slices.SortFunc(revisions, func(a, b int64) int { return cmp.Compare(b, a) })
	older := 0
	for i, revision := range revisions {
		if i >= mostRevisions {
			older += byRevision[revision]
			continue
		}
		to.gauge(gateways, float64(byRevision[revision]), strconv.FormatInt(revision, 10))
	}
	if older > 0 {
		to.gauge(gateways, float64(older), ledger.Other)
	}

	if len(known) > mostGateways {
		slices.SortFunc(known, func(a, b ledger.Gateway) int {
			return cmp.Or(cmp.Compare(a.Revision, b.Revision), cmp.Compare(a.Instance, b.Instance))
		})
		known = known[:mostGateways]
	}
	for i := range known {
		g := &known[i]
		to.gauge(gatewayRevision, float64(g.Revision), g.Instance, g.Host)
		to.gauge(gatewayTableAge, g.TableAge.Seconds(), g.Instance, g.Host)
		to.gauge(gatewayLastReport, unix(g.LastSeen), g.Instance, g.Host)
	}
}
