package ledger

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/tollgate-apim/tollgate/controlplane/store"
)

// TestFleetBegins has a thousand gateways and more begin at once, end, and begin again.
func TestFleetBegins(t *testing.T) {
	c := &clock{start}
	l := newLedger(store.NewMemory(c.now), c, nil)
	for n := range 5000 {
		if _, err := l.Take(t.Context(), report(n, 1, 1)); err != nil {
			t.Fatalf("gateway %d: %v", n, err)
		}
	}
	if got := l.Reports(); got != (Reports{Accepted: 5000}) {
		t.Errorf("got %+v", got)
	}
}

// TestNewcomers has more gateways begin than any fleet has: the store gets no record of
// those that are too many.
func TestNewcomers(t *testing.T) {
	c, log := &clock{start}, &strings.Builder{}
	m := store.NewMemory(c.now)
	l, other := newLedger(m, c, log), newLedger(m, c, nil)
	for n := range newAtOnce {
		mustTakeAny(t, l, n)
	}
	deferred := func(n int) {
		t.Helper()
		if _, err := l.Take(t.Context(), report(n, 1, 1)); !errors.Is(err, ErrCrowded) {
			t.Errorf("gateway %d: got %v, want ErrCrowded", n, err)
		}
		values, _, err := m.Get(t.Context(), recordKey(instance(n)))
		if err != nil || values[0].Version != 0 {
			t.Errorf("gateway %d has a record, %v", n, err)
		}
	}
	for n := range 50 {
		deferred(newAtOnce + n)
	}
	// There are as many as can be known, so time alone does not help.
	c.Time = c.Add(10 * time.Second)
	deferred(newAtOnce)
	// Those that have begun go on, and those that another control plane has taken in.
	if _, err := l.Take(t.Context(), report(7, 2, 1)); err != nil {
		t.Error(err)
	}
	mustTakeAny(t, other, 1<<20)
	if _, err := l.Take(t.Context(), report(1<<20, 2, 1)); err != nil {
		t.Error(err)
	}
	// When the others have gone, one may begin for each second that has passed.
	c.Time = c.Add(aliveFor)
	for n := range 130 {
		mustTakeAny(t, l, newAtOnce+n)
	}
	deferred(newAtOnce + 130)
	c.Time = c.Add(newEvery)
	mustTakeAny(t, l, newAtOnce+130)
	deferred(newAtOnce + 131)

	if got := l.Reports(); got.Deferred != 53 || got.Failed != 0 {
		t.Errorf("got %+v", got)
	}
	l.tend(t.Context())
	if got := strings.Count(log.String(), "\n"); got != 1 || !strings.Contains(log.String(), "some have to wait") {
		t.Errorf("logged %d lines: %s", got, log)
	}
	c.Time = c.Add(crowdedFor)
	l.tend(t.Context())
	l.tend(t.Context())
	if got := strings.Count(log.String(), "\n"); got != 2 || !strings.Contains(log.String(), "taken in again\" turnedAway=53") {
		t.Errorf("logged %d lines: %s", got, log)
	}
	c.Time = c.Add(-time.Hour) // the clock is set back
	for n := range 100 {
		mustTakeAny(t, l, 1<<21+n)
	}
}

// mustTakeAny takes the first report of a gateway.
func mustTakeAny(t *testing.T, l *Ledger, n int) {
	t.Helper()
	if _, err := l.Take(t.Context(), report(n, 1, 1)); err != nil {
		t.Fatalf("gateway %d: %v", n, err)
	}
}

// unwritable is a store that can only be read.
type unwritable struct {
	store.Store
	broken bool
}

func (u *unwritable) Swap(ctx context.Context, changes ...store.Change) ([]int64, error) {
	if u.broken {
		return nil, errors.New("read-only")
	}
	return u.Store.Swap(ctx, changes...)
}

// TestNewcomersTryAgain has a fleet try to begin while nothing can be written: that
// does not count, so that all get in afterwards.
func TestNewcomersTryAgain(t *testing.T) {
	c := &clock{start}
	u := &unwritable{Store: store.NewMemory(c.now), broken: true}
	l := newLedger(u, c, nil)
	for range 15 {
		for n := range 1000 {
			if _, err := l.Take(t.Context(), report(n, 1, 1)); !errors.Is(err, ErrStore) {
				t.Fatalf("got %v, want ErrStore", err)
			}
		}
	}
	u.broken = false
	for n := range newAtOnce {
		mustTakeAny(t, l, n)
	}
}
