package e2e

import (
	"bytes"
	"net/http"
	"strings"
	"testing"

	"github.com/tollgate-apim/tollgate/e2e/stack"
)

const apiKeyHeader = "X-API-Key: "

// byHeader makes a middleware take keys from the header X-API-Key alone.
func byHeader(c stack.Config) stack.Config {
	c.KeySource = &stack.KeySource{Header: "X-API-Key"}
	return c
}

// answersManifests has an application for each row of the table of answers.
func answersManifests(ns namespace) []string {
	return []string{
		ns.object("API", "weather", `{title: Weather, openApiSpec: {path: /openapi.json, operationSets: [{name: read, matchers: [{methods: [GET], pathPrefix: /weather}]}]}}`),
		ns.unlimited("unlimited"),
		ns.plan("rated", "rateLimit: {limit: 1, period: 1h}"),
		ns.plan("metered", "quota: {limit: 1, period: 24h}"),
		ns.app("guest", string(ns)+"-guest"),
		ns.app("long", strings.Repeat("l", 513)),
		ns.app("reader", string(ns)+"-reader"),
		ns.app("rated", string(ns)+"-rated"),
		ns.app("metered", string(ns)+"-metered"),
		ns.object("ManagedApplication", "suspended",
			`{appId: suspended, owner: o, apiKeys: [{value: "{{digest "`+string(ns)+`-suspended"}}", suspended: true}]}`),
		ns.sub("reader", "unlimited", list("reader", "suspended"), list("weather"), "operationFilter: {include: [read]}"),
		ns.sub("long", "unlimited", list("long"), list("weather")),
		ns.sub("rated", "rated", list("rated"), list("weather")),
		ns.sub("metered", "metered", list("metered"), list("weather")),
	}
}

// TestAnswers goes through the table of answers.
func TestAnswers(t *testing.T) {
	checkAnswers(t, shared, "answers")
}

func checkAnswers(t *testing.T, g *gateway, ns namespace) {
	host := string(ns) + ".test"
	key := func(name string) string { return apiKeyHeader + string(ns) + "-" + name }
	g.apply(t, string(ns), answersManifests(ns)...)
	g.protect(t, host, byHeader(g.config(string(ns)+"/weather")))

	t.Run("admitted", func(t *testing.T) {
		a := g.send(t, host, "GET /weather", key("reader"))
		admitted(t, a)
		for _, name := range []string{"X-Ratelimit-Remaining", "X-Quota-Remaining", "RateLimit", "RateLimit-Policy", "WWW-Authenticate"} {
			if value, ok := a.header[http.CanonicalHeaderKey(name)]; ok {
				t.Errorf("%s is %q without any limit", name, value)
			}
		}
	})
	t.Run("no key", func(t *testing.T) {
		refused(t, g.send(t, host, "GET /weather"), 401, "key_missing")
	})
	t.Run("an empty key", func(t *testing.T) {
		refused(t, g.send(t, host, "GET /weather", apiKeyHeader), 401, "key_missing")
	})
	t.Run("a key that is not valid", func(t *testing.T) {
		// An outsider cannot tell these apart.
		var first answer
		for i, header := range []string{
			apiKeyHeader + "unknown",
			key("suspended"),
			apiKeyHeader + strings.Repeat("l", 513), // It is in the table, and too long.
			apiKeyHeader + strings.Repeat("k", 10<<10),
			apiKeyHeader + "schl\xc3\xbcssel",
			apiKeyHeader + "\xff\xfe",
		} {
			a := g.send(t, host, "GET /weather", header)
			refused(t, a, 401, "key_invalid")
			if i == 0 {
				first = a
			}
			if !bytes.Equal(a.body, first.body) || a.header.Get("WWW-Authenticate") != first.header.Get("WWW-Authenticate") {
				t.Errorf("%.30s… is answered differently:\n%s\n%s", header, a.body, first.body)
			}
		}
	})
	t.Run("no subscription", func(t *testing.T) {
		refused(t, g.send(t, host, "GET /weather", key("guest")), 403, "subscription_missing")
	})
	t.Run("another operation", func(t *testing.T) {
		refused(t, g.send(t, host, "DELETE /weather", key("reader")), 403, "operation_forbidden")
		refused(t, g.send(t, host, "GET /admin", key("reader")), 403, "operation_forbidden")
	})
	t.Run("rate limit used up", func(t *testing.T) {
		admitted(t, g.send(t, host, "GET /weather", key("rated")))
		a := g.send(t, host, "GET /weather", key("rated"))
		refused(t, a, 429, "rate_limited")
		if left := a.remaining("X-Ratelimit-Remaining"); left != 0 {
			t.Errorf("X-Ratelimit-Remaining is %d", left)
		}
	})
	t.Run("quota used up", func(t *testing.T) {
		admitted(t, g.send(t, host, "GET /weather", key("metered")))
		a := g.send(t, host, "GET /weather", key("metered"))
		refused(t, a, 429, "quota_exceeded")
		if left := a.remaining("X-Quota-Remaining"); left != 0 {
			t.Errorf("X-Quota-Remaining is %d", left)
		}
	})
	t.Run("HEAD", func(t *testing.T) {
		a := g.send(t, host, "HEAD /weather")
		if a.status != 401 || len(a.body) > 0 {
			t.Errorf("got status %d with body %q, want 401 without", a.status, a.body)
		}
	})
	t.Run("refusals do not reach the upstream", func(t *testing.T) {
		path := "/weather/untouched-" + string(ns)
		g.send(t, host, "GET "+path)
		g.send(t, host, "GET "+path, key("guest"))
		g.send(t, host, "GET "+path, key("rated"))
		if n := g.upstream.Hits(path); n != 0 {
			t.Errorf("the upstream got %d requests", n)
		}
	})
}

// TestAnswersWithoutTable is the row of 503; see also sync_test.go.
func TestAnswersWithoutTable(t *testing.T) {
	down, err := stack.NewSyncProxy(shared.plane.URL)
	if err != nil {
		t.Fatal(err)
	}
	config := shared.config("any/api")
	config.Sync.Endpoint = down.URL
	shared.protectWithoutTable(t, "no-table.test", config)
	for _, header := range []string{"X-Nothing: 1", "Authorization: Bearer anything"} {
		refused(t, shared.send(t, "no-table.test", "GET /", header), 503, "table_unavailable")
	}
}

func TestErrorBodyEmpty(t *testing.T) {
	config := shared.config("empty/api")
	config.ErrorBody = "empty"
	shared.protect(t, "empty.test", config)
	a := shared.send(t, "empty.test", "GET /")
	if len(a.body) > 0 || a.header.Get("Content-Type") != "" {
		t.Errorf("got a body of type %q: %q", a.header.Get("Content-Type"), a.body)
	}
	if a.header.Get("WWW-Authenticate") == "" {
		t.Error("there is no WWW-Authenticate")
	}
}
