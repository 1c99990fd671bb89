// Package holding is a gateway's side of limits that several gateways share: what
// it holds of each bucket, and what it tells of that in reports. holding.go has the
// arithmetic of one bucket, standing.go what may pass before there is an answer,
// take.go what requests pass through, and store.go the holdings of all buckets.
//
// What a gateway holds it may spend without asking anybody, until it ends. It ends
// here before it ends for the control plane, which counts as spent what it does not
// know to be given back. So gateways never let more pass together than the plan.
//
// Time is an argument: nanoseconds on a clock that nobody can set. As in package
// quota, what most requests need is straight code, because it is interpreted.
package holding

import (
	"math/bits"
	"sync"

	"github.com/tollgate-apim/tollgate/usage"
)

const (
	second = int64(1_000_000_000)
	// nano is how many nanotokens a token has.
	nano = 1_000_000_000
)

// Holding is what a gateway holds of one bucket, and an account of it. The functions
// of this file want it locked, or used by one goroutine at a time.
type Holding struct {
	// number orders holdings, so that two are always locked in one order.
	number       int64
	kind, bucket string

	sync.Mutex // as in quota.Counter

	// Account is what entries call it. A later one of the same bucket has a higher
	// number.
	Account int64
	// granted − used is what it holds; below 0 is debt, as far as the standing credit
	// allows.
	granted, used, returned, told int64
	keep                          int64
	until                         int64 // when all that it holds ends

	// The part of a rate limit: a token bucket that is full at fullAt, makes a token
	// in each interval, and is empty depth before it is full. Where there is no part,
	// interval is 0 and depth −1.
	part, interval, depth, fullAt int64

	wanted  int64 // requests since the last report
	since   int64 // when that was sent
	asked   int64 // when the last report was sent that had requests to tell of
	sent    int64 // used, as the last report told it
	sentEnd int64 // the part of which it told that it is not acted on
	toldEnd int64 // the same of a report that was answered
	waiting bool  // that report was not answered yet
	hungry  bool  // a request was refused, and a report may help
	needy   bool  // the last report told of a refusal, or of debt
	useless bool  // the last answer to that brought nothing, so only time will help
	tells   bool  // what is used is to be told before the next usual report
	soonest int64 // when another report may help, before the next usual one

	// Until ripe the last of the units may not be used yet.
	ripe int64

	// left is how much the plan has left for nobody in particular, and grows when
	// that will next grow, as the last answer said.
	left, grows int64

	// Until shut no request passes, unless an answer comes before, and opens is when
	// that may change: what Take has found out for those that come next.
	shut, opens int64

	// What follows is for the store.

	plan    string // namespace/name
	reserve int64  // of the plan, for standing credits
	horizon int
	tenure  int64 // in which the account was opened; 0 before any
	listed  bool  // among those that reports tell of
	hurried bool  // a report was asked for since the last one
	dropped bool  // the store no longer knows it
}

// idleSpare is for how long a gateway without standing credit would like to hold a
// spare unit after the last request.
const idleSpare = 60 * second

// A gateway that is given units one by one reports after the time pace again, if it
// needs more, and after no less than minPace if it is told to be quicker. All
// reports tell of a holding if none has for the time recent.
const (
	pace    = second / 5
	minPace = second / 10
	recent  = second / 2
)

// forever is later than all times.
const forever = 1<<63 - 1

// NewHolding returns a holding of nothing.
func NewHolding(account, now int64) *Holding {
	return &Holding{Account: account, since: now, asked: now, depth: -1}
}

// reopen makes h a holding of nothing again, with another account.
func reopen(h *Holding, account, now int64) {
	h.Account = account
	h.granted, h.used, h.returned, h.told = 0, 0, 0, 0
	h.keep, h.until = 0, 0
	h.part, h.interval, h.depth, h.fullAt = 0, 0, -1, 0
	h.wanted, h.since, h.asked, h.sent = 0, now, now, 0
	h.sentEnd, h.toldEnd = 0, 0
	h.waiting, h.hungry, h.needy, h.useless, h.hurried = false, false, false, false, false
	h.soonest, h.ripe = 0, 0
	h.left, h.grows = 0, 0
	h.shut = 0
}

// Room reports whether a request may pass. Standing is the standing credit: 0 unless
// the gateway's tenure lasts longer than now. Each request asks once, whatever comes
// of it; Spend charges it.
func Room(h *Holding, standing, now int64) bool {
	h.wanted++
	end(h, now)
	if h.interval > 0 {
		if h.fullAt < now {
			h.fullAt = now
		}
		if h.fullAt-now+h.interval <= h.depth {
			return true
		}
	}
	if usable(h, now) > -standing {
		return true
	}
	h.hungry = true
	return false
}

// usable returns how many units may be used.
func usable(h *Holding, now int64) int64 {
	if now < h.ripe {
		return h.granted - h.used - 1
	}
	return h.granted - h.used
}

// Spend charges a request for which there is Room.
func Spend(h *Holding, now int64) {
	if h.interval > 0 && h.fullAt-now+h.interval <= h.depth {
		h.fullAt += h.interval
		return
	}
	h.used++
}

// end takes away what has ended by the time now.
func end(h *Holding, now int64) {
	if now < h.until {
		return
	}
	h.interval = 0
	h.depth = -1
	if h.used < h.granted {
		h.used = h.granted
	}
}

// Urgent reports whether a report should be sent before its time, because a request
// was refused, the standing credit is in use, or others wait to hear what is used, and a
// report may help.
func Urgent(h *Holding, now int64) bool {
	if h.waiting || now < h.soonest {
		return false
	}
	return h.hungry || h.used > h.granted || h.tells && h.used > h.sent
}

// Due reports whether a report should tell of h that is made before its time, maybe for
// the sake of another bucket: not if the last one was a moment ago.
func Due(h *Holding, now int64) bool {
	return h.until == 0 || now-h.since >= recent || Urgent(h, now)
}

// Closed reports whether there is nothing left to remember: it holds and owes nothing,
// an answer shows that this is known, and it does not wait for a spare unit.
func Closed(h *Holding, standing, now int64) bool {
	end(h, now)
	if h.waiting || h.wanted > 0 || h.interval > 0 || h.granted != h.used || now < h.ripe {
		return false
	}
	return h.told == h.used && h.toldEnd == h.part && spareUnit(h, standing, now) == 0
}

// spareUnit returns 1 if an idle gateway would like to hold a unit for its next
// request.
func spareUnit(h *Holding, standing, now int64) int64 {
	if standing == 0 && now-h.asked < idleSpare {
		return 1
	}
	return 0
}

// Report returns what a report that is sent now tells of the holding. What it gives
// back, it does not use any more.
func Report(h *Holding, standing, now int64) usage.Entry {
	end(h, now)
	idle := h.wanted == 0 && now-h.since >= second/2
	if h.wanted > 0 {
		h.asked = now
	}
	spare := spareUnit(h, standing, now)
	keep := h.keep
	if idle && keep > spare {
		keep = spare
	}
	if more := h.granted - h.used - keep; more > 0 {
		h.used += more
		h.returned += more
	}
	e := usage.Entry{
		Kind:     h.kind,
		Bucket:   h.bucket,
		Plan:     h.plan,
		Account:  h.Account,
		Granted:  h.granted,
		Used:     h.used,
		Returned: h.returned,
		Told:     h.told,
		Wanted:   h.wanted,
		Over:     now - h.since,
		Spare:    spare,
		Part:     h.part,
	}
	if idle && h.interval > 0 {
		e.Tokens = tokens(h, now) / nano
		h.interval = 0
		h.depth = -1
	}
	h.sentEnd = 0
	if h.interval == 0 {
		e.Dropped = true
		h.sentEnd = h.part
	}
	h.wanted = 0
	h.since = now
	h.sent = h.used
	h.waiting = true
	h.needy = h.hungry || h.used > h.granted
	h.hungry = false
	h.hurried = false
	return e
}

// Apply takes in the answer to the last report. SentAt is when that was sent; if it was
// sent several times, then what was answered.
func Apply(h *Holding, s *usage.Share, sentAt, now int64) {
	h.waiting = false
	h.shut = 0
	if s.Account != h.Account {
		h.useless = true
		h.soonest = forever
		return
	}
	h.told = h.sent
	h.toldEnd = h.sentEnd
	until := sentAt + s.Lasts
	if until <= now {
		return
	}
	end(h, now)
	judge(h, s)
	more := s.Granted - h.granted
	if h.until < until {
		h.until = until
	}
	if h.granted < s.Granted {
		h.granted = s.Granted
		h.ripe = now + s.After
	}
	h.tells = s.Tell > 0
	h.keep = s.Keep
	h.left = s.Left
	h.grows = now + s.Reset
	if h.grows < now {
		h.grows = 1<<63 - 1
	}
	if s.Part > h.part {
		exchange(h, s, now)
		h.soonest = 0
	} else {
		h.soonest = nextReport(h, s, more, sentAt)
	}
}

// judge finds out whether another report would help. That an answer brings nothing tells
// nothing if the gateway had all that it wanted.
func judge(h *Holding, s *usage.Share) {
	if s.Granted > h.granted || s.Part > h.part {
		h.useless = false
	} else if h.needy {
		h.useless = true
	} else if h.interval == 0 && s.Left > 0 {
		h.useless = false
	}
}

// nextReport returns when another report may help after an answer that has brought so
// many units more, and no other part.
func nextReport(h *Holding, s *usage.Share, more, sentAt int64) int64 {
	if h.interval > 0 {
		// A part makes its tokens without reports.
		return forever
	}
	next := sentAt + pace
	if h.tells {
		next = sentAt + s.Tell
		if s.Tell < minPace {
			next = sentAt + minPace
		}
	} else if !h.useless && more != 1 {
		return 0
	}
	if h.useless && next < h.grows {
		next = h.grows
	}
	return next
}

// unanswered takes in that the last report brought no answer for h: the next one
// tells the same, and need not hurry. How long that will take nobody knows.
func unanswered(h *Holding) {
	h.waiting = false
	h.shut = 0
	h.soonest = forever
	if !h.useless {
		h.useless = true
		h.grows = 0
	}
}

// exchange puts another part in the place of the present one.
func exchange(h *Holding, s *usage.Share, now int64) {
	held := int64(0)
	if h.interval > 0 {
		held = tokens(h, now)
	}
	h.part = s.Part
	h.interval = s.Interval
	h.depth = s.Interval * s.Capacity
	if h.interval == 0 {
		h.depth = -1
		return
	}
	held += s.Fill * nano
	missing := s.Capacity*nano - held
	if missing < 0 {
		missing = 0
	}
	h.fullAt = now + scaleUp(missing, s.Interval, nano)
}

// tokens returns what is in the part, in nanotokens, rounded down.
func tokens(h *Holding, now int64) int64 {
	backlog := h.fullAt - now
	if backlog < 0 {
		backlog = 0
	}
	if backlog > h.depth {
		backlog = h.depth
	}
	hi, lo := bits.Mul64(uint64(h.depth-backlog), nano)
	quotient, _ := bits.Div64(hi, lo, uint64(h.interval))
	return int64(quotient)
}

// scaleUp returns a × b ÷ c, rounded up.
func scaleUp(a, b, c int64) int64 {
	hi, lo := bits.Mul64(uint64(a), uint64(b))
	quotient, rest := bits.Div64(hi, lo, uint64(c))
	if rest > 0 {
		quotient++
	}
	return int64(quotient)
}
