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

// TestSharedKey checks that a change tells what becomes of a key that several
// applications hold.
func TestSharedKey(t *testing.T) {
	a, suspendedA := table.Holder{Application: "apps/mobile", Title: "a"}, table.Holder{Application: "apps/mobile", Title: "a", Suspended: true}
	b, suspendedB := table.Holder{Application: "apps/other", Title: "b"}, table.Holder{Application: "apps/other", Title: "b", Suspended: true}
	filtered := "write (POST, any method ~ ^/w\\d$)"
	all := access.Reach{Application: "apps/mobile", Operations: "all"}
	narrow := access.Reach{Application: "apps/mobile", Operations: filtered}
	admitted := access.SharedKey{Kind: access.Admitted, Title: "a", API: "apps/weather", After: &all}
	refused := access.SharedKey{Kind: access.Refused, Title: "a", API: "apps/weather", Before: &all}
	for _, test := range []struct {
		name          string
		before, after []table.Holder
		// subscribed is the subscription of the application that holds b.
		subscribed string
		want       []access.SharedKey
	}{
		{"the copy without a subscription suspended", []table.Holder{a, b}, []table.Holder{a, suspendedB}, "", []access.SharedKey{admitted}},
		{"and removed", []table.Holder{a, b}, []table.Holder{a}, "", []access.SharedKey{admitted}},
		{"and resumed", []table.Holder{a, suspendedB}, []table.Holder{a, b}, "", []access.SharedKey{refused}},
		{"and added", []table.Holder{a}, []table.Holder{b, a}, "", []access.SharedKey{refused}},
		{"the copy with a subscription suspended", []table.Holder{a, b}, []table.Holder{suspendedA, b}, "", nil},
		{"a narrower copy suspended", []table.Holder{a, b}, []table.Holder{a, suspendedB}, "apps/narrow",
			[]access.SharedKey{{Kind: access.Changed, Title: "a", API: "apps/weather", Before: &narrow, After: &all}}},
		{"the same", []table.Holder{a, b}, []table.Holder{b, a}, "apps/narrow", nil},
		{"of one application", []table.Holder{a}, []table.Holder{suspendedA}, "", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			tables := [2]*table.Table{world(), world()}
			for i, holders := range [][]table.Holder{test.before, test.after} {
				tables[i].Subscriptions["apps/narrow"] = table.Subscription{Plan: "apps/free", OperationFilter: &table.OperationFilter{Include: []string{"write"}}}
				tables[i].Applications["apps/mobile"].Grants["apps/weather"] = "apps/free"
				other := table.Application{AppID: "other", Grants: map[string]string{}}
				if test.subscribed != "" {
					other.Grants["apps/weather"] = test.subscribed
				}
				tables[i].Applications["apps/other"] = other
				tables[i].Keys[digest1] = holders
			}
			var got []access.SharedKey
			changes := access.Compare(tables[0], tables[1])
			for _, c := range changes {
				if c.Application == "apps/mobile" {
					got = c.Shared
				} else if c.Shared != nil {
					t.Errorf("told of %s: %v", c.Application, c.Shared)
				}
			}
			if diff := cmp.Diff(test.want, got, cmpopts.IgnoreUnexported(access.Reach{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			encoded, err := json.Marshal(changes)
			if err != nil || strings.Contains(string(encoded), digest1) {
				t.Errorf("%v, or it tells a digest: %s", err, encoded)
			}
		})
	}
}

// TestWider checks that what may allow more is told from what does not.
func TestWider(t *testing.T) {
	plan := func(change func(p *table.Plan)) func(*table.Table) {
		return func(t *table.Table) {
			p := t.Plans["apps/standard"]
			rate, quota := *p.RateLimit, *p.Quota
			p.RateLimit, p.Quota = &rate, &quota
			change(&p)
			t.Plans["apps/standard"] = p
		}
	}
	filter := func(names ...string) func(*table.Table) {
		return func(t *table.Table) {
			t.Subscriptions["apps/mobile"] = table.Subscription{Plan: "apps/standard", OperationFilter: &table.OperationFilter{Include: names}}
		}
	}
	for _, test := range []struct {
		name   string
		change func(t *table.Table)
		want   bool
	}{
		{"a set less", filter("read"), false},
		{"no filter", func(t *table.Table) { t.Subscriptions["apps/mobile"] = table.Subscription{Plan: "apps/standard"} }, true},
		{"a wider set", func(t *table.Table) { t.APIs["apps/weather"].OperationSets["read"] = []table.Matcher{{}} }, true},
		{"no rate limit", plan(func(p *table.Plan) { p.RateLimit = nil }), true},
		{"no quota", plan(func(p *table.Plan) { p.Quota = nil }), true},
		{"a higher limit", plan(func(p *table.Plan) { p.RateLimit.Limit++ }), true},
		{"a lower limit", plan(func(p *table.Plan) { p.RateLimit.Limit-- }), false},
		{"a rate limit of 0", plan(func(p *table.Plan) { p.RateLimit.Limit = 0 }), true},
		{"a shorter period", plan(func(p *table.Plan) { p.Quota.Period = "1h" }), true},
		{"a longer period", plan(func(p *table.Plan) { p.Quota.Period = "1000h" }), false},
		{"a larger burst", plan(func(p *table.Plan) { p.RateLimit.Burst = 100 }), true},
		{"another bucket", plan(func(p *table.Plan) { p.Quota.Bucket = table.BucketApplicationAPI }), true},
	} {
		t.Run(test.name, func(t *testing.T) {
			after := world()
			test.change(after)
			got := access.Compare(world(), after)
			if len(got) == 0 || got[0].APIs[0].Wider != test.want {
				t.Errorf("got %+v, want wider %t", got, test.want)
			}
		})
	}
}

// TestTellsNoKeys checks that a key is not told that stands where words belong.
func TestTellsNoKeys(t *testing.T) {
	const secret = "tg_0123456789abcdefghijABCDEFGHIJ0123456"
	after := world()
	after.Applications["apps/mobile"] = table.Application{AppID: secret, Owner: secret, Grants: map[string]string{"apps/tides": "apps/free"}}
	after.Keys[digest1] = []table.Holder{{Application: "apps/mobile", Title: secret}, {Application: "apps/mobile", Title: secret}}
	after.Keys[digest2] = []table.Holder{{Application: "apps/mobile", Title: secret}, {Application: "apps/web", Title: secret, Suspended: true}}
	changes := access.Compare(world(), after)
	encoded, err := json.Marshal(changes)
	if err != nil || strings.Contains(string(encoded), secret[:12]) || len(changes[0].Shared) != 1 || len(changes[0].Fields) != 2 {
		t.Errorf("%v, or it tells a key: %s", err, encoded)
	}
}
