package tollgate

import (
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/tollgate-apim/tollgate/matcher"
	"github.com/tollgate-apim/tollgate/quota"
	"github.com/tollgate-apim/tollgate/table"
)

// prepared is what does not change from one request of a grant to the next.
// Header values are slices that many requests share: they are replaced, never
// written to.
type prepared struct {
	appID        []string
	subscription []string
	plan         []string

	// limited is false where there is nothing to count.
	limited   bool
	rateLimit *quota.RateLimit
	quota     *quota.Quota
	// rateBucket and quotaBucket name the counters of the two limits.
	rateBucket, quotaBucket string
	// policy is the RateLimit-Policy header.
	policy []string
	// allowance holds the *quota.Allowance with the counters as last fetched.
	allowance atomic.Value
}

// newPrepared makes a grant ready.
func newPrepared(g *matcher.Grant) *prepared {
	p := &prepared{
		appID:        []string{headerValue(g.AppID)},
		subscription: []string{headerValue(g.Subscription)},
		plan:         []string{headerValue(g.Plan)},
		limited:      g.RateLimit != nil || g.Quota != nil,
		rateLimit:    newRateLimit(g.RateLimit),
		quota:        newQuota(g.Quota),
		rateBucket:   g.RateBucket,
		quotaBucket:  g.QuotaBucket,
	}
	policy := ""
	if p.rateLimit != nil {
		policy = `"rate";q=` + decimal(p.rateLimit.Limit) + ";w=" + seconds(p.rateLimit.Period)
	}
	if p.quota != nil {
		if policy != "" {
			policy += ", "
		}
		policy += `"quota";q=` + decimal(p.quota.Limit) + ";w=" + seconds(p.quota.Period)
	}
	p.policy = []string{policy}
	return p
}

func newRateLimit(row *table.RateLimit) *quota.RateLimit {
	if row == nil {
		return nil
	}
	limit := &quota.RateLimit{Limit: row.Limit, Period: microseconds(row.Period), Burst: row.Burst}
	if limit.Burst == 0 {
		limit.Burst = limit.Limit
	}
	return limit
}

func newQuota(row *table.Quota) *quota.Quota {
	if row == nil {
		return nil
	}
	return &quota.Quota{Limit: row.Limit, Period: microseconds(row.Period)}
}

// microseconds converts a duration of a table, which was validated.
func microseconds(duration string) int64 {
	d, _ := time.ParseDuration(duration)
	return int64(d / time.Microsecond)
}

// take decides whether the limits of a grant have room at the time now, and
// charges them. It returns false if the store has no room for another counter.
func take(g *gateway, p *prepared, now int64) (quota.Decision, bool) {
	allowance, _ := p.allowance.Load().(*quota.Allowance)
	for {
		if allowance != nil {
			d := quota.Take(allowance, now)
			if !d.Dropped {
				return d, true
			}
		}
		allowance = newAllowance(g.source.counters, p, now)
		if allowance == nil {
			g.source.reportOnce("the store of counters is full: requests that need another counter are refused")
			return quota.Decision{}, false
		}
		p.allowance.Store(allowance)
	}
}

// newAllowance fetches the counters of a grant, or returns nil if the store has
// no room.
func newAllowance(counters *quota.Store, p *prepared, now int64) *quota.Allowance {
	a := &quota.Allowance{RateLimit: p.rateLimit, Quota: p.quota}
	if p.rateLimit != nil {
		if a.RateCounter = counters.Get(p.rateBucket, now); a.RateCounter == nil {
			return nil
		}
	}
	if p.quota != nil {
		if a.QuotaCounter = counters.Get(p.quotaBucket, now); a.QuotaCounter == nil {
			return nil
		}
	}
	return a
}

// tellLeft sets the headers that tell a client what is left: the two that
// Traefik Hub sends, and those of draft-ietf-httpapi-ratelimit-headers-10.
func tellLeft(h http.Header, p *prepared, d *quota.Decision) {
	left := ""
	if p.rateLimit != nil {
		requests := decimal(d.Rate.Requests)
		h["X-Ratelimit-Remaining"] = []string{requests}
		left = `"rate";r=` + requests + ";t=" + seconds(d.Rate.Reset)
	}
	if p.quota != nil {
		requests := decimal(d.Quota.Requests)
		h["X-Quota-Remaining"] = []string{requests}
		if left != "" {
			left += ", "
		}
		left += `"quota";r=` + requests + ";t=" + seconds(d.Quota.Reset)
	}
	h["Ratelimit-Policy"] = p.policy
	h["Ratelimit"] = []string{left}
}

func decimal(n int64) string {
	return strconv.FormatInt(n, 10)
}

// seconds formats a time in microseconds as whole seconds, rounded up.
func seconds(microseconds int64) string {
	return strconv.FormatInt((microseconds+999_999)/1_000_000, 10)
}
