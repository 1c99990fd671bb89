package tollgate

import (
	"sync/atomic"
	"time"

	"github.com/tollgate-apim/tollgate/matcher"
	"github.com/tollgate-apim/tollgate/quota"
)

// prepared is what does not change from one request of a caller to the next.
// Header values are slices that many requests share: they are replaced, never
// written to.
type prepared struct {
	appID        []string
	subscription []string
	plan         []string
	keyTitle     []string // nil for none

	// limited is false where there is nothing to count.
	limited   bool
	rateLimit *quota.RateLimit
	quota     *quota.Quota
	// rateBucket and quotaBucket name the counters of the two limits.
	rateBucket, quotaBucket string
	// policy is the RateLimit-Policy header.
	policy []string
	// allowance holds the *quota.Allowance with the counters as last fetched;
	// to begin with, one without counters.
	allowance atomic.Value
}

// newPrepared makes a caller ready.
func newPrepared(c *matcher.Caller) *prepared {
	g := c.Grant
	p := &prepared{
		appID:        []string{headerValue(g.AppID)},
		subscription: []string{headerValue(g.Subscription)},
		plan:         []string{headerValue(g.Plan)},
		limited:      g.RateLimit != nil || g.Quota != nil,
		rateBucket:   g.RateBucket,
		quotaBucket:  g.QuotaBucket,
	}
	if title := headerValue(c.KeyTitle); title != "" {
		p.keyTitle = []string{title}
	}
	policy := ""
	if row := g.RateLimit; row != nil {
		period, burst := duration(row.Period), row.Burst
		if burst == 0 {
			burst = row.Limit
		}
		p.rateLimit = quota.NewRateLimit(row.Limit, burst, period)
		policy = `"rate";q=` + decimal(row.Limit) + ";w=" + seconds(int64(period))
	}
	if row := g.Quota; row != nil {
		period := duration(row.Period)
		if policy != "" {
			policy += ", "
		}
		p.quota = quota.NewQuota(row.Limit, period)
		policy += `"quota";q=` + decimal(row.Limit) + ";w=" + seconds(int64(period))
	}
	p.policy = []string{policy}
	p.allowance.Store(quota.Nothing)
	return p
}

// duration parses a duration of a table, which was validated.
func duration(s string) time.Duration {
	d, _ := time.ParseDuration(s)
	return d
}
