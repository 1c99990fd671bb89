package quota

// Quota admits at most Limit requests in any window of Period microseconds.
// Limit 0 denies every request.
type Quota struct {
	Limit  int64
	Period int64
}

// A window is kept in slots of a 64th of the period. A slot is counted until the
// last request that can be in it has left the window, so the first gets its
// capacity back late by at most that 64th, and no request gets it back early.
const slotsPerPeriod = 64

// maxSlots bounds a window's memory. With one period a window has 65 slots; the
// rest is room for those left over from another period.
const maxSlots = 2 * slotsPerPeriod

// Window is the state of a quota; the zero value is an unused one.
type Window struct {
	// slots are in order of time, and none is empty.
	slots []slot
	// total is the sum over slots.
	total int64
	// at is the latest time seen.
	at int64
}

// slot counts the requests that were admitted before end and not before the end
// of the slot in front of it.
type slot struct {
	end   int64
	count int64
}

// expire brings w forward to now.
func expire(w *Window, q *Quota, now int64) {
	if now > w.at {
		w.at = now
	}
	left := 0
	for left < len(w.slots) && w.slots[left].end+q.Period <= w.at {
		w.total -= w.slots[left].count
		left++
	}
	if left > 0 {
		w.slots = w.slots[:copy(w.slots, w.slots[left:])]
	}
}

// count adds one request to w at the latest time seen.
func count(w *Window, q *Quota) {
	w.total++
	last := len(w.slots) - 1
	if last >= 0 && w.at < w.slots[last].end {
		w.slots[last].count++
		return
	}
	if len(w.slots) == maxSlots {
		// Left over from shorter periods: as one slot, the oldest two are
		// given back late rather than early.
		w.slots[1].count += w.slots[0].count
		w.slots = w.slots[:copy(w.slots, w.slots[1:])]
	}
	width := (q.Period + slotsPerPeriod - 1) / slotsPerPeriod
	w.slots = append(w.slots, slot{end: w.at + width, count: 1})
}

// requestsLeft returns how many requests w has room for.
func requestsLeft(w *Window, q *Quota) int64 {
	if w.total >= q.Limit {
		return 0
	}
	return q.Limit - w.total
}

// untilRoom returns the time until requestsLeft grows next: 0 for an unused
// quota, and a whole period where no time helps because the limit is 0.
func untilRoom(w *Window, q *Quota) int64 {
	if q.Limit == 0 {
		return q.Period
	}
	goal := w.total
	if goal > q.Limit {
		goal = q.Limit
	}
	total := w.total
	for i := range w.slots {
		total -= w.slots[i].count
		if total < goal {
			return w.slots[i].end + q.Period - w.at
		}
	}
	return 0
}
