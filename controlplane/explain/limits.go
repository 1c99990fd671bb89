package explain

import (
	"fmt"
	"strings"
	"time"

	"github.com/tollgate-apim/tollgate/matcher"
	"github.com/tollgate-apim/tollgate/quota"
	"github.com/tollgate-apim/tollgate/table"
)

// Limits are those of a grant.
type Limits struct {
	RateLimit *Limit `json:"rateLimit,omitempty"`
	Quota     *Limit `json:"quota,omitempty"`
	// Policy is the header RateLimit-Policy; empty without limits.
	Policy string `json:"policy,omitempty"`
}

// Limit is a rate limit or a quota.
type Limit struct {
	Limit  int64  `json:"limit"`
	Period string `json:"period"`
	Burst  int64  `json:"burst,omitempty"`
	// Bucket says who shares the counter, and Counter which one it is.
	Bucket  string `json:"bucket"`
	Counter string `json:"counter"`
	// Left is what is left after this request if it is the first to be counted.
	Left int64 `json:"left"`
}

// spend decides whether the limits of a grant admit the request, with counters
// that have counted nothing, and which nobody else has.
func (x *explainer) spend(g *matcher.Grant) {
	limits := &Limits{}
	x.out.Limits = limits
	x.out.Answer = Answer{Admitted: true, Why: "handed on to the upstream", Application: g.Application, Subscription: g.Subscription}
	if g.RateLimit == nil && g.Quota == nil {
		return
	}
	var rateLimit *quota.RateLimit
	var window *quota.Quota
	var rate, used *quota.Counter
	var policy []string
	counters := quota.NewStore(2)
	if row := g.RateLimit; row != nil {
		limits.RateLimit = newLimit(row.Limit, row.Period, row.Bucket, g.RateBucket)
		// As in a gateway, no burst means that of one period.
		if limits.RateLimit.Burst = row.Burst; row.Burst == 0 {
			limits.RateLimit.Burst = row.Limit
		}
		period := duration(row.Period)
		rateLimit = quota.NewRateLimit(row.Limit, limits.RateLimit.Burst, period)
		rate = counters.Get(g.RateBucket, 0)
		policy = append(policy, policyItem("rate", row.Limit, period))
	}
	if row := g.Quota; row != nil {
		limits.Quota = newLimit(row.Limit, row.Period, row.Bucket, g.QuotaBucket)
		period := duration(row.Period)
		window = quota.NewQuota(row.Limit, period)
		used = counters.Get(g.QuotaBucket, 0)
		policy = append(policy, policyItem("quota", row.Limit, period))
	}
	limits.Policy = strings.Join(policy, ", ")

	d := quota.Take(quota.NewAllowance(rateLimit, rate, window, used), 0)
	if limits.RateLimit != nil {
		limits.RateLimit.Left = d.RateLeft
	}
	if limits.Quota != nil {
		limits.Quota.Left = d.QuotaLeft
	}
	if d.Refusal == "" {
		x.note("what gateways have counted is not known here: they answer 429 once a limit is used up")
		return
	}
	why := "the rate limit of plan " + g.Plan + " has no room for a single request"
	if d.Refusal == quota.QuotaExceeded {
		why = "the quota of plan " + g.Plan + " has no room for a single request"
	}
	x.refuse(d.Refusal, why)
}

func newLimit(limit int64, period, bucket, counter string) *Limit {
	if bucket == "" {
		bucket = table.BucketSubscription
	}
	return &Limit{Limit: limit, Period: period, Bucket: bucket, Counter: counter}
}

// policyItem is one limit in RateLimit-Policy.
func policyItem(name string, limit int64, period time.Duration) string {
	return fmt.Sprintf("%q;q=%d;w=%d", name, limit, (period+time.Second-1)/time.Second)
}

// duration parses a duration of a table, which was validated.
func duration(s string) time.Duration {
	d, _ := time.ParseDuration(s)
	return d
}
