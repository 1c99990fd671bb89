package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tollgate-apim/tollgate/controlplane/sharing"
	"github.com/tollgate-apim/tollgate/usage"
)

// ObserveSharing adds what s has settled. It is called once.
func (m *Metrics) ObserveSharing(s *sharing.Sharing) {
	m.registry.MustRegister(collector{
		[]*prometheus.Desc{quotaLimit, quotaRemaining, rateSaturation, reportEntries},
		func(to sink) {
			collectBuckets(to, s.Buckets())
			n := s.Entries()
			to.counter(reportEntries, n.Settled, "settled")
			to.counter(reportEntries, n.Unknown, "unknown")
			to.counter(reportEntries, n.Full, "full")
			to.counter(reportEntries, n.Raced, "raced")
			to.counter(reportEntries, n.Failed, "failed")
			to.counter(reportEntries, n.Unreadable, "unreadable")
		},
	})
}

var (
	bucketLabels = []string{"plan", "bucket"}
	quotaLimit   = prometheus.NewDesc("tollgate_bucket_quota_limit",
		"How many requests a quota that gateways share allows in its period, as last settled here.", bucketLabels, nil)
	quotaRemaining = prometheus.NewDesc("tollgate_bucket_quota_remaining",
		"What of a quota that gateways share is neither used nor held by one of them, as last settled here.", bucketLabels, nil)
	rateSaturation = prometheus.NewDesc("tollgate_bucket_rate_saturation_ratio",
		"What part of a rate limit that gateways share is given away, as last settled here.", bucketLabels, nil)
	reportEntries = prometheus.NewDesc("tollgate_report_entries_total",
		"Buckets that reports told of, each time, by what became of that.", []string{"result"}, nil)
)

// collectBuckets sends how buckets are, of which package sharing sees to it that there
// are not too many.
func collectBuckets(to sink, buckets []sharing.Bucket) {
	for i := range buckets {
		b := &buckets[i]
		if b.Kind == usage.KindRate {
			to.gauge(rateSaturation, b.Used, b.Plan, b.Name)
			continue
		}
		to.gauge(quotaLimit, float64(b.Limit), b.Plan, b.Name)
		to.gauge(quotaRemaining, float64(b.Remaining), b.Plan, b.Name)
	}
}
