package shares

import (
	"math"
	"slices"
	"time"
)

// Rate is a plan's rate limit: a token bucket that is refilled at Limit tokens each
// Period and holds at most Burst of them.
type Rate struct {
	Limit, Burst int64
	Period       time.Duration
}

// part is a gateway's part of a rate limit: a token bucket of its own, which lives on
// without asking. The zero value is none.
type part struct {
	// number is that of what was offered last, in which a token is made in each
	// interval, there is room for capacity of them, and fill came with it.
	number, interval, capacity, fill int64
	// heldRate and heldCapacity are the most that the gateway may have while it has
	// not said that it acts on what was offered last.
	heldRate, heldCapacity int64
}

// rate returns what may be made, in nanotokens a second.
func (p *part) rate() int64 {
	return max(p.heldRate, p.offered())
}

// offered is rate without what the gateway may still have from before.
func (p *part) offered() int64 {
	if p.interval == 0 {
		return 0
	}
	return mulDivUp(second, nano, p.interval)
}

// room returns how many tokens there may be.
func (p *part) room() int64 {
	return max(p.heldCapacity, p.capacity)
}

// next returns the number of the part after this one. Only a gateway that tells what
// is not so comes to the highest that a record can have, and stays there.
func (p *part) next() int64 {
	return min(maxTotal, p.number+1)
}

// acknowledge takes in what an entry tells of the part, and returns how many tokens
// came back from it.
func (p *part) acknowledge(e *Entry) (tokens int64) {
	switch {
	case e.Part > p.number:
		// A part from before this account, or before the store lost it.
		p.offer(part{number: e.Part})
		return 0
	case e.Part < p.number:
		return 0
	}
	p.heldRate, p.heldCapacity = 0, 0
	if !e.Dropped || p.interval == 0 {
		return 0
	}
	tokens = min(e.Tokens, p.capacity)
	*p = part{number: p.next()}
	return tokens
}

// offer makes next what the gateway shall act on, while it may still act on what it
// has.
func (p *part) offer(next part) {
	next.heldRate, next.heldCapacity = p.rate(), p.room()
	*p = next
}

// RateRecord is what the store keeps of a bucket with a rate limit. The zero value is
// a bucket that nobody has used. One goroutine at a time may use it.
type RateRecord struct {
	at int64 // up to when tokens are counted
	// tokens are those that no gateway has, in nanotokens. After an edit of the plan
	// they may be negative.
	tokens int64
	// rate and capacity are those of the pool by the plan of the last time: what all
	// gateways have together, and what is left to make tokens here. They are
	// nanotokens a second and nanotokens.
	rate, capacity int64
	accounts       accounts

	// soonest is not after the end of any share.
	soonest int64
	// division is how the rate is divided, unless something was taken in since.
	division rateDivision
}

// rateDivision is what all accounts have in common when they are answered.
type rateDivision struct {
	good bool
	// rate and capacity are those that nobody has.
	rate, capacity int64
	// needs are of rate, at the level of them, sum what all should have, and busy how
	// many should have some.
	needs         needs
	at, sum, busy int64
	// tell is after how many nanoseconds gateways are to tell what they have used, 0
	// for with their usual reports.
	tell int64
	// lent is how many single tokens accounts hold, and single how many they need. In
	// whole are those needs rounded up, if gateways tell at once what they use.
	lent          int64
	single, whole needs
}

// Settle takes in what a gateway's report tells of the bucket and answers it. The
// gateway's tenure must be alive; now is the store's time, in nanoseconds.
func (r *RateRecord) Settle(plan Rate, tenure Tenure, entry Entry, now int64) Share {
	r.Take(plan, tenure, entry, now)
	return r.Give(plan, tenure, entry)
}

// Take takes in what a gateway's report tells of the bucket. Entries by one plan may all
// be taken in before the first of them is answered, which spares work that grows with
// the number of gateways.
func (r *RateRecord) Take(plan Rate, tenure Tenure, entry Entry, now int64) {
	now = r.advance(now)
	r.edit(plan)
	r.division.good = false
	e := entry.clean()
	a, _ := r.accounts.open(tenure.Number, &e)
	if a == nil {
		r.limit()
		return
	}
	_, returned := a.tell(&e)
	r.tokens = add(r.tokens, min(returned+a.part.acknowledge(&e), maxTokens)*nano)
	if a.want == 0 && e.Wanted <= few {
		// The first ones say little of how fast others will follow.
		e.Over = max(e.Over, second/2)
	}
	a.ask(&e, now)
	r.soonest = min(r.soonest, a.until)
}

// Give answers an entry that was taken in, by the same plan and at the time of the last
// Take. Each that was taken in is to be answered.
func (r *RateRecord) Give(plan Rate, tenure Tenure, entry Entry) Share {
	place, found := r.accounts.of(tenure, &entry)
	if !found {
		return Share{}
	}
	r.divide()
	a := &r.accounts[place]
	target := r.divideRate(place)
	r.offer(a, target)
	keep := r.fairTokens(place, target)
	r.lend(a, keep)
	share := Share{
		Account:  a.number,
		Granted:  a.granted,
		Keep:     keep,
		Lasts:    int64(Life),
		Part:     a.part.number,
		Interval: a.part.interval,
		Capacity: a.part.capacity,
		Fill:     a.part.fill,
		Left:     max(0, r.tokens/nano),
		Reset:    r.reset(plan),
	}
	if a.part.interval == 0 {
		share.Tell = r.division.tell
	}
	if a.granted > entry.clean().Granted && r.tokens < 0 {
		// It may be this gateway that was lent the token which is still to come.
		share.After = min(share.Reset, int64(Life))
	}
	return share
}

// lend gives a tokens one by one, until it has as many as it may keep: those that are
// there, and the next one if that will be there soon.
func (r *RateRecord) lend(a *account, keep int64) {
	wish := min(keep-a.balance(), maxTotal-a.granted)
	grant := max(0, min(r.tokens/nano, wish))
	if grant < wish && r.nextIsSoon() {
		grant++
	}
	before := *a
	a.granted += grant
	r.changed(a, before)
	r.tokens -= grant * nano
}

// nextIsSoon reports whether another token will be there before a gateway that is told
// now comes again, and there is room for it besides those that are there. While one is
// lent in advance, fewer than none are there, so it is never more than one.
func (r *RateRecord) nextIsSoon() bool {
	rate, capacity := r.division.rate, r.division.capacity
	return r.tokens >= 0 && rate > 0 && capacity >= (r.tokens/nano+1)*nano && mulDivUp(nano-r.tokens%nano, second, rate) <= soon
}

// reset returns the time until there is another token.
func (r *RateRecord) reset(plan Rate) int64 {
	rate, capacity := r.division.rate, r.division.capacity
	switch {
	case rate > 0 && r.tokens < 0:
		return mulDivUp(-r.tokens, second, rate)
	case rate > 0 && capacity >= nano:
		return mulDivUp(nano-r.tokens%nano, second, rate)
	}
	return mulDivUp(int64(plan.Period), 1, max(1, plan.Limit))
}

// single reports whether tokens are lent one by one though they come fast enough for
// parts. What a gateway does not use of a part is lost, and reports cost less than that,
// if there is room for the tokens that come from one report to the next.
func (r *RateRecord) single() bool {
	return r.rate <= maxSingle && r.capacity <= mulDiv(r.rate, roomy, second) && r.capacity >= mulDiv(r.rate, cramped, second)
}

// tell returns after how many nanoseconds gateways are to tell what they have used that
// want so much in all, 0 for with their usual reports. It matters at once where tokens
// are lent one by one, there is room for few of them, and most of them are wanted.
func (r *RateRecord) tell(wanted int64) int64 {
	switch {
	case wanted < r.rate/2 || r.capacity > mulDiv(r.rate, roomy, second) || !r.single() && r.rate >= minPart:
		return 0
	case r.rate < sparse:
		return tellSparse
	}
	return tellUsual
}

// When tokens are lent one by one. Rates are in nanotokens a second.
const (
	// minPart is how fast a part must be: below they always are.
	minPart = 4 * nano
	// maxSingle is up to which rate they are if a bucket has room for what comes in a
	// time from cramped to roomy.
	maxSingle = 50 * nano
	cramped   = 6 * second / 10
	roomy     = 10 * second
	// soon is the usual time between two reports, and some more.
	soon = 12 * second / 10
	// tellUsual is the time between two reports of what is used, and tellSparse that
	// below the rate sparse, where it takes a while until a request comes after that
	// time: with it a report is sent.
	tellUsual  = second / 5
	tellSparse = 3 * second / 20
	sparse     = 20 * nano
	// few is of how many requests no rate can be told.
	few = 2
	// aheadOfTell is for how long a gateway is given tokens in advance that tells what
	// it uses at once: two such reports.
	aheadOfTell = 2 * tellUsual
)

// pool returns the part of a plan that is shared: what there is besides the standing
// credit.
func (plan Rate) pool() (rate, capacity int64) {
	reserve, horizon := plan.reserve()
	limit, burst := min(maxTokens, max(0, plan.Limit)), min(maxTokens, max(1, plan.Burst))
	rate = min(maxRate, mulDiv(limit*nano, second, int64(plan.Period)))
	if reserve > 0 {
		rate -= mulDivUp(reserve*nano, second, int64(horizon))
	}
	return rate, (burst - reserve) * nano
}

// edit puts a plan in force. As many tokens are missing afterwards as before, so that
// edits make none.
func (r *RateRecord) edit(plan Rate) {
	rate, capacity := plan.pool()
	if rate == r.rate && capacity == r.capacity {
		return
	}
	r.division.good = false
	r.tokens = max(mostMissing, r.tokens+capacity-r.capacity)
	r.rate, r.capacity = rate, capacity
	r.limit()
}

// free returns what is left of the pool when all that gateways may have is taken out.
// After an edit of the plan it may be negative, down to mostMissing.
func (r *RateRecord) free() (rate, capacity int64) {
	rate, capacity = r.rate, r.capacity
	for i := range r.accounts {
		a := &r.accounts[i]
		rate = max(mostMissing, rate-a.part.rate())
		capacity = max(mostMissing, capacity-a.capacity())
	}
	return rate, capacity
}

// capacity is what a gateway may have of a plan's, in nanotokens.
func (a *account) capacity() int64 {
	return (a.tokens() + a.part.room()) * nano
}

// tokens is how many single ones a gateway holds.
func (a *account) tokens() int64 {
	return min(maxTokens, max(0, a.balance()))
}

// mostMissing bounds what is below 0, so that nothing overflows.
const mostMissing = -2 * maxRate

// limit throws away the tokens that there is no room for.
func (r *RateRecord) limit() {
	_, capacity := r.free()
	r.tokens = min(r.tokens, capacity)
}

// advance lets the time pass: tokens are made of what rate is left, and that of shares
// that have ended comes back. The tokens of those are lost, as they may be spent.
func (r *RateRecord) advance(now int64) int64 {
	now = max(now, r.at)
	for r.soonest <= now {
		first := -1
		r.soonest = math.MaxInt64
		for i := range r.accounts {
			if until := r.accounts[i].until; until < r.soonest {
				first, r.soonest = i, until
			}
		}
		if r.soonest <= now {
			r.refill(r.soonest)
			r.division.good = false
			r.accounts = slices.Delete(r.accounts, first, first+1)
		}
	}
	r.refill(now)
	return now
}

func (r *RateRecord) refill(now int64) {
	if now <= r.at {
		return
	}
	rate, capacity := r.free()
	if rate >= 0 {
		r.tokens = min(add(r.tokens, mulDiv(rate, now-r.at, second)), capacity)
	} else {
		r.tokens = max(mostMissing, r.tokens-min(maxRate, mulDivUp(-rate, now-r.at, second)))
	}
	r.at = now
}

// target is what a gateway should have of a rate limit.
type target struct {
	rate     int64 // nanotokens a second
	capacity int64 // tokens; 0 if it should have no part
}

// divide reckons what all accounts have in common, and throws away the tokens that
// there is no room for.
func (r *RateRecord) divide() {
	d := &r.division
	if d.good {
		return
	}
	d.good = true
	d.rate, d.capacity = r.free()
	r.tokens = min(r.tokens, d.capacity)
	r.divideAll()
	d.lent = 0
	d.single.of(len(r.accounts))
	d.whole.of(len(r.accounts))
	for i := range r.accounts {
		a := &r.accounts[i]
		d.lent += a.tokens()
		single, whole := d.lacks(a, a.wants(r.at))
		d.single.put(single)
		d.whole.put(whole)
	}
}

// divideAll divides the rate among all accounts.
func (r *RateRecord) divideAll() {
	d := &r.division
	// What they want, and some more where there is enough.
	d.needs.of(len(r.accounts))
	var asked, wanted int64
	for i := range r.accounts {
		want := r.accounts[i].wants(r.at)
		d.needs.put(want)
		asked = add(asked, want)
		if want > 0 {
			wanted = add(wanted, want+headroom(want))
		}
	}
	if wanted <= r.rate {
		for i, need := range d.needs.each {
			d.needs.each[i] += headroom(need)
		}
		d.needs.sum = wanted
	}
	d.tell = r.tell(asked)
	d.at, d.sum, d.busy = d.needs.level(r.rate), 0, 0
	for _, need := range d.needs.each {
		if fair := min(d.at, need); fair > 0 {
			d.sum = add(d.sum, fair)
			d.busy++
		}
	}
}

// wants is what a wants, in nanotokens a second, as far as that is to be believed.
func (a *account) wants(now int64) int64 {
	if a.asks(now) {
		return a.want
	}
	return 0
}

// lacks is how many single tokens a needs that is to have so much of the rate: enough
// for two reports of what its part does not make. Where gateways tell at once what they
// use, nothing is set aside for one that could use less than a whole token until then;
// whole is what such a one needs itself.
func (d *rateDivision) lacks(a *account, rate int64) (single, whole int64) {
	missing := rate - a.part.offered()
	switch {
	case missing <= 0:
		return 0, 0
	case d.tell == 0:
		return mulDivUp(missing, ahead, nano), 0
	}
	return mulDiv(missing, aheadOfTell, second*nano), mulDivUp(missing, aheadOfTell, second*nano)
}

// changed reckons anew what accounts have in common when one of them has changed.
func (r *RateRecord) changed(a *account, before account) {
	d := &r.division
	d.lent += a.tokens() - before.tokens()
	if d.rate <= mostMissing || d.capacity <= mostMissing {
		d.rate, d.capacity = r.free()
		return
	}
	d.rate = max(mostMissing, d.rate+before.part.rate()-a.part.rate())
	d.capacity = max(mostMissing, d.capacity+before.capacity()-a.capacity())
}

// divideRate returns what the account at a place should have: its fair share of the
// rate, and of the room for tokens in proportion.
func (r *RateRecord) divideRate(place int) target {
	d := &r.division
	t := target{rate: min(d.at, d.needs.each[place])}
	others := d.busy
	if t.rate > 0 {
		others--
	}
	if t.rate < minPart || r.single() {
		return t
	}
	// A quarter stays here, for those who come next.
	tokens := r.capacity / nano
	t.capacity = mulDiv(tokens-tokens/4, t.rate, d.sum)
	if t.capacity == 0 && others == 0 {
		t.capacity = min(1, tokens)
	}
	// More than a second's worth would only take tokens to where they are not needed.
	t.capacity = min(t.capacity, t.rate/nano+1)
	return t
}

// headroom is by how much a gateway's part is larger than what it lately wanted, as
// that is never quite the same.
func headroom(want int64) int64 {
	return int64(math.Sqrt(float64(want)) * 16_000) // half the root, of tokens
}

// offer gives a the part that it should have, as far as there is one to give.
func (r *RateRecord) offer(a *account, t target) {
	rate, capacity := r.division.rate, r.division.capacity
	if r.tokens < 0 {
		// It makes what was lent already.
		rate = min(rate, 0)
	}
	next := part{number: a.part.next()}
	if t.capacity > 0 {
		// What others may still have cannot be given.
		t.rate = min(t.rate, a.part.rate()+rate)
		tokens, spare := r.capacity/nano, floor(capacity)
		t.capacity = min(t.capacity, max(a.part.room()+spare-tokens/4, min(a.part.room()+spare, 1+tokens/16)))
		if t.rate >= minPart/4 && t.capacity > 0 {
			next.interval, next.capacity = mulDivUp(second, nano, t.rate), t.capacity
		}
	}
	if next.capacity == a.part.capacity && near(next.offered(), a.part.offered()) {
		return
	}
	if grown := next.capacity - a.part.room(); grown > 0 {
		next.fill = min(grown, max(0, r.tokens/nano))
		r.tokens -= next.fill * nano
	}
	before := *a
	a.part.offer(next)
	r.changed(a, before)
	r.tokens = min(r.tokens, r.division.capacity)
}

// floor returns how many whole tokens there are in nanotokens.
func floor(tokens int64) int64 {
	if tokens < 0 {
		return -((-tokens + nano - 1) / nano)
	}
	return tokens / nano
}

// near reports whether two rates are so near to each other that it is not worth to
// exchange one for the other.
func near(a, b int64) bool {
	return max(a, b)-min(a, b) <= max(a, b)/64
}

// fairTokens returns how many single tokens the account at a place may hold: those who
// have their part need none, the others what they lack.
func (r *RateRecord) fairTokens(place int, t target) int64 {
	a, d := &r.accounts[place], &r.division
	want := a.wants(r.at)
	single, whole := d.lacks(a, want)
	d.single.set(place, single)
	d.whole.set(place, whole)
	pool := max(0, r.tokens/nano) + d.lent
	if r.nextIsSoon() {
		pool++
	}
	if d.tell > 0 && !a.asks(r.at) && d.whole.sum >= pool {
		return 0
	}
	mine := want
	if want > 0 && t.capacity > 0 {
		mine = t.rate
	}
	need, up := d.lacks(a, mine)
	d.single.set(place, max(need, up))
	keep := d.single.divide(pool, place, a.spare)
	d.single.set(place, single)
	return keep
}

// Saturation returns what part of the rate gateways have, or where single tokens are
// lent, what part of the tokens is gone, from 0 to 1.
func (r *RateRecord) Saturation(plan Rate, now int64) float64 {
	r.advance(now)
	r.edit(plan)
	rate, _ := r.free()
	if r.rate <= 0 || rate < 0 {
		return 1
	}
	given := 1 - float64(rate)/float64(r.rate)
	if r.single() && r.capacity > 0 {
		given = max(given, min(1, 1-float64(r.tokens)/float64(r.capacity)))
	}
	return given
}
