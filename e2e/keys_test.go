package e2e

import (
	"strings"
	"testing"

	"github.com/tollgate-apim/tollgate/e2e/stack"
)

// TestKeyForms gives keys in all three ways that manifests know.
func TestKeyForms(t *testing.T) {
	const ns = namespace("forms")
	secret := func(name, data string) string {
		return "apiVersion: v1\nkind: Secret\nmetadata: {name: " + name + ", namespace: forms}\ntype: Opaque\n" + data + "\n"
	}
	app := func(name, entry string) string {
		return ns.object("ManagedApplication", name, "{appId: "+name+", owner: o, apiKeys: ["+entry+"]}")
	}
	shared.apply(t, "forms",
		ns.api("api"), ns.unlimited("plan"),
		secret("data", `data: {key: {{base64 (digest "form-data")}}}`),
		secret("wrapped", `data: {key: "{{base64 (digest "form-wrapped")}}Cg=="}`),
		secret("string-data", `stringData: {key: "{{digest "form-string-data"}}"}`),
		secret("untidy", `stringData: {key: " {{upper (digest "form-untidy")}} "}`),
		secret("empty", `stringData: {other: value}`),
		app("data", "{secretName: data}"),
		app("string-data", "{secretName: string-data}"),
		app("untidy", "{secretName: untidy}"),
		app("inline", `{value: "{{digest "form-inline"}}"}`),
		// Keys that cannot be used leave the others alone.
		app("several", `{secretName: missing}, {secretName: empty}, {value: plaintext-not-a-digest}, {value: "{{digest "form-several"}}"}`),
		ns.sub("sub", "plan", list("data", "string-data", "untidy", "inline", "several"), list("api")),
	)
	shared.protect(t, "forms.test", byHeader(shared.config("forms/api")))

	for _, form := range []string{"data", "string-data", "untidy", "inline", "several"} {
		t.Run(form, func(t *testing.T) {
			a := shared.send(t, "forms.test", "GET /", apiKeyHeader+"form-"+form)
			admitted(t, a)
			if got := a.echo.Header.Get("X-App-Id"); got != form {
				t.Errorf("X-App-Id is %q", got)
			}
		})
	}
	t.Run("a plaintext key in a manifest is no key", func(t *testing.T) {
		refused(t, shared.send(t, "forms.test", "GET /", apiKeyHeader+"plaintext-not-a-digest"), 401, "key_invalid")
		if line, found := shared.plane.Log.Find(0, "plaintext-not-a-digest"); found {
			t.Errorf("the control plane prints it: %s", line)
		}
	})
	t.Run("a digest is no key", func(t *testing.T) {
		refused(t, shared.send(t, "forms.test", "GET /", apiKeyHeader+stack.Digest("form-inline")), 401, "key_invalid")
	})
}

// TestSuspension suspends a key and takes it back, without a restart. The
// application's other key goes on.
func TestSuspension(t *testing.T) {
	const ns = namespace("suspension")
	manifests := func(suspended string) []string {
		return []string{
			ns.api("api"), ns.unlimited("plan"),
			ns.object("ManagedApplication", "app",
				`{appId: app, owner: o, apiKeys: [{value: "{{digest "old-key"}}", suspended: `+suspended+`}, {value: "{{digest "new-key"}}"}]}`),
			ns.sub("sub", "plan", list("app"), list("api")),
		}
	}
	shared.apply(t, "suspension", manifests("false")...)
	shared.protect(t, "suspension.test", byHeader(shared.config("suspension/api")))
	old := func() answer { return shared.send(t, "suspension.test", "GET /", apiKeyHeader+"old-key") }

	admitted(t, old())
	shared.apply(t, "suspension", manifests("true")...)
	refused(t, old(), 401, "key_invalid")
	admitted(t, shared.send(t, "suspension.test", "GET /", apiKeyHeader+"new-key"))
	shared.apply(t, "suspension", manifests("false")...)
	admitted(t, old())
}

// TestDuplicateAppIDs keeps, of several applications with one App ID, the one
// whose name comes first.
func TestDuplicateAppIDs(t *testing.T) {
	const ns, other = namespace("duplicates"), namespace("duplicates-elsewhere")
	shared.apply(t, "duplicates",
		ns.api("api"), ns.unlimited("plan"),
		ns.appWithID("bravo", "twin", "key-of-bravo"),
		ns.appWithID("alpha", "twin", "key-of-alpha"),
		ns.sub("sub", "plan", list("alpha", "bravo"), list("api")),
		other.api("api"), other.unlimited("plan"),
		other.appWithID("zulu", "twin", "key-of-zulu"),
		other.sub("sub", "plan", list("zulu"), list("api")),
	)
	shared.protect(t, "duplicates.test", byHeader(shared.config("duplicates/api")))
	shared.protect(t, "elsewhere.test", byHeader(shared.config("duplicates-elsewhere/api")))

	admitted(t, shared.send(t, "duplicates.test", "GET /", apiKeyHeader+"key-of-alpha"))
	refused(t, shared.send(t, "duplicates.test", "GET /", apiKeyHeader+"key-of-bravo"), 401, "key_invalid")
	// Another namespace is another matter.
	admitted(t, shared.send(t, "elsewhere.test", "GET /", apiKeyHeader+"key-of-zulu"))
	if _, found := shared.plane.Log.Find(0, "duplicates/bravo", "spec.appId", "duplicates/alpha"); !found {
		t.Errorf("the control plane does not warn of bravo; its log ends with\n%s", shared.plane.Log.Tail(10))
	}
}

// TestSharedKey demands a subscription of every application that holds a key.
func TestSharedKey(t *testing.T) {
	const ns = namespace("sharing")
	shared.apply(t, "sharing",
		ns.object("API", "api", `{title: A, openApiSpec: {path: /o, operationSets: [{name: read, matchers: [{methods: [GET]}]}]}}`),
		ns.api("other"), ns.unlimited("plan"), ns.unlimited("second-plan"),
		ns.app("zed", "key-of-both", "key-of-zed"),
		ns.app("ann", "key-of-both", "key-with-guest"),
		ns.app("guest", "key-with-guest", "key-of-guest"),
		ns.app("narrow", "key-with-narrow"),
		ns.app("wide", "key-with-narrow"),
		ns.object("ManagedApplication", "asleep", `{appId: asleep, owner: o, apiKeys: [{value: "{{digest "key-of-zed"}}", suspended: true}]}`),
		ns.sub("zed", "plan", list("zed", "wide"), list("api")),
		ns.sub("ann", "second-plan", list("ann"), list("api")),
		ns.sub("guest", "plan", list("guest"), list("other")),
		ns.sub("narrow", "plan", list("narrow"), list("api"), "operationFilter: {include: [read]}"),
	)
	shared.protect(t, "sharing.test", byHeader(shared.config("sharing/api")))
	send := func(method, key string) answer {
		return shared.send(t, "sharing.test", method+" /", apiKeyHeader+key)
	}

	t.Run("all are subscribed", func(t *testing.T) {
		a := send("GET", "key-of-both")
		admitted(t, a)
		if got := a.echo.Header.Get("X-App-Id") + " " + a.echo.Header.Get("X-Api-Plan"); got != "ann sharing/second-plan" {
			t.Errorf("accounted to %q, want the first by App ID", got)
		}
	})
	t.Run("one is not subscribed", func(t *testing.T) {
		refused(t, send("GET", "key-with-guest"), 403, "subscription_missing")
	})
	t.Run("one may not do this operation", func(t *testing.T) {
		admitted(t, send("GET", "key-with-narrow"))
		refused(t, send("POST", "key-with-narrow"), 403, "operation_forbidden")
	})
	t.Run("a suspended holder does not count", func(t *testing.T) {
		admitted(t, send("GET", "key-of-zed"))
	})
	t.Run("alone and unsubscribed", func(t *testing.T) {
		refused(t, send("GET", "key-of-guest"), 403, "subscription_missing")
	})
}

// TestKeySources looks for the key in every place that can be configured.
func TestKeySources(t *testing.T) {
	const ns = namespace("sources")
	shared.apply(t, "sources",
		ns.api("api"), ns.unlimited("plan"),
		ns.app("first", "first-key"), ns.app("second", "second-key"),
		ns.sub("sub", "plan", list("first", "second"), list("api")),
	)
	routes := map[string]*stack.KeySource{
		"default":  nil,
		"header":   {Header: "X-API-Key"},
		"scheme":   {Header: "X-Auth", HeaderAuthScheme: "Token"},
		"query":    {Query: "key"},
		"cookie":   {Cookie: "key"},
		"anywhere": {Header: "X-API-Key", Query: "key", Cookie: "key"},
	}
	for name, source := range routes {
		config := shared.config("sources/api")
		config.KeySource = source
		shared.protect(t, name+".sources.test", config)
	}

	const missing, invalid = "key_missing", "key_invalid"
	for _, test := range []struct {
		name, route, target string
		header              []string
		want                string // the application, or why not
	}{
		{"Bearer", "default", "/", list("Authorization: Bearer first-key"), "first"},
		{"scheme in any case", "default", "/", list("Authorization: bEARER first-key"), "first"},
		{"Basic is no key", "default", "/", list("Authorization: Basic Zmlyc3Qta2V5"), missing},
		{"a key without a scheme", "default", "/", list("Authorization: first-key"), missing},
		{"Bearer with nothing", "default", "/", list("Authorization: Bearer "), missing},
		{"query", "default", "/?api_key=first-key", nil, "first"},
		{"query with an encoded name", "default", "/?%61pi_key=first-key", nil, "first"},
		{"query with an encoded value", "default", "/?api_key=first%2Dkey", nil, "first"},
		{"empty query parameter", "default", "/?api_key=", nil, missing},
		{"the header goes before the query", "default", "/?api_key=second-key", list("Authorization: Bearer first-key"), "first"},
		{"a bad header is not saved by the query", "default", "/?api_key=second-key", list("Authorization: Bearer unknown"), invalid},
		{"an empty header leaves it to the query", "default", "/?api_key=second-key", list("Authorization: Bearer"), "second"},
		{"two headers", "default", "/", list("Authorization: Bearer first-key", "Authorization: Bearer second-key"), invalid},
		{"twice the same header", "default", "/", list("Authorization: Bearer first-key", "Authorization: Bearer first-key"), invalid},
		{"two query parameters", "default", "/?api_key=first-key&api_key=second-key", nil, invalid},
		{"two query parameters, one encoded", "default", "/?api_key=first-key;%61pi_key=second-key", nil, invalid},
		{"cookie that is not configured", "default", "/", list("Cookie: api_key=first-key"), missing},

		{"header of one's own", "header", "/", list("X-API-Key: first-key"), "first"},
		{"replaces Authorization", "header", "/", list("Authorization: Bearer first-key"), missing},
		{"replaces the query", "header", "/?api_key=first-key", nil, missing},
		{"header with a long key", "header", "/", list("X-API-Key: " + strings.Repeat("k", 513)), invalid},

		{"scheme of one's own", "scheme", "/", list("X-Auth: Token first-key"), "first"},
		{"another scheme", "scheme", "/", list("X-Auth: Bearer first-key"), missing},

		{"query of one's own", "query", "/?key=first-key", nil, "first"},
		{"cookie", "cookie", "/", list("Cookie: a=b; key=first-key; c=d"), "first"},
		{"two cookies", "cookie", "/", list("Cookie: key=first-key; key=second-key"), invalid},

		{"query before cookie", "anywhere", "/?key=first-key", list("Cookie: key=second-key"), "first"},
		{"header before both", "anywhere", "/?key=second-key", list("X-API-Key: first-key", "Cookie: key=second-key"), "first"},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := shared.send(t, test.route+".sources.test", "GET "+test.target, test.header...)
			if test.want == missing || test.want == invalid {
				refused(t, a, 401, test.want)
				return
			}
			admitted(t, a)
			if got := a.echo.Header.Get("X-App-Id"); got != test.want {
				t.Errorf("X-App-Id is %q, want %q", got, test.want)
			}
		})
	}
}
