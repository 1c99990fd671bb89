package ledger

import (
	"maps"
	"slices"
	"time"

	"github.com/tollgate-apim/tollgate/usage"
)

const (
	// maxDoubts and maxDoubtRows are how many reports may be in doubt at a time,
	// and how many rows they may have together.
	maxDoubts    = 1_000
	maxDoubtRows = 1 << 20
	// maxDoubtTries is how many attempts at one report are remembered: more than a
	// gateway makes while it is in doubt.
	maxDoubtTries = 500
	// doubtFor is for how long one may be in doubt. What is not found in the store
	// after that never got there.
	doubtFor = time.Hour
)

// doubt is a report of which the store has not said whether it was taken. Its
// gateway sends it again, here or elsewhere; if it had been taken by one of our
// attempts, it is answered as a duplicate there, and it is here that it must be
// summed.
type doubt struct {
	rows     []usage.Row
	attempts []string
	since    time.Time
}

// doubts are reports in doubt, by gateway and sequence number. They are no longer
// once it is known who has taken them.
type doubts struct {
	of          map[string]map[int64]*doubt
	count, rows int
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
	if d.count == maxDoubts || d.rows+len(r.Usage) > maxDoubtRows {
		return false
	}
	if d.of[r.Instance] == nil {
		d.of[r.Instance] = map[int64]*doubt{}
	}
	d.of[r.Instance][r.Sequence] = &doubt{rows: r.Usage, attempts: []string{attempt}, since: now}
	d.count, d.rows = d.count+1, d.rows+len(r.Usage)
	return true
}

func (d *doubts) remove(instance string, sequence int64) {
	d.count, d.rows = d.count-1, d.rows-len(d.of[instance][sequence].rows)
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
	l.log.Error("a report may have been taken here and is not summed, because the store did not say so for too long",
		"instance", instance, "sequence", sequence, "requests", requests)
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
