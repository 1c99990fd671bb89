package tollgate

import (
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/tollgate-apim/tollgate/table"
)

// dryTable has a plan with a rate limit of two an hour.
func dryTable() *table.Table {
	return testTable(table.Plan{RateLimit: &table.RateLimit{Limit: 2, Period: "1h", Bucket: table.BucketApplication}})
}

func TestDryRunAdmitsEverything(t *testing.T) {
	const names = "X-App-Id X-Subscription X-Api-Plan X-Api-Key-Title"
	withSources(t, holding(dryTable(), 0))
	config := testConfig(weatherAPI)
	config.DryRun = true
	r := newRig(t, config)
	for _, test := range []struct {
		name   string
		method string
		header []string
		want   string // of the headers told, and the reason
	}{
		{"a valid key", "GET", lines("Authorization: Bearer ann"), "ann apps/sub apps/plan key of ann, "},
		{"another request", "GET", lines("Authorization: Bearer ann"), "ann apps/sub apps/plan key of ann, "},
		{"no token left", "GET", lines("Authorization: Bearer ann"), "ann apps/sub apps/plan key of ann, rate_limited"},
		{"an operation outside the filter", "DELETE", lines("Authorization: Bearer filtered"), "filtered apps/filtered-sub apps/plan key of filtered, operation_forbidden"},
		{"no subscription", "GET", lines("Authorization: Bearer stranger"), ", subscription_missing"},
		{"an unknown key", "GET", lines("Authorization: Bearer nobody"), ", key_invalid"},
		{"a suspended key", "GET", lines("Authorization: Bearer suspended"), ", key_invalid"},
		{"no key", "GET", nil, ", key_missing"},
		{"an identity of one's own", "GET", lines("X-App-Id: root", "X-Tollgate-Dry-Run: none"), ", key_missing"},
		{"an identity of one's own with a key", "GET", lines("Authorization: Bearer bob", "X-Tollgate-Dry-Run: none"), "bob apps/sub apps/plan key of bob, "},
		{"a Connection that lists what is told", "GET", lines("Connection: X-Tollgate-Dry-Run, X-App-Id"), ", key_missing"},
	} {
		w := r.do(test.method, "/weather", test.header...)
		if r.upstream == nil || w.Code != http.StatusOK || len(w.Header()) != 0 {
			t.Fatalf("%s: got %d %v, want it handed on and nothing told to the client", test.name, w.Code, w.Header())
		}
		h := r.upstream.Header
		var values []string
		for _, name := range strings.Fields(names) {
			values = append(values, h[http.CanonicalHeaderKey(name)]...)
		}
		if got := strings.Join(values, " ") + ", " + h.Get(dryRunHeader); got != test.want {
			t.Errorf("%s: the upstream is told %q, want %q", test.name, got, test.want)
		}
		if len(test.header) > 0 && strings.HasPrefix(test.header[0], "Auth") && h.Get("Authorization") == "" {
			t.Errorf("%s: the key was taken out", test.name)
		}
		if h["Connection"] != nil {
			t.Errorf("%s: Connection still lists %q", test.name, h["Connection"])
		}
	}
}

// A header that is not wanted is left out, and not sent without a name, which no
// upstream would get.
func TestDryRunWithoutAnIdentityHeader(t *testing.T) {
	usual := []string{"X-App-Id", "X-Subscription", "X-Api-Plan", "X-Api-Key-Title"}
	for i := range usual {
		names := append([]string{}, usual...)
		names[i] = ""
		withSources(t, holding(dryTable(), 0))
		config := testConfig(weatherAPI)
		config.DryRun = true
		config.IdentityHeaders = IdentityHeaders{names[0], names[1], names[2], names[3]}
		r := newRig(t, config)
		r.do("GET", "/weather", "Authorization: Bearer ann")
		for j, name := range usual {
			if _, told := r.upstream.Header[name]; told == (i == j) {
				t.Errorf("without %s: %s is told: %t", usual[i], name, told)
			}
		}
		if values, told := r.upstream.Header[""]; told {
			t.Errorf("without %s: %q is told without a name", usual[i], values)
		}
	}
}

func TestDryRunWithoutTable(t *testing.T) {
	for _, test := range []struct {
		name string
		rows *table.Table
		age  time.Duration
	}{
		{"none", nil, 0},
		{"a stale one", dryTable(), time.Hour},
	} {
		withSources(t, holding(test.rows, test.age))
		config := testConfig(weatherAPI)
		config.DryRun = true
		config.Sync.MaxStaleness = "30m"
		r := newRig(t, config)
		w := r.do("GET", "/weather", "Authorization: Bearer ann")
		if r.upstream == nil || w.Code != http.StatusOK {
			t.Fatalf("%s: got %d, want it handed on", test.name, w.Code)
		}
		if got := r.upstream.Header.Get(dryRunHeader); got != "table_unavailable" {
			t.Errorf("%s: got reason %q, want table_unavailable", test.name, got)
		}
	}
}

// Only what begins and what ends is reported, not each request.
func TestSpells(t *testing.T) {
	var told []string
	report := func(line string, failed bool) {
		mark := "+ "
		if failed {
			mark = "! "
		}
		told = append(told, mark+line)
	}
	s := &spells{}
	for _, step := range []struct {
		at   time.Duration
		what string
		want []string
	}{
		{0, "a", lines("! dry run: a")},
		{time.Second, "a", nil},
		{30 * time.Second, "b", lines("! dry run: b")},
		{59 * time.Second, "a", nil},
		{100 * time.Second, "a", lines("+ dry run: no longer b (1 in all)")},
		{105 * time.Second, "", nil},
		{161 * time.Second, "", lines("+ dry run: no longer a (4 in all)")},
		{162 * time.Second, "a", lines("! dry run: a")},
		{163 * time.Second, "b", lines("! dry run: b")},
	} {
		told = nil
		s.end(step.at, report)
		if step.what != "" {
			s.happens(step.what, step.at, report)
		}
		if !reflect.DeepEqual(told, step.want) {
			t.Errorf("%s at %s: got lines %q, want %q", step.what, step.at, told, step.want)
		}
	}
	told = nil
	for i := 0; i < 2*maxSpells; i++ {
		s.happens(fmt.Sprint(i), 163*time.Second, report)
	}
	if len(s.open) != maxSpells || len(told) != maxSpells-2 {
		t.Errorf("%d spells and %d lines, want at most %d spells", len(s.open), len(told), maxSpells)
	}
}

func lines(all ...string) []string { return all }
