package shares

import "math/bits"

// Holding is a gateway's side of an account: what it holds of one bucket. It keeps to
// what an interpreter of Go can run, so that gateways may have it line by line. All
// times are those of the gateway's own clock, which must not be one that can be set.
//
// A gateway makes one when a request asks for a bucket that it has none of, numbered
// higher than any before, and forgets it when Closed says so. One goroutine at a time
// may use it.
type Holding struct {
	Account int64
	// granted − used is what it holds; below 0 is debt, as far as the standing credit
	// allows.
	granted, used, returned, told int64
	keep                          int64
	until                         int64 // when all that it holds ends

	// The part of a rate limit: a token bucket that is full at fullAt, makes a token
	// in each interval, 0 for none, and is empty depth before it is full.
	part, interval, depth, fullAt int64

	wanted  int64 // requests since the last report
	since   int64 // when that was sent
	asked   int64 // when the last request came
	sent    int64 // used, as that report told it
	sentEnd int64 // the part of which it told that it is not acted on
	toldEnd int64 // the same of a report that was answered
	waiting bool  // that report was not answered yet
	hungry  bool  // a request was refused, and a report may help
	useless bool  // the last answer brought nothing, so only time will help
}

// idleSpare is for how long a gateway without standing credit would like to hold a
// spare unit after the last request.
const idleSpare = 60 * second

// NewHolding returns a holding of nothing.
func NewHolding(account, now int64) *Holding {
	return &Holding{Account: account, since: now, asked: now}
}

// Room reports whether a request may pass. Standing is the standing credit: 0 unless
// the gateway's tenure lasts longer than now. Each request asks once, whatever comes
// of it; Spend charges it.
func Room(h *Holding, standing, now int64) bool {
	h.wanted++
	h.asked = now
	end(h, now)
	if h.interval > 0 {
		if h.fullAt < now {
			h.fullAt = now
		}
		if h.fullAt-now+h.interval <= h.depth {
			return true
		}
	}
	if h.granted-h.used > -standing {
		return true
	}
	h.hungry = true
	return false
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
	if h.used < h.granted {
		h.used = h.granted
	}
}

// Urgent reports whether a report should be sent before its time, because a request
// was refused, or the standing credit is in use, and a report may help.
func Urgent(h *Holding) bool {
	return !h.waiting && !h.useless && (h.hungry || h.used > h.granted)
}

// Closed reports whether there is nothing left to remember: it holds and owes nothing,
// an answer shows that this is known, and it does not wait for a spare unit.
func Closed(h *Holding, standing, now int64) bool {
	end(h, now)
	if h.waiting || h.wanted > 0 || h.interval > 0 || h.granted != h.used {
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
func Report(h *Holding, standing, now int64) Entry {
	end(h, now)
	idle := h.wanted == 0 && now-h.since >= second/2
	spare := spareUnit(h, standing, now)
	keep := h.keep
	if idle && keep > spare {
		keep = spare
	}
	if more := h.granted - h.used - keep; more > 0 {
		h.used += more
		h.returned += more
	}
	e := Entry{
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
	h.hungry = false
	return e
}

// Apply takes in the answer to the last report. SentAt is when that was sent; if it was
// sent several times, then what was answered.
func Apply(h *Holding, s Share, sentAt, now int64) {
	h.waiting = false
	if s.Account != h.Account {
		return
	}
	h.told = h.sent
	h.toldEnd = h.sentEnd
	until := sentAt + s.Lasts
	if until <= now {
		return
	}
	end(h, now)
	h.useless = s.Granted <= h.granted && s.Part <= h.part
	if h.until < until {
		h.until = until
	}
	if h.granted < s.Granted {
		h.granted = s.Granted
	}
	h.keep = s.Keep
	if s.Part > h.part {
		exchange(h, s, now)
	}
}

// exchange puts another part in the place of the present one.
func exchange(h *Holding, s Share, now int64) {
	held := int64(0)
	if h.interval > 0 {
		held = tokens(h, now)
	}
	h.part = s.Part
	h.interval = s.Interval
	h.depth = s.Interval * s.Capacity
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
