// Package ledger takes the reports of gateways in. Each counts once, however often
// and at whichever control plane it arrives; what they tell is summed, and who has
// sent them is known for a while.
//
// Whether a report has been taken is decided in the store, where all control
// planes that share it look. The sums are in the memory of the one that took it,
// and end with it.
package ledger

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/tollgate-apim/tollgate/controlplane/store"
	"github.com/tollgate-apim/tollgate/usage"
)

const (
	// DefaultSeries is how many sets of labels are told apart unless Options say
	// otherwise.
	DefaultSeries = 10_000
	// storeTimeout is how long the store may take for one report. Gateways wait
	// longer than that, and there is time left to settle what a report tells of
	// shared limits.
	storeTimeout = 2500 * time.Millisecond
	// attempts is how often a report is tried that others write to at the same
	// time.
	attempts = 5
)

// Ledger takes reports in. Any number of goroutines may use it.
type Ledger struct {
	log     *slog.Logger
	store   store.Store
	now     func() time.Time
	process string // no other control plane's

	mu        sync.Mutex
	sums      sums
	recent    recent
	gateways  gateways
	newcomers newcomers
	doubts    doubts
	losses    losses
	reports   Reports
	health    Health
	foreign   map[string]bool // instances; see noteForeign
	tries     int64
}

// Options say what a ledger works with.
type Options struct {
	Store store.Store
	Log   *slog.Logger
	// Series is how many sets of labels are told apart at most; 0 means
	// DefaultSeries.
	Series int
	// Now tells the time; nil means time.Now.
	Now func() time.Time
}

// Reports counts the reports that have arrived, by what became of them.
type Reports struct {
	// Accepted were counted.
	Accepted int64
	// Duplicate had been counted before.
	Duplicate int64
	// Refused were wrong, or behind what had been counted.
	Refused int64
	// Failed could not be counted, because the store could not be asked. They
	// come again.
	Failed int64
	// Deferred were of new gateways, when there were too many of these. They come
	// again.
	Deferred int64
	// Lost may have been counted or not, and cannot be found out about any more.
	Lost int64
}

// Health says how the store was when it was last asked.
type Health struct {
	// Failure is empty if it answered, and has done so for some seconds.
	Failure string
	// Since is when that began; zero before the store was first asked.
	Since time.Time

	asked, failed time.Time // last
}

// New returns a ledger that has counted nothing.
func New(o Options) *Ledger {
	if o.Series == 0 {
		o.Series = DefaultSeries
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Ledger{
		log: o.Log, store: o.Store, now: o.Now, process: newProcess(),
		sums: newSums(o.Series), recent: newRecent(o.Series, o.Now()), gateways: newGateways(), doubts: newDoubts(),
		foreign: map[string]bool{},
	}
}

// ErrStore says that the store could not be asked, so that a report must come
// again.
var ErrStore = errors.New("the store cannot be asked")

// BehindError says that a report has a lower sequence number than one that was
// taken before.
type BehindError struct {
	// Last is the highest that was taken.
	Last int64
}

// Error returns what is wrong, in words.
func (e *BehindError) Error() string {
	return fmt.Sprintf("the sequence number is behind: %d has been taken already", e.Last)
}

// Take counts what a report tells, unless that has been done, and returns what to
// answer. The report must be valid; the caller must not change it any more. Take
// fails with ErrStore, ErrCrowded or a *BehindError.
//
// It does not end when ctx is canceled, because nobody would know then whether the
// report was taken, but at its deadline, and after some seconds at most.
func (l *Ledger) Take(ctx context.Context, r *usage.Report) (*usage.Answer, error) {
	err := l.take(ctx, r)
	l.mu.Lock()
	defer l.mu.Unlock()
	var behind *BehindError
	switch {
	case errors.As(err, &behind):
		l.reports.Refused++
		l.gateways.seen(r, 0, l.now())
		return nil, err
	case errors.Is(err, ErrCrowded):
		l.reports.Deferred++
		return nil, err
	case err != nil:
		l.reports.Failed++
		return nil, err
	}
	return &usage.Answer{Sequence: r.Sequence, Next: l.gateways.next(l.now()).Seconds()}, nil
}

// take decides about a report in the store, and then sums it.
//
// In between the store may fail to answer, or answer that a change was not made
// because it was made at the second try. So what is written names the attempt:
// whose is found in the store has counted the report.
func (l *Ledger) take(ctx context.Context, r *usage.Report) (err error) {
	ctx, cancel := store.Within(ctx, storeTimeout)
	defer cancel()
	attempt, tried, entered := l.newAttempt(), false, false
	defer func() {
		if entered && err != nil {
			l.leave()
		}
	}()
	for range attempts {
		rec, version, err := l.read(ctx, r.Instance)
		if err != nil {
			if tried {
				l.doubt(r, attempt)
			}
			return err
		}
		last := l.settle(r.Instance, rec)
		switch {
		case tried && rec.has(r.Sequence, attempt):
			l.accept(r)
			return nil
		case r.Sequence == last:
			l.repeat(r)
			return nil
		case r.Sequence < last:
			return &BehindError{Last: last}
		case version == 0 && last == 0 && !entered:
			if err := l.enter(); err != nil {
				return err
			}
			entered = true
		}
		tried = true
		made, err := l.write(ctx, r.Instance, version, rec.with(r.Sequence, attempt))
		if err != nil {
			l.doubt(r, attempt)
			return err
		}
		if made {
			l.accept(r)
			return nil
		}
	}
	l.doubt(r, attempt)
	return fmt.Errorf("%w: others change the same record all the time", ErrStore)
}

// newAttempt returns a name that no other attempt has.
func (l *Ledger) newAttempt() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tries++
	return fmt.Sprintf("%s-%x", l.process, l.tries)
}

// accept sums what has been counted in the store.
func (l *Ledger) accept(r *usage.Report) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acceptLocked(r.Usage)
	l.gateways.seen(r, r.Sequence, l.now())
}

func (l *Ledger) acceptLocked(rows []usage.Row) {
	l.reports.Accepted++
	l.sums.add(rows)
	l.recent.add(rows, l.now())
}

// repeat notes a report that had been counted.
func (l *Ledger) repeat(r *usage.Report) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reports.Duplicate++
	l.gateways.seen(r, r.Sequence, l.now())
}

// Refuse notes a report that was so wrong that nobody could take it.
func (l *Ledger) Refuse() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reports.Refused++
}

// Reports returns how many reports have arrived.
func (l *Ledger) Reports() Reports {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.reports
}

// Requests returns the sums of what was reported, in no order.
func (l *Ledger) Requests() []Requests {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sums.list()
}

// Gateways returns those that are known, ordered by host and instance.
func (l *Ledger) Gateways() []Gateway {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.gateways.list(l.now())
}

// Busiest returns the applications and APIs that most was reported about in the
// last minute, at most so many of each.
func (l *Ledger) Busiest(most int) Busiest {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.recent.busiest(most, l.now())
}

// Health returns how the store is.
func (l *Ledger) Health() Health {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.health
}

// round is how often a ledger does by itself what is to be done.
const round = time.Second

// Run settles what is in doubt, and asks the store how it is, until ctx ends.
func (l *Ledger) Run(ctx context.Context) error {
	ticker := time.NewTicker(round)
	defer ticker.Stop()
	for {
		l.tend(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// tend is one round of Run.
func (l *Ledger) tend(ctx context.Context) {
	// An end in the midst of it would look as if the store did not answer.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	l.mu.Lock()
	l.noteRoomLocked()
	l.tellLossesLocked()
	open := l.doubts.instances()
	idle := l.now().Sub(l.health.asked) >= askEvery
	l.mu.Unlock()
	if len(open) == 0 && !idle {
		return
	}
	records, err := l.readAll(ctx, open)
	if err != nil {
		return // It has been noted.
	}
	for instance, rec := range records {
		l.settle(instance, rec)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.doubts.expire(l.now())
}
