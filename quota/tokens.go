package quota

import (
	"math/bits"
	"time"
)

// RateLimit is a token bucket that is refilled at limit tokens each period and
// holds at most burst of them.
//
// It is kept by the generic cell rate algorithm, in which the state of a bucket
// is one number: the time at which it will be full again. A token costs an
// interval, the period divided by the limit and rounded up to a nanosecond, so
// that in any time t no more than burst + limit × t ÷ period tokens are spent.
type RateLimit struct {
	interval int64 // nanoseconds in which one token comes back
	depth    int64 // burst intervals: what fills an empty bucket
	room     int64 // the largest backlog with which there still is a token
}

// maxDepth bounds a bucket so that no sum of times overflows. It is 73 years.
const maxDepth = 1 << 61

// NewRateLimit returns a rate limit. Limit and burst must be 1 or more, and
// period positive.
func NewRateLimit(limit, burst int64, period time.Duration) *RateLimit {
	l := &RateLimit{interval: (int64(period) + limit - 1) / limit}
	l.depth = scale(burst, l.interval, 1)
	l.room = l.depth - l.interval
	return l
}

// remeasure makes l the limit that c is measured by, with as many tokens spent
// as before.
func remeasure(c *Counter, l *RateLimit, now int64) {
	if backlog := c.fullAt - now; c.interval == 0 {
		c.fullAt = now
	} else if backlog > 0 {
		c.fullAt = now + scale(backlog, l.interval, c.interval)
	}
	c.interval = l.interval
}

// scale returns a × b ÷ c, rounded up and at most maxDepth.
func scale(a, b, c int64) int64 {
	hi, lo := bits.Mul64(uint64(a), uint64(b))
	if hi >= uint64(c) {
		return maxDepth
	}
	quotient, rest := bits.Div64(hi, lo, uint64(c))
	if quotient >= maxDepth {
		return maxDepth
	}
	if rest > 0 {
		quotient++
	}
	return int64(quotient)
}

// tokensLeft returns how many tokens the bucket of c holds, and the time until it
// holds one more: 0 if it is full.
func tokensLeft(c *Counter, l *RateLimit, now int64) (left, reset int64) {
	left = 0
	backlog := c.fullAt - now
	if backlog <= 0 {
		return l.depth / l.interval, 0
	}
	if backlog <= l.depth {
		left = (l.depth - backlog) / l.interval
	}
	return left, backlog - l.depth + (left+1)*l.interval
}
