package ledger

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tollgate-apim/tollgate/controlplane/store"
	"github.com/tollgate-apim/tollgate/usage"
)

var start = time.Date(2026, 11, 21, 17, 0, 0, 0, time.UTC)

// clock is a time that tests move.
type clock struct{ time.Time }

func (c *clock) now() time.Time { return c.Time }

// newLedger returns a ledger on a store. Without a log nothing is logged.
func newLedger(s store.Store, c *clock, log *strings.Builder) *Ledger {
	handler := slog.DiscardHandler
	if log != nil {
		handler = slog.NewTextHandler(log, nil)
	}
	return New(Options{Store: s, Now: c.now, Log: slog.New(handler)})
}

func instance(n int) string { return fmt.Sprintf("%032x", n) }

// report returns a report of one row.
func report(gateway int, sequence, count int64) *usage.Report {
	return &usage.Report{
		Instance: instance(gateway), Sequence: sequence, Host: "gw", Revision: 42, TableAge: 3,
		Usage: []usage.Row{{API: "apps/api", Application: "apps/a", Count: count}},
	}
}

// mustTake takes a report that must be taken, or be known.
func mustTake(t *testing.T, l *Ledger, r *usage.Report) {
	t.Helper()
	a, err := l.Take(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if a.Sequence != r.Sequence || a.Next != 1 {
		t.Errorf("got %+v for the sequence %d", a, r.Sequence)
	}
}

// total returns how many requests have been counted.
func total(ledgers ...*Ledger) int64 {
	var n int64
	for _, l := range ledgers {
		for _, r := range l.Requests() {
			n += r.Count
		}
	}
	return n
}

func TestTake(t *testing.T) {
	c := &clock{start}
	l := newLedger(store.NewMemory(c.now), c, nil)
	r := report(1, 1, 10)
	r.Usage = append(r.Usage,
		usage.Row{API: "apps/api", Application: "apps/a", Code: 429, Reason: "rate_limited", Count: 2},
		usage.Row{API: "apps/api", Code: 401, Reason: "key_invalid", Count: 3},
		usage.Row{API: "apps/api", Application: "apps/a", Reason: "rate_limited", DryRun: true, Count: 4})
	mustTake(t, l, r)
	mustTake(t, l, report(2, 1, 5))
	got := l.Requests()
	slices.SortFunc(got, func(a, b Requests) int { return int(b.Count - a.Count) })
	want := []Requests{
		{Labels{API: "apps/api", Application: "apps/a"}, 15},
		{Labels{API: "apps/api", Application: "apps/a", Reason: "rate_limited", DryRun: true}, 4},
		{Labels{API: "apps/api", Code: 401, Reason: "key_invalid"}, 3},
		{Labels{API: "apps/api", Application: "apps/a", Code: 429, Reason: "rate_limited"}, 2},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

func TestEachCountsOnce(t *testing.T) {
	c := &clock{start}
	s := store.NewMemory(c.now)
	a, b := newLedger(s, c, nil), newLedger(s, c, nil)
	mustTake(t, a, report(1, 1, 1))
	mustTake(t, a, report(1, 1, 1)) // its answer was lost
	mustTake(t, b, report(1, 1, 1)) // sent again elsewhere
	mustTake(t, b, report(1, 2, 10))
	mustTake(t, a, report(1, 2, 10))
	mustTake(t, a, report(1, 7, 100)) // numbers need not follow one another
	var behind *BehindError
	if _, err := b.Take(t.Context(), report(1, 2, 10)); !errors.As(err, &behind) || behind.Last != 7 {
		t.Errorf("got %v, want that 7 has been taken", err)
	}
	if total(a) != 101 || total(b) != 10 {
		t.Errorf("counted %d and %d, want 101 and 10", total(a), total(b))
	}
	if got, want := a.Reports(), (Reports{Accepted: 2, Duplicate: 2}); got != want {
		t.Errorf("a: got %+v, want %+v", got, want)
	}
	if got, want := b.Reports(), (Reports{Accepted: 1, Duplicate: 1, Refused: 1}); got != want {
		t.Errorf("b: got %+v, want %+v", got, want)
	}
	b.Refuse()
	if got := b.Reports().Refused; got != 2 {
		t.Errorf("refused %d, want 2", got)
	}
}

// TestAnotherControlPlane starts a control plane anew on the same store.
func TestAnotherControlPlane(t *testing.T) {
	c := &clock{start}
	s := store.NewMemory(c.now)
	mustTake(t, newLedger(s, c, nil), report(1, 5, 1))
	again := newLedger(s, c, nil)
	mustTake(t, again, report(1, 5, 1))
	if total(again) != 0 {
		t.Error("counted again what had been counted")
	}
	mustTake(t, again, report(1, 6, 1))
	if total(again) != 1 {
		t.Error("the next report is not counted")
	}
}

// TestRecordExpires has a gateway that comes back after a day and more.
func TestRecordExpires(t *testing.T) {
	c := &clock{start}
	l := newLedger(store.NewMemory(c.now), c, nil)
	mustTake(t, l, report(1, 5, 1))
	c.Time = start.Add(recordTTL - time.Second)
	mustTake(t, l, report(1, 5, 1))
	if total(l) != 1 {
		t.Error("counted again after less than a day")
	}
	c.Time = start.Add(recordTTL)
	mustTake(t, l, report(1, 6, 1))
	if total(l) != 2 {
		t.Error("not counted after a day")
	}
}

// TestStoreIsEmptied has a store that loses everything while the control plane goes
// on.
func TestStoreIsEmptied(t *testing.T) {
	c := &clock{start}
	s := &faulty{Store: store.NewMemory(c.now)}
	l := newLedger(s, c, nil)
	mustTake(t, l, report(1, 5, 1))
	s.Store = store.NewMemory(c.now)
	mustTake(t, l, report(1, 5, 1))
	if total(l) != 1 {
		t.Error("what the store has forgotten is counted again")
	}
	var behind *BehindError
	if _, err := l.Take(t.Context(), report(1, 4, 1)); !errors.As(err, &behind) || behind.Last != 5 {
		t.Errorf("got %v", err)
	}
	mustTake(t, l, report(1, 5, 1))
	mustTake(t, l, report(1, 6, 1))
	if total(l) != 2 {
		t.Error("the next is not counted, or the last twice")
	}
}

// faulty is a store that does not always answer.
type faulty struct {
	store.Store
	get, swap func() error // before; nil lets it be
	after     func() error // what is said of a swap that was made
	deny      func() bool  // whether it is said not to have been made
}

var errAway = errors.New("away")

func (f *faulty) Get(ctx context.Context, keys ...string) ([]store.Value, time.Time, error) {
	if f.get != nil {
		if err := f.get(); err != nil {
			return nil, time.Time{}, err
		}
	}
	return f.Store.Get(ctx, keys...)
}

func (f *faulty) Swap(ctx context.Context, changes ...store.Change) ([]int64, error) {
	if f.swap != nil {
		if err := f.swap(); err != nil {
			return nil, err
		}
	}
	made, err := f.Store.Swap(ctx, changes...)
	if f.after != nil {
		if err := f.after(); err != nil {
			return nil, err
		}
	}
	if f.deny != nil && f.deny() {
		return make([]int64, len(changes)), err
	}
	return made, err
}

// once returns what does something the first time, and afterwards nothing.
func once[T any](first T) func() T {
	done := false
	return func() (then T) {
		if done {
			return then
		}
		done = true
		return first
	}
}

func TestStoreFails(t *testing.T) {
	c := &clock{start}
	for _, test := range []struct {
		name string
		fail func(s *faulty)
	}{
		{"when it is read", func(s *faulty) { s.get = once(errAway) }},
		{"before it is written", func(s *faulty) { s.swap = once(errAway) }},
		{"after it was written", func(s *faulty) { s.after = once(errAway) }},
	} {
		for _, retried := range []string{"there", "elsewhere", "elsewhere, and others after it"} {
			t.Run(test.name+", retried "+retried, func(t *testing.T) {
				s := &faulty{Store: store.NewMemory(c.now)}
				a, b := newLedger(s, c, nil), newLedger(s, c, nil)
				mustTake(t, a, report(1, 1, 1))
				test.fail(s)
				if _, err := a.Take(t.Context(), report(1, 2, 10)); !errors.Is(err, ErrStore) {
					t.Fatalf("got %v, want ErrStore", err)
				}
				if got := a.Reports(); got.Failed != 1 || got.Accepted != 1 {
					t.Errorf("got %+v", got)
				}
				if retried == "there" {
					mustTake(t, a, report(1, 2, 10))
				} else {
					mustTake(t, b, report(1, 2, 10))
				}
				if strings.HasSuffix(retried, "after it") {
					mustTake(t, b, report(1, 3, 100))
					mustTake(t, b, report(1, 4, 1000))
				}
				a.tend(t.Context())
				want := int64(11)
				if strings.HasSuffix(retried, "after it") {
					want = 1111
				}
				if got := total(a, b); got != want {
					t.Errorf("counted %d, want %d", got, want)
				}
				if a.doubts.count != 0 || a.doubts.bytes != 0 || len(a.doubts.of) != 0 {
					t.Errorf("there are doubts: %+v", a.doubts)
				}
			})
		}
	}
}

// TestAnswerOfTheStoreIsLost has a client of the store that asks again by itself:
// what was made at the first try is denied at the second.
func TestAnswerOfTheStoreIsLost(t *testing.T) {
	c := &clock{start}
	s := &faulty{Store: store.NewMemory(c.now), deny: once(true)}
	l := newLedger(s, c, nil)
	mustTake(t, l, report(1, 1, 1))
	if got := l.Reports(); total(l) != 1 || got.Accepted != 1 || got.Duplicate != 0 {
		t.Errorf("counted %d, %+v", total(l), got)
	}
}

// TestAtTheSameTime takes a report while it is being taken.
func TestAtTheSameTime(t *testing.T) {
	c := &clock{start}
	for name, elsewhere := range map[string]bool{"there": false, "elsewhere": true} {
		t.Run(name, func(t *testing.T) {
			s := &faulty{Store: store.NewMemory(c.now)}
			a := newLedger(s, c, nil)
			b := a
			if elsewhere {
				b = newLedger(s, c, nil)
			}
			s.swap = func() error {
				s.swap = nil
				mustTake(t, b, report(1, 1, 1))
				return nil
			}
			mustTake(t, a, report(1, 1, 1))
			if a != b && total(a, b) != 1 || total(b) != 1 {
				t.Errorf("counted %d at one, %d at the other", total(a), total(b))
			}
		})
	}
	t.Run("all the time", func(t *testing.T) {
		s := &faulty{Store: store.NewMemory(c.now)}
		l := newLedger(s, c, nil)
		s.deny = func() bool { return true }
		s.get = func() error { s.Store = store.NewMemory(c.now); return nil }
		if _, err := l.Take(t.Context(), report(1, 1, 1)); !errors.Is(err, ErrStore) {
			t.Errorf("got %v", err)
		}
	})
}

// TestConcurrent sends the reports of many gateways to two control planes at once,
// each of them thrice.
func TestConcurrent(t *testing.T) {
	c := &clock{start}
	s := store.NewMemory(c.now)
	ledgers := []*Ledger{newLedger(s, c, nil), newLedger(s, c, nil)}
	const gateways, reports = 8, 20
	var wg sync.WaitGroup
	for g := range gateways {
		wg.Go(func() {
			for n := int64(1); n <= reports; n++ {
				var each sync.WaitGroup
				for i := range 3 {
					each.Go(func() {
						if _, err := ledgers[i%2].Take(t.Context(), report(g, n, 1)); err != nil {
							t.Error(err)
						}
					})
				}
				each.Wait()
				ledgers[0].Requests()
				ledgers[0].Gateways()
				ledgers[0].Busiest(3)
			}
		})
	}
	wg.Wait()
	if got := total(ledgers...); got != gateways*reports {
		t.Errorf("counted %d, want %d", got, gateways*reports)
	}
}

// TestAfterItsRequest takes a report whose sender has gone.
func TestAfterItsRequest(t *testing.T) {
	c := &clock{start}
	l := newLedger(store.NewMemory(c.now), c, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Take(ctx, report(1, 1, 1)); err != nil || total(l) != 1 {
		t.Errorf("counted %d, %v", total(l), err)
	}
}

func TestDoubtsAreBounded(t *testing.T) {
	c := &clock{start}
	var log strings.Builder
	s := &faulty{Store: store.NewMemory(c.now), swap: func() error { return errAway }}
	l := newLedger(s, c, &log)
	for g := range maxDoubts {
		if _, err := l.Take(t.Context(), report(g, 1, 1)); !errors.Is(err, ErrStore) {
			t.Fatal(err)
		}
	}
	if got := l.Reports(); got.Lost != 0 || l.doubts.count != maxDoubts {
		t.Fatalf("got %+v and %d doubts", got, l.doubts.count)
	}
	for range 2 { // the second adds nothing to what there is
		if _, err := l.Take(t.Context(), report(0, 1, 1)); !errors.Is(err, ErrStore) {
			t.Fatal(err)
		}
	}
	if _, err := l.Take(t.Context(), report(maxDoubts, 1, 77)); !errors.Is(err, ErrStore) {
		t.Fatal(err)
	}
	if got := l.Reports(); got.Lost != 1 || !strings.Contains(log.String(), "sequence=1 requests=77") {
		t.Errorf("got %+v and the log %s", got, log.String())
	}
	before := strings.Count(log.String(), "\n")
	for g := range 500 { // which is told in one line
		if _, err := l.Take(t.Context(), report(maxDoubts+g, 1, 2)); !errors.Is(err, ErrStore) {
			t.Fatal(err)
		}
	}
	c.Time = start.Add(tellLossesEvery)
	l.tend(t.Context())
	l.tend(t.Context())
	if got := strings.Count(log.String(), "\n"); got > before+2 || !strings.Contains(log.String(), "attempts=500 requests=1000") {
		t.Errorf("logged %d lines more: %s", got-before, log.String())
	}
	for _, after := range []time.Duration{doubtFor - 1, doubtFor} {
		c.Time = start.Add(after)
		l.tend(t.Context())
		if forgotten := l.doubts.count == 0; forgotten != (after == doubtFor) {
			t.Errorf("after %v there are %d doubts", after, l.doubts.count)
		}
	}
	if l.doubts.count != 0 || l.doubts.bytes != 0 {
		t.Errorf("after an hour there are %d doubts of %d bytes", l.doubts.count, l.doubts.bytes)
	}
}

// TestDoubtsAreSmall has reports in doubt that are as large as they can be.
func TestDoubtsAreSmall(t *testing.T) {
	d := newDoubts()
	rows := slices.Repeat([]usage.Row{{API: strings.Repeat("a", 1024), KeyTitle: strings.Repeat("k", 4096), Count: 1}}, 1000)
	taken := 0
	for ; taken < maxDoubts; taken++ {
		r := report(taken, 1, 1)
		r.Usage = rows
		if !d.add(r, "attempt", start) {
			break
		}
	}
	if want := maxDoubtBytes / (1000 * (1024 + 4096 + rowBytes)); taken != want || d.bytes > maxDoubtBytes {
		t.Errorf("%d reports of %d bytes are in doubt, want %d", taken, d.bytes, want)
	}
	for n := range taken {
		d.remove(instance(n), 1)
	}
	if d.count != 0 || d.bytes != 0 {
		t.Errorf("in the end: %+v", d)
	}
}

// TestStoreIsAwayForLong has a store that makes a change, and then says nothing for
// longer than a report may be in doubt.
func TestStoreIsAwayForLong(t *testing.T) {
	c := &clock{start}
	s := &faulty{Store: store.NewMemory(c.now), after: once(errAway)}
	l := newLedger(s, c, nil)
	if _, err := l.Take(t.Context(), report(1, 1, 1)); !errors.Is(err, ErrStore) {
		t.Fatal(err)
	}
	s.get = func() error { return errAway }
	c.Time = start.Add(2 * doubtFor)
	l.tend(t.Context())
	s.get = nil
	mustTake(t, l, report(1, 1, 1))
	if total(l) != 1 || l.doubts.count != 0 {
		t.Errorf("counted %d, with %d doubts", total(l), l.doubts.count)
	}
}

// TestDoubtIsTooOld has a control plane that cannot ask the store for so long that
// the store has forgotten who took its report.
func TestDoubtIsTooOld(t *testing.T) {
	for later, want := range map[int64]Reports{remembered - 1: {Accepted: 1, Failed: 1}, remembered: {Failed: 1, Lost: 1}} {
		c := &clock{start}
		s := &faulty{Store: store.NewMemory(c.now)}
		a, b := newLedger(s, c, nil), newLedger(s, c, nil)
		s.after = once(errAway)
		if _, err := a.Take(t.Context(), report(1, 1, 1)); !errors.Is(err, ErrStore) {
			t.Fatal(err)
		}
		for n := range later {
			mustTake(t, b, report(1, 2+n, 1))
		}
		a.tend(t.Context())
		if got := a.Reports(); got != want || a.doubts.count != 0 {
			t.Errorf("after %d more: got %+v, want %+v", later, got, want)
		}
	}
}

func TestHealth(t *testing.T) {
	c := &clock{start}
	var log strings.Builder
	away := true
	s := &faulty{Store: store.NewMemory(c.now), get: func() error {
		if away {
			return errAway
		}
		return nil
	}}
	l := newLedger(s, c, &log)
	if got := l.Health(); !got.Since.IsZero() {
		t.Errorf("before: got %+v", got)
	}
	l.tend(t.Context())
	if got := l.Health(); got.Failure != "away" || !got.Since.Equal(start) {
		t.Errorf("away: got %+v", got)
	}
	away, c.Time = false, start.Add(askEvery-1)
	l.tend(t.Context())
	if got := l.Health(); got.Failure != "away" {
		t.Errorf("it was asked at once: got %+v", got)
	}
	c.Time = start.Add(askEvery)
	l.tend(t.Context())
	if got := l.Health(); got.Failure != "" || !got.Since.Equal(c.Time) {
		t.Errorf("back: got %+v", got)
	}
	since := c.Time
	c.Time = c.Add(askEvery)
	l.tend(t.Context())
	if got := l.Health(); !got.Since.Equal(since) {
		t.Errorf("still there: got %+v", got)
	}
	if n := strings.Count(log.String(), "\n"); n != 2 || !strings.Contains(log.String(), "after=5s") {
		t.Errorf("logged %s", log.String())
	}
}

// TestStoreTakesNothingForLong has a store that can be read and takes nothing for two
// hours, in which a gateway sends its report again and again.
func TestStoreTakesNothingForLong(t *testing.T) {
	c := &clock{start}
	s := &faulty{Store: store.NewMemory(c.now), swap: func() error { return errAway }}
	l := newLedger(s, c, nil)
	for range 8 * 60 {
		if _, err := l.Take(t.Context(), report(1, 1, 1)); !errors.Is(err, ErrStore) {
			t.Fatal(err)
		}
		l.tend(t.Context())
		c.Time = c.Add(15 * time.Second)
	}
	s.swap = nil
	mustTake(t, l, report(1, 1, 1))
	l.tend(t.Context())
	if got := l.Reports(); total(l) != 1 || got.Lost != 0 || l.doubts.count != 0 {
		t.Errorf("counted %d, %+v, with %d doubts", total(l), got, l.doubts.count)
	}
}

// TestStoreIsFull has a store that can be read, and takes nothing: it is not well in
// between, and the log is not told of each report.
func TestStoreIsFull(t *testing.T) {
	c := &clock{start}
	var log strings.Builder
	full := errors.New("full")
	s := &faulty{Store: store.NewMemory(c.now), swap: func() error { return full }}
	l := newLedger(s, c, &log)
	for g := range 20 {
		if _, err := l.Take(t.Context(), report(g, 1, 1)); !errors.Is(err, ErrStore) {
			t.Fatal(err)
		}
		l.tend(t.Context())
		if got := l.Health(); got.Failure != "full" || !got.Since.Equal(start) {
			t.Errorf("got %+v", got)
		}
		c.Time = c.Add(time.Second)
	}
	s.swap = nil
	c.Time = c.Add(wellAfter)
	mustTake(t, l, report(1, 1, 1))
	if got := l.Health(); got.Failure != "" || !got.Since.Equal(c.Time) {
		t.Errorf("with room again: got %+v", got)
	}
	if n := strings.Count(log.String(), "\n"); n != 2 {
		t.Errorf("logged %s", log.String())
	}
}

// TestForeignRecord has a store in which somebody else has written.
func TestForeignRecord(t *testing.T) {
	c := &clock{start}
	s := store.NewMemory(c.now)
	if _, err := s.Swap(t.Context(), store.Change{Key: recordKey(instance(1)), Data: []byte("{")}); err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	l := newLedger(s, c, &log)
	mustTake(t, l, report(1, 9, 1))
	mustTake(t, l, report(1, 9, 1))
	if total(l) != 1 || strings.Count(log.String(), "the gateway begins anew") != 1 {
		t.Errorf("counted %d, logged %s", total(l), log.String())
	}
}

func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &faulty{Store: store.NewMemory(nil), after: once(errAway)}
		l := New(Options{Store: s, Log: slog.New(slog.DiscardHandler)})
		if _, err := l.Take(t.Context(), report(1, 1, 1)); !errors.Is(err, ErrStore) {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- l.Run(ctx) }()
		synctest.Wait()
		if got := total(l); got != 1 {
			t.Errorf("counted %d, want 1", got)
		}
		time.Sleep(time.Minute) // of the bubble's time
		if got := l.Health(); time.Since(got.asked) > askEvery+round {
			t.Errorf("the store was last asked %v ago", time.Since(got.asked))
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// FuzzRecord takes two reports of a gateway of which the store holds anything.
func FuzzRecord(f *testing.F) {
	f.Add([]byte(`{"taken": [{"sequence": 7, "attempt": "a"}]}`))
	f.Add([]byte(`{"taken": [{"sequence": -1}, {}, {"sequence": 9}]}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c := &clock{start}
		s := store.NewMemory(c.now)
		if _, err := s.Swap(t.Context(), store.Change{Key: recordKey(instance(1)), Data: data}); err != nil {
			t.Skip(err)
		}
		l := newLedger(s, c, nil)
		for range 2 {
			_, err := l.Take(t.Context(), report(1, 5, 1))
			var behind *BehindError
			if err != nil && (!errors.As(err, &behind) || behind.Last <= 5) {
				t.Errorf("got %v", err)
			}
		}
		if total(l) > 1 {
			t.Error("counted twice")
		}
	})
}
