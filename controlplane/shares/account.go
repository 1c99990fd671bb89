package shares

import (
	"cmp"
	"math"
	"math/bits"
	"slices"
	"time"
)

const second = int64(time.Second)

const (
	// Life is for how long a share lasts. A gateway counts it from when it sent
	// the report, so a share ends there before it ends here.
	Life = 15 * time.Second
	// fresh is for how long a gateway is believed to want what it wanted when it
	// last reported.
	fresh = 3 * second
	// ahead is for how long a gateway is given units in advance: two reports.
	ahead = 2
)

// margin is what must pass, after a share or a tenure of some life has ended for
// its gateway, before it has ended here: it bears clocks that differ in speed by 1 %
// and a store's clock that steps forward by half a second.
func margin(life time.Duration) int64 {
	return int64(life)/32 + second/2
}

// held is for how long a share counts here that a gateway has been told of now.
var held = int64(Life) + margin(Life)

// MaxAccounts is how many gateways may have shares of one bucket at the same time.
// It bounds records. Further ones get shares when others have given theirs up.
const MaxAccounts = 1000

// What numbers may be. maxTotal is the largest that all readers of JSON can hold
// exactly; maxTokens is what a plan may have, and the largest in nanotokens fits 63
// bits.
const (
	maxTotal  = 1<<53 - 1
	maxTokens = 1_000_000_000
	nano      = 1_000_000_000
	maxRate   = maxTokens * nano // of nanotokens a second
)

// Entry is what a gateway's report tells of one bucket. Its totals count from the
// time when the gateway opened the account, so whatever was lost on the way is in
// the next one, and one that comes twice tells nothing new.
type Entry struct {
	// Account numbers what the gateway has opened for this bucket, one after the
	// other: a later one has a higher number.
	Account int64
	// Granted is the highest Share.Granted that the gateway has seen, Used what it
	// has spent or given back, and Returned what it has given back.
	Granted, Used, Returned int64
	// Told is the Used of the last entry that was answered.
	Told int64

	// Wanted is how many requests have asked, those that were refused included, in
	// the time Over before the report, in nanoseconds.
	Wanted, Over int64
	// Spare is how many units the gateway would like to hold though it is idle: 1
	// where it has no standing credit, so that its next request need not wait.
	Spare int64

	// Part is the number of the part of a rate limit that the gateway acts on.
	Part int64
	// Dropped says that, as from this report, it acts on no part any more, and
	// Tokens how many that part then held.
	Dropped bool
	Tokens  int64
}

// Share answers an Entry.
type Share struct {
	// Account is that of the entry. It is 0 if the bucket has no room for another
	// gateway, or if the gateway has since opened a newer account.
	Account int64
	// Granted is how many units the gateway was ever given for this account.
	Granted int64
	// Keep is how many unspent units it may go on holding. What is above it is to be
	// given back with the next report, because others wait for it.
	Keep int64
	// Lasts is for how long this answer lasts, in nanoseconds from when the gateway
	// sent the report.
	Lasts int64

	// Part numbers the gateway's part of a rate limit: a token bucket of its own,
	// that holds Capacity tokens and makes one in each Interval nanoseconds. A part
	// that is new to the gateway takes the place of the last one, keeps the tokens of
	// that and gets Fill more, up to its capacity. Interval 0 is no part.
	Part, Interval, Capacity, Fill int64

	// Left is how much the plan has left besides what gateways hold, for nobody in
	// particular, and Reset is when that will next grow, in nanoseconds from now.
	Left, Reset int64

	// Tell is how many nanoseconds are to pass, from when the gateway sent the report,
	// until it tells what it has used since; 0 is until its next usual report.
	Tell int64
	// After is in how many nanoseconds the last of the units may be used that are new to
	// the gateway; 0 is at once.
	After int64
}

// account is what is known of one gateway's dealings with one bucket.
type account struct {
	tenure, number          int64
	granted, used, returned int64
	// until is when the share ends here.
	until int64
	// want is what the gateway lately wanted, in nanotokens a second, and spare as
	// in Entry.
	want, spare int64
	// credit is the standing credit of the gateway's tenure.
	credit int64

	part part // of a rate limit
}

// balance is what the gateway holds as far as is known here. It is negative where
// the gateway has used its standing credit.
func (a *account) balance() int64 {
	return a.granted - a.used
}

// tell takes an entry's totals in. What was spent since the last one is returned,
// and what was given back.
func (a *account) tell(e *Entry) (spent, returned int64) {
	// More than was ever granted is told only to a store that has lost something.
	a.granted = max(a.granted, e.Granted)
	more := max(0, e.Used-a.used)
	returned = min(more, max(0, e.Returned-a.returned))
	a.used += more
	a.returned = max(a.returned, e.Returned)
	return more - returned, returned
}

// ask takes in what the entry wants.
func (a *account) ask(e *Entry, now int64) {
	a.until = now + held
	a.spare = min(1, max(0, e.Spare))
	over := max(e.Over, second/20)
	wanted := min(e.Wanted, maxTokens) * nano
	want := min(maxRate, mulDiv(wanted, second, over))
	expected := min(maxRate, mulDiv(a.want, over, second))
	switch {
	case wanted == 0 && over >= second/2:
		a.want = 0
	case a.want == 0 || wanted > add(expected, chance(expected)) || over >= second/2 && add(wanted, chance(wanted)) < expected:
		// What chance does not explain is believed at once. But requests come in
		// bursts: that few came in a short time says little.
		a.want = want
	default:
		// The rest in the course of some seconds.
		change := mulDiv(max(want, a.want)-min(want, a.want), min(over, second), 2*second)
		if want < a.want {
			change = -change
		}
		a.want += change
	}
}

// chance is by how much a number of requests may well differ by chance, in nanotokens.
func chance(requests int64) int64 {
	return 4*headroom(requests) + 2*nano
}

// asks reports whether a's want is still to be believed.
func (a *account) asks(now int64) bool {
	return a.want > 0 && a.until-held+fresh > now
}

// accounts are those of a bucket, in order of tenures, each with one.
type accounts []account

// open returns the account of an entry, a new one if there is none. The account
// that this replaces is returned too. It returns nil for an entry of an account
// that was replaced itself, and for one that there is no room for.
func (as *accounts) open(tenure int64, e *Entry) (a *account, old account) {
	place, found := as.place(tenure)
	if found {
		a = &(*as)[place]
		if e.Account == a.number {
			return a, account{}
		}
		if e.Account < a.number {
			return nil, account{}
		}
		old = *a
	} else {
		if len(*as) >= MaxAccounts {
			return nil, account{}
		}
		*as = slices.Insert(*as, place, account{})
		a = &(*as)[place]
	}
	// The gateway's word is taken for what happened before. What it was granted it
	// has used up by the time that its share ended here, which was consumed then, and
	// what it has told since was consumed when it told it.
	*a = account{
		tenure:   tenure,
		number:   e.Account,
		granted:  e.Granted,
		used:     min(e.Used, max(e.Told, min(e.Used, e.Granted))),
		returned: e.Returned,
		part:     part{number: e.Part},
	}
	return a, old
}

// place returns where a tenure's account is, or would be.
func (as accounts) place(tenure int64) (place int, found bool) {
	return slices.BinarySearchFunc(as, tenure, func(a account, tenure int64) int {
		return cmp.Compare(a.tenure, tenure)
	})
}

// of returns the place of the account that an entry is of, unless there is none, or
// another one by now.
func (as accounts) of(tenure Tenure, e *Entry) (place int, found bool) {
	place, found = as.place(tenure.Number)
	return place, found && as[place].number == min(maxTotal, max(0, e.Account))
}

// clean returns e with numbers in their bounds.
func (e Entry) clean() Entry {
	for _, n := range []*int64{&e.Account, &e.Granted, &e.Used, &e.Returned, &e.Told, &e.Wanted, &e.Part, &e.Tokens} {
		*n = min(maxTotal, max(0, *n))
	}
	return e
}

// needs are what accounts need of a pool, each at its place among them.
type needs struct {
	each []int64
	sum  int64

	// at is the level for a pool, if it is known.
	known    bool
	pool, at int64
}

// of empties the needs, for so many accounts.
func (n *needs) of(accounts int) {
	*n = needs{each: slices.Grow(n.each[:0], accounts)}
}

// put adds what the next account needs.
func (n *needs) put(need int64) {
	n.each = append(n.each, need)
	n.sum = add(n.sum, need)
}

// set changes what an account needs. The sum of needs that are set is far from the
// largest number.
func (n *needs) set(place int, need int64) {
	if old := n.each[place]; need != old {
		n.each[place] = need
		n.sum += need - old
		n.known = false
	}
}

// level is that of the needs.
func (n *needs) level(pool int64) int64 {
	if n.sum <= pool {
		return math.MaxInt64
	}
	if !n.known || n.pool != pool {
		n.known, n.pool, n.at = true, pool, level(pool, n.each)
	}
	return n.at
}

// divide divides a pool of units, and returns the part of the account at a place, that
// wishes for so many spare ones. Those come after all that others want to spend.
func (n *needs) divide(pool int64, place int, spare int64) int64 {
	mine := n.each[place]
	switch {
	case mine > 0:
		return min(mine, n.level(pool))
	case n.sum < pool:
		return spare
	}
	return 0
}

// level returns how much each may have at most so that all of a pool is used and
// nobody has less than another who wants more: max-min fairness, rounded up. It is
// unlimited if there is enough for all.
func level(pool int64, needs []int64) int64 {
	var count, sum int64
	for _, need := range needs {
		if need > 0 {
			count++
			sum = add(sum, need)
		}
	}
	if sum <= pool {
		return math.MaxInt64
	}
	if pool <= 0 {
		return 0
	}
	at := (pool + count - 1) / count
	for {
		// Those who want no more than the level leave the rest to the others.
		rest, others := pool, count
		for _, need := range needs {
			if need > 0 && need <= at {
				rest -= need
				others--
			}
		}
		if others == 0 {
			return at
		}
		next := (rest + others - 1) / others
		if next <= at {
			return at
		}
		at = next
	}
}

// add returns a + b, or the largest number for a sum that is larger.
func add(a, b int64) int64 {
	if sum := a + b; sum >= a {
		return sum
	}
	return math.MaxInt64
}

// mulDiv returns a × b ÷ c, rounded down, or the largest number if it is larger. None
// may be negative, and c not 0.
func mulDiv(a, b, c int64) int64 {
	hi, lo := bits.Mul64(uint64(a), uint64(b))
	if hi >= uint64(c) {
		return math.MaxInt64
	}
	quotient, _ := bits.Div64(hi, lo, uint64(c))
	if quotient > math.MaxInt64 {
		return math.MaxInt64
	}
	return int64(quotient)
}

// mulDivUp is mulDiv rounded up.
func mulDivUp(a, b, c int64) int64 {
	hi, lo := bits.Mul64(uint64(a), uint64(b))
	if hi >= uint64(c) {
		return math.MaxInt64
	}
	quotient, rest := bits.Div64(hi, lo, uint64(c))
	if rest > 0 {
		quotient++
	}
	if quotient > math.MaxInt64 {
		return math.MaxInt64
	}
	return int64(quotient)
}
