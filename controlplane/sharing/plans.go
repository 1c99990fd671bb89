package sharing

import (
	"time"

	"github.com/tollgate-apim/tollgate/controlplane/shares"
	"github.com/tollgate-apim/tollgate/table"
	"github.com/tollgate-apim/tollgate/usage"
)

// limits are those of the plans in force, by the plans' names.
type limits struct {
	rates  map[string]*shares.Rate
	quotas map[string]*shares.Quota
}

// UsePlans makes plans those of which shares are given. It keeps nothing of the map.
func (s *Sharing) UsePlans(plans map[string]table.Plan) {
	next := &limits{rates: map[string]*shares.Rate{}, quotas: map[string]*shares.Quota{}}
	for name, plan := range plans {
		if r := plan.RateLimit; r != nil && r.Limit > 0 {
			burst := r.Burst
			if burst == 0 {
				burst = r.Limit
			}
			if period, ok := parsePeriod(r.Period); ok {
				next.rates[name] = &shares.Rate{Limit: r.Limit, Burst: burst, Period: period}
			}
		}
		if q := plan.Quota; q != nil {
			if period, ok := parsePeriod(q.Period); ok {
				next.quotas[name] = &shares.Quota{Limit: q.Limit, Period: period}
			}
		}
	}
	s.plans.Store(next)
}

// parsePeriod is true for a period that a table may have.
func parsePeriod(text string) (time.Duration, bool) {
	period, err := time.ParseDuration(text)
	return period, err == nil && period > 0
}

// limit is one of both.
type limit struct {
	rate  *shares.Rate
	quota *shares.Quota
}

// of returns the limit that an entry is about, and whether there is one.
func (l *limits) of(e *usage.Entry) (limit, bool) {
	switch e.Kind {
	case usage.KindRate:
		rate := l.rates[e.Plan]
		return limit{rate: rate}, rate != nil
	case usage.KindQuota:
		quota := l.quotas[e.Plan]
		return limit{quota: quota}, quota != nil
	}
	return limit{}, false
}
