package e2e

import (
	"strings"
	"testing"

	"github.com/tollgate-apim/tollgate/e2e/stack"
)

// operationsManifests has an API with an operation set for each kind of matcher,
// and an application for each set, whose key is its name.
func operationsManifests(ns namespace) []string {
	sets := []struct{ name, matchers string }{
		{"prefix", "[{pathPrefix: /weather}]"},
		{"prefix-slash", "[{pathPrefix: /weather/}]"},
		{"exact", "[{path: /weather}]"},
		{"regex", `[{pathRegex: "^/v[0-9]+/"}]`},
		{"unanchored", "[{pathRegex: public}]"},
		{"methods", "[{methods: [get, HEAD]}]"},
		{"both", "[{methods: [POST], path: /orders}]"},
		{"several", "[{path: /a}, {methods: [GET], pathPrefix: /b}]"},
	}
	var entries, manifests []string
	for _, set := range sets {
		entries = append(entries, "{name: "+set.name+", matchers: "+set.matchers+"}")
	}
	add := func(name, filter string) {
		manifests = append(manifests, ns.app(name, string(ns)+"-"+name),
			ns.sub(name, "plan", list(name), list("api"), "operationFilter: {include: ["+filter+"]}"))
	}
	for _, set := range sets {
		add(set.name, set.name)
	}
	add("two-sets", "exact, both")
	add("none", "")
	add("unknown", "no-such-set")
	add("unknown-and-exact", "no-such-set, exact")
	return append(manifests, ns.unlimited("plan"),
		ns.object("API", "api", "{title: A, openApiSpec: {path: /o, operationSets: ["+strings.Join(entries, ", ")+"]}}"))
}

// TestOperations goes through what operation filters allow.
func TestOperations(t *testing.T) {
	const ns = namespace("operations")
	shared.apply(t, "operations", operationsManifests(ns)...)
	shared.protect(t, "operations.test", byHeader(shared.config("operations/api")))

	for _, test := range []struct {
		app     string
		allowed []string
		refused []string
	}{
		{"prefix",
			list("GET /weather", "GET /weather/", "DELETE /weather/x/y", "GET /weather?x=/admin", "GET /weather/caf%C3%A9", "GET /weather/a%20b"),
			list("GET /weatherman", "GET /", "GET /Weather", "GET /weathe", "GET /x/weather", "GET /?/weather", "GET /%77eatherman")},
		{"prefix-slash", list("GET /weather/x"), list("GET /weatherman", "GET /")},
		{"exact", list("GET /weather", "PUT /weather", "GET /weather?x"), list("GET /weather/", "GET /weather/x", "GET /weatherman")},
		{"regex", list("GET /v1/x", "GET /v22/"), list("GET /v1", "GET /x/v1/", "GET /vx/")},
		{"unanchored", list("GET /public", "GET /x/public/y"), list("GET /private")},
		{"methods", list("GET /x", "HEAD /x"), list("POST /x", "DELETE /x", "OPTIONS /x", "PROPFIND /x")},
		{"both", list("POST /orders"), list("GET /orders", "POST /orders/1", "POST /")},
		{"several", list("POST /a", "GET /b/c"), list("POST /b/c", "GET /c")},
		{"two-sets", list("GET /weather", "POST /orders"), list("GET /orders")},
		{"none", nil, list("GET /", "GET /weather")},
		{"unknown", nil, list("GET /", "GET /weather")},
		{"unknown-and-exact", list("GET /weather"), list("GET /")},
	} {
		for _, request := range test.allowed {
			t.Run(test.app+" allows "+request, func(t *testing.T) {
				a := shared.send(t, "operations.test", request, apiKeyHeader+"operations-"+test.app)
				if err := wantStatus(a, 200); err != nil {
					t.Error(err)
				}
			})
		}
		for _, request := range test.refused {
			t.Run(test.app+" refuses "+request, func(t *testing.T) {
				refused(t, shared.send(t, "operations.test", request, apiKeyHeader+"operations-"+test.app), 403, "operation_forbidden")
			})
		}
	}
}

// TestPathTricks tries to reach /admin with a key for /weather, through an entry
// point that cleans paths, as is Traefik's default, and through one that does not.
// Whatever is admitted must reach the upstream under /weather.
func TestPathTricks(t *testing.T) {
	const ns = namespace("tricks")
	shared.apply(t, "tricks", operationsManifests(ns)...)
	shared.protect(t, "tricks.test", byHeader(shared.config("tricks/api")))
	for _, target := range []string{
		"/weather/../admin",
		"/weather/%2e%2e/admin",
		"/weather/%2E%2E/admin",
		"/weather/.%2e/admin",
		"/weather/..%2fadmin",
		"/weather%2f..%2fadmin",
		"/weather%2F..%2Fadmin",
		"/weather%2f%2e%2e%2fadmin",
		"/weather/..%5cadmin",
		`/weather/..\admin`,
		"/weather/..;/admin",
		"/weather/..;x=y/admin",
		"/weather/./../admin",
		"/weather//../admin",
		"/weather//../../admin",
		"/weather/x/../../admin",
		"//admin",
		"//weather/../admin",
		"/admin/../weather/../admin",
		"/./admin",
		"/admin",
		"/admin?/weather",
		"/admin#/weather",
		"/admin%3f/weather",
		"/admin;/weather",
		"/admin%00/weather",
		"/%61dmin",
		"*",
		"http://tricks.test/admin",
	} {
		t.Run(target, func(t *testing.T) {
			for entryPoint, send := range map[string]func(*testing.T, string, string, ...string) answer{
				stack.Web: shared.send, stack.Raw: shared.sendRaw,
			} {
				a := send(t, "tricks.test", "GET "+target, apiKeyHeader+"tricks-prefix")
				switch a.status {
				case 400, 404: // Traefik itself refuses it.
				case 403:
					refused(t, a, 403, "operation_forbidden")
				default:
					t.Errorf("%s: got status %d; the upstream received %+v", entryPoint, a.status, a.echo)
				}
			}
		})
	}
	t.Run("harmless forms", func(t *testing.T) {
		for _, target := range []string{"/weather//x", "//weather", "/weather/./x", "/x/../weather"} {
			a := shared.send(t, "tricks.test", "GET "+target, apiKeyHeader+"tricks-prefix")
			if err := wantStatus(a, 200); err != nil {
				t.Errorf("%s through the entry point that cleans paths: %v", target, err)
			}
		}
	})
}

// TestStripPrefix matches the path that the middleware sees.
func TestStripPrefix(t *testing.T) {
	const ns = namespace("strip")
	shared.apply(t, "strip", operationsManifests(ns)...)
	d := shared.route("strip.test", byHeader(shared.config("strip/api")))
	router := d.HTTP.Routers["strip.test"]
	router.Middlewares = []string{"strip", "strip.test"}
	d.HTTP.Routers["strip.test"] = router
	d.HTTP.Middlewares["strip"] = stack.Middleware{StripPrefix: &stack.StripPrefix{Prefixes: []string{"/api"}}}
	if err := shared.traefik.Configure("strip.test", d); err != nil {
		t.Fatal(err)
	}
	shared.await(t, "the router", func() error {
		return wantStatus(shared.send(t, "strip.test", "GET /"), 401)
	})
	a := shared.send(t, "strip.test", "GET /api/weather?api_key=x", apiKeyHeader+"strip-exact")
	admitted(t, a)
	if a.echo.RequestURI != "/weather?api_key=x" {
		t.Errorf("the upstream got %s", a.echo.RequestURI)
	}
	refused(t, shared.send(t, "strip.test", "GET /api/other", apiKeyHeader+"strip-exact"), 403, "operation_forbidden")
}
