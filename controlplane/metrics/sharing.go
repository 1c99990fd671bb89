package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tollgate-apim/tollgate/controlplane/sharing"
	"github.com/tollgate-apim/tollgate/usage"
)

// ObserveSharing adds what s has settled. It is called once.
func (m *Metrics) ObserveSharing(s *sharing.Sharing) { m.registry.MustRegister(sharingCollector{s}) }

type sharingCollector struct{ sharing *sharing.Sharing }

var (
	bucketLabels   = []string{"plan", "bucket"}
	quotaRemaining = prometheus.NewDesc("tollgate_bucket_quota_remaining",
		"What of a quota that gateways share is neither used nor held by one of them, as last settled here.", bucketLabels, nil)
	rateSaturation = prometheus.NewDesc("tollgate_bucket_rate_saturation_ratio",
		"What part of a rate limit that gateways share is given away, as last settled here.", bucketLabels, nil)
	reportEntries = prometheus.NewDesc("tollgate_report_entries_total",
		"Buckets that reports told of, each time, by what became of that.", []string{"result"}, nil)
)

// Describe sends what there may be.
func (c sharingCollector) Describe(descs chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{quotaRemaining, rateSaturation, reportEntries} {
		descs <- desc
	}
}

// Collect sends what there is. There are not too many buckets: package sharing sees to
// that.
func (c sharingCollector) Collect(metrics chan<- prometheus.Metric) {
	for _, b := range c.sharing.Buckets() {
		desc, value := rateSaturation, b.Used
		if b.Kind == usage.KindQuota {
			desc, value = quotaRemaining, float64(b.Remaining)
		}
		metrics <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, b.Plan, b.Name)
	}
	n := c.sharing.Entries()
	for _, entries := range []struct {
		result string
		count  int64
	}{
		{"settled", n.Settled}, {"unknown", n.Unknown}, {"full", n.Full}, {"raced", n.Raced}, {"failed", n.Failed}, {"unreadable", n.Unreadable},
	} {
		metrics <- prometheus.MustNewConstMetric(reportEntries, prometheus.CounterValue, float64(entries.count), entries.result)
	}
}
