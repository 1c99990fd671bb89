// Package quota counts what has been consumed and says whether there is room
// for one more request. It knows rate limits (tokens.go), quotas (window.go) and
// the counters that requests share (store.go).
//
// Time is an argument: nanoseconds on any clock. A clock that steps back admits
// nothing that was not admitted before.
//
// Counters hold what was consumed, never what is left, and no limit is part of a
// counter's identity: after 6 requests, raising a quota from 5 to 500 leaves 494.
//
// The package is written for an interpreter, in which a function call costs as
// much as a dozen statements, and one more for each of its variables and
// intermediate results. So what most requests need is straight, and what few of
// them need is called.
package quota

// Why a request is refused.
const (
	RateLimited   = "rate_limited"
	QuotaExceeded = "quota_exceeded"
	// Dropped: nothing was decided, because the store had dropped a counter as
	// unused. Fetch the counters again.
	Dropped = "counter_dropped"
)

// Allowance is what requests of one grant may consume, and where it is counted.
// It is never changed, so any number of goroutines may use it.
type Allowance struct {
	limit *RateLimit // nil for none
	rate  *Counter   // of limit; nil for none

	quota  *Quota   // nil for none
	used   *Counter // of quota; nil for none
	window *window  // of used

	// first and second are the counters above, each once, by number: in this
	// order they are locked. second is nil if there is but one.
	first, second *Counter
}

// NewAllowance returns an allowance of a rate limit, a quota or both, either of
// them nil for none, with the counters of their buckets. One counter may serve
// both.
func NewAllowance(limit *RateLimit, rate *Counter, quota *Quota, used *Counter) *Allowance {
	a := &Allowance{limit: limit, quota: quota}
	if limit != nil {
		a.rate, a.first = rate, rate
	}
	if quota == nil {
		return a
	}
	a.used, a.window = used, &used.window
	switch {
	case a.first == nil:
		a.first = used
	case rate.number < used.number:
		a.second = used
	case rate.number > used.number:
		a.first, a.second = used, rate
	}
	return a
}

// Tokens returns what TakeToken takes for an allowance. It returns a nil counter
// if there is a quota or no rate limit.
func Tokens(a *Allowance) (counter *Counter, interval, depth int64) {
	if a.limit == nil || a.quota != nil {
		return nil, 0, 0
	}
	return a.rate, a.limit.interval, a.limit.depth
}

// TakeToken is Take for a rate limit alone, in the usual case: it charges a
// request and returns how many tokens are left. Otherwise it does nothing and
// returns a negative number, and it is for Take to decide. It may be called from
// any goroutine.
func TakeToken(counter *Counter, interval, depth, now int64) (backlog int64) {
	// The parameters and the result serve as variables, and what is computed goes
	// straight into one: here a variable more is two objects more.
	counter.Lock()
	backlog = counter.fullAt - now
	if backlog < 0 {
		backlog = 0
	}
	backlog += interval
	depth -= backlog
	if counter.interval != interval {
		depth = -1
	}
	if depth >= 0 {
		counter.fullAt = now + backlog
		depth /= interval
	}
	counter.Unlock()
	return depth
}

// Decision says whether a request may pass, and what is left after it.
type Decision struct {
	// Refusal is empty for an admitted request.
	Refusal string
	// RetryAfter is how long a refused client should wait, in nanoseconds.
	RetryAfter int64
	// RateLeft and QuotaLeft are the requests that the rate limit and the quota
	// have room for, and the Resets the times until these grow, in
	// nanoseconds. Those of a limit that there is not are 0.
	RateLeft, RateReset   int64
	QuotaLeft, QuotaReset int64
}

// Take decides on one request at the time now and charges it when it may pass.
// Both limits are checked before either is charged, so a refused request
// consumes nothing. Take may be called from any goroutine.
func Take(a *Allowance, now int64) Decision {
	var d Decision
	first, second := a.first, a.second
	first.Lock()
	if second != nil {
		second.Lock()
	}

	// Most requests find a token, room in the window, and an open slot there.
	limit, rate, quota, w := a.limit, a.rate, a.quota, a.window
	usual := limit == nil || rate.fullAt-now <= limit.room && rate.interval == limit.interval
	if usual && quota != nil {
		usual = w.total < quota.Limit && now < w.end && now < w.expiry && w.period == quota.Period
	}
	if usual || prepare(a, now, &d) {
		if limit != nil {
			if rate.fullAt < now {
				rate.fullAt = now
			}
			rate.fullAt += limit.interval
			d.RateReset = now + limit.depth - rate.fullAt
			d.RateLeft = d.RateReset / limit.interval
			d.RateReset = limit.interval - d.RateReset%limit.interval
		}
		if quota != nil {
			w.open++
			w.total++
			d.QuotaLeft = quota.Limit - w.total
			d.QuotaReset = w.expiry - now
		}
	}

	if second != nil {
		second.Unlock()
	}
	first.Unlock()
	return d
}

// prepare makes the locked counters of a ready for a request, and reports whether
// it may pass. If not, it completes the decision to refuse.
func prepare(a *Allowance, now int64, d *Decision) bool {
	if a.first.dropped || a.second != nil && a.second.dropped {
		d.Refusal = Dropped
		return false
	}
	if a.limit != nil {
		if a.rate.interval != a.limit.interval {
			remeasure(a.rate, a.limit, now)
		}
		d.RateLeft, d.RateReset = tokensLeft(a.rate, a.limit, now)
		if d.RateLeft == 0 {
			d.Refusal, d.RetryAfter = RateLimited, d.RateReset
		}
	}
	if a.quota != nil {
		expire(a.window, a.quota, now)
		d.QuotaLeft, d.QuotaReset = requestsLeft(a.window, a.quota, now)
		// Of two reasons the one with the longer wait is told.
		if d.QuotaLeft == 0 && d.QuotaReset >= d.RetryAfter {
			d.Refusal, d.RetryAfter = QuotaExceeded, d.QuotaReset
		}
	}
	if d.Refusal != "" {
		return false
	}
	if a.quota != nil && now >= a.window.end {
		openSlot(a.window, a.quota, now)
	}
	return true
}
