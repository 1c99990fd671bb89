package access_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tollgate-apim/tollgate/controlplane/access"
	"github.com/tollgate-apim/tollgate/table"
)

const digest1, digest2 = "11aa", "22bb"

// world is an application with a key and an API, under a plan.
func world() *table.Table {
	return &table.Table{
		Plans: map[string]table.Plan{
			"apps/standard": {
				RateLimit: &table.RateLimit{Limit: 10, Period: "1s"},
				Quota:     &table.Quota{Limit: 1000, Period: "720h", Bucket: table.BucketApplication},
			},
			"apps/free": {},
		},
		APIs: map[string]table.API{
			"apps/weather": {OperationSets: map[string][]table.Matcher{
				"read":  {{Methods: []string{"HEAD", "GET"}, PathPrefix: "/weather/"}, {Path: "/health"}},
				"write": {{Methods: []string{"POST"}}, {PathRegex: `^/w\d$`}},
			}},
			"apps/tides": {},
		},
		Subscriptions: map[string]table.Subscription{
			"apps/mobile": {Plan: "apps/standard", OperationFilter: &table.OperationFilter{Include: []string{"write", "read", "read"}}},
			"apps/free":   {Plan: "apps/free"},
		},
		Applications: map[string]table.Application{
			"apps/mobile": {AppID: "mobile", Grants: map[string]string{"apps/weather": "apps/mobile"}},
			"apps/web":    {AppID: "web", Grants: map[string]string{"apps/weather": "apps/mobile"}},
		},
		Keys: map[string][]table.Holder{digest1: {{Application: "apps/mobile", Title: "phone"}}},
	}
}

func TestCompare(t *testing.T) {
	const words = "read (GET|HEAD /weather/…, any method /health), write (POST, any method ~ ^/w\\d$)"
	before := access.Grant{
		Subscription: "apps/mobile", Plan: "apps/standard", Operations: words,
		RateLimit: "10 in 1s for each subscription", Quota: "1000 in 720h for each application",
	}
	free := access.Grant{Subscription: "apps/free", Plan: "apps/free", Operations: "all", RateLimit: "none", Quota: "none"}
	with := func(change func(g *access.Grant)) *access.Grant {
		g := before
		change(&g)
		return &g
	}
	changed := func(application string, after *access.Grant) access.Change {
		return access.Change{Application: application, APIs: []access.APIChange{{Kind: access.Changed, API: "apps/weather", Before: &before, After: after}}}
	}
	both := func(after *access.Grant) []access.Change {
		return []access.Change{changed("apps/mobile", after), changed("apps/web", after)}
	}
	keys := func(changes ...access.KeyChange) []access.Change {
		return []access.Change{{Application: "apps/mobile", Keys: changes}}
	}
	holder := func(title string, suspended bool) []table.Holder {
		return []table.Holder{{Application: "apps/mobile", Title: title, Suspended: suspended}}
	}
	for _, test := range []struct {
		name   string
		change func(t *table.Table)
		want   []access.Change
	}{
		{"nothing", func(*table.Table) {}, nil},
		{"an API gained", func(t *table.Table) { t.Applications["apps/web"].Grants["apps/tides"] = "apps/free" },
			[]access.Change{{Application: "apps/web", APIs: []access.APIChange{{Kind: access.Gained, API: "apps/tides", After: &free}}}}},
		{"an API lost", func(t *table.Table) { delete(t.Applications["apps/web"].Grants, "apps/weather") },
			[]access.Change{{Application: "apps/web", APIs: []access.APIChange{{Kind: access.Lost, API: "apps/weather", Before: &before}}}}},
		{"an application gone", func(t *table.Table) { delete(t.Applications, "apps/mobile"); delete(t.Keys, digest1) },
			[]access.Change{{
				Application: "apps/mobile", APIs: []access.APIChange{{Kind: access.Lost, API: "apps/weather", Before: &before}},
				Keys: []access.KeyChange{{Kind: access.Removed, Title: "phone"}},
			}}},
		{"another subscription", func(t *table.Table) { t.Applications["apps/web"].Grants["apps/weather"] = "apps/free" },
			[]access.Change{changed("apps/web", &free)}},
		{"another filter", func(t *table.Table) {
			t.Subscriptions["apps/mobile"] = table.Subscription{Plan: "apps/standard", OperationFilter: &table.OperationFilter{Include: []string{"gone"}}}
		}, both(with(func(g *access.Grant) { g.Operations = "none" }))},
		{"the same filter in another order", func(t *table.Table) {
			t.Subscriptions["apps/mobile"] = table.Subscription{Plan: "apps/standard", OperationFilter: &table.OperationFilter{Include: []string{"read", "write"}}}
		}, nil},
		{"another set under the same name", func(t *table.Table) { t.APIs["apps/weather"].OperationSets["read"] = []table.Matcher{{}} },
			both(with(func(g *access.Grant) { g.Operations = "read (any method), write (POST, any method ~ ^/w\\d$)" }))},
		{"another burst", func(t *table.Table) { t.Plans["apps/standard"].RateLimit.Burst = 20 },
			both(with(func(g *access.Grant) { g.RateLimit = "10 in 1s for each subscription, burst 20" }))},
		{"the same burst", func(t *table.Table) { t.Plans["apps/standard"].RateLimit.Burst = 10 }, nil},
		{"another bucket", func(t *table.Table) { t.Plans["apps/standard"].Quota.Bucket = "" },
			both(with(func(g *access.Grant) { g.Quota = "1000 in 720h for each subscription" }))},
		{"a key suspended", func(t *table.Table) { t.Keys[digest1] = holder("phone", true) },
			keys(access.KeyChange{Kind: access.Suspended, Title: "phone", Suspended: true})},
		{"a key added", func(t *table.Table) { t.Keys[digest2] = holder("", true) },
			keys(access.KeyChange{Kind: access.Added, Suspended: true})},
		{"a key replaced", func(t *table.Table) { delete(t.Keys, digest1); t.Keys[digest2] = holder("phone", false) },
			keys(access.KeyChange{Kind: access.Replaced, Title: "phone"})},
		{"a key replaced under another title", func(t *table.Table) { delete(t.Keys, digest1); t.Keys[digest2] = holder("tablet", false) },
			keys(access.KeyChange{Kind: access.Removed, Title: "phone"}, access.KeyChange{Kind: access.Added, Title: "tablet"})},
		{"a key renamed and suspended", func(t *table.Table) { t.Keys[digest1] = holder("old", true) },
			keys(access.KeyChange{Kind: access.Changed, Title: "old", Before: "phone", Suspended: true}, access.KeyChange{Kind: access.Suspended, Title: "old", Suspended: true})},
		{"a key also held suspended", func(t *table.Table) {
			t.Keys[digest1] = append(holder("phone", false), holder("phone", true)...)
		}, nil},
		{"another App ID and owner", func(t *table.Table) {
			t.Applications["apps/web"] = table.Application{AppID: "site", Owner: "jane", Grants: t.Applications["apps/web"].Grants}
		}, []access.Change{{Application: "apps/web", Fields: []access.Difference{{Field: "appId", Before: "web", After: "site"}, {Field: "owner", After: "jane"}}}}},
		{"a path for a prefix", func(t *table.Table) {
			t.APIs["apps/weather"].OperationSets["read"] = []table.Matcher{{Methods: []string{"GET", "HEAD"}, Path: "/weather/…"}, {Path: "/health"}}
		}, both(with(func(g *access.Grant) {
			g.Operations = "read (GET|HEAD \"/weather/…\", any method /health), write (POST, any method ~ ^/w\\d$)"
		}))},
		{"a path of two matchers' words", func(t *table.Table) {
			t.APIs["apps/weather"].OperationSets["read"] = []table.Matcher{{Methods: []string{"GET", "HEAD"}, Path: "/weather/…, any method /health"}}
		}, both(with(func(g *access.Grant) {
			g.Operations = "read (GET|HEAD \"/weather/…, any method /health\"), write (POST, any method ~ ^/w\\d$)"
		}))},
		{"a key handed on", func(t *table.Table) { t.Keys[digest1] = []table.Holder{{Application: "apps/web", Title: "phone"}} },
			[]access.Change{
				{Application: "apps/mobile", Keys: []access.KeyChange{{Kind: access.Removed, Title: "phone"}}},
				{Application: "apps/web", Keys: []access.KeyChange{{Kind: access.Added, Title: "phone"}}},
			}},
	} {
		t.Run(test.name, func(t *testing.T) {
			after := world()
			test.change(after)
			got := access.Compare(world(), after)
			if diff := cmp.Diff(test.want, got, cmpopts.IgnoreFields(access.APIChange{}, "Wider"), cmpopts.IgnoreUnexported(access.Reach{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			encoded, err := json.Marshal(got)
			if err != nil || strings.Contains(string(encoded), digest1) || strings.Contains(string(encoded), digest2) {
				t.Errorf("%v, or it tells a digest: %s", err, encoded)
			}
		})
	}
}

func TestResumed(t *testing.T) {
	suspended := world()
	suspended.Keys[digest1] = []table.Holder{{Application: "apps/mobile", Title: "phone", Suspended: true}}
	want := []access.Change{{Application: "apps/mobile", Keys: []access.KeyChange{{Kind: access.Resumed, Title: "phone"}}}}
	if diff := cmp.Diff(want, access.Compare(suspended, world())); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestDifferences(t *testing.T) {
	a := &access.Grant{Subscription: "s", Plan: "p", Operations: "all", RateLimit: "none", Quota: "1"}
	b := &access.Grant{Subscription: "t", Plan: "q", Operations: "none", RateLimit: "2", Quota: "3"}
	want := []access.Difference{
		{Field: "operations", Before: "all", After: "none"}, {Field: "plan", Before: "p", After: "q"},
		{Field: "rate limit", Before: "none", After: "2"}, {Field: "quota", Before: "1", After: "3"}, {Field: "subscription", Before: "s", After: "t"},
	}
	if diff := cmp.Diff(want, access.APIChange{Kind: access.Changed, Before: a, After: b}.Differences()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := (access.APIChange{Before: a, After: a}).Differences(); got != nil {
		t.Errorf("no difference: got %v", got)
	}
}

// TestBuckets checks that buckets are told in words.
func TestBuckets(t *testing.T) {
	for bucket, want := range map[string]string{
		"": "5 in 1s for each subscription", table.BucketSubscription: "5 in 1s for each subscription",
		table.BucketApplication: "5 in 1s for each application", table.BucketApplicationAPI: "5 in 1s for each application and API",
	} {
		after := world()
		after.Plans["apps/standard"] = table.Plan{RateLimit: &table.RateLimit{Limit: 5, Period: "1s", Bucket: bucket}}
		if got := access.Compare(world(), after)[0].APIs[0].After.RateLimit; got != want {
			t.Errorf("bucket %q: got %q, want %q", bucket, got, want)
		}
	}
}
