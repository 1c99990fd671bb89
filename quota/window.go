package quota

import (
	"math"
	"time"
)

// Quota admits at most Limit requests in any window of Period nanoseconds. Limit
// 0 denies every request.
type Quota struct {
	Limit  int64
	Period int64

	width int64 // of a slot
}

// A window is kept in slots of a 64th of the period. A slot is counted until the
// last request that can be in it has left the window. So no request gives its
// capacity back early, and the first of a slot gives it back late by a 64th of
// the period.
const slotsPerPeriod = 64

// maxSlots bounds a window's memory. With one period a window has 65 slots; the
// rest is room for those left over from another period.
const maxSlots = 2 * slotsPerPeriod

// NewQuota returns a quota. Limit must not be negative, and period positive.
func NewQuota(limit int64, period time.Duration) *Quota {
	return &Quota{Limit: limit, Period: int64(period), width: (int64(period) + slotsPerPeriod - 1) / slotsPerPeriod}
}

// window is what a counter has consumed of a quota; the zero value is nothing.
type window struct {
	// total is the sum over all slots.
	total int64
	// open is the count of the newest slot, and end is when that one closes.
	open, end int64
	// closed holds the older slots in order of time. None is empty.
	closed []slot
	// expiry is when the oldest slot leaves the window, by the period that
	// the window was last measured by.
	expiry, period int64
}

// slot counts the requests that were admitted before end and not before the end
// of the slot in front of it.
type slot struct {
	end   int64
	count int64
}

// expire takes out the slots that have left the window, and makes q the quota
// that it is measured by.
func expire(w *window, q *Quota, now int64) {
	if w.period != q.Period && w.open > 0 && w.end > now+q.width {
		// The slot of a longer period: what it counts was admitted before now.
		w.end = now + q.width
	}
	left := 0
	for left < len(w.closed) && w.closed[left].end+q.Period <= now {
		w.total -= w.closed[left].count
		left++
	}
	w.closed = w.closed[:copy(w.closed, w.closed[left:])]
	if w.open > 0 && w.end+q.Period <= now {
		w.total -= w.open
		w.open = 0
	}
	w.period = q.Period
	switch {
	case len(w.closed) > 0:
		w.expiry = w.closed[0].end + q.Period
	case w.open > 0:
		w.expiry = w.end + q.Period
	default:
		w.end, w.expiry = math.MinInt64, math.MaxInt64
	}
}

// openSlot closes the newest slot and opens one that begins now.
func openSlot(w *window, q *Quota, now int64) {
	if w.open > 0 {
		if len(w.closed) == maxSlots-1 {
			// Left over from shorter periods: as one slot, the oldest two
			// are given back late rather than early.
			w.closed[1].count += w.closed[0].count
			w.closed = w.closed[:copy(w.closed, w.closed[1:])]
			w.expiry = w.closed[0].end + q.Period
		}
		w.closed = append(w.closed, slot{end: w.end, count: w.open})
	}
	w.open, w.end = 0, now+q.width
	if len(w.closed) == 0 {
		w.expiry = w.end + q.Period
	}
}

// requestsLeft returns how many requests w has room for, and the time until it
// has room for more: a whole period where no time helps because the limit is 0.
func requestsLeft(w *window, q *Quota, now int64) (left, reset int64) {
	if q.Limit == 0 {
		return 0, q.Period
	}
	left = 0
	goal := w.total
	if w.total < q.Limit {
		left = q.Limit - w.total
	} else {
		goal = q.Limit
	}
	total := w.total
	for i := range w.closed {
		total -= w.closed[i].count
		if total < goal {
			return left, w.closed[i].end + q.Period - now
		}
	}
	if w.open > 0 {
		return left, w.end + q.Period - now
	}
	return left, 0
}
