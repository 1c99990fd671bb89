package sharing

import (
	"cmp"
	"time"

	"github.com/tollgate-apim/tollgate/controlplane/compile"
	"github.com/tollgate-apim/tollgate/controlplane/shares"
	"github.com/tollgate-apim/tollgate/table"
	"github.com/tollgate-apim/tollgate/usage"
)

// limits are those of the plans in force, by the plans' names.
type limits struct{ rates, quotas map[string]limit }

// limit is one of both kinds.
type limit struct {
	rate  *shares.Rate
	quota *shares.Quota
	// by is which requests share a bucket: one of table's Bucket constants.
	by string
}

// UseTable makes t the table in force: shares are given by its plans, and only of the
// buckets that it has. Change says which rows are not as they were with the last call;
// nil where it may be any. Of t nothing is kept but the grants of applications, which
// nobody may change. One goroutine at a time may call it.
func (s *Sharing) UseTable(t *table.Table, change *compile.Change) {
	next := newLimits(t.Plans)
	s.rows.use(t, change, next.byApplication())
	s.plans.Store(next)
}

func newLimits(plans map[string]table.Plan) *limits {
	l := &limits{rates: map[string]limit{}, quotas: map[string]limit{}}
	for name, plan := range plans {
		if r := plan.RateLimit; r != nil && r.Limit > 0 {
			burst := r.Burst
			if burst == 0 {
				burst = r.Limit
			}
			if period, ok := parsePeriod(r.Period); ok {
				l.rates[name] = limit{rate: &shares.Rate{Limit: r.Limit, Burst: burst, Period: period}, by: countsBy(r.Bucket)}
			}
		}
		if q := plan.Quota; q != nil {
			if period, ok := parsePeriod(q.Period); ok {
				l.quotas[name] = limit{quota: &shares.Quota{Limit: q.Limit, Period: period}, by: countsBy(q.Bucket)}
			}
		}
	}
	return l
}

func countsBy(bucket string) string { return cmp.Or(bucket, table.BucketSubscription) }

// parsePeriod is true for a period that a table may have.
func parsePeriod(text string) (time.Duration, bool) {
	period, err := time.ParseDuration(text)
	return period, err == nil && period > 0
}

// of returns the limit that an entry is about, and whether there is one.
func (l *limits) of(e *usage.Entry) (limit, bool) {
	var found limit
	var ok bool
	switch e.Kind {
	case usage.KindRate:
		found, ok = l.rates[e.Plan]
	case usage.KindQuota:
		found, ok = l.quotas[e.Plan]
	}
	return found, ok
}

// byApplication says whether there is a limit that applications have for themselves.
func (l *limits) byApplication() bool {
	for _, kind := range []map[string]limit{l.rates, l.quotas} {
		for _, limit := range kind {
			if limit.by != table.BucketSubscription {
				return true
			}
		}
	}
	return false
}
