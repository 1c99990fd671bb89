package server_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tollgate-apim/tollgate/controlplane/ledger"
	"github.com/tollgate-apim/tollgate/controlplane/server"
	"github.com/tollgate-apim/tollgate/controlplane/sharing"
	"github.com/tollgate-apim/tollgate/controlplane/store"
	"github.com/tollgate-apim/tollgate/controlplane/store/redistest"
	"github.com/tollgate-apim/tollgate/holding"
	"github.com/tollgate-apim/tollgate/table"
	"github.com/tollgate-apim/tollgate/usage"
)

// shareless is a store that does not hold what is about shares.
type shareless struct {
	store.Store
	failing bool
}

func (s *shareless) GetChanged(ctx context.Context, known ...store.Known) ([]store.Value, time.Time, error) {
	for _, k := range known {
		if s.failing && strings.HasPrefix(k.Key, "share/") {
			return nil, time.Time{}, errors.New("password in an error")
		}
	}
	return s.Store.GetChanged(ctx, known...)
}

// newSharing returns a server that shares limits, and its ledger.
func newSharing(t *testing.T, s store.Store) (*server.Server, *ledger.Ledger) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	l := ledger.New(ledger.Options{Store: s, Log: log})
	return server.New(server.Options{Log: log, Ledger: l, Sharing: sharing.New(sharing.Options{Store: s, Log: log})}), l
}

// publishPlans puts plans in force, of which the subscription apps/s has apps/p.
func publishPlans(t *testing.T, s *server.Server, revision int64, plans map[string]table.Plan) {
	t.Helper()
	err := s.Publish(&table.Table{
		Revision: revision, IssuedAt: time.Now(), Plans: plans, APIs: map[string]table.API{},
		Subscriptions: map[string]table.Subscription{"apps/s": {Plan: "apps/p"}}, Applications: map[string]table.Application{}, Keys: map[string][]table.Holder{},
	}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
}

// tell posts a report of a request and of entries, and returns the answer.
func tell(t *testing.T, s *server.Server, sequence, tenure int64, entries ...usage.Entry) *usage.Answer {
	t.Helper()
	data, err := json.Marshal(usage.Report{
		Instance: instance, Sequence: sequence, Sharing: true, Tenure: tenure, Entries: entries, Usage: []usage.Row{{API: "apps/api", Count: 1}},
	})
	if err != nil {
		t.Fatal(err)
	}
	res := post(s, string(data))
	text := body(t, res)
	answer, err := usage.DecodeAnswer([]byte(text), sequence)
	if err != nil || res.StatusCode != 200 {
		t.Fatalf("got %d, %v: %s", res.StatusCode, err, text)
	}
	return answer
}

func TestShares(t *testing.T) {
	kept := &shareless{Store: store.NewMemory(nil)}
	s, l := newSharing(t, kept)
	entry := usage.Entry{Kind: usage.KindQuota, Bucket: "subscription apps/s", Plan: "apps/p", Account: 1, Wanted: 10, Over: int64(time.Second)}
	first := tell(t, s, 1, 0, entry)
	if first.Tenure == nil || len(first.Shares) != 0 {
		t.Fatalf("got %+v", first)
	}
	tenure := first.Tenure.Number
	if got := tell(t, s, 2, tenure, entry); len(got.Shares) != 0 {
		t.Errorf("before the first table: got %+v", got.Shares)
	}
	publishPlans(t, s, 1, map[string]table.Plan{"apps/p": {Quota: &table.Quota{Limit: 1000, Period: "1h"}}})
	for range 2 { // again, because the answer was lost
		got := tell(t, s, 3, tenure, entry)
		if len(got.Shares) != 1 || got.Shares[0].Granted != 20 || got.Tenure == nil || got.Next != 1 {
			t.Errorf("got %+v", got)
		}
	}
	publishPlans(t, s, 2, map[string]table.Plan{"apps/p": {Quota: &table.Quota{Limit: 10, Period: "1h"}}})
	if got := tell(t, s, 4, tenure, entry); len(got.Shares) != 1 || got.Shares[0].Granted != 20 || got.Shares[0].Keep > 10 {
		t.Errorf("with a lower quota: got %+v", got)
	}
	publishPlans(t, s, 3, map[string]table.Plan{})
	if got := tell(t, s, 5, tenure, entry); len(got.Shares) != 0 {
		t.Errorf("without the plan: got %+v", got)
	}
	publishPlans(t, s, 4, map[string]table.Plan{"apps/p": {Quota: &table.Quota{Limit: 1000, Period: "1h"}}})
	kept.failing = true
	if got := tell(t, s, 6, tenure, entry); len(got.Shares) != 0 || got.Tenure != nil {
		t.Errorf("without records: got %+v", got)
	}
	if got := counted(l); got != 6 {
		t.Errorf("counted %d requests, want 6", got)
	}
	if got := l.Reports(); got != (ledger.Reports{Accepted: 6, Duplicate: 1}) {
		t.Errorf("got %+v", got)
	}
}

// TestNotShared has a control plane that does not share limits.
func TestNotShared(t *testing.T) {
	s, _ := newCounting(store.NewMemory(nil))
	got := tell(t, s, 1, 0, usage.Entry{Kind: usage.KindQuota, Bucket: "b", Plan: "apps/p", Account: 1, Over: 1})
	if got.Tenure != nil || got.Shares != nil {
		t.Errorf("got %+v", got)
	}
}

// gateway is one that shares a quota, with the code that it has.
type gateway struct {
	t        *testing.T
	server   *server.Server
	holdings *holding.Store
	bucket   *holding.Allowance
	sequence int64
	now      int64
}

// report has a request come, and reports. It returns whether the gateway takes its
// limits for shared then.
func (g *gateway) report() (shared bool) {
	g.t.Helper()
	g.now += int64(time.Second)
	holding.Take(g.bucket, g.now)
	r := usage.Report{Instance: instance, Sequence: g.sequence + 1, Sharing: true}
	r.Tenure, r.Entries = g.holdings.Report(g.now)
	data, err := json.Marshal(r)
	if err != nil {
		g.t.Fatal(err)
	}
	res := post(g.server, string(data))
	text := body(g.t, res)
	if res.StatusCode != http.StatusOK {
		g.holdings.Answer(nil, 0, g.now)
		return false
	}
	g.sequence++
	answer, err := usage.DecodeAnswer([]byte(text), r.Sequence)
	if err != nil {
		g.t.Fatal(err)
	}
	return g.holdings.Answer(answer, g.now, g.now)
}

// TestUnwritableRedis has a Redis that can be read and not be written: it is full, or a
// copy, or lacks one.
func TestUnwritableRedis(t *testing.T) {
	redisServer := redistest.Start(t, "--maxmemory-policy", "noeviction", "--min-replicas-max-lag", "1")
	address, err := store.ParseAddress("redis://" + redisServer.Address + "?timeout=300ms")
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	kept, err := store.Open(address, store.Options{Log: log})
	if err != nil {
		t.Fatal(err)
	}
	defer kept.Close()
	s, _ := newSharing(t, kept)
	publishPlans(t, s, 1, map[string]table.Plan{"apps/p": {Quota: &table.Quota{Limit: 100_000, Period: "1h"}}})
	g := &gateway{t: t, server: s, holdings: holding.NewStore(10, func() {})}
	plan := holding.Plan{Name: "apps/p"}
	plan.Reserve, plan.Horizon = holding.QuotaReserve(100_000, time.Hour)
	g.bucket = holding.NewAllowance(g.holdings, nil, g.holdings.Get(usage.KindQuota, "subscription apps/s", plan, 0))
	client := redisServer.Client()
	for range 2 {
		if !g.report() {
			t.Fatal("limits are not shared at first")
		}
	}
	for _, test := range []struct{ name, setting, bad, good string }{
		{"full", "maxmemory", "1", "0"},
		{"without a copy", "min-replicas-to-write", "1", "0"},
	} {
		if err := client.ConfigSet(t.Context(), test.setting, test.bad).Err(); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if g.report() {
				t.Errorf("%s: the gateway takes its limits for shared", test.name)
			}
		}
		if err := client.ConfigSet(t.Context(), test.setting, test.good).Err(); err != nil {
			t.Fatal(err)
		}
		if !g.report() {
			t.Errorf("%s: limits are not shared afterwards", test.name)
		}
	}
}
