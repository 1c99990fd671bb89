package tollgate

import (
	"crypto/sha256"
	"sync"
	"sync/atomic"
	"time"

	hold "github.com/tollgate-apim/tollgate/holding"
	"github.com/tollgate-apim/tollgate/matcher"
	"github.com/tollgate-apim/tollgate/quota"
)

// caller is what does not change from one request with a key to the next, under
// one table. Header values are slices that many requests share: they are
// replaced, never written to.
type caller struct {
	// checked says that there is something to decide: not all requests are admitted.
	checked bool
	// brisk says that there is nothing but a rate limit, and that a token of it
	// comes back within a second.
	brisk bool

	refusal string // why all requests are refused, or empty
	// filtered says that requests have to pass matcher.Allows with who.
	filtered bool
	who      *matcher.Caller

	appID        []string
	subscription []string
	plan         []string
	keyTitle     []string
	titled       bool // false: keyTitle is nil

	// limited is false where there is nothing to count, and shared says that
	// limits are shared with other gateways.
	limited, shared bool
	// allowance is nil if the store has no room for its counters.
	allowance *quota.Allowance
	// counter, interval and depth are for quota.TakeToken, if the caller is brisk.
	counter         *quota.Counter
	interval, depth int64
	rated           bool // by a rate limit
	quotaed         bool // by a quota
	// lent is what takes the place of allowance, and part that of counter, if the
	// limits are shared; fair has the caller's *fairShare while they are lost.
	lent *hold.Allowance
	part *hold.Holding
	fair *atomic.Value
	// policy is the RateLimit-Policy header.
	policy []string

	// digest and header are what the caller is kept by. The second is under the
	// lock of a heldView.
	digest string
	header [sha256.Size]byte

	// What follows counts its requests, see usage.go.

	// mu is the lock of the heldView; nil before the first request.
	mu *sync.Mutex
	// untouched says that it is not going to be collected from, asked counts the
	// requests since that was done last, and deciding those that came before and
	// were not reported yet; all under mu.
	untouched       bool
	asked, deciding int64
	// refused counts the refusals that were not reported yet, by the index of
	// refusable. It is only used atomically; nil if nothing is ever refused.
	refused []int64
}

// newCaller makes a caller ready.
func newCaller(who *matcher.Caller, src *source, shared bool, digest string) *caller {
	c := &caller{
		shared:  shared,
		refusal: who.Refusal, filtered: who.Filtered, who: who,
		digest: digest, refused: make([]int64, len(refusable)), untouched: true,
	}
	g := who.Grant
	if c.refusal != "" {
		c.checked = true
		return c
	}
	c.appID = []string{headerValue(g.AppID)}
	c.subscription = []string{headerValue(g.Subscription)}
	c.plan = []string{headerValue(g.Plan)}
	if title := headerValue(who.KeyTitle); title != "" {
		c.keyTitle, c.titled = []string{title}, true
	}
	c.rated, c.quotaed = g.RateLimit != nil, g.Quota != nil
	c.limited = c.rated || c.quotaed
	if c.limited {
		c.policy = []string{policy(g)}
		if shared {
			lend(c, g, src)
		} else {
			c.allowance = newAllowance(g, src)
		}
	}
	c.checked = c.filtered || c.limited
	if !c.checked {
		c.refused = nil
	}
	if !c.filtered && c.allowance != nil {
		c.counter, c.interval, c.depth = quota.Tokens(c.allowance)
		c.brisk = c.counter != nil && c.interval <= second
	}
	return c
}

// policy is the value of RateLimit-Policy for a grant.
func policy(g *matcher.Grant) string {
	list := ""
	if row := g.RateLimit; row != nil {
		list = `"rate";q=` + decimal(row.Limit) + ";w=" + seconds(int64(duration(row.Period)))
	}
	if row := g.Quota; row != nil {
		if list != "" {
			list += ", "
		}
		list += `"quota";q=` + decimal(row.Limit) + ";w=" + seconds(int64(duration(row.Period)))
	}
	return list
}

// newAllowance fetches the counters of a grant. It returns nil if there is no
// room for them.
func newAllowance(g *matcher.Grant, src *source) *quota.Allowance {
	now := int64(time.Since(started))
	var rateLimit *quota.RateLimit
	var rate, used *quota.Counter
	var limit *quota.Quota
	if row := g.RateLimit; row != nil {
		burst := row.Burst
		if burst == 0 {
			burst = row.Limit
		}
		rateLimit = quota.NewRateLimit(row.Limit, burst, duration(row.Period))
		rate = src.counters.Get(g.RateBucket, now)
	}
	if row := g.Quota; row != nil {
		limit = quota.NewQuota(row.Limit, duration(row.Period))
		used = src.counters.Get(g.QuotaBucket, now)
	}
	if rateLimit != nil && rate == nil || limit != nil && used == nil {
		src.reportOnce("the store of counters is full: requests that need another counter are refused")
		return nil
	}
	return quota.NewAllowance(rateLimit, rate, limit, used)
}

// duration parses a duration of a table, which was validated.
func duration(s string) time.Duration {
	d, _ := time.ParseDuration(s)
	return d
}
