package e2e

import (
	"testing"
)

// TestPrecedence lets several subscriptions name one application and one API.
func TestPrecedence(t *testing.T) {
	const ns = namespace("precedence")
	api := ns.object("API", "api", `{title: A, openApiSpec: {path: /o, operationSets: [{name: read, matchers: [{methods: [GET]}]}]}}`)
	plans := ns.unlimited("gold") + "---\n" + ns.unlimited("silver")
	shared.apply(t, "precedence", api, plans,
		ns.app("light", "light-key"), ns.app("even", "even-key"), ns.app("taken", "taken-key"),
		ns.app("gone", "gone-key"), ns.app("claims", "claims-key"), ns.app("weighty-claims", "weighty-claims-key"),

		// The weight decides before the name.
		ns.sub("a-light", "silver", list("light"), list("api"), "weight: 1"),
		ns.sub("z-heavy", "gold", list("light"), list("api"), "weight: 10"),
		// Equal weights leave it to the name.
		ns.sub("b-even", "gold", list("even"), list("api"), "weight: 5"),
		ns.sub("c-even", "silver", list("even"), list("api"), "weight: 5"),
		// The winner takes all: its filter counts, and no other subscription.
		ns.sub("taken-narrow", "gold", list("taken"), list("api"), "weight: 2", "operationFilter: {include: [read]}"),
		ns.sub("taken-wide", "silver", list("taken"), list("api"), "weight: 1"),
		// A plan that does not exist grants nothing.
		ns.sub("gone", "no-such-plan", list("gone"), list("api")),
		// Claims cannot be checked, so they grant nothing.
		ns.sub("claims", "gold", list("claims"), list("api"), "claims: \"Equals(`group`, `b`)\""),
	)
	shared.protect(t, "precedence.test", byHeader(shared.config("precedence/api")))
	send := func(method, key string) answer {
		return shared.send(t, "precedence.test", method+" /", apiKeyHeader+key)
	}
	subscription := func(t *testing.T, key, want string) {
		t.Helper()
		a := send("GET", key)
		admitted(t, a)
		if got := a.echo.Header.Get("X-Subscription") + " " + a.echo.Header.Get("X-Api-Plan"); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}

	t.Run("the weight decides", func(t *testing.T) { subscription(t, "light-key", "precedence/z-heavy precedence/gold") })
	t.Run("then the name", func(t *testing.T) { subscription(t, "even-key", "precedence/b-even precedence/gold") })
	t.Run("the winner takes all", func(t *testing.T) {
		subscription(t, "taken-key", "precedence/taken-narrow precedence/gold")
		refused(t, send("POST", "taken-key"), 403, "operation_forbidden")
	})
	t.Run("a plan that does not exist", func(t *testing.T) { refused(t, send("GET", "gone-key"), 403, "subscription_missing") })
	t.Run("claims", func(t *testing.T) { refused(t, send("GET", "claims-key"), 403, "subscription_missing") })
}

// TestSelection names APIs and applications in all ways that there are.
func TestSelection(t *testing.T) {
	const ns = namespace("selection")
	app := func(name, labels string) string {
		return ns.labelled("ManagedApplication", name, labels,
			`{appId: `+name+`, owner: o, apiKeys: [{value: "{{digest "selection-`+name+`"}}"}]}`)
	}
	shared.apply(t, "selection",
		ns.unlimited("plan"),
		ns.labelled("API", "red", "{color: red, size: big}", "{title: Red}"),
		ns.labelled("API", "green", "{color: green, size: big}", "{title: Green}"),
		ns.labelled("API", "blue", "{color: blue}", "{title: Blue}"),
		ns.object("APIBundle", "chosen", "{title: B, apiSelector: {matchLabels: {color: green}}, apis: [{name: blue}]}"),
		app("listed", "{}"), app("mobile", "{kind: mobile}"), app("server", "{kind: server}"), app("nobody", "{}"),
		app("bundled", "{}"), app("union", "{}"), app("all-apis", "{}"), app("old", "{}"),

		ns.sub("by-list", "plan", list("listed"), list("red")),
		ns.sub("by-labels", "plan", nil, nil, "managedApplicationSelector: {matchLabels: {kind: mobile}}", "apiSelector: {matchLabels: {size: big}}"),
		ns.sub("by-expression", "plan", nil, nil,
			"managedApplicationSelector: {matchExpressions: [{key: kind, operator: In, values: [server]}]}",
			"apiSelector: {matchExpressions: [{key: size, operator: DoesNotExist}]}"),
		ns.sub("by-bundle", "plan", list("bundled"), nil, "apiBundles: [{name: chosen}]"),
		ns.sub("by-union", "plan", list("union"), list("red"), "apiSelector: {matchLabels: {color: blue}}"),
		ns.sub("by-everything", "plan", list("all-apis"), nil, "apiSelector: {}"),
		ns.sub("by-app-id", "plan", nil, list("green"), "applications: [{appId: old}]"),
	)
	for _, api := range []string{"red", "green", "blue"} {
		shared.protect(t, api+".selection.test", byHeader(shared.config("selection/"+api)))
	}
	for app, apis := range map[string]map[string]bool{
		"listed":   {"red": true},
		"mobile":   {"red": true, "green": true},
		"server":   {"blue": true},
		"nobody":   {},
		"bundled":  {"green": true, "blue": true},
		"union":    {"red": true, "blue": true},
		"all-apis": {"red": true, "green": true, "blue": true},
		"old":      {"green": true},
	} {
		for _, api := range []string{"red", "green", "blue"} {
			t.Run(app+" calls "+api, func(t *testing.T) {
				a := shared.send(t, api+".selection.test", "GET /", apiKeyHeader+"selection-"+app)
				if apis[api] {
					admitted(t, a)
				} else {
					refused(t, a, 403, "subscription_missing")
				}
			})
		}
	}
}
