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

import "time"

// Why a request is refused.
const (
	RateLimited   = "rate_limited"
	QuotaExceeded = "quota_exceeded"
)

// Allowance is what requests of one grant may consume, and where it is counted.
// It is never changed, so any number of goroutines may use it.
type Allowance struct {
	rateLimit *RateLimit // nil for none
	rate      *Counter

	quota  *Quota // nil for none
	used   *Counter
	window *window // of used

	// first and second are the counters above, each once, by number: in this
	// order they are locked. second is nil if there is but one.
	first, second *Counter
}

// NewAllowance returns an allowance of a rate limit, a quota or both, either of
// them nil for none, with the counters of their buckets. One counter may serve
// both.
func NewAllowance(rateLimit *RateLimit, rate *Counter, quota *Quota, used *Counter) *Allowance {
	a := &Allowance{rateLimit: rateLimit, rate: rate, quota: quota, used: used}
	if quota != nil {
		a.window = &used.window
	}
	switch {
	case rateLimit == nil:
		a.first = used
	case quota == nil || rate == used:
		a.first = rate
	case rate.number < used.number:
		a.first, a.second = rate, used
	default:
		a.first, a.second = used, rate
	}
	return a
}

// Nothing is an allowance whose counters were dropped: with it Take decides
// nothing.
var Nothing = nothing()

func nothing() *Allowance {
	c := &Counter{}
	drop(c)
	return NewAllowance(NewRateLimit(1, 1, time.Second), c, nil, nil)
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
	// Dropped says that nothing was decided, because the store had dropped a
	// counter as unused: fetch the counters again.
	Dropped bool
}

// Take decides on one request at the time now and charges it when it may pass.
// Both limits are checked before either is charged, so a refused request
// consumes nothing. Take may be called from any goroutine.
func Take(a *Allowance, now int64) Decision {
	var d Decision
	first := a.first
	first.mu.Lock()
	if a.second == nil {
		take(a, now, &d)
	} else {
		takeLocking(a.second, a, now, &d)
	}
	first.mu.Unlock()
	return d
}

// takeLocking is take for an allowance with a second counter.
func takeLocking(second *Counter, a *Allowance, now int64, d *Decision) {
	second.mu.Lock()
	take(a, now, d)
	second.mu.Unlock()
}

// take is Take with the counters locked.
func take(a *Allowance, now int64, d *Decision) {
	limit, quota := a.rateLimit, a.quota
	if limit != nil && !hasToken(a.rate, limit, now) || quota != nil && !hasRoom(a.window, quota, now) {
		refuse(a, now, d)
		return
	}
	if limit != nil {
		spendToken(a.rate, limit, now, d)
	}
	if quota != nil {
		countRequest(a.window, quota, now, d)
	}
}

// refuse completes the decision to refuse. Of two reasons the one with the
// longer wait is told.
func refuse(a *Allowance, now int64, d *Decision) {
	if a.first.dropped || a.second != nil && a.second.dropped {
		d.Dropped = true
		return
	}
	if a.rateLimit != nil {
		d.RateLeft, d.RateReset = tokensLeft(a.rate, a.rateLimit, now)
		if d.RateLeft == 0 {
			d.Refusal, d.RetryAfter = RateLimited, d.RateReset
		}
	}
	if a.quota != nil {
		d.QuotaLeft, d.QuotaReset = requestsLeft(a.window, a.quota, now)
		if d.QuotaLeft == 0 && d.QuotaReset >= d.RetryAfter {
			d.Refusal, d.RetryAfter = QuotaExceeded, d.QuotaReset
		}
	}
}
