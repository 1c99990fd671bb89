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
	a.ask(&e, now)
	r.limit()

	target := r.divideRate(a, now)
	r.offer(a, target)
	keep := r.fairTokens(a, target, now)
	if grant := min(r.tokens/nano, keep-a.balance()); grant > 0 && a.granted+grant <= maxTotal {
		a.granted += grant
		r.tokens -= grant * nano
	}
	return Share{
		Account:  a.number,
		Granted:  a.granted,
		Keep:     keep,
		Lasts:    int64(Life),
		Part:     a.part.number,
		Interval: a.part.interval,
		Capacity: a.part.capacity,
		Fill:     a.part.fill,
		Left:     max(0, r.tokens/nano),
		Reset:    mulDivUp(int64(plan.Period), 1, max(1, plan.Limit)),
	}
}

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

// A part must be as fast as this, in nanotokens a second. Tokens that come more slowly
// are lent one by one, because what a gateway does not use of its part is lost. One that
// is alone takes nothing away from others.
const (
	minPart      = 4 * nano
	minPartAlone = nano / 2
)

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
	if t.rate < minPartAlone || t.rate < minPart && others > 0 {
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
	next := part{number: a.part.next()}
	if t.capacity > 0 {
		// What others may still have cannot be given.
		t.rate = min(t.rate, a.part.rate()+rate)
		tokens, spare := r.capacity/nano, floor(capacity)
		t.capacity = min(t.capacity, max(a.part.room()+spare-tokens/4, min(a.part.room()+spare, 1+tokens/16)))
		if t.rate >= minPartAlone && t.capacity > 0 {
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
// none, the others enough for two reports.
func (r *RateRecord) fairTokens(a *account, t target, now int64) int64 {
	pool := max(0, r.tokens/nano)
	r.needs = r.needs[:0]
	for i := range r.accounts {
		b := &r.accounts[i]
		pool += min(maxTokens, max(0, b.balance()))
		need := int64(0)
		if b.asks(now) {
			want := b.want
			if b == a && t.capacity > 0 {
				want = t.rate
			}
			need = mulDivUp(max(0, want-b.part.offered()), ahead, nano)
		}
		r.needs = append(r.needs, need)
	}
	return divide(r.accounts, a, pool, r.needs)
}

// Saturation returns what part of the rate gateways have, from 0 to 1.
func (r *RateRecord) Saturation(plan Rate, now int64) float64 {
	r.advance(now)
	r.edit(plan)
	rate, _ := r.free()
	if r.rate <= 0 || rate < 0 {
		return 1
	}
	return 1 - float64(rate)/float64(r.rate)
}
