package quota

import "math/bits"

// RateLimit is a token bucket that gains Limit tokens each Period and holds at
// most Burst. Limit and Burst are 1 to 1e9, Period 1 to 3.6e9 microseconds (an
// hour): within these bounds no product below leaves 63 bits.
type RateLimit struct {
	Limit  int64
	Period int64
	Burst  int64
}

// Tokens is the state of a token bucket; the zero value is a full one.
//
// A token is divided into Period parts, of which each microsecond brings back
// Limit. So all arithmetic is on whole numbers and exact: in any time t no more
// than Burst + Limit × t ÷ Period tokens are spent.
type Tokens struct {
	// spent is what the bucket lacks of being full, in parts.
	spent int64
	// period is the Period that spent is measured by.
	period int64
	// at is the latest time seen.
	at int64
}

// refill brings t forward to now.
func refill(t *Tokens, l *RateLimit, now int64) {
	if t.period != l.Period {
		t.spent = rescale(t.spent, t.period, l.Period)
		t.period = l.Period
	}
	if now <= t.at {
		return
	}
	elapsed := now - t.at
	t.at = now
	if t.spent/l.Limit < elapsed {
		t.spent = 0
		return
	}
	t.spent -= elapsed * l.Limit
}

// rescale converts parts of one period into parts of another, rounded up.
func rescale(spent, from, to int64) int64 {
	if spent == 0 {
		return 0
	}
	hi, lo := bits.Mul64(uint64(spent), uint64(to))
	scaled, rest := bits.Div64(hi, lo, uint64(from))
	if rest > 0 {
		scaled++
	}
	return int64(scaled)
}

// tokensLeft returns how many whole tokens t holds.
func tokensLeft(t *Tokens, l *RateLimit) int64 {
	parts := l.Burst*l.Period - t.spent
	if parts < l.Period {
		return 0
	}
	return parts / l.Period
}

// spend takes one token; there must be one.
func spend(t *Tokens, l *RateLimit) {
	t.spent += l.Period
}

// untilToken returns the time until t holds one more whole token, or 0 for a
// full bucket.
func untilToken(t *Tokens, l *RateLimit) int64 {
	lacking := t.spent - (l.Burst-1-tokensLeft(t, l))*l.Period
	if lacking <= 0 || t.spent == 0 {
		return 0
	}
	return (lacking + l.Limit - 1) / l.Limit
}

// untilFull returns the time until t is full again.
func untilFull(t *Tokens, l *RateLimit) int64 {
	return (t.spent + l.Limit - 1) / l.Limit
}
