package sharing

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tollgate-apim/tollgate/controlplane/store"
	"github.com/tollgate-apim/tollgate/usage"
)

// slow is a store that takes its time, and counts what it is asked for.
type slow struct {
	store.Store
	takes time.Duration

	mu    sync.Mutex
	asked int // at a time
	most  int
	gets  int
}

func (s *slow) Get(ctx context.Context, keys ...string) ([]store.Value, time.Time, error) {
	if err := s.wait(ctx); err != nil {
		return nil, time.Time{}, err
	}
	return s.Store.Get(ctx, keys...)
}

func (s *slow) GetChanged(ctx context.Context, known ...store.Known) ([]store.Value, time.Time, error) {
	if err := s.wait(ctx); err != nil {
		return nil, time.Time{}, err
	}
	return s.Store.GetChanged(ctx, known...)
}

// wait is what reading takes.
func (s *slow) wait(ctx context.Context) error {
	s.mu.Lock()
	s.gets++
	s.asked++
	s.most = max(s.most, s.asked)
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.asked--
	}()
	pause(ctx, s.takes)
	return ctx.Err()
}

// newPaced returns a Sharing that waits as it does.
func newPaced(s store.Store) *Sharing {
	sharing := New(Options{Store: s, Log: slog.New(slog.DiscardHandler)})
	sharing.UsePlans(plans)
	return sharing
}

// TestRounds has many gateways report at the same time.
func TestRounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kept := &slow{Store: store.NewMemory(nil), takes: 10 * time.Millisecond}
		s := newPaced(kept)
		const gateways, reports = 100, 20
		granted := make([]int64, gateways)
		var all sync.WaitGroup
		for n := range gateways {
			all.Go(func() {
				e := &end{t: t, instance: instance(n)}
				entry := wants(1)
				for range reports {
					told, given, err := s.Settle(t.Context(), e.report(entry))
					if err != nil || told == nil {
						t.Errorf("got %+v, %v", told, err)
						return
					}
					if e.tenure == told.Number && len(given) != 1 {
						t.Errorf("got %+v", given)
						return
					}
					for _, share := range given {
						granted[n] = share.Granted
					}
					e.tenure = told.Number
					entry.Granted = granted[n]
				}
			})
		}
		all.Wait()
		var sum int64
		for _, n := range granted {
			sum += n
		}
		if sum != 2*gateways {
			t.Errorf("granted %d units, want 2 to each of %d gateways", sum, gateways)
		}
		if kept.most != 1 {
			t.Errorf("the store was asked %d times at a time", kept.most)
		}
		if kept.gets > 2*reports+10 {
			t.Errorf("the store was read %d times for %d reports of each", kept.gets, reports)
		}
		if got := s.Entries(); got.Raced != 0 || got.Settled != gateways*(reports-1) {
			t.Errorf("got %+v", got)
		}
		if s.leading || len(s.queue) != 0 {
			t.Error("a round is still under way")
		}
	})
}

// TestPace lets one report that comes alone be answered at once, and the next ones a
// round later.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPaced(store.NewMemory(nil))
		e := begin(t, s, 1)
		time.Sleep(time.Second)
		for i, want := range []time.Duration{0, gap, gap} {
			before := time.Now()
			e.ask(s, wants(int64(i+1)))
			if got := time.Since(before); got != want {
				t.Errorf("report %d: took %s, want %s", i, got, want)
			}
		}
	})
}

// TestPatience has a store that hangs: nobody waits for it for long.
func TestPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kept := &slow{Store: store.NewMemory(nil)}
		s := newPaced(kept)
		e := begin(t, s, 1)
		kept.takes = time.Hour
		var all sync.WaitGroup
		for i := range 10 {
			all.Go(func() {
				time.Sleep(time.Duration(i) * 100 * time.Millisecond)
				before := time.Now()
				_, given, err := s.Settle(t.Context(), &usage.Report{Instance: e.instance, Sequence: 9, Sharing: true, Tenure: e.tenure, Entries: []usage.Entry{wants(1)}})
				if !errors.Is(err, ErrStore) || len(given) != 0 {
					t.Errorf("got %+v, %v", given, err)
				}
				if took := time.Since(before); took > patience+storeTimeout {
					t.Errorf("took %s", took)
				}
			})
		}
		all.Wait()
		kept.takes = 0
		e.ask(s, wants(1))
	})
}

// TestLeave has reports wait longer than they have patience, while others are settled.
func TestLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kept := &slow{Store: store.NewMemory(nil)}
		s := newPaced(kept)
		e := begin(t, s, 1)
		many := make([]usage.Entry, usage.MaxEntries)
		for i := range many {
			many[i] = wants(1)
			many[i].Bucket = instance(i)
		}
		kept.takes = storeTimeout / 2
		var all sync.WaitGroup
		var left, answered int
		var mu sync.Mutex
		for range 20 * maxRound / usage.MaxEntries {
			all.Go(func() {
				_, given, err := s.Settle(t.Context(), &usage.Report{Instance: e.instance, Sequence: 9, Tenure: e.tenure, Entries: many})
				mu.Lock()
				defer mu.Unlock()
				if err == nil && len(given) == len(many) {
					answered++
				} else if errors.Is(err, ErrStore) && len(given) == 0 {
					left++
				} else {
					t.Errorf("got %d shares, %v", len(given), err)
				}
			})
		}
		all.Wait()
		if left == 0 || answered < maxRound/usage.MaxEntries {
			t.Errorf("%d left, %d were answered", left, answered)
		}
		if s.leading || len(s.queue) != 0 {
			t.Error("a round is still under way")
		}
		kept.takes = 0
		e.ask(s, wants(1))
	})
}

// TestCanceled has a gateway go away that leads a round for others.
func TestCanceled(t *testing.T) {
	s := newSharing(store.NewMemory(nil), &clock{time.Now()}, nil)
	e := begin(t, s, 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, given, err := s.Settle(ctx, e.report(wants(1))); err != nil || len(given) != 1 {
		t.Errorf("got %+v, %v", given, err)
	}
}

// TestPanic has a round end in a way that nobody foresees: others are not left waiting.
func TestPanic(t *testing.T) {
	c := &clock{start}
	f := &faulty{Store: store.NewMemory(c.now)}
	s := newSharing(f, c, nil)
	e := begin(t, s, 1)
	f.get = func() error { panic("unforeseen") }
	func() {
		defer func() {
			if recover() == nil {
				t.Error("no panic")
			}
		}()
		_, _, _ = s.Settle(t.Context(), e.report(wants(1)))
	}()
	f.get = nil
	e.ask(s, wants(1))
}
