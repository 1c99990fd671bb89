package sharing

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/tollgate-apim/tollgate/controlplane/store"
	"github.com/tollgate-apim/tollgate/controlplane/store/storetest"
	"github.com/tollgate-apim/tollgate/holding"
	"github.com/tollgate-apim/tollgate/table"
	"github.com/tollgate-apim/tollgate/usage"
)

// lending is a gateway, with the code that it has, that wants a bucket.
type lending struct {
	t        *testing.T
	sharing  *Sharing
	clock    *clock
	holdings *holding.Store
	bucket   *holding.Allowance
	sequence int64
}

func newLending(t *testing.T, s *Sharing, c *clock) *lending {
	g := &lending{t: t, sharing: s, clock: c, holdings: holding.NewStore(10, func() {})}
	plan := holding.Plan{Name: "apps/quota"}
	plan.Reserve, plan.Horizon = holding.QuotaReserve(1000, time.Hour)
	g.bucket = holding.NewAllowance(g.holdings, nil, g.holdings.Get(usage.KindQuota, "b", plan, g.now()))
	return g
}

func (g *lending) now() int64 { return int64(g.clock.Sub(start)) }

// request reports whether a request passes.
func (g *lending) request() bool { return holding.Take(g.bucket, g.now()).Refusal == "" }

// report reports a second later, and returns whether the gateway takes its limits for
// shared then.
func (g *lending) report() (shared bool, err error) {
	g.clock.pass(time.Second)
	g.sequence++
	r := &usage.Report{Instance: instance(1), Sequence: g.sequence, Sharing: true}
	r.Tenure, r.Entries = g.holdings.Report(g.now())
	tenure, shares, err := g.sharing.Settle(g.t.Context(), r)
	return g.holdings.Answer(&usage.Answer{Sequence: r.Sequence, Next: 1, Tenure: tenure, Shares: shares}, g.now(), g.now()), err
}

// TestUnwritable has a store that can be read and not be written, or the other way
// round: a gateway that gets nothing for that reason learns that limits are not shared,
// so that after 15 seconds it does as its onLimitsLost says.
func TestUnwritable(t *testing.T) {
	for _, test := range []struct {
		name string
		fail func(f *faulty, fails func() error)
	}{
		{"reading", func(f *faulty, fails func() error) { f.get = fails }},
		{"writing", func(f *faulty, fails func() error) { f.swap = fails }},
		{"an answer to writing", func(f *faulty, fails func() error) { f.after = fails }},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := &clock{start}
			f := &faulty{Store: store.NewMemory(c.now)}
			g := newLending(t, newSharing(f, c, nil), c)
			for range 2 {
				g.request()
				if shared, err := g.report(); !shared || err != nil {
					t.Fatalf("got %v, %v", shared, err)
				}
			}
			if !g.request() {
				t.Fatal("a request does not pass")
			}
			test.fail(f, times(always))
			for range 20 {
				g.request()
				if shared, err := g.report(); shared || !errors.Is(err, ErrStore) {
					t.Fatalf("got %v, %v, want no limits that are shared", shared, err)
				}
			}
			f.get, f.swap, f.after = nil, nil, nil
			if shared, err := g.report(); !shared || err != nil {
				t.Errorf("afterwards: got %v, %v", shared, err)
			}
			if !g.request() {
				t.Error("afterwards a request does not pass")
			}
		})
	}
}

// TestNothingOfBucket has reasons besides the store why there is no share: limits are
// not lost by them.
func TestNothingOfBucket(t *testing.T) {
	c := &clock{start}
	m := store.NewMemory(c.now)
	s := newSharing(m, c, nil)
	g := newLending(t, s, c)
	g.request()
	if shared, err := g.report(); !shared || err != nil {
		t.Fatalf("got %v, %v", shared, err)
	}
	put(t, m, "share/quota/b", "[9]")
	g.request()
	if shared, err := g.report(); !shared || err == nil || !strings.Contains(err.Error(), "share/quota/b") {
		t.Errorf("a record that is none: got %v, %v", shared, err)
	}
	s.UsePlans(map[string]table.Plan{})
	g.request()
	if shared, err := g.report(); !shared || err != nil {
		t.Errorf("without the plan: got %v, %v", shared, err)
	}
}

// TestForeign has something foreign in the place of a record: there is no share of that
// bucket, and one of each other.
func TestForeign(t *testing.T) {
	c, log := &clock{start}, &bytes.Buffer{}
	f := &storetest.Foreign{Store: store.NewMemory(c.now)}
	s := newSharing(f, c, log)
	e := begin(t, s, 1)
	f.Keys = map[string]bool{"share/quota/b": true}
	other := wants(10)
	other.Bucket = "other"
	for range 2 {
		told, given, err := s.Settle(t.Context(), e.report(wants(10), other))
		if told == nil || len(given) != 1 || given[0].Bucket != "other" || err == nil || !strings.Contains(err.Error(), "share/quota/b is foreign") {
			t.Errorf("got %+v, %+v, %v", told, given, err)
		}
	}
	if got := s.Entries(); got != (Entries{Settled: 2, Unreadable: 2}) {
		t.Errorf("got %+v", got)
	}
	f.Keys = map[string]bool{registryKey: true}
	if told, _, err := s.Settle(t.Context(), &usage.Report{Instance: instance(2), Sequence: 1, Sharing: true}); told != nil || err == nil {
		t.Errorf("without the registry: got %+v, %v", told, err)
	}
	if got := strings.Count(log.String(), "a record that is none"); got != 2 {
		t.Errorf("logged %d times: %s", got, log)
	}
}
