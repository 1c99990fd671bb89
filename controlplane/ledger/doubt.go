package ledger

import (
	"maps"
	"slices"
	"time"

	"github.com/tollgate-apim/tollgate/usage"
)

const (
	// maxDoubts is how many reports may be in doubt at a time, and maxDoubtBytes about
	// how many bytes of memory their rows may take together.
	maxDoubts     = 1_000
	maxDoubtBytes = 128 << 20
	// rowBytes is what a row takes besides its texts.
	rowBytes = 128
	// maxDoubtTries is how many attempts at one report are remembered: more than a
	// gateway makes while it is in doubt.
	maxDoubtTries = 500
	// doubtFor is for how long one may be in doubt. What is not found in the store
	// after that never got there.
	doubtFor = time.Hour
	// tellLossesEvery is how often the log tells of reports that were given up.
	tellLossesEvery = 10 * time.Second
)

// doubt is a report of which the store has not said whether it was taken. Its
// gateway sends it again, here or elsewhere; if it had been taken by one of our
// attempts, it is answered as a duplicate there, and it is here that it must be
// summed.
type doubt struct {
	rows     []usage.Row
	bytes    int // of rows
	attempts []string
	since    time.Time
}

// doubts are reports in doubt, by gateway and sequence number. They are no longer
// once it is known who has taken them.
type doubts struct {
	of           map[string]map[int64]*doubt
	count, bytes int
}

func newDoubts() doubts { return doubts{of: map[string]map[int64]*doubt{}} }

// add notes an attempt, or is false if there is no room for it.
func (d *doubts) add(r *usage.Report, attempt string, now time.Time) bool {
	if known := d.of[r.Instance][r.Sequence]; known != nil {
		if len(known.attempts) == maxDoubtTries {
			return false
		}
		known.attempts = append(known.attempts, attempt)
		return true
	}
	bytes := bytesOf(r.Usage)
	if d.count == maxDoubts || d.bytes+bytes > maxDoubtBytes {
		return false
	}
	if d.of[r.Instance] == nil {
		d.of[r.Instance] = map[int64]*doubt{}
	}
	d.of[r.Instance][r.Sequence] = &doubt{rows: r.Usage, bytes: bytes, attempts: []string{attempt}, since: now}
	d.count, d.bytes = d.count+1, d.bytes+bytes
	return true
}

// bytesOf returns about how many bytes of memory rows take.
func bytesOf(rows []usage.Row) int {
	bytes := 0
	for i := range rows {
		r := &rows[i]
		bytes += rowBytes + len(r.API) + len(r.Application) + len(r.KeyTitle) + len(r.Subscription) + len(r.Plan) + len(r.Reason)
	}
	return bytes
}

func (d *doubts) remove(instance string, sequence int64) {
	d.count, d.bytes = d.count-1, d.bytes-d.of[instance][sequence].bytes
	delete(d.of[instance], sequence)
	if len(d.of[instance]) == 0 {
		delete(d.of, instance)
	}
}

// instances returns the gateways with a report in doubt.
func (d *doubts) instances() []string { return slices.Sorted(maps.Keys(d.of)) }

// expire forgets reports that have been in doubt for too long. The store must just
// have been asked: while it is away, nobody can know whether they got there.
func (d *doubts) expire(now time.Time) {
	for instance, reports := range d.of {
		for sequence, doubt := range reports {
			if now.Sub(doubt.since) >= doubtFor {
				d.remove(instance, sequence)
			}
		}
	}
}

// doubt notes an attempt of which nobody knows whether it was made.
func (l *Ledger) doubt(r *usage.Report, attempt string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.doubts.add(r, attempt, l.now()) {
		l.loseLocked(r.Instance, r.Sequence, r.Usage)
	}
}

// loseLocked gives up to find out who has taken a report.
func (l *Ledger) loseLocked(instance string, sequence int64, rows []usage.Row) {
	l.reports.Lost++
	var requests int64
	for i := range rows {
		requests = plus(requests, rows[i].Count)
	}
	if now := l.now(); l.losses.told.IsZero() || now.Sub(l.losses.told) >= tellLossesEvery {
		l.tellLossesLocked()
		l.losses.told = now
		l.log.Error("a report may have been taken here and is not summed, because the store did not say so for too long, or there are too many of them",
			"instance", instance, "sequence", sequence, "requests", requests)
		return
	}
	l.losses.reports++
	l.losses.requests = plus(l.losses.requests, requests)
}

// losses are reports that were given up and of which the log has not told.
type losses struct {
	reports, requests int64
	told              time.Time // when it last told of some
}

// tellLossesLocked tells of losses that were not told, if it is time for that.
func (l *Ledger) tellLossesLocked() {
	n, now := &l.losses, l.now()
	if n.reports == 0 || now.Sub(n.told) < tellLossesEvery {
		return
	}
	l.log.Error("more reports may have been taken here and are not summed", "attempts", n.reports, "requests", n.requests)
	*n = losses{told: now}
}

// settle sums those reports in doubt that the record of their gateway shows to
// have been taken here, and forgets those that were taken elsewhere. It returns the
// sequence number of the last report that was taken, as far as anybody knows: the
// store may have lost what this ledger remembers.
func (l *Ledger) settle(instance string, rec record) (last int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for sequence, doubt := range l.doubts.of[instance] {
		switch {
		case rec.has(sequence, doubt.attempts...):
			l.acceptLocked(doubt.rows)
		case sequence > rec.last():
			continue // It may still be taken.
		case !rec.reaches(sequence):
			l.loseLocked(instance, sequence, doubt.rows)
		}
		l.doubts.remove(instance, sequence)
	}
	return max(rec.last(), l.gateways.last(instance))
}
