package manifest_test

import (
	"strings"
	"testing"

	"github.com/tollgate-apim/tollgate/controlplane/manifest"
)

// object is an object of a kind with a spec, each line of it indented by two.
func object(kind, spec string) string {
	return "apiVersion: hub.traefik.io/v1alpha1\nkind: " + kind + "\nmetadata: {name: x}\nspec:\n  " +
		strings.ReplaceAll(spec, "\n", "\n  ") + "\n"
}

// list is n times item, as a list on one line; % is a number.
func list(n int, item string) string {
	items := make([]string, n)
	for i := range items {
		items[i] = strings.ReplaceAll(item, "%", strings.Repeat("i", i+1))
	}
	return "[" + strings.Join(items, ", ") + "]"
}

// TestBounds checks what is just allowed and what is just not.
func TestBounds(t *testing.T) {
	long := func(n int) string { return strings.Repeat("é", n) }
	const app, sub, api = "ManagedApplication", "ManagedSubscription", "API"
	sets := func(set string) string { return "openApiSpec: {operationSets: " + set + "}" }
	for _, test := range []struct {
		name      string
		kind      string
		good, bad string
		want      string // of the bad one: a part of the only finding
	}{
		{"App ID", app, "appId: " + long(253) + "\nowner: o", "appId: " + long(254) + "\nowner: o", "spec.appId: has 254 characters"},
		{"owner", app, "appId: a\nowner: " + long(253), "appId: a\nowner: " + long(254), "spec.owner: has 254 characters"},
		{"keys", app, "appId: a\nowner: o\napiKeys: " + list(100, "{secretName: a}"), "appId: a\nowner: o\napiKeys: " + list(101, "{secretName: a}"), "spec.apiKeys: has 101 items"},
		{"value", app, "appId: a\nowner: o\napiKeys: [{value: " + strings.Repeat("v", 4096) + "}]", "appId: a\nowner: o\napiKeys: [{value: " + strings.Repeat("v", 4097) + "}]",
			"spec.apiKeys[0].value: has 4097 characters"},
		{"secret name", app, "appId: a\nowner: o\napiKeys: [{secretName: " + strings.Repeat("s", 253) + "}]", "appId: a\nowner: o\napiKeys: [{secretName: " + strings.Repeat("s", 254) + "}]",
			"spec.apiKeys[0].secretName: is not a Kubernetes name"},
		{"references", sub, "apiPlan: {name: p}\napis: " + list(100, "{name: a%}"), "apiPlan: {name: p}\napis: " + list(101, "{name: a%}"), "spec.apis: has 101 items"},
		{"filter", sub, "apiPlan: {name: p}\noperationFilter: {include: " + list(100, "s%") + "}", "apiPlan: {name: p}\noperationFilter: {include: " + list(101, "s%") + "}",
			"spec.operationFilter.include: has 101 items"},
		{"weight", sub, "apiPlan: {name: p}\nweight: 9223372036854775807", "apiPlan: {name: p}\nweight: 9223372036854775808", "spec.weight: is a number; allowed: a whole number"},
		{"title of an API", api, "title: " + long(253), "title: " + long(254), "spec.title: has 254 characters"},
		{"sets", api, sets(list(100, "{name: s%, matchers: [{path: /}]}")), sets(list(101, "{name: s%, matchers: [{path: /}]}")), "operationSets: has 101 items"},
		{"matchers", api, sets("[{name: s, matchers: " + list(100, "{path: /}") + "}]"), sets("[{name: s, matchers: " + list(101, "{path: /}") + "}]"), "matchers: has 101 items"},
		{"methods", api, sets("[{name: s, matchers: [{methods: " + list(10, "M%") + "}]}]"), sets("[{name: s, matchers: [{methods: " + list(11, "M%") + "}]}]"), "methods: has 11 items"},
		{"path", api, sets("[{name: s, matchers: [{path: /" + strings.Repeat("p", 254) + "}]}]"), sets("[{name: s, matchers: [{path: /" + strings.Repeat("p", 255) + "}]}]"),
			"path: has 256 characters"},
		{"dots", api, sets("[{name: s, matchers: [{path: /..a/b...}]}]"), sets("[{name: s, matchers: [{path: /a/..}]}]"), `has a segment ".."`},
		{"depth", api, "description: " + strings.Repeat("x", 300), "description: " + strings.Repeat("[", 300) + strings.Repeat("]", 300), "it is nested too deeply"},
		{"release", "APIVersion", "release: 1.2.3-" + strings.Repeat("a", 94), "release: 1.2.3-" + strings.Repeat("a", 95), "spec.release: is not a semantic version"},
		{"rate limit", "APIPlan", "title: t\nrateLimit: {limit: 1000000000, period: 1h}", "title: t\nrateLimit: {limit: 1000000000, period: 1h1s}", "spec.rateLimit.period: is 1h1s"},
		{"quota", "APIPlan", "title: t\nquota: {limit: 999999999999999, period: 1s}", "title: t\nquota: {limit: 1000000000000000, period: 1s}", "spec.quota.limit: is 1000000000000000"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if loaded := manifest.Parse("f.yaml", []byte(object(test.kind, test.good))); len(loaded.Findings) > 0 || len(names(loaded.Objects)) != 1 {
				t.Errorf("the good one: got %v", loaded.Findings)
			}
			loaded := manifest.Parse("f.yaml", []byte(object(test.kind, test.bad)))
			if len(loaded.Findings) != 1 || !strings.Contains(loaded.Findings[0].String(), test.want) || len(names(loaded.Objects)) != 0 {
				t.Errorf("the bad one: got %v, want %s", loaded.Findings, test.want)
			}
		})
	}
}

// TestTellsNoValues puts a key wherever a value can be wrong.
func TestTellsNoValues(t *testing.T) {
	const secret = "tg_0123456789abcdefghijABCDEFGHIJ0123456"
	long := strings.Repeat(secret, 2)
	for name, text := range map[string]string{
		"a field of apiKeys":   object("ManagedApplication", "appId: a\nowner: o\napiKeys: ["+secret+"]"),
		"the Secret's name":    object("ManagedApplication", "appId: a\nowner: o\napiKeys: [{secretName: "+secret+"}]"),
		"a list":               object("ManagedApplication", "appId: a\nowner: o\napiKeys: "+secret),
		"suspended":            object("ManagedApplication", "appId: a\nowner: o\napiKeys: [{value: a, suspended: "+secret+"}]"),
		"both":                 object("ManagedApplication", "appId: a\nowner: o\napiKeys: [{value: "+secret+", secretName: "+secret+"}]"),
		"a long unknown field": object("ManagedApplication", "appId: a\nowner: o\napiKeys: [{"+long+": x}]"),
		"data":                 "apiVersion: v1\nkind: Secret\nmetadata: {name: x}\ndata: {key: " + secret + "}\n---\n" + object("ManagedApplication", "appId: a\nowner: o\napiKeys: [{secretName: x}]"),
		"what follows":         "apiVersion: v1\nkind: Secret\nmetadata: {name: x}\nstringData: {key: \"" + secret + "\n",
		"an unknown escape":    "apiVersion: v1\nkind: Secret\nmetadata: {name: x}\nstringData: {key: \"\\_" + secret + "\\q\"}\n",
		"an unknown anchor":    "apiVersion: v1\nkind: Secret\nmetadata: {name: x}\nstringData: {key: *" + secret + "}\n",
		"a document":           secret,
		"a printed key":        "key: " + secret,
		"JSON":                 "{\"key\": \"" + secret + "\"",
	} {
		t.Run(name, func(t *testing.T) {
			loaded := manifest.Parse("f.yaml", []byte(text))
			if len(loaded.Findings) == 0 && name != "a document" {
				t.Fatal("got no finding")
			}
			for _, found := range loaded.Findings {
				if strings.Contains(found.String(), secret[:12]) {
					t.Errorf("tells the value: %v", found)
				}
			}
		})
	}
}

// TestMerge checks merge keys: what is written goes before what is merged in,
// and an earlier source before a later one.
func TestMerge(t *testing.T) {
	text := `apiVersion: hub.traefik.io/v1alpha1
kind: APIPlan
metadata:
  name: x
  labels: &a {one: a, two: a}
  annotations: &b {two: b, three: b, <<: [ignored]}
spec: {title: t}
---
apiVersion: hub.traefik.io/v1alpha1
kind: APIPlan
metadata:
  name: y
  annotations: &a {one: a, two: a}
  labels: {<<: [*a, {two: b, three: b}], one: own}
spec: {title: t}
`
	loaded := manifest.Parse("f.yaml", []byte(text))
	if len(loaded.Findings) > 0 || len(loaded.Objects.Plans) != 2 {
		t.Fatalf("got %v", loaded.Findings)
	}
	got := loaded.Objects.Plans[1].Labels
	if got["one"] != "own" || got["two"] != "a" || got["three"] != "b" || len(got) != 3 {
		t.Errorf("got %v", got)
	}
}

// TestManyMistakes would take hours if each misfit were compared with each finding.
func TestManyMistakes(t *testing.T) {
	const n = 100_000
	text := object("ManagedApplication", "appId: a\nowner: o\napiKeys:\n"+strings.Repeat("- {valu: x}\n", n))
	if got := len(manifest.Parse("f.yaml", []byte(text)).Findings); got != 101 {
		t.Errorf("got %d findings, want 100 and one for the rest", got)
	}
}
