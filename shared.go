package tollgate

import (
	"context"
	"crypto/sha256"
	"math"
	"net/http"
	"sync/atomic"
	"time"

	hold "github.com/tollgate-apim/tollgate/holding"
	"github.com/tollgate-apim/tollgate/matcher"
	"github.com/tollgate-apim/tollgate/quota"
	"github.com/tollgate-apim/tollgate/usage"
)

// What onLimitsLost may be: what becomes of requests for which the gateway holds
// nothing while nobody can give it more.
const (
	lostRefuse    = "refuse"
	lostFairShare = "fair-share"
	lostAdmit     = "admit"
)

// limitsUnavailable is why requests are refused then.
const limitsUnavailable = "limits_unavailable"

// lostAfter is for how long reports may fail until limits are lost: by then all
// that the gateway was lent has ended.
const lostAfter = 15 * second

// When a client should try again that was refused because limits are lost, or
// because the first answer of the endpoint is still to come.
var (
	afterLoss   = []string{"10"}
	afterAnswer = []string{"1"}
)

// sharedHandler is handler for limits that gateways share. It differs in two calls,
// and in nothing else, as a test checks: a branch there takes each request 8 objects
// more, and a func value in place of the calls takes it 10.
func sharedHandler(g *gateway) http.Handler { //nolint:gocognit // as handler
	held, kept, next := g.held, g.source.account, g.next
	keyHeader, places, hide, elsewhere := g.header, g.keySource, g.hideCredentials, g.keySource.cookie != ""
	names, sum256 := g.identity, sha256.Sum256
	appID, subscription, plan, keyTitle := names.appID, names.subscription, names.plan, names.keyTitle
	allNamed := appID != "" && subscription != "" && plan != "" && keyTitle != ""

	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := r.Header
		values := h[keyHeader]
		if len(values) != 1 {
			meet(w, r, g, values)
			return
		}
		name := sum256([]byte(values[0]))
		held.Lock()
		c := held.recalled[name]
		if c == nil {
			held.Unlock()
			meet(w, r, g, values)
			return
		}
		if c.untouched {
			touch(kept, c)
		}
		c.asked++
		held.Unlock()
		if hide {
			if elsewhere || r.URL.RawQuery != "" {
				hideKey(r, places)
			} else {
				delete(h, keyHeader)
			}
		}

		tokens := int64(-1)
		if c.brisk {
			tokens = hold.TakeToken(c.part, int64(since(started)))
		}
		if tokens >= 0 {
			left := w.Header()
			left["Ratelimit-Policy"] = c.policy
			if tokens < written {
				left["X-Ratelimit-Remaining"] = writtenTokens[tokens]
				left["Ratelimit"] = writtenRates[tokens]
			} else {
				writeTokens(left, tokens)
			}
		} else if c.checked && !admitShared(w, r, g, c) {
			return
		}

		if allNamed {
			h[appID] = c.appID
			h[subscription] = c.subscription
			h[plan] = c.plan
			if c.titled {
				h[keyTitle] = c.keyTitle
			} else {
				delete(h, keyTitle)
			}
		} else {
			identify(h, names, c)
		}
		if h["Connection"] != nil {
			keepIdentity(h, names)
		}
		next.ServeHTTP(w, r)
	})
}

// admitShared is admit for limits that gateways share.
func admitShared(w http.ResponseWriter, r *http.Request, g *gateway, c *caller) bool {
	if c.refusal != "" {
		refuseCaller(w, r, g, c, c.refusal)
		return false
	}
	if c.filtered && !matcher.Allows(c.who, r.Method, r.URL.Path, r.URL.RawPath) {
		refuseCaller(w, r, g, c, matcher.OperationForbidden)
		return false
	}
	if !c.limited {
		return true
	}
	if c.lent == nil {
		refuseCaller(w, r, g, c, countersFull)
		return false
	}
	now := int64(since(started))
	d := hold.Take(c.lent, now)
	if d.Refusal != "" && (d.Refusal == quota.Dropped || atomic.LoadInt64(g.source.account.lostFrom) <= now) {
		return admitOtherwise(w, r, g, c, d.Refusal)
	}
	tellLeft(w.Header(), c, &d)
	if d.Refusal == "" {
		return true
	}
	refuseUsedUp(w, r, g, c, &d)
	return false
}

// admitOtherwise is admitShared for a request for which the gateway holds nothing,
// when nobody can lend it anything, or if a holding was dropped.
func admitOtherwise(w http.ResponseWriter, r *http.Request, g *gateway, c *caller, refusal string) bool {
	if refusal == quota.Dropped {
		return admitShared(w, r, g, renew(g.held, g.source, c))
	}
	switch g.onLimitsLost {
	case lostAdmit:
		return true
	case lostFairShare:
		return admitFairly(w, r, g, c)
	}
	w.Header()["Retry-After"] = g.source.account.retryLost()
	refuseCaller(w, r, g, c, limitsUnavailable)
	return false
}

// admitFairly admits what the gateway may let pass if all have equal parts of the
// limits.
func admitFairly(w http.ResponseWriter, r *http.Request, g *gateway, c *caller) bool {
	var d quota.Decision
	for tries := 0; tries < 2; tries++ {
		fair := fairAllowance(g.source, c)
		if fair == nil {
			refuseCaller(w, r, g, c, countersFull)
			return false
		}
		d = quota.Take(fair.allowance, int64(since(started)))
		if d.Refusal != quota.Dropped {
			break
		}
		c.fair.Store(&fairShare{})
	}
	if d.Refusal == quota.Dropped {
		refuseCaller(w, r, g, c, countersFull)
		return false
	}
	tellLeft(w.Header(), c, &d)
	if d.Refusal == "" {
		return true
	}
	refuseUsedUp(w, r, g, c, &d)
	return false
}

// fairShare is a caller's part of its limits if each of so many gateways has one.
type fairShare struct {
	gateways  int64
	allowance *quota.Allowance
}

// fairBucket is in front of the names of buckets that are counted by gateways for
// themselves because limits are lost.
const fairBucket = "lost "

// fairAllowance returns the fair share of a caller, or nil if there is no room for
// its counters.
func fairAllowance(src *source, c *caller) *fairShare {
	gateways := src.account.holdings.Gateways()
	if fair, ok := c.fair.Load().(*fairShare); ok && fair.gateways == gateways {
		return fair
	}
	g := *c.who.Grant
	if g.RateLimit != nil {
		row := *g.RateLimit
		if row.Burst == 0 {
			row.Burst = row.Limit
		}
		row.Limit = part(row.Limit, gateways)
		row.Burst = part(row.Burst, gateways)
		g.RateLimit = &row
		g.RateBucket = fairBucket + g.RateBucket
	}
	if g.Quota != nil {
		row := *g.Quota
		row.Limit = part(row.Limit, gateways)
		g.Quota = &row
		g.QuotaBucket = fairBucket + g.QuotaBucket
	}
	allowance := newAllowance(&g, src)
	if allowance == nil {
		return nil
	}
	fair := &fairShare{gateways: gateways, allowance: allowance}
	c.fair.Store(fair)
	return fair
}

// part returns one of n equal parts of a limit, at least 1 of one that admits
// anything.
func part(limit, n int64) int64 {
	if limit > 0 && limit < n {
		return 1
	}
	return limit / n
}

// lend prepares a caller for limits that gateways share. There is no room for its
// holdings if c.lent is nil afterwards.
func lend(c *caller, g *matcher.Grant, src *source) {
	now := int64(since(started))
	store := src.account.holdings
	var rate, units *hold.Holding
	full := false
	if row := g.RateLimit; row != nil {
		burst := row.Burst
		if burst == 0 {
			burst = row.Limit
		}
		plan := hold.Plan{Name: g.Plan}
		plan.Reserve, plan.Horizon = hold.RateReserve(row.Limit, burst, duration(row.Period))
		rate = store.Get(usage.KindRate, usage.ShortenBucket(g.RateBucket), plan, now)
		full = rate == nil
	}
	if row := g.Quota; row != nil {
		plan := hold.Plan{Name: g.Plan}
		plan.Reserve, plan.Horizon = hold.QuotaReserve(row.Limit, duration(row.Period))
		units = store.Get(usage.KindQuota, usage.ShortenBucket(g.QuotaBucket), plan, now)
		full = full || units == nil
	}
	if full {
		src.reportOnce("the store of shared counters is full: requests that need another counter are refused")
		return
	}
	c.lent = hold.NewAllowance(store, rate, units)
	c.fair = &atomic.Value{}
	if units == nil && !c.filtered {
		c.part = rate
		c.brisk = true
	}
}

// share has an account share limits with other gateways for as long as ctx lasts, and
// for a while longer: see linger.
func (a *account) share(ctx context.Context) {
	a.mu.Lock()
	was := a.sharing
	a.sharing = true
	a.sharers++
	a.mu.Unlock()
	context.AfterFunc(ctx, func() {
		defer recovered(report)
		a.mu.Lock()
		defer a.mu.Unlock()
		a.sharers--
		a.sharedUntil = a.now() + int64(linger)
	})
	if was {
		return
	}
	a.reporter.Renew()
	if a.hasTable() {
		a.reporter.Hurry()
	}
}

// hasTable says whether an endpoint was asked before, so that it makes sense to
// report to it.
func (a *account) hasTable() bool {
	revision, _ := a.state()
	return revision != 0
}

// shares says whether there are limits that are shared. When the last middleware that
// shares has gone, that lasts until what was lent is given back, or has ended because
// nobody answers.
func (a *account) shares() bool {
	now := a.now()
	a.mu.Lock()
	sharing := a.sharing
	over := sharing && a.sharers == 0 && now >= a.sharedUntil
	a.mu.Unlock()
	if over && (!a.holdings.Active() || atomic.LoadInt64(a.lostFrom) <= now) {
		return a.unshare(now)
	}
	return sharing
}

// unshare ends what share began, unless it was called again, and says whether limits
// are shared.
func (a *account) unshare(now int64) bool {
	a.mu.Lock()
	sharing := a.sharers > 0
	if !sharing {
		a.sharing = false
		a.shared, a.everShared, a.toldUnshared, a.toldRestless = false, false, false, false
		a.failing, a.awaiting = false, false
		a.judgeLocked()
	}
	a.mu.Unlock()
	if !sharing {
		a.holdings.Trim(now)
	}
	return sharing
}

// hurry has a report sent soon, because of what is held or wanted of shared limits.
func (a *account) hurry() {
	if a.holdings.Restless(a.now()) {
		a.reporter.HurryAfter(time.Second)
		return
	}
	a.reporter.Hurry()
}

// entries returns what a report tells of shared limits, in so many bytes at most.
func (a *account) entries(bytes int) (tenure int64, entries []usage.Entry, left int) {
	return a.holdings.ReportUpTo(bytes, a.now())
}

// answered takes in what an endpoint says to a report, nil for nothing.
func (a *account) answered(answer *usage.Answer) {
	a.mu.Lock()
	sentAt := a.sentAt
	a.mu.Unlock()
	shared := a.holdings.Answer(answer, sentAt, a.now())
	if answer == nil {
		return
	}
	restless := a.holdings.Restless(a.now())
	a.mu.Lock()
	tellRestless := restless && !a.toldRestless
	a.toldRestless = restless
	before := a.shared
	told := a.toldUnshared
	a.shared = shared
	a.failing = false
	a.awaiting = false
	a.toldUnshared = a.sharing && !shared
	if shared {
		a.everShared = true
		a.answeredAt = sentAt
	}
	line := "limits: the endpoint takes reports and does not share limits; onLimitsLost decides on requests with limits: shared"
	if a.everShared {
		line = "limits: the endpoint shares none at present; after 15 seconds onLimitsLost decides on requests with limits: shared"
	}
	tell := a.toldUnshared && !told
	a.judgeLocked()
	a.mu.Unlock()
	if tell {
		a.report(line, true)
	} else if shared && !before && told {
		a.report("limits: the endpoint shares limits", false)
	}
	if tellRestless {
		a.report("limits: each answer takes this gateway for another one than the last did. "+
			"Most likely several control planes answer for sync.endpoint that do not share a store (serve --store): "+
			"then each lends the whole limits, and what one has lent is given up for the next", true)
	}
}

// sending takes note that a report is about to be sent.
func (a *account) sending() {
	now := a.now()
	a.mu.Lock()
	a.sentAt = now
	// An answer that nobody can read is none.
	a.failing = a.failing || a.awaiting
	a.awaiting = true
	a.judgeLocked()
	a.mu.Unlock()
}

// sent takes note of what came of it.
func (a *account) sent(failed bool) {
	if !failed {
		return
	}
	a.mu.Lock()
	a.failing = a.sharing
	a.judgeLocked()
	a.mu.Unlock()
}

// judgeLocked works out from when on limits are lost.
func (a *account) judgeLocked() {
	from := int64(math.MaxInt64)
	if !a.everShared {
		from = math.MinInt64
	} else if a.failing || !a.shared {
		from = a.answeredAt + lostAfter
	}
	atomic.StoreInt64(a.lostFrom, from)
}

// retryLost says when a client should try again while limits are lost.
func (a *account) retryLost() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.shared || a.failing || a.toldUnshared {
		return afterLoss
	}
	return afterAnswer
}
