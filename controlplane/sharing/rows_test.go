package sharing

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tollgate-apim/tollgate/controlplane/compile"
	"github.com/tollgate-apim/tollgate/controlplane/store"
	"github.com/tollgate-apim/tollgate/matcher"
	"github.com/tollgate-apim/tollgate/table"
	"github.com/tollgate-apim/tollgate/usage"
)

// UsePlans makes plans those of which shares are given, in buckets of any name.
func (s *Sharing) UsePlans(plans map[string]table.Plan) {
	s.UseTable(&table.Table{Plans: plans}, nil)
	s.has = func(string, string, string) bool { return true }
}

// written is a store that notes the keys of changes.
type written struct {
	store.Store
	mu   sync.Mutex
	keys []string
}

func (w *written) Swap(ctx context.Context, changes ...store.Change) ([]int64, error) {
	w.mu.Lock()
	for _, c := range changes {
		w.keys = append(w.keys, c.Key)
	}
	w.mu.Unlock()
	return w.Store.Swap(ctx, changes...)
}

// withBuckets is a table of plans that count by each kind of bucket.
func withBuckets() *table.Table {
	quota := &table.Quota{Limit: 1000, Period: "1h"}
	by := func(bucket string) *table.RateLimit {
		return &table.RateLimit{Limit: 100, Period: "1s", Bucket: bucket}
	}
	return &table.Table{
		Plans: map[string]table.Plan{
			"apps/one":   {RateLimit: by(""), Quota: quota},
			"apps/app":   {RateLimit: by(table.BucketApplication), Quota: quota},
			"apps/each":  {RateLimit: by(table.BucketApplicationAPI), Quota: quota},
			"apps/spare": {RateLimit: by(table.BucketApplication), Quota: quota},
		},
		APIs: map[string]table.API{"apps/x": {}, "apps/y": {}, "apps/z": {}},
		Subscriptions: map[string]table.Subscription{
			"apps/s1": {Plan: "apps/one"}, "apps/s2": {Plan: "apps/app"}, "apps/s3": {Plan: "apps/each"},
		},
		Applications: map[string]table.Application{
			"apps/a": {AppID: "a", Grants: map[string]string{"apps/x": "apps/s1", "apps/y": "apps/s2", "apps/z": "apps/s3"}},
			"apps/b": {AppID: "b", Grants: map[string]string{"apps/x": "apps/s3"}},
			"apps/c": {AppID: "c"},
		},
		Keys: map[string][]table.Holder{"a": {{Application: "apps/a"}}, "b": {{Application: "apps/b"}}, "c": {{Application: "apps/c"}}},
	}
}

// entriesOf returns entries of all buckets that gateways find in a table, each with
// its plan.
func entriesOf(tbl *table.Table) []usage.Entry {
	var entries []usage.Entry
	for api := range tbl.APIs {
		for digest := range tbl.Keys {
			caller, _ := matcher.Resolve(tbl, api, digest, matcher.Filters{})
			g := caller.Grant
			if g == nil {
				continue
			}
			entry := usage.Entry{Plan: g.Plan, Account: int64(len(entries) + 1), Wanted: 10, Over: second}
			if g.RateLimit != nil {
				entry.Kind, entry.Bucket = usage.KindRate, g.RateBucket
				entries = append(entries, entry)
			}
			if g.Quota != nil {
				entry.Kind, entry.Bucket = usage.KindQuota, g.QuotaBucket
				entries = append(entries, entry)
			}
		}
	}
	return entries
}

// TestBucketsOfTable has gateways tell of the buckets that they find in the table.
func TestBucketsOfTable(t *testing.T) {
	c := &clock{start}
	s := New(Options{Store: store.NewMemory(c.now), Log: slog.New(slog.DiscardHandler), Now: c.now})
	tbl := withBuckets()
	s.UseTable(tbl, nil)
	e := begin(t, s, 1)
	entries := entriesOf(tbl)
	if len(entries) != 8 {
		t.Fatalf("got %d buckets, want 2 for each of 4 grants", len(entries))
	}
	_, given, err := s.Settle(t.Context(), e.report(entries...))
	if err != nil || len(given) != len(entries) {
		t.Errorf("got %+v, %v, want a share of each of %+v", given, err, entries)
	}
}

// TestInventedBuckets has reports tell of buckets that the table does not make.
func TestInventedBuckets(t *testing.T) {
	c := &clock{start}
	kept := &written{Store: store.NewMemory(c.now)}
	s := New(Options{Store: kept, Log: slog.New(slog.DiscardHandler), Now: c.now})
	s.UseTable(withBuckets(), nil)
	e := begin(t, s, 1)
	kept.keys = nil
	var entries []usage.Entry
	for _, row := range []struct{ kind, plan, bucket string }{
		{"quota", "apps/one", "subscription apps/invented"},
		{"quota", "apps/one", "subscription apps/s2"}, // of another plan
		{"quota", "apps/one", "subscription "},
		{"quota", "apps/one", "apps/s1"},
		{"quota", "apps/one", ""},
		{"quota", "apps/app", "application apps/a plan apps/app"}, // its quota counts by subscription
		{"rate", "apps/one", "application apps/a plan apps/one"},
		{"rate", "apps/app", "application apps/b plan apps/app"}, // has no such grant
		{"rate", "apps/app", "application apps/a plan apps/each"},
		{"rate", "apps/app", "application apps/a api apps/y plan apps/app"},
		{"rate", "apps/app", "application apps/invented plan apps/app"},
		{"rate", "apps/app", "application apps/a plan apps/app "},
		{"rate", "apps/app", "application apps/a"},
		{"rate", "apps/app", " plan apps/app"},
		{"rate", "apps/each", "application apps/a api apps/x plan apps/each"}, // granted under another
		{"rate", "apps/each", "application apps/a api apps/w plan apps/each"},
		{"rate", "apps/each", "application apps/a plan apps/each"},
		{"rate", "apps/spare", "application apps/a plan apps/spare"}, // nobody has it
	} {
		entries = append(entries, usage.Entry{Kind: row.kind, Bucket: row.bucket, Plan: row.plan, Account: 1, Wanted: 10, Over: second})
	}
	invented := len(entries)
	for i := len(entries); i < usage.MaxEntries; i++ {
		entry := wants(1)
		entry.Bucket, entry.Plan = fmt.Sprintf("subscription apps/invented-%d", i), "apps/one"
		entries = append(entries, entry)
	}
	told, given, err := s.Settle(t.Context(), e.report(entries...))
	if told == nil || len(given) != 0 || err != nil {
		t.Errorf("got %+v, %+v, %v, want the tenure alone", told, given, err)
	}
	for i := range entries[:invented] {
		if s.accepts(&entries[i]) {
			t.Errorf("%+v is accepted", entries[i])
		}
	}
	if len(kept.keys) != 0 {
		t.Errorf("%d records were written, such as %q", len(kept.keys), kept.keys[0])
	}
	if got, want := s.Entries(), (Entries{Unknown: usage.MaxEntries}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// TestBucketGoesAndComes has a subscription leave the table while a gateway holds units
// of its quota. What it has used of them meanwhile counts when the table has it again.
func TestBucketGoesAndComes(t *testing.T) {
	c := &clock{start}
	s := New(Options{Store: store.NewMemory(c.now), Log: slog.New(slog.DiscardHandler), Now: c.now})
	tbl := withBuckets()
	s.UseTable(tbl, nil)
	e, other := begin(t, s, 1), begin(t, s, 2)
	entry := wants(200)
	entry.Bucket, entry.Plan = "subscription apps/s1", "apps/one"
	if got := e.ask(s, entry); got.Granted != 400 {
		t.Fatalf("got %+v", got)
	}
	gone := tbl.Subscriptions["apps/s1"]
	delete(tbl.Subscriptions, "apps/s1")
	s.UseTable(tbl, &compile.Change{Subscriptions: []string{"apps/s1"}})
	entry.Granted, entry.Used = 400, 350
	for range 20 { // longer than shares last
		c.pass(time.Second)
		if _, given, err := s.Settle(t.Context(), e.report(entry)); err != nil || len(given) != 0 {
			t.Fatalf("got %+v, %v, want nothing", given, err)
		}
	}
	tbl.Subscriptions["apps/s1"] = gone
	s.UseTable(tbl, &compile.Change{Subscriptions: []string{"apps/s1"}})
	most := entry
	most.Wanted, most.Granted, most.Used = 10_000, 0, 0
	if got := other.ask(s, most); got.Granted != 1000-31-400 {
		t.Errorf("another got %d, want what is left when all counts that was held", got.Granted)
	}
}

// TestChangedRows has tables follow each other of which only the changes are looked at.
func TestChangedRows(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	s := New(Options{Store: store.NewMemory(nil), Log: slog.New(slog.DiscardHandler)})
	tbl, kinds := withBuckets(), []string{"", table.BucketApplication, table.BucketApplicationAPI}
	var before []usage.Entry
	for range 500 {
		change := &compile.Change{}
		if random.IntN(4) == 0 {
			change.Plans = true
			for name := range tbl.Plans {
				tbl.Plans[name] = table.Plan{RateLimit: &table.RateLimit{Limit: 1, Period: "1s", Bucket: kinds[random.IntN(3)]}}
			}
			if random.IntN(2) == 0 { // none that counts by application
				for name := range tbl.Plans {
					tbl.Plans[name] = table.Plan{RateLimit: &table.RateLimit{Limit: 1, Period: "1s"}}
				}
			}
		}
		if name := fmt.Sprintf("apps/s%d", 1+random.IntN(3)); random.IntN(2) == 0 {
			change.Subscriptions = []string{name}
			tbl.Subscriptions[name] = table.Subscription{Plan: []string{"apps/one", "apps/app", "apps/each"}[random.IntN(3)]}
			if random.IntN(4) == 0 {
				delete(tbl.Subscriptions, name)
			}
		}
		if name := []string{"apps/a", "apps/b", "apps/c"}[random.IntN(3)]; random.IntN(2) == 0 {
			change.Applications = []string{name}
			grants := map[string]string{}
			for api := range tbl.APIs {
				if random.IntN(2) == 0 {
					grants[api] = fmt.Sprintf("apps/s%d", 1+random.IntN(3))
				}
			}
			tbl.Applications[name] = table.Application{AppID: name, Grants: grants}
			if random.IntN(4) == 0 {
				delete(tbl.Applications, name)
			}
		}
		s.UseTable(tbl, change)
		now := entriesOf(tbl)
		for _, e := range now {
			if !s.accepts(&e) {
				t.Fatalf("%+v is not accepted", e)
			}
		}
		for _, e := range before {
			there := slices.ContainsFunc(now, func(n usage.Entry) bool { return n.Kind == e.Kind && n.Bucket == e.Bucket && n.Plan == e.Plan })
			// A subscription without an application is in no table that is compiled.
			if !there && s.accepts(&e) && !strings.HasPrefix(e.Bucket, "subscription ") {
				t.Fatalf("%+v is accepted, which is gone", e)
			}
		}
		before = now
	}
}

// accepts reports whether an entry would get a share.
func (s *Sharing) accepts(e *usage.Entry) bool {
	limit, ok := s.plans.Load().of(e)
	return ok && s.has(e.Bucket, e.Plan, limit.by)
}

func FuzzBucketName(f *testing.F) {
	r := &rows{}
	tbl := withBuckets()
	r.use(tbl, nil, true)
	known := map[string]bool{}
	for _, e := range entriesOf(tbl) {
		limit, _ := newLimits(tbl.Plans).of(&e)
		known[limit.by+" "+e.Plan+" "+e.Bucket] = true
		f.Add(e.Bucket, e.Plan, limit.by)
	}
	f.Add("application  api  plan ", "", table.BucketApplicationAPI)
	f.Add("application plan apps/app", "apps/app", table.BucketApplication)
	f.Fuzz(func(t *testing.T, bucket, plan, by string) {
		limit := tbl.Plans[plan].RateLimit
		if by != table.BucketSubscription && (limit == nil || limit.Bucket != by) {
			return
		}
		if r.have(bucket, plan, by) != known[by+" "+plan+" "+bucket] && by != table.BucketSubscription {
			t.Errorf("bucket %q of plan %q by %s: got %v", bucket, plan, by, r.have(bucket, plan, by))
		}
	})
}
