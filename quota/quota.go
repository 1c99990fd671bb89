// Package quota counts what has been consumed and says whether there is room
// for one more request. It knows rate limits (tokens.go), quotas (window.go) and
// the counters that requests share (store.go).
//
// Time is an argument: microseconds on any clock. A clock that steps back counts
// as one that stands still, so going back admits nothing that was not admitted
// before.
//
// Counters hold what was consumed, never what is left, and no limit is part of a
// counter's identity: after 6 requests, raising a quota from 5 to 500 leaves 494.
package quota

// Why a request is refused.
const (
	RateLimited   = "rate_limited"
	QuotaExceeded = "quota_exceeded"
)

// Allowance is what requests of one grant may consume, and where it is counted.
// A nil limit means none, and then its counter is not used.
type Allowance struct {
	RateLimit   *RateLimit
	RateCounter *Counter

	Quota        *Quota
	QuotaCounter *Counter
}

// Decision says whether a request may pass, and what is left after it.
type Decision struct {
	// Refusal is empty for an admitted request.
	Refusal string
	// RetryAfter is how long a refused client should wait, in microseconds.
	RetryAfter int64
	// Rate and Quota are meaningful where the allowance has that limit.
	Rate, Quota Left
	// Dropped says that nothing was decided, because the store had dropped a
	// counter as unused: fetch the counters again.
	Dropped bool
}

// Left is what is left of one limit.
type Left struct {
	Requests int64
	// Reset is the time until Requests grows next, in microseconds.
	Reset int64
}

// Take decides on one request at the time now and charges it when it may pass.
// Both limits are checked before either is charged, so a refused request
// consumes nothing. Take may be called from any goroutine.
func Take(a *Allowance, now int64) Decision {
	lock(a)
	d := take(a, now)
	unlock(a)
	return d
}

func take(a *Allowance, now int64) Decision {
	var d Decision
	rate, quota := a.RateLimit, a.Quota
	var tokens *Tokens
	var window *Window
	if rate != nil {
		if a.RateCounter.dropped {
			d.Dropped = true
			return d
		}
		tokens = &a.RateCounter.tokens
		refill(tokens, rate, now)
		if tokensLeft(tokens, rate) == 0 {
			d.Refusal = RateLimited
			d.RetryAfter = untilToken(tokens, rate)
		}
	}
	if quota != nil {
		if a.QuotaCounter.dropped {
			d.Dropped = true
			return d
		}
		window = &a.QuotaCounter.window
		expire(window, quota, now)
		if window.total >= quota.Limit {
			// Of two refusals the one with the longer wait is told.
			if wait := untilRoom(window, quota); wait >= d.RetryAfter {
				d.Refusal = QuotaExceeded
				d.RetryAfter = wait
			}
		}
	}

	admitted := d.Refusal == ""
	if rate != nil {
		if admitted {
			spend(tokens, rate)
			touch(a.RateCounter, tokens.at+untilFull(tokens, rate))
		}
		d.Rate.Requests = tokensLeft(tokens, rate)
		d.Rate.Reset = untilToken(tokens, rate)
	}
	if quota != nil {
		if admitted {
			count(window, quota)
			touch(a.QuotaCounter, window.slots[len(window.slots)-1].end+quota.Period)
		}
		d.Quota.Requests = requestsLeft(window, quota)
		d.Quota.Reset = untilRoom(window, quota)
	}
	return d
}
