package ledger

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tollgate-apim/tollgate/controlplane/store"
	"github.com/tollgate-apim/tollgate/usage"
)

func TestGateways(t *testing.T) {
	c := &clock{start}
	l := newLedger(store.NewMemory(c.now), c, nil)
	r := report(2, 1, 1)
	r.Host = "b"
	mustTake(t, l, r)
	c.Time = start.Add(time.Minute)
	r = report(1, 1, 1)
	r.Host, r.Revision, r.TableAge = "a", 41, 0.5
	mustTake(t, l, r)
	r.Sequence, r.Revision = 2, 43
	mustTake(t, l, r)
	c.Time = start.Add(2 * time.Minute)
	want := []Gateway{
		{instance(1), "a", 43, 500*time.Millisecond + time.Minute, start.Add(time.Minute)},
		{instance(2), "b", 42, 3*time.Second + 2*time.Minute, start},
	}
	if diff := cmp.Diff(want, l.Gateways()); diff != "" {
		t.Errorf("gateways (-want +got):\n%s", diff)
	}

	// One that is behind is there all the same.
	r = report(2, 1, 1)
	r.Sequence = 1
	mustTake(t, l, report(2, 2, 1))
	c.Time = start.Add(forgetAfter + time.Minute - 1)
	if _, err := l.Take(t.Context(), r); err == nil {
		t.Error("took a report that is behind")
	}
	if got := l.Gateways(); len(got) != 2 {
		t.Errorf("got %+v", got)
	}
	c.Time = start.Add(forgetAfter + time.Minute)
	if got := l.Gateways(); len(got) != 1 {
		t.Errorf("after ten minutes: got %+v", got)
	}
	c.Time = start.Add(forgetAfter + 2*time.Minute)
	if got := l.Gateways(); len(got) != 1 || got[0].Instance != instance(2) {
		t.Errorf("after ten minutes: got %+v", got)
	}
	c.Time = c.Add(-time.Hour) // the clock is set back
	if got := l.Gateways(); len(got) != 1 || got[0].TableAge != 3*time.Second {
		t.Errorf("before it reported: got %+v", got)
	}
}

func TestGatewaysAreBounded(t *testing.T) {
	g := newGateways()
	now := start
	for i := range maxGateways {
		g.seen(report(i, 1, 1), 1, now)
	}
	g.seen(report(0, 2, 1), 2, now) // it is not the oldest any more
	g.seen(report(maxGateways, 1, 1), 1, now)
	if len(g.by) != maxGateways || g.order.Len() != maxGateways {
		t.Fatalf("knows %d, %d", len(g.by), g.order.Len())
	}
	if g.last(instance(0)) != 2 || g.last(instance(1)) != 0 || g.last(instance(2)) != 1 {
		t.Error("it is not the oldest that was forgotten")
	}
}

func TestNext(t *testing.T) {
	for _, test := range []struct {
		gateways int
		want     time.Duration
	}{
		{1, time.Second}, {500, time.Second}, {1000, 2 * time.Second}, {10_000, 20 * time.Second}, {1_000_000, time.Minute},
	} {
		g := newGateways()
		if test.gateways <= maxGateways {
			for i := range test.gateways {
				g.seen(report(i, 1, 1), 1, start)
			}
		} else {
			g.alive, g.counted = test.gateways, start
		}
		if got := g.next(start); got != test.want {
			t.Errorf("%d gateways: got %v, want %v", test.gateways, got, test.want)
		}
		if later := start.Add(aliveFor); test.gateways > 1 && g.next(later) != minNext {
			t.Errorf("%d gateways that have gone: got %v", test.gateways, g.next(later))
		}
	}
}

func TestSeconds(t *testing.T) {
	for s, want := range map[float64]time.Duration{0: 0, 1.5: 1500 * time.Millisecond, 1e300: math.MaxInt64} {
		if got := seconds(s); got != want {
			t.Errorf("%g: got %v, want %v", s, got, want)
		}
	}
	c := &clock{start}
	l := newLedger(store.NewMemory(c.now), c, nil)
	mustTake(t, l, &usage.Report{Instance: instance(1), Sequence: 1, TableAge: 1e300})
	c.Time = start.Add(time.Minute)
	if got := l.Gateways()[0].TableAge; got != math.MaxInt64 {
		t.Errorf("got %v", got)
	}
}
