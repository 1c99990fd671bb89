package ledger

import (
	"context"
	"errors"
	"flag"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/tollgate-apim/tollgate/controlplane/store"
	"github.com/tollgate-apim/tollgate/usage"
)

var seed = flag.Uint64("seed", 0, "run the schedule of one seed alone")

// TestSchedules lets gateways report to control planes that share a store, while
// anything may fail: answers are lost, reports come twice, late and at the other
// one, the store is not there, or does not say what it has done. In the end each
// request must have been counted once.
func TestSchedules(t *testing.T) {
	first, last := uint64(1), uint64(200)
	if *seed != 0 {
		first, last = *seed, *seed
	}
	for n := first; n <= last; n++ {
		w := newWorld(t, n)
		for range 200 {
			w.step()
		}
		w.heal()
		if got := total(w.ledgers...); got != w.sent {
			t.Fatalf("seed %d: counted %d requests, want %d", n, got, w.sent)
		}
		for _, l := range w.ledgers {
			if got := l.Reports(); l.doubts.count != 0 || got.Lost != 0 {
				t.Fatalf("seed %d: %d doubts, %+v", n, l.doubts.count, got)
			}
		}
	}
}

type world struct {
	t       *testing.T
	random  *rand.Rand
	clock   *clock
	store   *faulty
	ledgers []*Ledger
	ends    []*end
	sent    int64
	healed  bool
	depth   int
}

// end is a gateway.
type end struct {
	report *usage.Report   // that has no answer yet
	late   []*usage.Report // that are still on their way somewhere
}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{t: t, random: rand.New(rand.NewPCG(seed, 6)), clock: &clock{start}}
	w.store = &faulty{Store: store.NewMemory(w.clock.now)}
	w.store.get = func() error { return w.fails(20) }
	w.store.swap = func() error {
		if w.depth == 0 && w.chance(5) {
			w.depth++
			w.step() // what else happens meanwhile
			w.depth--
		}
		return w.fails(10)
	}
	w.store.after = func() error { return w.fails(10) }
	w.store.deny = func() bool { return w.fails(20) != nil }
	for range 1 + w.random.IntN(3) {
		w.ledgers = append(w.ledgers, newLedger(w.store, w.clock, nil))
	}
	for range 1 + w.random.IntN(3) {
		w.ends = append(w.ends, &end{})
	}
	return w
}

// chance is true once in n times.
func (w *world) chance(n int) bool { return w.random.IntN(n) == 0 }

func (w *world) fails(n int) error {
	if !w.healed && w.chance(n) {
		return errAway
	}
	return nil
}

// step has one thing happen.
func (w *world) step() {
	w.clock.Time = w.clock.Add(time.Duration(w.random.IntN(1000)) * time.Millisecond)
	l := w.ledgers[w.random.IntN(len(w.ledgers))]
	i := w.random.IntN(len(w.ends))
	e := w.ends[i]
	switch {
	case w.chance(10):
		l.tend(context.Background())
	case len(e.late) > 0 && w.chance(4):
		_, _ = l.Take(context.Background(), e.late[w.random.IntN(len(e.late))])
	default:
		w.reportOf(i, l)
	}
}

// reportOf sends a gateway's report: the last one, if that has no answer.
func (w *world) reportOf(i int, l *Ledger) {
	e := w.ends[i]
	if e.report == nil {
		count := 1 + w.random.Int64N(1000)
		w.sent += count
		sequence := int64(1)
		if len(e.late) > 0 {
			sequence += e.late[len(e.late)-1].Sequence
		}
		e.report = report(i, sequence, count)
		e.late = append(e.late, e.report)
	}
	r := e.report
	_, err := l.Take(context.Background(), r)
	var behind *BehindError
	switch {
	case errors.As(err, &behind):
		// Only if all of this happened while another step was under way.
		if e.report == r {
			w.t.Fatalf("the report %d that has no answer is behind %d", r.Sequence, behind.Last)
		}
	case err == nil && !w.healed && w.chance(5): // the answer is lost
	case err == nil && e.report == r:
		e.report = nil
	}
}

// heal has everything work again, and lets all have their answers.
func (w *world) heal() {
	w.healed = true
	for i, e := range w.ends {
		for e.report != nil {
			w.reportOf(i, w.ledgers[w.random.IntN(len(w.ledgers))])
		}
	}
	for _, l := range w.ledgers {
		l.tend(context.Background())
	}
}
