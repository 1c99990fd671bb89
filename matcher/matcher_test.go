package matcher

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/tollgate-apim/tollgate/table"
)

const api = "apps/api"

// scene is a table as seen from one API, with what was reported about it.
type scene struct {
	table    *table.Table
	api      string
	reported []string
}

func newScene(t *table.Table) *scene {
	return &scene{table: t, api: api}
}

// meet returns the caller with the key of a digest.
func meet(s *scene, digest string) *Caller {
	caller, problems := Resolve(s.table, s.api, digest, Filters{})
	s.reported = append(s.reported, problems...)
	return caller
}

// refusal decides on a request.
func refusal(s *scene, digest, method, path, rawPath string) string {
	caller := meet(s, digest)
	if caller.Refusal == "" && caller.Filtered && !Allows(caller, method, path, rawPath) {
		return OperationForbidden
	}
	return caller.Refusal
}

// get decides on GET of a path with the key of a digest. It tells what a test
// looks at: the refusal, or the App ID and the key's title. It asks the table in
// parts too, and tells if that answers or reports something else.
func (s *scene) get(digest, path string) string {
	s.reported = nil
	whole := s.decide(digest, path)
	split := &scene{table: inParts(s.table), api: s.api}
	if got := split.decide(digest, path); got != whole || !reflect.DeepEqual(split.reported, s.reported) {
		return fmt.Sprintf("%s (reported %q), but in parts %s (reported %q)", whole, s.reported, got, split.reported)
	}
	return whole
}

// inParts returns a table as a gateway has it that fetched it in parts.
func inParts(t *table.Table) *table.Table {
	index, data := table.Split(t, 4)
	parts := make([]*table.Part, len(data))
	for i := range data {
		part, err := table.ParsePart(index.Parts[i], data[i])
		if err != nil {
			panic(err)
		}
		parts[i] = part
	}
	whole, err := table.Assemble(index, parts)
	if err != nil {
		panic(err)
	}
	return whole
}

func (s *scene) decide(digest, path string) string {
	if why := refusal(s, digest, "GET", path, ""); why != "" {
		return why
	}
	caller, _ := Resolve(s.table, s.api, digest, Filters{})
	return caller.Grant.AppID + " by " + caller.KeyTitle
}

// sharedTable has applications with and without a subscription, and one whose
// subscription allows /weather alone.
func sharedTable() *table.Table {
	return &table.Table{
		Plans: map[string]table.Plan{"apps/plan": {}},
		APIs: map[string]table.API{
			api:          {OperationSets: map[string][]table.Matcher{"weather": {{PathPrefix: "/weather"}}}},
			"apps/other": {},
		},
		Subscriptions: map[string]table.Subscription{
			"apps/all":     {Plan: "apps/plan"},
			"apps/weather": {Plan: "apps/plan", OperationFilter: &table.OperationFilter{Include: []string{"weather"}}},
		},
		Applications: map[string]table.Application{
			"apps/ann":     {AppID: "ann", Grants: map[string]string{api: "apps/all"}},
			"apps/bob":     {AppID: "bob", Grants: map[string]string{api: "apps/all"}},
			"shops/ann":    {AppID: "ann", Grants: map[string]string{api: "apps/all"}},
			"apps/zoe":     {AppID: "a-first", Grants: map[string]string{api: "apps/all"}},
			"apps/weather": {AppID: "weather", Grants: map[string]string{api: "apps/weather"}},
			"apps/other":   {AppID: "other", Grants: map[string]string{"apps/other": "apps/all"}},
		},
	}
}

func TestHolders(t *testing.T) {
	hold := func(names ...string) []table.Holder {
		var holders []table.Holder
		for _, name := range names {
			h := table.Holder{Application: strings.TrimPrefix(name, "suspended "), Title: "key of " + name}
			h.Suspended = h.Application != name
			holders = append(holders, h)
		}
		return holders
	}
	for _, test := range []struct {
		name    string
		holders []table.Holder
		path    string
		want    string
	}{
		{"unknown", nil, "/", KeyInvalid},
		{"one", hold("apps/ann"), "/", "ann by key of apps/ann"},
		{"one, suspended", hold("suspended apps/ann"), "/", KeyInvalid},
		{"all suspended", hold("suspended apps/ann", "suspended apps/bob"), "/", KeyInvalid},
		{"suspended and unsubscribed", hold("suspended apps/other"), "/", KeyInvalid},
		{"not subscribed to this API", hold("apps/other"), "/", SubscriptionMissing},
		{"outside the filter", hold("apps/weather"), "/admin", OperationForbidden},
		{"inside the filter", hold("apps/weather"), "/weather", "weather by key of apps/weather"},

		{"shared: accounted to the first by App ID", hold("apps/bob", "apps/ann"), "/", "ann by key of apps/ann"},
		{"shared: the order of rows does not matter", hold("apps/ann", "apps/bob"), "/", "ann by key of apps/ann"},
		{"shared: App ID goes before the name", hold("apps/ann", "apps/zoe"), "/", "a-first by key of apps/zoe"},
		{"shared: then the name", hold("shops/ann", "apps/ann"), "/", "ann by key of apps/ann"},
		{"shared: one is not subscribed", hold("apps/ann", "apps/other"), "/", SubscriptionMissing},
		{"shared: one is not subscribed, other order", hold("apps/other", "apps/ann"), "/", SubscriptionMissing},
		{"shared: one is outside its filter", hold("apps/ann", "apps/weather"), "/admin", OperationForbidden},
		{"shared: one is outside its filter, other order", hold("apps/weather", "apps/ann"), "/admin", OperationForbidden},
		{"shared: all are allowed", hold("apps/weather", "apps/ann"), "/weather", "ann by key of apps/ann"},
		{"shared: unsubscribed goes before outside the filter", hold("apps/weather", "apps/other"), "/admin", SubscriptionMissing},
		{"shared: suspended keys do not count", hold("suspended apps/ann", "suspended apps/other", "apps/bob"), "/", "bob by key of apps/bob"},
		{"shared: an application that is not there", hold("apps/ann", "apps/nobody"), "/", SubscriptionMissing},
	} {
		rows := sharedTable()
		rows.Keys = map[string][]table.Holder{"digest": test.holders}
		if got := newScene(rows).get("digest", test.path); got != test.want {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
	}
}

// A row that points at nothing refuses and is reported, whatever it is.
func TestRowsThatPointAtNothing(t *testing.T) {
	good := func() *table.Table {
		rows := sharedTable()
		rows.Keys = map[string][]table.Holder{"digest": {{Application: "apps/weather"}}}
		return rows
	}
	for _, test := range []struct {
		name     string
		breaks   func(*table.Table)
		want     string
		reported string // its words, or empty for nothing
	}{
		{"application", func(t *table.Table) { delete(t.Applications, "apps/weather") },
			SubscriptionMissing, "application apps/weather"},
		{"API", func(t *table.Table) { delete(t.APIs, api) },
			SubscriptionMissing, "API apps/api"},
		{"subscription", func(t *table.Table) { delete(t.Subscriptions, "apps/weather") },
			SubscriptionMissing, "subscription apps/weather"},
		{"plan", func(t *table.Table) { delete(t.Plans, "apps/plan") },
			SubscriptionMissing, "plan apps/plan"},
		{"operation set", func(t *table.Table) { t.APIs[api] = table.API{} },
			OperationForbidden, "operation set weather"},
		{"no grant, which is nothing to report", func(t *table.Table) { t.Applications["apps/weather"] = table.Application{} },
			SubscriptionMissing, ""},
	} {
		rows := good()
		test.breaks(rows)
		s := newScene(rows)
		if got := s.get("digest", "/weather"); got != test.want {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
		reports := 1
		if test.reported == "" {
			reports = 0
		}
		if len(s.reported) != reports || !strings.Contains(strings.Join(s.reported, ""), test.reported) {
			t.Errorf("%s: reported %q, want %d lines with %q", test.name, s.reported, reports, test.reported)
		}
	}
	if s := newScene(good()); s.get("digest", "/weather") != "weather by " || len(s.reported) > 0 {
		t.Errorf("the table that is broken above does not work: reported %q", s.reported)
	}
}

// Callers of one subscription share its filter: each has hundreds of expressions
// at most, but there may be a million callers.
func TestFiltersAreShared(t *testing.T) {
	rows := sharedTable()
	rows.Applications["apps/second"] = rows.Applications["apps/weather"]
	rows.Keys = map[string][]table.Holder{"a": {{Application: "apps/weather"}}, "b": {{Application: "apps/second"}}}
	filters := Filters{}
	first, _ := Resolve(rows, api, "a", filters)
	second, _ := Resolve(rows, api, "b", filters)
	if len(filters) != 1 || first.filters[0] != second.filters[0] {
		t.Errorf("got %d filters for one subscription, want one that is shared", len(filters))
	}
	if !Allows(second, "GET", "/weather", "") || Allows(second, "GET", "/admin", "") {
		t.Error("a shared filter does not filter")
	}
}

func TestGrant(t *testing.T) {
	const digest = "digest"
	rows := sharedTable()
	rows.Keys = map[string][]table.Holder{digest: {{Application: "apps/ann"}}}
	limit := func(rate, quota string) {
		rows.Plans["apps/plan"] = table.Plan{
			RateLimit: &table.RateLimit{Limit: 10, Period: "1s", Bucket: rate},
			Quota:     &table.Quota{Limit: 0, Period: "1h", Bucket: quota},
		}
	}
	grant := func() *Grant { return meet(newScene(rows), digest).Grant }

	limit("", "")
	got := *grant()
	want := Grant{API: api, Application: "apps/ann", Subscription: "apps/all", Plan: "apps/plan", AppID: "ann"}
	if names := [5]string{got.API, got.Application, got.Subscription, got.Plan, got.AppID}; names !=
		[5]string{want.API, want.Application, want.Subscription, want.Plan, want.AppID} {
		t.Errorf("got %q, want %+v", names, want)
	}
	if got.RateLimit == nil || got.Quota == nil {
		t.Errorf("got limits %v and %v, want both; a quota of 0 denies everything", got.RateLimit, got.Quota)
	}

	for _, test := range []struct{ kind, want string }{
		{"", "subscription apps/all"},
		{table.BucketSubscription, "subscription apps/all"},
		{table.BucketApplication, "application apps/ann plan apps/plan"},
		{table.BucketApplicationAPI, "application apps/ann api apps/api plan apps/plan"},
	} {
		limit(test.kind, table.BucketApplication)
		if got := grant(); got.RateBucket != test.want || got.QuotaBucket != "application apps/ann plan apps/plan" {
			t.Errorf("rate limit by %q: counted in %q, want %q; quota in %q", test.kind, got.RateBucket, test.want, got.QuotaBucket)
		}
		limit(table.BucketApplication, test.kind)
		if got := grant(); got.QuotaBucket != test.want || got.RateBucket != "application apps/ann plan apps/plan" {
			t.Errorf("quota by %q: counted in %q, want %q; rate limit in %q", test.kind, got.QuotaBucket, test.want, got.RateBucket)
		}
	}

	rows.Plans["apps/plan"] = table.Plan{RateLimit: &table.RateLimit{Limit: 0, Period: "1s"}}
	if got := grant(); got.RateLimit != nil || got.Quota != nil {
		t.Errorf("got limits %v and %v, want none; a rate limit of 0 limits nothing", got.RateLimit, got.Quota)
	}
}

// Two APIs of one table do not mix their grants.
func TestAPIsOfOneTable(t *testing.T) {
	rows := sharedTable()
	rows.Keys = map[string][]table.Holder{"ann": {{Application: "apps/ann"}}, "other": {{Application: "apps/other"}}}
	got := map[string]string{}
	for _, of := range []string{api, "apps/other", "apps/nowhere"} {
		s := &scene{table: rows, api: of}
		for _, digest := range []string{"ann", "other"} {
			got[digest+" "+of] = refusal(s, digest, "GET", "/", "")
		}
	}
	want := map[string]string{
		"ann apps/api": "", "ann apps/other": SubscriptionMissing, "ann apps/nowhere": SubscriptionMissing,
		"other apps/api": SubscriptionMissing, "other apps/other": "", "other apps/nowhere": SubscriptionMissing,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %s, want %s", fmt.Sprint(got), fmt.Sprint(want))
	}
}
