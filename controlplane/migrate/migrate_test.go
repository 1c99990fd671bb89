package migrate_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tollgate-apim/tollgate/controlplane/compile"
	"github.com/tollgate-apim/tollgate/controlplane/finding"
	"github.com/tollgate-apim/tollgate/controlplane/manifest"
	"github.com/tollgate-apim/tollgate/controlplane/migrate"
	"github.com/tollgate-apim/tollgate/table"
)

var update = flag.Bool("update", false, "write the golden files anew")

var seed = flag.Uint64("seed", 20261121, "seed of the generated cases")

// access and limit are the old kinds in the test's own words.
type access struct {
	groups []string // "" is everyone
	apis   []string
	sets   []string // nil for all
}

type limit struct {
	groups []string
	apis   []string
	limit  int64
	period time.Duration
}

// old decides as the old kinds did. It shares nothing with the code.
type old struct {
	accesses []access
	limits   []limit
}

func (o old) sets(groups []string, api string) (sets []string, all, some bool) {
	for _, a := range o.accesses {
		if !slices.Contains(a.apis, api) || !slices.ContainsFunc(a.groups, func(g string) bool { return g == "" || slices.Contains(groups, g) }) {
			continue
		}
		some = true
		all = all || a.sets == nil
		sets = append(sets, a.sets...)
	}
	return sets, all, some
}

// rate returns the requests a second that one group has, or -1 without a limit.
func (o old) rate(group, api string) float64 {
	for _, g := range []string{group, ""} {
		strictest := -1.0
		for _, l := range o.limits {
			if slices.Contains(l.groups, g) && slices.Contains(l.apis, api) {
				if r := float64(l.limit) / l.period.Seconds(); strictest < 0 || r < strictest {
					strictest = r
				}
			}
		}
		if strictest >= 0 {
			return strictest
		}
	}
	return -1
}

// generous returns the rate of the most generous of those groups that had access
// to an API, or a limit of their own to everyone's access. Where there is none, it
// returns that of everyone. (The limit of a group without access does not count:
// it was more generous in the old kinds.)
func (o old) generous(groups []string, api string) float64 {
	best, found := 0.0, false
	for _, g := range groups {
		access := func(group string) bool {
			return slices.ContainsFunc(o.accesses, func(a access) bool { return slices.Contains(a.groups, group) && slices.Contains(a.apis, api) })
		}
		own := access(g) || access("") && slices.ContainsFunc(o.limits, func(l limit) bool { return slices.Contains(l.groups, g) && slices.Contains(l.apis, api) })
		if r := o.rate(g, api); own && (!found || r < 0 || best >= 0 && r > best) {
			best, found = r, true
		}
	}
	if found {
		return best
	}
	return o.rate("", api)
}

var (
	groupNames = []string{"internal", "external", "partners: gold"}
	apiLabels  = map[string]string{"one": "a", "two": "a", "three": "b", "four": ""}
	apiNames   = []string{"one", "two", "three", "four"}
)

// generated returns manifests of old kinds, and what they mean.
func generated(r *rand.Rand) (string, old) {
	var b strings.Builder
	object := func(kind, name, labels, spec string) {
		fmt.Fprintf(&b, "---\napiVersion: hub.traefik.io/v1alpha1\nkind: %s\nmetadata: {name: %s, namespace: apps, labels: {%s}}\nspec: {%s}\n", kind, name, labels, spec)
	}
	for _, name := range apiNames {
		labels := ""
		if l := apiLabels[name]; l != "" {
			labels = "tier: " + l
		}
		object("API", name, labels, "openApiSpec: {path: /o, operationSets: [{name: read, matchers: [{methods: [GET]}]}, {name: write, matchers: [{methods: [PUT]}]}]}")
	}
	object("APIBundle", "bundle", "", "apis: [{name: four}], apiSelector: {matchLabels: {tier: b}}")
	for name := range members {
		object("ManagedApplication", name, "", "appId: "+name+", owner: me")
	}
	audience := func() ([]string, string) {
		if r.IntN(3) == 0 {
			return []string{""}, "everyone: true"
		}
		groups := slices.Clone(groupNames)
		r.Shuffle(len(groups), func(i, j int) { groups[i], groups[j] = groups[j], groups[i] })
		groups = groups[:1+r.IntN(2)]
		return groups, `groups: ["` + strings.Join(groups, `", "`) + `"]`
	}
	apis := func(bundles bool) ([]string, string) {
		switch r.IntN(5) {
		case 0:
			return apiNames, "apiSelector: {}"
		case 1:
			return []string{"one", "two"}, "apiSelector: {matchLabels: {tier: a}}"
		case 2:
			if bundles {
				return []string{"three", "four"}, "apiBundles: [{name: bundle}]"
			}
			return []string{"three", "four"}, "apis: [{name: four}], apiSelector: {matchExpressions: [{key: tier, operator: In, values: [b]}]}"
		}
		api := apiNames[r.IntN(len(apiNames))]
		return []string{api}, "apis: [{name: " + api + "}]"
	}
	var o old
	for i := range 1 + r.IntN(5) {
		groups, who := audience()
		names, what := apis(true)
		a := access{groups: groups, apis: names}
		filter := ""
		switch r.IntN(4) {
		case 0:
			a.sets, filter = []string{"read"}, ", operationFilter: {include: [read]}"
		case 1:
			a.sets, filter = []string{"write"}, ", operationFilter: {include: [write]}"
		case 2:
			a.sets, filter = []string{}, ", operationFilter: {include: []}"
		}
		o.accesses = append(o.accesses, a)
		object("APIAccess", fmt.Sprintf("access-%d", i), "", who+", "+what+filter)
	}
	for i := range r.IntN(6) {
		groups, who := audience()
		names, what := apis(false)
		l := limit{groups: groups, apis: names, limit: 1 + r.Int64N(4), period: time.Second << r.IntN(3)}
		o.limits = append(o.limits, l)
		object("APIRateLimit", fmt.Sprintf("limit-%d", i), "", fmt.Sprintf("%s, %s, limit: %d, period: %s", who, what, l.limit, l.period))
	}
	return b.String(), o
}

// members are the groups of each application.
var members = map[string][]string{
	"app-0": nil, "app-1": {groupNames[0]}, "app-2": {groupNames[1]}, "app-3": {groupNames[2]}, "app-4": groupNames[:2], "app-5": groupNames,
}

var todo = regexp.MustCompile(`# TODO: name the ManagedApplications of group "([^"]*)"`)

// fillIn does what the TODOs say.
func fillIn(text string) string {
	var out []string
	for _, doc := range strings.Split(text, "---\n") {
		if m := todo.FindStringSubmatch(doc); m != nil {
			var refs []string
			for app, groups := range members {
				if slices.Contains(groups, m[1]) {
					refs = append(refs, "{name: "+app+"}")
				}
			}
			doc = strings.Replace(doc, "managedApplications: []", "managedApplications: ["+strings.Join(refs, ", ")+"]", 1)
		}
		out = append(out, doc)
	}
	return strings.Join(out, "---\n")
}

// compiled is the table of manifests, which must have no errors.
func compiled(t *testing.T, text string) *table.Table {
	t.Helper()
	loaded := manifest.Parse("f.yaml", []byte(text))
	result := compile.Compile(loaded.Objects)
	for _, f := range append(loaded.Findings, result.Findings...) {
		if f.Severity == finding.Error {
			t.Fatalf("%v\n%s", f, text)
		}
	}
	return result.Table
}

// TestEveryForm compares what is written for each form of the old kinds with the
// file beside it.
func TestEveryForm(t *testing.T) {
	const path = "testdata/every-form.yaml"
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	loaded := manifest.Parse("every-form.yaml", data)
	if refusals := migrate.Refusals(loaded); len(refusals) > 0 {
		t.Fatal(refusals)
	}
	result := migrate.Migrate(loaded.Objects)
	if len(result.Files) != 1 || result.Files[0].Path != "every-form.yaml" {
		t.Fatalf("got %d files, want one for every-form.yaml", len(result.Files))
	}
	got := fmt.Sprintf("%s\n# TODOs: %d\n", result.Files[0].Text, result.TODOs)
	for _, note := range result.Notes {
		got += "# note: " + note + "\n"
	}
	const golden = "testdata/every-form.golden"
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestRefusals checks that nothing is migrated while a limit may be missing.
func TestRefusals(t *testing.T) {
	const access = "apiVersion: hub.traefik.io/v1alpha1\nkind: APIAccess\nmetadata: {name: a}\nspec: {everyone: true, apiSelector: {}}\n"
	const limit = "---\napiVersion: hub.traefik.io/v1alpha1\nkind: %s\nmetadata: {name: l}\nspec: {everyone: true, apiSelector: {}, limit: 1%s}\n"
	for _, test := range []struct {
		name, text string
		want       int
	}{
		{"good", access + fmt.Sprintf(limit, "APIRateLimit", ""), 0},
		{"a limit that does not load", access + fmt.Sprintf(limit, "APIRateLimit", ", period: 1d"), 1},
		{"a limit twice", access + strings.Repeat(fmt.Sprintf(limit, "APIRateLimit", ""), 2), 1},
		{"a file that is broken", access + "---\n\tbad\n", 1},
		{"an API that does not load", access + "---\napiVersion: hub.traefik.io/v1alpha1\nkind: API\nmetadata: {name: A}\n", 1},
		{"a kind that is misspelt", access + fmt.Sprintf(limit, "APIRatelimit", ""), 1},
		{"another version", access + strings.Replace(fmt.Sprintf(limit, "APIRateLimit", ""), "v1alpha1", "v1alpha2", 1), 1},
		{"what is no object", access + "---\na: b\n", 0},
		{"an unknown kind of another group", access + "---\napiVersion: example.com/v1\nkind: APIRatelimit\nmetadata: {name: l}\n", 0},
		{"what plays no part", access + "---\napiVersion: hub.traefik.io/v1alpha1\nkind: APICatalogItem\nmetadata: {name: A}\n", 0},
	} {
		if got := migrate.Refusals(manifest.Parse("f.yaml", []byte(test.text))); len(got) != test.want {
			t.Errorf("%s: got %v, want %d", test.name, got, test.want)
		}
	}
}

// TestMeansTheSame compares generated manifests of the old kinds with what they
// are migrated to, once the TODOs are done.
func TestMeansTheSame(t *testing.T) {
	granted := 0
	for n := range uint64(200) {
		text, o := generated(rand.New(rand.NewPCG(*seed, n)))
		loaded := manifest.Parse("old.yaml", []byte(text))
		if refusals := migrate.Refusals(loaded); len(refusals) > 0 {
			t.Fatalf("seed %d, case %d: %v\n%s", *seed, n, refusals, text)
		}
		result := migrate.Migrate(loaded.Objects)
		if len(result.Files) != 1 {
			t.Fatalf("seed %d, case %d: %d files", *seed, n, len(result.Files))
		}
		written := result.Files[0].Text
		fail := func(format string, args ...any) {
			t.Helper()
			t.Fatalf("seed %d, case %d: %s\n%s\nmigrated to\n%s", *seed, n, fmt.Sprintf(format, args...), text, written)
		}
		before := compiled(t, text+"---\n"+written)
		for name, app := range before.Applications {
			for api := range app.Grants {
				if _, _, some := o.sets(nil, strings.TrimPrefix(api, "apps/")); !some {
					fail("before the TODOs are done, %s may call %s", name, api)
				}
			}
		}
		tbl := compiled(t, text+"---\n"+fillIn(written))
		for app, groups := range members {
			for _, api := range apiNames {
				sub, ok := tbl.Applications["apps/"+app].Grants["apps/"+api]
				sets, all, some := o.sets(groups, api)
				if ok != some {
					fail("%s may call %s: %t, want %t", app, api, ok, some)
				}
				if !ok {
					continue
				}
				granted++
				var gotRate float64 = -1
				plan := tbl.Plans[tbl.Subscriptions[sub].Plan]
				if l := plan.RateLimit; l != nil {
					period, err := time.ParseDuration(l.Period)
					if err != nil {
						t.Fatal(err)
					}
					gotRate = float64(l.Limit) / period.Seconds()
				}
				wantRate := o.generous(groups, api)
				got := tbl.Subscriptions[sub].OperationFilter
				if len(groups) > 1 {
					// Not more than it was; the same cannot be said in the new kinds.
					if gotRate != wantRate || got == nil && !all || !all && !subset(got.Include, sets) {
						fail("%s of several groups calls %s: rate %g, want %g; filter %v, at most %q", app, api, gotRate, wantRate, got, sets)
					}
					continue
				}
				if gotRate != wantRate || (got == nil) != all || !all && (!subset(got.Include, sets) || !subset(sets, got.Include)) {
					fail("%s calls %s: rate %g, want %g; filter %v, want %q (all: %t)", app, api, gotRate, wantRate, got, sets, all)
				}
			}
		}
	}
	if granted < 500 {
		t.Errorf("only %d grants in all cases", granted)
	}
}

func subset(a, b []string) bool {
	return !slices.ContainsFunc(a, func(s string) bool { return !slices.Contains(b, s) })
}
