package compile_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tollgate-apim/tollgate/controlplane/compile"
	"github.com/tollgate-apim/tollgate/controlplane/manifest"
	"github.com/tollgate-apim/tollgate/table"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestGolden compiles each manifest and compares all findings and the whole
// table with the file beside it.
func TestGolden(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no manifests: %v", err)
	}
	for _, path := range paths {
		name := strings.TrimSuffix(filepath.Base(path), ".yaml")
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			loaded := manifest.Parse(name+".yaml", data)
			result := compile.Compile(loaded.Objects)
			checkValid(t, result.Table)
			var b strings.Builder
			for _, f := range append(loaded.Findings, result.Findings...) {
				fmt.Fprintln(&b, f)
			}
			encoded, err := json.MarshalIndent(result.Table, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			got := b.String() + string(encoded) + "\n"
			golden := strings.TrimSuffix(path, ".yaml") + ".golden"
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
			if strings.Contains(b.String(), "not-to-be-told") {
				t.Error("a finding tells a key")
			}
		})
	}
}

func checkValid(t *testing.T, tbl *table.Table) {
	t.Helper()
	issued := *tbl
	issued.Revision, issued.IssuedAt = 1, time.Unix(1, 0)
	if err := table.Validate(&issued); err != nil {
		t.Errorf("the table is not valid: %v", err)
	}
}

// world is two applications (a: team x, b: team y and tier gold), two APIs
// (one: kind public, two: none), a bundle of both, and plans p and q.
const world = `
apiVersion: hub.traefik.io/v1alpha1
kind: ManagedApplication
metadata: {name: a, labels: {team: x}}
spec: {appId: a, owner: me}
---
apiVersion: hub.traefik.io/v1alpha1
kind: ManagedApplication
metadata: {name: b, labels: {team: y, tier: gold}}
spec: {appId: b, owner: me}
---
apiVersion: hub.traefik.io/v1alpha1
kind: ManagedApplication
metadata: {name: a, namespace: elsewhere, labels: {team: x}}
spec: {appId: a, owner: me}
---
apiVersion: hub.traefik.io/v1alpha1
kind: API
metadata: {name: one, labels: {kind: public}}
---
apiVersion: hub.traefik.io/v1alpha1
kind: API
metadata: {name: two}
---
apiVersion: hub.traefik.io/v1alpha1
kind: APIBundle
metadata: {name: both}
spec: {apiSelector: {matchLabels: {kind: public}}, apis: [{name: two}]}
---
apiVersion: hub.traefik.io/v1alpha1
kind: APIPlan
metadata: {name: p}
spec: {title: P}
---
apiVersion: hub.traefik.io/v1alpha1
kind: APIPlan
metadata: {name: q}
spec: {title: Q}
`

func TestGrants(t *testing.T) {
	const bothApps, bothAPIs = "managedApplications: [{name: a}, {name: b}]", "apiSelector: {}"
	for _, test := range []struct {
		name          string
		subscriptions map[string]string // the spec, but for its plan p
		want          string            // application>API=subscription
	}{
		{"none", nil, ""},
		{"by list", map[string]string{"s": "managedApplications: [{name: a}], apis: [{name: one}]"}, "a>one=s"},
		{"missing selectors select nothing", map[string]string{"s": "apis: [{name: one}]", "t": bothApps}, ""},
		{"empty selectors select everything of the namespace", map[string]string{"s": "managedApplicationSelector: {}, apiSelector: {}"},
			"a>one=s a>two=s b>one=s b>two=s"},
		{"by labels", map[string]string{"s": "managedApplicationSelector: {matchLabels: {team: x}}, apiSelector: {matchLabels: {kind: public}}"}, "a>one=s"},
		{"labels that nobody has", map[string]string{"s": "managedApplicationSelector: {matchLabels: {team: z}}, apis: [{name: one}]"}, ""},
		{"In", map[string]string{"s": "managedApplicationSelector: {matchExpressions: [{key: team, operator: In, values: [y, x]}]}, apis: [{name: one}]"}, "a>one=s b>one=s"},
		{"NotIn", map[string]string{"s": "managedApplicationSelector: {matchExpressions: [{key: tier, operator: NotIn, values: [gold]}]}, apis: [{name: one}]"}, "a>one=s"},
		{"Exists", map[string]string{"s": "managedApplicationSelector: {matchExpressions: [{key: tier, operator: Exists}]}, apis: [{name: one}]"}, "b>one=s"},
		{"DoesNotExist", map[string]string{"s": "managedApplicationSelector: {matchExpressions: [{key: tier, operator: DoesNotExist}]}, apis: [{name: one}]"}, "a>one=s"},
		{"labels and expressions", map[string]string{
			"s": "managedApplicationSelector: {matchLabels: {team: y}, matchExpressions: [{key: tier, operator: NotIn, values: [gold]}]}, apis: [{name: one}]",
		}, ""},
		{"list and selector add up", map[string]string{
			"s": "managedApplications: [{name: a}], managedApplicationSelector: {matchLabels: {team: y}}, apis: [{name: one}], apiSelector: {matchLabels: {kind: public}}",
		}, "a>one=s b>one=s"},
		{"bundle", map[string]string{"s": "managedApplications: [{name: b}], apiBundles: [{name: both}]"}, "b>one=s b>two=s"},
		{"App ID", map[string]string{"s": "applications: [{appId: b}], apis: [{name: two}]"}, "b>two=s"},
		{"the heavier wins", map[string]string{"s": bothApps + ", apis: [{name: one}]", "t": "managedApplications: [{name: b}], weight: 1, " + bothAPIs},
			"a>one=s b>one=t b>two=t"},
		{"equal weights fall to the name", map[string]string{"t": bothApps + ", weight: 5, apis: [{name: one}]", "s": bothApps + ", weight: 5, apis: [{name: one}]"},
			"a>one=s b>one=s"},
		{"a winner without a plan grants nothing", map[string]string{"s": "managedApplications: [{name: a}], weight: 1, apiPlan: {name: gone}, apis: [{name: one}]", "t": bothApps + ", " + bothAPIs},
			"a>two=t b>one=t b>two=t"},
		{"a winner with claims grants nothing", map[string]string{"s": "managedApplications: [{name: a}], claims: x, apis: [{name: one}]", "t": bothApps + ", apis: [{name: one}]"},
			"b>one=t"},
		{"a loser without a plan takes nothing", map[string]string{"t": "managedApplications: [{name: a}], apiPlan: {name: gone}, apis: [{name: one}]", "s": bothApps + ", apis: [{name: one}]"},
			"a>one=s b>one=s"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var b strings.Builder
			b.WriteString(world)
			for name, spec := range test.subscriptions {
				if !strings.Contains(spec, "apiPlan:") {
					spec += ", apiPlan: {name: p}"
				}
				fmt.Fprintf(&b, "---\napiVersion: hub.traefik.io/v1alpha1\nkind: ManagedSubscription\nmetadata: {name: %s}\nspec: {%s}\n", name, spec)
			}
			loaded := manifest.Parse("f.yaml", []byte(b.String()))
			if len(loaded.Objects.Subscriptions) != len(test.subscriptions) {
				t.Fatalf("the test's manifests are wrong: %v", loaded.Findings)
			}
			result := compile.Compile(loaded.Objects)
			if diff := cmp.Diff(test.want, grants(result.Table)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// grants lists all grants of namespace default and checks that there are none
// elsewhere, and that the table has what they point at and no other
// subscription.
func grants(tbl *table.Table) string {
	var out []string
	used := map[string]bool{}
	for _, app := range []string{"default/a", "default/b", "elsewhere/a"} {
		for _, api := range []string{"default/one", "default/two"} {
			sub, ok := tbl.Applications[app].Grants[api]
			if !ok {
				continue
			}
			if _, ok := tbl.Subscriptions[sub]; !ok {
				sub += "(missing)"
			}
			used[sub] = true
			out = append(out, strings.ReplaceAll(app+">"+api+"="+sub, "default/", ""))
		}
	}
	if len(used) != len(tbl.Subscriptions) {
		out = append(out, fmt.Sprintf("and %d subscriptions for %d in use", len(tbl.Subscriptions), len(used)))
	}
	return strings.Join(out, " ")
}

// TestOperationFilter checks that all, none and some stay apart on the wire.
func TestOperationFilter(t *testing.T) {
	for _, test := range []struct{ name, filter, want string }{
		{"missing", "", `{"plan":"default/p"}`},
		{"empty", "operationFilter: {}, ", `{"plan":"default/p","operationFilter":{"include":[]}}`},
		{"empty list", "operationFilter: {include: []}, ", `{"plan":"default/p","operationFilter":{"include":[]}}`},
		{"empty list without brackets", "operationFilter: {include: }, ", `{"plan":"default/p","operationFilter":{"include":[]}}`},
		{"some", "operationFilter: {include: [read]}, ", `{"plan":"default/p","operationFilter":{"include":["read"]}}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			text := world + "---\napiVersion: hub.traefik.io/v1alpha1\nkind: ManagedSubscription\nmetadata: {name: s}\nspec: {" +
				test.filter + "managedApplications: [{name: a}], apis: [{name: one}], apiPlan: {name: p}}\n"
			result := compile.Compile(manifest.Parse("f.yaml", []byte(text)).Objects)
			got, err := json.Marshal(result.Table.Subscriptions["default/s"])
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

// TestCandidates checks the order in which the result keeps its subscriptions.
func TestCandidates(t *testing.T) {
	text := world
	for _, s := range []struct{ name, spec string }{
		{"light", "apiPlan: {name: p}"},
		{"b-heavy", "weight: 2, apiPlan: {name: p}, claims: x, managedApplicationSelector: {}"},
		{"a-heavy", "weight: 2, apiPlan: {name: gone}, apiBundles: [{name: both}]"},
	} {
		text += "---\napiVersion: hub.traefik.io/v1alpha1\nkind: ManagedSubscription\nmetadata: {name: " + s.name + "}\nspec: {" + s.spec + "}\n"
	}
	type candidate struct {
		Name       string
		Apps, APIs int
		Barred     compile.Barred
	}
	var got []candidate
	for _, s := range compile.Compile(manifest.Parse("f.yaml", []byte(text)).Objects).Subscriptions {
		got = append(got, candidate{s.Name, len(s.Applications), len(s.APIs), s.Barred})
	}
	want := []candidate{
		{"a-heavy", 0, 2, compile.NoPlan},
		{"b-heavy", 2, 0, compile.HasClaims},
		{"light", 0, 0, ""},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestLosses checks what a subscription knows of those that win before it.
func TestLosses(t *testing.T) {
	text := world
	for _, s := range []struct{ name, spec string }{
		{"heavy", "weight: 2, managedApplications: [{name: a}], apis: [{name: one}]"},
		{"heavier", "weight: 3, claims: x, managedApplications: [{name: b}], apis: [{name: one}]"},
		{"light", "managedApplicationSelector: {}, apis: [{name: one}, {name: two}]"},
		{"lighter", "weight: 0, managedApplicationSelector: {}, apiBundles: [{name: both}]"},
	} {
		text += "---\napiVersion: hub.traefik.io/v1alpha1\nkind: ManagedSubscription\nmetadata: {name: " + s.name + "}\nspec: {apiPlan: {name: p}, " + s.spec + "}\n"
	}
	got := map[string]string{}
	for _, s := range compile.Compile(manifest.Parse("f.yaml", []byte(text)).Objects).Subscriptions {
		got[s.Name] = fmt.Sprint(s.Wins)
		for _, l := range s.Losses {
			got[s.Name] += fmt.Sprintf(", %s>%s to %s", l.Application.Name, l.API.Name, l.To.Name)
		}
	}
	want := map[string]string{
		"heavier": "1",
		"heavy":   "1",
		"light":   "2, a>one to heavy, b>one to heavier",
		"lighter": "0, a>one to heavy, a>two to light, b>one to heavier",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
