package holding

import "github.com/tollgate-apim/tollgate/quota"

// Allowance is what requests of one grant may draw on. It is never changed, so any
// number of goroutines may use it.
type Allowance struct {
	store *Store
	rate  *Holding // nil for none
	quota *Holding // nil for none

	// first and second are the holdings above, by number: in this order they are
	// locked. second is nil if there is but one.
	first, second *Holding
}

// NewAllowance returns an allowance of the holdings of a rate limit, a quota or both,
// either of them nil for none.
func NewAllowance(s *Store, rate, quota *Holding) *Allowance {
	a := &Allowance{store: s, rate: rate, quota: quota}
	switch {
	case rate == nil:
		a.first = quota
	case quota == nil:
		a.first = rate
	case rate.number < quota.number:
		a.first = rate
		a.second = quota
	default:
		a.first = quota
		a.second = rate
	}
	return a
}

// TakeToken is Take for a rate limit alone, in the usual case: it charges a request to
// the part of it that the gateway has, and returns how many tokens are left there.
// Otherwise it does nothing and returns a negative number, and it is for Take to
// decide. It may be called from any goroutine.
func TakeToken(h *Holding, now int64) (backlog int64) {
	h.Lock()
	backlog = h.fullAt - now
	if backlog < 0 {
		backlog = 0
	}
	backlog += h.interval
	if backlog <= h.depth && now < h.until {
		h.fullAt = now + backlog
		h.wanted++
		backlog = h.depth - backlog
		backlog /= h.interval
	} else {
		backlog = -1
	}
	h.Unlock()
	return backlog
}

// Take decides on one request at the time now and charges it when it may pass. Both
// limits are checked before either is charged, so a refused request consumes nothing.
// What it says to be left is what this gateway may let pass and, of a quota, what the
// plan has left for nobody in particular. Take may be called from any goroutine.
func Take(a *Allowance, now int64) quota.Decision {
	var d quota.Decision
	first, second := a.first, a.second
	first.Lock()
	if second != nil {
		second.Lock()
	}

	// Most requests find a token in the part, and a unit of the quota.
	rate, units := a.rate, a.quota
	usual := rate == nil || now < rate.until && rate.fullAt+rate.interval <= now+rate.depth && rate.interval <= rate.depth
	if usual && units != nil {
		usual = units.used < units.granted && now < units.until
	}
	if usual {
		if rate != nil {
			if rate.fullAt < now {
				rate.fullAt = now
			}
			rate.fullAt += rate.interval
			rate.wanted++
			d.RateReset = now + rate.depth - rate.fullAt
			d.RateLeft = d.RateReset / rate.interval
			d.RateReset = rate.interval - d.RateReset%rate.interval
		}
		if units != nil {
			units.used++
			units.wanted++
			d.QuotaLeft = units.granted - units.used + units.left
			if units.grows > now {
				d.QuotaReset = units.grows - now
			}
		}
	} else if !refuseAgain(rate, units, now, &d) {
		takeUnusually(a, now, &d)
	}

	if second != nil {
		second.Unlock()
	}
	first.Unlock()
	return d
}

// refuseAgain is Take with the locks held, for a request that comes after one that was
// refused, while nothing has changed. Otherwise it does nothing and returns false.
func refuseAgain(rate, units *Holding, now int64, d *quota.Decision) bool {
	if rate != nil && now < rate.shut {
		d.Refusal = quota.RateLimited
		d.RetryAfter = rate.opens - now
		if d.RetryAfter < second {
			d.RetryAfter = second
		}
		d.RateReset = d.RetryAfter
	}
	if units == nil {
		if d.Refusal == "" {
			return false
		}
		rate.wanted++
		return true
	}
	if now < units.shut {
		d.QuotaReset = units.opens - now
		if d.QuotaReset < second {
			d.QuotaReset = second
		}
		if d.QuotaReset >= d.RetryAfter {
			d.Refusal = quota.QuotaExceeded
			d.RetryAfter = d.QuotaReset
		}
	}
	if d.Refusal == "" {
		return false
	}
	units.wanted++
	d.QuotaLeft = units.left
	if units.used < units.granted && now < units.until {
		d.QuotaLeft += units.granted - units.used
	}
	if rate != nil {
		rate.wanted++
		if now >= rate.shut {
			d.RateLeft, d.RateReset = rateLeft(rate, 0, now)
		}
	}
	return true
}

// takeUnusually is Take with the locks held, for all cases.
func takeUnusually(a *Allowance, now int64, d *quota.Decision) {
	s, rate, units := a.store, a.rate, a.quota
	if a.first.dropped || a.second != nil && a.second.dropped {
		d.Refusal = quota.Dropped
		return
	}
	t := current(s)
	roomy := true
	rateCredit := int64(0)
	quotaCredit := int64(0)
	if rate != nil {
		rateCredit = prepare(s, rate, &t, now)
		if !Room(rate, rateCredit, now) {
			roomy = false
			d.Refusal = quota.RateLimited
			d.RetryAfter = wait(rate, now)
			shut(rate, &t, d.RetryAfter, now)
		}
	}
	if units != nil {
		quotaCredit = prepare(s, units, &t, now)
		if !Room(units, quotaCredit, now) {
			roomy = false
			// Of two reasons the one with the longer wait is told.
			longer := wait(units, now)
			if longer >= d.RetryAfter {
				d.Refusal = quota.QuotaExceeded
				d.RetryAfter = longer
			}
			shut(units, &t, longer, now)
		}
	}
	if rate != nil {
		if roomy {
			Spend(rate, now)
		}
		d.RateLeft, d.RateReset = rateLeft(rate, rateCredit, now)
		hurry(s, rate, now)
	}
	if units != nil {
		if roomy {
			Spend(units, now)
		}
		d.QuotaLeft, d.QuotaReset = quotaLeft(units, quotaCredit, now)
		hurry(s, units, now)
	}
}

// shut has requests refused that come next, after one that was told to wait.
func shut(h *Holding, t *tenure, wait, now int64) {
	h.opens = now + wait
	if h.opens < now || t.number == 0 {
		return
	}
	h.shut = forever
	if now < h.soonest && !h.waiting {
		h.shut = h.soonest
	}
	if now < h.ripe && h.ripe < h.shut {
		h.shut = h.ripe
	}
	if h.interval > 0 {
		next := h.fullAt + h.interval - h.depth
		if next < h.shut {
			h.shut = next
		}
	}
}

// prepare has a locked holding told of in reports, and returns its standing credit.
func prepare(s *Store, h *Holding, t *tenure, now int64) int64 {
	adopt(s, h, t, now)
	if !h.listed {
		h.listed = true
		list(s, h)
	}
	return credit(h, t, now)
}

// hurry asks for a report if h needs one soon.
func hurry(s *Store, h *Holding, now int64) {
	if !h.hurried && Urgent(h, now) {
		h.hurried = true
		hasten(s)
	}
}

// wait returns for how long a client should wait that was refused for want of h: 1 s if
// a report may help.
func wait(h *Holding, now int64) int64 {
	wait := second
	if h.useless {
		wait = h.grows - now
	}
	if h.interval > 0 {
		if next := h.fullAt - now + h.interval - h.depth; next < wait {
			wait = next
		}
	}
	if wait < second {
		wait = second
	}
	return wait
}

// rateLeft returns how many requests may pass by a locked holding of a rate limit, and
// the time until there is one more.
func rateLeft(h *Holding, credit, now int64) (left, reset int64) {
	left = usable(h, now) + credit
	reset = h.grows - now
	if left < 0 {
		left = 0
	}
	if h.interval > 0 {
		part := tokens(h, now)
		left += part / nano
		reset = h.interval - mulDiv(part%nano, h.interval, nano)
	}
	if reset < 0 {
		reset = 0
	}
	return left, reset
}

// quotaLeft is rateLeft for a quota.
func quotaLeft(h *Holding, credit, now int64) (left, reset int64) {
	left = h.granted - h.used + credit
	reset = h.grows - now
	if left < 0 {
		left = 0
	}
	if reset < 0 {
		reset = 0
	}
	return left + h.left, reset
}
