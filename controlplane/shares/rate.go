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

	needs []int64 // of accounts, while one is settled
}

// Settle takes in what a gateway's report tells of the bucket and answers it. The
// gateway's tenure must be alive; now is the store's time, in nanoseconds.
func (r *RateRecord) Settle(plan Rate, tenure Tenure, entry Entry, now int64) Share {
	now = r.advance(now)
	r.edit(plan)
	e := entry.clean()
	a, _ := r.accounts.open(tenure.Number, &e)
	if a == nil {
		return Share{}
	}
	_, returned := a.tell(&e)
	r.tokens = add(r.tokens, min(returned+a.part.acknowledge(&e), maxTokens)*nano)
	if a.want == 0 && e.Wanted <= few {
		// The first ones say little of how fast others will follow.
		e.Over = max(e.Over, second/2)
	}
	a.ask(&e, now)
	r.limit()

	target := r.divideRate(a, now)
	r.offer(a, target)
	tell := r.tell(now)
	keep := r.fairTokens(a, target, tell > 0, now)
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
		share.Tell = tell
	}
	if a.granted > e.Granted && r.tokens < 0 {
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
	a.granted += grant
	r.tokens -= grant * nano
}

// nextIsSoon reports whether another token will be there before a gateway that is told
// now comes again, and there is room for it besides those that are there. While one is
// lent in advance, fewer than none are there, so it is never more than one.
func (r *RateRecord) nextIsSoon() bool {
	rate, capacity := r.free()
	return r.tokens >= 0 && rate > 0 && capacity >= (r.tokens/nano+1)*nano && mulDivUp(nano-r.tokens%nano, second, rate) <= soon
}

// reset returns the time until there is another token.
func (r *RateRecord) reset(plan Rate) int64 {
	rate, capacity := r.free()
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

// tell returns after how many nanoseconds a gateway is to tell what it has used, 0 for
// with its usual reports. It matters at once where tokens are lent one by one, there is
// room for few of them, and most of them are wanted.
func (r *RateRecord) tell(now int64) int64 {
	var wanted int64
	for i := range r.accounts {
		if a := &r.accounts[i]; a.asks(now) {
			wanted = add(wanted, a.want)
		}
	}
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
		capacity = max(mostMissing, capacity-(min(maxTokens, max(0, a.balance()))+a.part.room())*nano)
	}
	return rate, capacity
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
	for {
		first := -1
		for i := range r.accounts {
			if r.accounts[i].until <= now && (first < 0 || r.accounts[i].until < r.accounts[first].until) {
				first = i
			}
		}
		if first < 0 {
			r.refill(now)
			return now
		}
		r.refill(r.accounts[first].until)
		r.accounts = slices.Delete(r.accounts, first, first+1)
	}
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

// divideRate returns what a should have: its fair share of the rate, and of the room
// for tokens in proportion.
func (r *RateRecord) divideRate(a *account, now int64) target {
	// What they want, and some more where there is enough.
	var wanted int64
	needs := r.needs[:0]
	for i := range r.accounts {
		need := int64(0)
		if b := &r.accounts[i]; b.asks(now) {
			need = b.want
			wanted = add(wanted, need+headroom(need))
		}
		needs = append(needs, need)
	}
	if r.needs = needs; wanted <= r.rate {
		for i := range needs {
			needs[i] += headroom(needs[i])
		}
	}
	at := level(r.rate, needs)
	var sum, others int64
	var t target
	for i, need := range needs {
		fair := min(at, need)
		sum = add(sum, fair)
		switch {
		case r.accounts[i].tenure == a.tenure:
			t.rate = fair
		case fair > 0:
			others++
		}
	}
	if t.rate < minPart || r.single() {
		return t
	}
	// A quarter stays here, for those who come next.
	tokens := r.capacity / nano
	t.capacity = mulDiv(tokens-tokens/4, t.rate, sum)
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
	rate, capacity := r.free()
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
	a.part.offer(next)
	r.limit()
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

// fairTokens returns how many single tokens a may hold: those who have their part need
// none, the others enough for two reports. Pressed are those who tell at once what they
// use: nothing is set aside for one that could use less than a whole token until then.
func (r *RateRecord) fairTokens(a *account, t target, pressed bool, now int64) int64 {
	pool := max(0, r.tokens/nano)
	if r.nextIsSoon() {
		pool++
	}
	needs, all := r.needs[:0], int64(0)
	for i := range r.accounts {
		b := &r.accounts[i]
		pool += min(maxTokens, max(0, b.balance()))
		need := int64(0)
		if b.asks(now) {
			want := b.want
			if b == a && t.capacity > 0 {
				want = t.rate
			}
			want = max(0, want-b.part.offered())
			switch {
			case !pressed:
				need = mulDivUp(want, ahead, nano)
			case b == a:
				need = mulDivUp(want, aheadOfTell, second*nano)
				all = add(all, need)
			default:
				need = mulDiv(want, aheadOfTell, second*nano)
				all = add(all, mulDivUp(want, aheadOfTell, second*nano))
			}
		}
		needs = append(needs, need)
	}
	r.needs = needs
	if pressed && !a.asks(now) && all >= pool {
		return 0
	}
	return divide(r.accounts, a, pool, needs)
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
