package e2e

import (
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/tollgate-apim/tollgate/e2e/stack"
)

// upstreamGateway has one application with a titled key, and a router without
// the plugin to compare with.
func upstreamGateway(t *testing.T) {
	t.Helper()
	const ns = namespace("upstream")
	shared.apply(t, "upstream",
		ns.api("api"), ns.unlimited("plan"),
		ns.app("app", "upstream-key"),
		ns.object("ManagedApplication", "untitled", `{appId: untitled, owner: o, apiKeys: [{value: "{{digest "untitled-key"}}"}]}`),
		ns.sub("sub", "plan", list("app", "untitled"), list("api")),
	)
	plain := stack.Dynamic{HTTP: stack.HTTP{
		Routers:  map[string]stack.Router{"plain": {EntryPoints: []string{stack.Web}, Rule: "Host(`plain.test`)", Service: "plain"}},
		Services: map[string]stack.Service{"plain": stack.UpstreamService(shared.upstream.URL)},
	}}
	if err := shared.traefik.Configure("plain", plain); err != nil {
		t.Fatal(err)
	}
	shared.await(t, "the plain router", func() error {
		return wantStatus(shared.send(t, "plain.test", "GET /"), 200)
	})
}

// TestUpstream looks at what the upstream receives.
func TestUpstream(t *testing.T) {
	upstreamGateway(t)
	t.Run("credentials", checkCredentials)
	t.Run("identity", checkIdentity)
}

// checkCredentials compares what the upstream receives with what it receives
// from a client that sends no key through a router without the plugin.
func checkCredentials(t *testing.T) {
	open := false
	for name, change := range map[string]func(*stack.Config){
		"default": func(*stack.Config) {},
		"header":  func(c *stack.Config) { c.KeySource = &stack.KeySource{Header: "X-API-Key"} },
		"cookie":  func(c *stack.Config) { c.KeySource = &stack.KeySource{Cookie: "key", Query: "clé"} },
		"anywhere": func(c *stack.Config) {
			c.KeySource = &stack.KeySource{Header: "X-API-Key", Query: "key", Cookie: "key"}
		},
		"visible": func(c *stack.Config) { c.HideCredentials = &open },
	} {
		config := shared.config("upstream/api")
		change(&config)
		shared.protect(t, name+".upstream.test", config)
	}

	const bearer = "Authorization: Bearer upstream-key"
	for _, test := range []struct {
		name, route    string
		target, same   string // what is sent, and what an upstream should see
		header, expect []string
	}{
		{"header", "default", "/a", "/a", list(bearer), nil},
		{"header, with a query", "default", "/a?b=c&d", "/a?b=c&d", list(bearer), nil},
		{"header of one's own", "header", "/a", "/a", list("X-API-Key: upstream-key", "Authorization: Basic x"), list("Authorization: Basic x")},
		{"only parameter", "default", "/a?api_key=upstream-key", "/a", nil, nil},
		{"first parameter", "default", "/a?api_key=upstream-key&b=c", "/a?b=c", nil, nil},
		{"last parameter", "default", "/a?b=c&api_key=upstream-key", "/a?b=c", nil, nil},
		{"between parameters", "default", "/a?b=c&api_key=upstream-key&d=e", "/a?b=c&d=e", nil, nil},
		{"odd parameters stay", "default", "/a?b=%zz&%41=+%20&=&c&api_key=upstream-key&d=%2f%2F&d=ä", "/a?b=%zz&%41=+%20&=&c&d=%2f%2F&d=ä", nil, nil},
		{"order stays", "default", "/a?z=1&api_key=upstream-key&a=2&Z=3", "/a?z=1&a=2&Z=3", nil, nil},
		{"semicolons", "default", "/a?b=c;api_key=upstream-key;d=e", "/a?b=c;d=e", nil, nil},
		{"encoded name", "default", "/a?b=c&%61pi_key=upstream-key&d=e", "/a?b=c&d=e", nil, nil},
		{"similar names stay", "default", "/a?api_key=upstream-key&xapi_key=1&api_keys=2&API_KEY=3", "/a?xapi_key=1&api_keys=2&API_KEY=3", nil, nil},
		{"header and query", "default", "/a?api_key=upstream-key&b=c", "/a?b=c", list(bearer), nil},
		{"header and another query key", "default", "/a?api_key=other&b=c", "/a?b=c", list(bearer), nil},
		{"encoded path", "default", "/a%2Fb/%7Ec?api_key=upstream-key", "/a%2Fb/%7Ec", nil, nil},
		{"another scheme stays", "default", "/a?api_key=upstream-key", "/a", list("Authorization: Basic x"), list("Authorization: Basic x")},
		{"cookie", "cookie", "/a", "/a", list("Cookie: a=b; key=upstream-key; c=d"), list("Cookie: a=b; c=d")},
		{"only cookie", "cookie", "/a", "/a", list("Cookie: key=upstream-key"), nil},
		{"encoded parameter name", "cookie", "/a?cl%C3%A9=upstream-key&b", "/a?b", nil, nil},
		{"all places at once", "anywhere", "/a?key=x&b=c", "/a?b=c", list("X-API-Key: upstream-key", "Cookie: key=y; a=b"), list("Cookie: a=b")},
		{"visible header", "visible", "/a", "/a", list(bearer), list(bearer)},
		{"visible parameter", "visible", "/a?api_key=upstream-key", "/a?api_key=upstream-key", nil, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := shared.send(t, test.route+".upstream.test", "GET "+test.target, test.header...)
			admitted(t, got)
			want := shared.send(t, "plain.test", "GET "+test.same, test.expect...)
			admitted(t, want)
			if got.echo.RequestURI != want.echo.RequestURI {
				t.Errorf("the upstream got %q, want %q", got.echo.RequestURI, want.echo.RequestURI)
			}
			for _, name := range []string{"Authorization", "X-Api-Key", "Cookie"} {
				if got, want := got.echo.Header.Get(name), want.echo.Header.Get(name); got != want {
					t.Errorf("the upstream got %s: %q, want %q", name, got, want)
				}
			}
		})
	}
}

// checkIdentity tries to pass for somebody else.
func checkIdentity(t *testing.T) {
	shared.protect(t, "identity.test", byHeader(shared.config("upstream/api")))
	config := byHeader(shared.config("upstream/api"))
	config.IdentityHeaders = map[string]string{"appId": "X-Who", "subscription": "", "plan": "", "keyTitle": ""}
	shared.protect(t, "named.identity.test", config)
	const key = "X-API-Key: upstream-key"
	identity := func(a answer) http.Header {
		found := http.Header{}
		for _, name := range []string{"X-App-Id", "X-Subscription", "X-Api-Plan", "X-Api-Key-Title", "X-Who"} {
			if values := a.echo.Header[name]; values != nil {
				found[name] = values
			}
		}
		return found
	}
	same := func(t *testing.T, got, want http.Header) {
		t.Helper()
		for name := range got {
			if want[name] == nil {
				t.Errorf("the upstream got %s: %q, want none", name, got[name])
			}
		}
		for name := range want {
			if strings.Join(got[name], "|") != want.Get(name) {
				t.Errorf("the upstream got %s: %q, want %q alone", name, got[name], want.Get(name))
			}
		}
	}
	genuine := http.Header{
		"X-App-Id":        {"app"},
		"X-Subscription":  {"upstream/sub"},
		"X-Api-Plan":      {"upstream/plan"},
		"X-Api-Key-Title": {"title of app"},
	}
	for _, test := range []struct {
		name   string
		header []string
	}{
		{"nothing forged", nil},
		{"forged", list("X-App-Id: root", "X-Subscription: root", "X-Api-Plan: root", "X-Api-Key-Title: root")},
		{"forged in another case", list("x-app-id: root", "X-SUBSCRIPTION: root")},
		{"forged twice", list("X-App-Id: root", "X-App-Id: admin")},
		{"dropped by Connection", list("Connection: close, X-App-Id, x-subscription, X-Api-Plan")},
		{"dropped by several Connections", list("Connection: close", "Connection: x-app-id")},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := shared.send(t, "identity.test", "GET /", append(test.header, key)...)
			admitted(t, a)
			same(t, identity(a), genuine)
		})
	}
	t.Run("a title that there is not cannot be forged", func(t *testing.T) {
		a := shared.send(t, "identity.test", "GET /", "X-API-Key: untitled-key", "X-Api-Key-Title: root")
		admitted(t, a)
		if got, ok := a.echo.Header["X-Api-Key-Title"]; ok {
			t.Errorf("the upstream got X-Api-Key-Title: %q", got)
		}
	})
	t.Run("names of one's own", func(t *testing.T) {
		a := shared.send(t, "named.identity.test", "GET /", key, "X-Who: root")
		admitted(t, a)
		same(t, identity(a), http.Header{"X-Who": {"app"}})
	})
	t.Run("in the access log", func(t *testing.T) {
		a := shared.send(t, "identity.test", "GET /logged", key)
		admitted(t, a)
		shared.await(t, "a line of the access log", func() error {
			data, err := os.ReadFile(shared.traefik.AccessLog)
			if err != nil {
				return err
			}
			return mustContain(lineWith(string(data), "/logged"), `"request_X-App-Id":"app"`)
		})
	})
}
