package shares

import (
	"slices"
	"time"
)

// Quota is a plan's quota: at most Limit requests in any window of Period.
type Quota struct {
	Limit  int64
	Period time.Duration
}

// A window is kept in slots, as package quota of the gateway does: each is counted
// until the last request that can be in it has left the window.
const (
	slotsPerPeriod = 64
	maxSlots       = 2 * slotsPerPeriod
)

// A want of up to lingers, in nanotokens a second, ends in steps, down to briefly.
const (
	lingers = 4 * nano
	briefly = nano / 4
)

// slot counts what was consumed before end, and after the end of the one in front.
type slot struct {
	end, count int64
}

// QuotaRecord is what the store keeps of a bucket with a quota. The zero value is a
// bucket that nobody has used. One goroutine at a time may use it.
type QuotaRecord struct {
	at       int64 // the latest time that was seen
	slots    []slot
	consumed int64 // the sum of slots
	accounts accounts

	needs []int64 // of accounts, while one is settled
}

// Settle takes in what a gateway's report tells of the bucket and answers it. The
// gateway's tenure must be alive; now is the store's time, in nanoseconds.
func (r *QuotaRecord) Settle(plan Quota, tenure Tenure, entry Entry, now int64) Share {
	now = r.advance(plan, now)
	e := entry.clean()
	a, old := r.accounts.open(tenure.Number, &e)
	r.consume(now, max(0, old.balance()), plan)
	if a == nil {
		return Share{}
	}
	spent, _ := a.tell(&e)
	r.consume(now, spent, plan)
	before := a.want
	a.ask(&e, now)
	if a.want == 0 && before >= briefly && before <= lingers {
		// One that asks now and then still wants the unit that it was refused: others
		// have to be told first that they may not keep it.
		a.want = before / 2
	}
	a.credit = Standing(plan.Reserve(), tenure.Ranks[plan.Horizon()])

	room, pool := r.room(plan)
	keep := r.fair(a, pool, now)
	if grant := min(room, keep-a.balance()); grant > 0 && a.granted+grant <= maxTotal {
		a.granted += grant
		room -= grant
	}
	return Share{
		Account: a.number,
		Granted: a.granted,
		Keep:    keep,
		Lasts:   int64(Life),
		Left:    max(0, room),
		Reset:   r.reset(plan, now),
	}
}

// room returns what may be granted, and the pool: what may be granted and what
// gateways hold. When something is granted, consumed + Σ balances ≤ limit − reserve. Who
// owes more than its credit, as after an edit, does not make room for others by that.
func (r *QuotaRecord) room(plan Quota) (room, pool int64) {
	room = plan.Limit - plan.Reserve() - r.consumed
	for i := range r.accounts {
		balance := r.accounts[i].balance()
		room -= max(balance, -r.accounts[i].credit)
		pool += max(0, balance)
	}
	return room, max(0, pool+room)
}

// fair returns how many units of a pool a may hold.
func (r *QuotaRecord) fair(a *account, pool, now int64) int64 {
	r.needs = r.needs[:0]
	for i := range r.accounts {
		need := int64(0)
		if b := &r.accounts[i]; b.asks(now) {
			need = mulDivUp(b.want, ahead, nano)
		}
		r.needs = append(r.needs, need)
	}
	return divide(r.accounts, a, pool, r.needs)
}

// divide divides a pool of units by what accounts need, and returns the part of a.
// Those that wish to have a spare one come after all that want to spend theirs.
func divide(as accounts, a *account, pool int64, needs []int64) int64 {
	var mine, sum int64
	for i, need := range needs {
		sum = add(sum, need)
		if as[i].tenure == a.tenure {
			mine = need
		}
	}
	switch {
	case mine > 0:
		return min(mine, level(pool, needs))
	case sum < pool:
		return a.spare
	}
	return 0
}

// advance lets the time pass: what has left the window is forgotten, and what
// gateways hold whose shares have ended is consumed, as nobody knows better.
func (r *QuotaRecord) advance(plan Quota, now int64) int64 {
	now = max(now, r.at)
	r.at = now
	r.accounts = slices.DeleteFunc(r.accounts, func(a account) bool {
		if a.until > now {
			return false
		}
		r.consume(a.until, a.balance(), plan)
		return true
	})
	left := 0
	for left < len(r.slots) && add(r.slots[left].end, int64(plan.Period)) <= now {
		r.consumed -= r.slots[left].count
		left++
	}
	r.slots = slices.Delete(r.slots, 0, left)
	return now
}

// consume counts n units as consumed at a time.
func (r *QuotaRecord) consume(at, n int64, plan Quota) {
	if n <= 0 {
		return
	}
	n = min(n, maxTotal-min(maxTotal, r.consumed))
	if n == 0 {
		return
	}
	r.consumed += n
	width := (int64(plan.Period) + slotsPerPeriod - 1) / slotsPerPeriod
	// The first slot that ends later holds it, unless that one was opened too late.
	place := len(r.slots)
	for place > 0 && r.slots[place-1].end > at {
		place--
	}
	if place < len(r.slots) && r.slots[place].end <= at+width {
		r.slots[place].count += n
		return
	}
	r.slots = slices.Insert(r.slots, place, slot{end: at + width, count: n})
	if len(r.slots) > maxSlots {
		// Left over from shorter periods: the oldest two are given back late
		// rather than early.
		r.slots[1].count += r.slots[0].count
		r.slots = slices.Delete(r.slots, 0, 1)
	}
}

// reset returns the time until something leaves the window.
func (r *QuotaRecord) reset(plan Quota, now int64) int64 {
	if plan.Limit > 0 && len(r.slots) > 0 {
		return max(0, add(r.slots[0].end, int64(plan.Period))-now)
	}
	return int64(plan.Period)
}

// Consumed returns how many units are in the window at the time now, those included
// that gateways hold.
func (r *QuotaRecord) Consumed(plan Quota, now int64) int64 {
	r.advance(plan, now)
	sum := r.consumed
	for i := range r.accounts {
		sum += max(0, r.accounts[i].balance())
	}
	return sum
}
