package shares

import (
	"math"
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

	// soonest is not after the end of any share.
	soonest int64
	// division is how the units are divided, unless something was taken in since.
	division quotaDivision
}

// quotaDivision is what all accounts have in common when they are answered.
type quotaDivision struct {
	good  bool
	needs needs
	// lent is the sum of what accounts hold, and owed what counts of it where some
	// owe units.
	lent, owed int64
}

// Settle takes in what a gateway's report tells of the bucket and answers it. The
// gateway's tenure must be alive; now is the store's time, in nanoseconds.
func (r *QuotaRecord) Settle(plan Quota, tenure Tenure, entry Entry, now int64) Share {
	r.Take(plan, tenure, entry, now)
	return r.Give(plan, tenure, entry)
}

// Take takes in what a gateway's report tells of the bucket. Entries by one plan may all
// be taken in before the first of them is answered, which spares work that grows with
// the number of gateways.
func (r *QuotaRecord) Take(plan Quota, tenure Tenure, entry Entry, now int64) {
	now = r.advance(plan, now)
	r.division.good = false
	e := entry.clean()
	a, old := r.accounts.open(tenure.Number, &e)
	r.consume(now, max(0, old.balance()), plan)
	if a == nil {
		return
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
	r.soonest = min(r.soonest, a.until)
	a.credit = Standing(plan.Reserve(), tenure.Ranks[plan.Horizon()])
}

// Give answers an entry that was taken in, by the same plan and at the time of the last
// Take. Each that was taken in is to be answered.
func (r *QuotaRecord) Give(plan Quota, tenure Tenure, entry Entry) Share {
	place, found := r.accounts.of(tenure, &entry)
	if !found {
		return Share{}
	}
	r.divide()
	a, d := &r.accounts[place], &r.division
	room := r.room(plan)
	keep := d.needs.divide(max(0, d.lent+room), place, a.spare)
	if grant := min(room, keep-a.balance()); grant > 0 && a.granted+grant <= maxTotal {
		d.add(a, -1)
		a.granted += grant
		d.add(a, 1)
		room -= grant
	}
	return Share{
		Account: a.number,
		Granted: a.granted,
		Keep:    keep,
		Lasts:   int64(Life),
		Left:    max(0, room),
		Reset:   r.reset(plan, r.at),
	}
}

// room returns what may be granted. When something is granted, consumed + Σ balances ≤
// limit − reserve. Who owes more than its credit, as after an edit, does not make room
// for others by that.
func (r *QuotaRecord) room(plan Quota) int64 {
	return plan.Limit - plan.Reserve() - r.consumed - r.division.owed
}

// divide reckons what all accounts have in common.
func (r *QuotaRecord) divide() {
	d := &r.division
	if d.good {
		return
	}
	d.good, d.lent, d.owed = true, 0, 0
	d.needs.of(len(r.accounts))
	for i := range r.accounts {
		a := &r.accounts[i]
		d.add(a, 1)
		need := int64(0)
		if a.asks(r.at) {
			need = mulDivUp(a.want, ahead, nano)
		}
		d.needs.put(need)
	}
}

// add adds an account's balance, or takes it away if sign is −1.
func (d *quotaDivision) add(a *account, sign int64) {
	balance := a.balance()
	d.lent += sign * max(0, balance)
	d.owed += sign * max(balance, -a.credit)
}

// advance lets the time pass: what has left the window is forgotten, and what
// gateways hold whose shares have ended is consumed, as nobody knows better.
func (r *QuotaRecord) advance(plan Quota, now int64) int64 {
	now = max(now, r.at)
	r.at = now
	if r.soonest <= now {
		r.division.good, r.soonest = false, math.MaxInt64
		r.accounts = slices.DeleteFunc(r.accounts, func(a account) bool {
			if a.until > now {
				r.soonest = min(r.soonest, a.until)
				return false
			}
			r.consume(a.until, a.balance(), plan)
			return true
		})
	}
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
