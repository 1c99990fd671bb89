package e2e

import (
	"testing"

	"github.com/tollgate-apim/tollgate/e2e/stack"
)

// TestBadConfigurations gives the plugin what it must refuse: Traefik drops the
// router, and its log tells every wrong field. Other routers go on.
func TestBadConfigurations(t *testing.T) {
	const ns = namespace("good-config")
	shared.apply(t, "good-config", syncManifests(ns)...)
	shared.protect(t, "good.config.test", byHeader(shared.config("good-config/api")))

	for _, test := range []struct {
		name   string
		change func(*stack.Config)
		fields []string // and values, all in one line of the log
	}{
		{"no-api", func(c *stack.Config) { c.API = "" }, list("api")},
		{"api-without-namespace", func(c *stack.Config) { c.API = "weather" }, list("api", "weather")},
		{"no-endpoint", func(c *stack.Config) { c.Sync.Endpoint = "" }, list("sync.endpoint")},
		{"endpoint-is-no-url", func(c *stack.Config) { c.Sync.Endpoint = "control-plane:7070" }, list("sync.endpoint")},
		{"endpoint-of-another-scheme", func(c *stack.Config) { c.Sync.Endpoint = "ftp://host" }, list("sync.endpoint", "ftp://host")},
		{"interval", func(c *stack.Config) { c.Sync.Interval = "often" }, list("sync.interval", "often")},
		{"zero-interval", func(c *stack.Config) { c.Sync.Interval = "0s" }, list("sync.interval", "0s")},
		{"second-endpoint", func(c *stack.Config) { c.Sync.Endpoint += ", ftp://host" }, list("sync.endpoint[1]", "ftp://host")},
		{"wait", func(c *stack.Config) { c.Sync.Wait = "1s" }, list("sync.wait", "1s", "2s to 1m0s")},
		{"timeout", func(c *stack.Config) { c.Sync.Timeout = "1d" }, list("sync.timeout", "1d")},
		{"negative-staleness", func(c *stack.Config) { c.Sync.MaxStaleness = "-1s" }, list("sync.maxStaleness", "-1s")},
		{"error-body", func(c *stack.Config) { c.ErrorBody = "xml" }, list("errorBody", "xml", "problem", "empty")},
		{"limits", func(c *stack.Config) { c.Limits = "global" }, list("limits", "global")},
		{"cache-file", func(c *stack.Config) { c.Sync.CacheFile = "table.cache" }, list("sync.cacheFile", "table.cache")},
		{"public-key", func(c *stack.Config) { c.Sync.PublicKey = "abc" }, list("sync.publicKey")},
		{"ca", func(c *stack.Config) { c.Sync.TLS = &stack.TLS{CA: "/no/such/file"} }, list("sync.tls")},
		{"scheme-without-header", func(c *stack.Config) {
			c.KeySource = &stack.KeySource{HeaderAuthScheme: "Bearer", Query: "key"}
		}, list("keySource.headerAuthScheme")},
		{"query-with-space", func(c *stack.Config) { c.KeySource = &stack.KeySource{Query: "k e"} }, list("keySource.query", "k e")},
		{"identity-header", func(c *stack.Config) { c.IdentityHeaders = map[string]string{"plan": "X Plan"} }, list("identityHeaders.plan", "X Plan")},
		{"several", func(c *stack.Config) {
			*c = stack.Config{ErrorBody: "xml", Sync: stack.Sync{Endpoint: "nowhere", Interval: "x", Timeout: "y"}}
		}, list("api", "sync.endpoint", "sync.interval", "sync.timeout", "errorBody")},
	} {
		t.Run(test.name, func(t *testing.T) {
			host := test.name + ".config.test"
			config := shared.config("good-config/api")
			test.change(&config)
			lines := shared.traefik.Log.Len()
			if err := shared.traefik.Configure(host, shared.route(host, config)); err != nil {
				t.Fatal(err)
			}
			shared.awaitLine(t, lines, append(test.fields, `"level":"error"`, host, "invalid configuration")...)
			if err := wantStatus(shared.send(t, host, "GET /"), 404); err != nil {
				t.Error(err)
			}
			admitted(t, shared.send(t, "good.config.test", "GET /", apiKeyHeader+"good-config-key"))
			if err := shared.traefik.Unconfigure(host); err != nil {
				t.Fatal(err)
			}
		})
	}
}
