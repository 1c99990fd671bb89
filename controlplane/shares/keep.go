package shares

import "time"

// Keep returns for how long from the time now the record must be kept: until a new one
// says the same.
func (r *QuotaRecord) Keep(plan Quota, now int64) time.Duration {
	period := int64(plan.Period)
	end := max(now, r.at)
	if n := len(r.slots); n > 0 {
		end = max(end, add(r.slots[n-1].end, period))
	}
	for i := range r.accounts {
		a := &r.accounts[i]
		end = max(end, a.until)
		if a.balance() > 0 {
			// When the share ends it is consumed, in a slot of its own.
			end = max(end, add(a.until, period+period/slotsPerPeriod+1))
		}
	}
	return time.Duration(end - now)
}

// Keep returns for how long from the time now the record must be kept: until all shares
// have ended, and then until the bucket is full again.
func (r *RateRecord) Keep(now int64) time.Duration {
	end := max(now, r.at)
	for i := range r.accounts {
		end = max(end, r.accounts[i].until)
	}
	missing := max(0, r.capacity-min(r.capacity, r.tokens))
	if rate, _ := r.free(); rate < 0 {
		missing = add(missing, mulDivUp(-rate, end-r.at, second))
	}
	return time.Duration(add(end-now, mulDivUp(missing, second, max(1, r.rate))))
}
