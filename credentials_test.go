package tollgate

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"github.com/tollgate-apim/tollgate/hashing"
	"github.com/tollgate-apim/tollgate/table"
)

// credentialRigs returns a middleware for each key source, by name. The keys
// "ann" and "bob" belong to the applications of these names; ann has others, which
// are harder to carry.
func credentialRigs(t *testing.T, hide bool) map[string]*rig {
	rows := testTable(table.Plan{})
	for _, key := range []string{"a key", "clé", "k&;=%+", strings.Repeat("k", 512), strings.Repeat("k", 513), strings.Repeat("k", 10<<10), "Bearer ann", "\xff"} {
		rows.Keys[hashing.Digest(key)] = rows.Keys[hashing.Digest("ann")]
	}
	withSources(t, holding(rows, 0))
	rigs := map[string]*rig{}
	for name, source := range map[string]KeySource{
		"default":  {},
		"header":   {Header: "x-api-key"},
		"scheme":   {Header: "X-Auth", HeaderAuthScheme: "Token"},
		"query":    {Query: "key"},
		"cookie":   {Cookie: "key"},
		"anywhere": {Header: "X-API-Key", Query: "key", Cookie: "key"},
		"list":     {Query: "keys[]"},
	} {
		c := testConfig(weatherAPI)
		c.KeySource = source
		c.HideCredentials = hide
		rigs[name] = newRig(t, c)
	}
	return rigs
}

func TestWhereTheKeyIs(t *testing.T) {
	rigs := credentialRigs(t, true)
	const missing, invalid = "key_missing", "key_invalid"
	lines := func(l ...string) []string { return l }
	for _, test := range []struct {
		name, source, target string
		header               []string
		want                 string // the App ID, or why not
	}{
		{"Bearer", "default", "/", lines("Authorization: Bearer ann"), "ann"},
		{"a scheme in another case", "default", "/", lines("Authorization: bEARER ann"), "ann"},
		{"space around the key", "default", "/", lines("Authorization: Bearer  \t ann "), "ann"},
		{"another scheme", "default", "/", lines("Authorization: Basic ann"), missing},
		{"a scheme that begins the same", "default", "/", lines("Authorization: Bearers ann"), missing},
		{"no scheme", "default", "/", lines("Authorization: ann"), missing},
		{"a scheme and no key", "default", "/", lines("Authorization: Bearer"), missing},
		{"a scheme and space", "default", "/", lines("Authorization: Bearer  "), missing},
		{"the scheme twice", "default", "/", lines("Authorization: Bearer Bearer ann"), "ann"},
		{"two keys in one value", "default", "/", lines("Authorization: Bearer ann, Bearer bob"), invalid},
		{"two keys", "default", "/", lines("Authorization: Bearer ann", "Authorization: bearer bob"), invalid},
		{"the same key twice", "default", "/", lines("Authorization: Bearer ann", "Authorization: Bearer ann"), invalid},
		{"a key beside another scheme", "default", "/", lines("Authorization: Basic x", "Authorization: Bearer ann"), "ann"},
		{"a key beside an empty one", "default", "/", lines("Authorization: Bearer", "Authorization: Bearer ann"), "ann"},
		{"512 bytes", "default", "/", lines("Authorization: Bearer " + strings.Repeat("k", 512)), "ann"},
		{"513 bytes", "default", "/", lines("Authorization: Bearer " + strings.Repeat("k", 513)), invalid},
		{"10 KB", "default", "/", lines("Authorization: Bearer " + strings.Repeat("k", 10<<10)), invalid},
		{"10 KB in the query", "default", "/?api_key=" + strings.Repeat("k", 10<<10), nil, invalid},
		{"letters beyond ASCII", "default", "/", lines("Authorization: Bearer clé"), "ann"},
		{"bytes that are no letters", "default", "/", lines("Authorization: Bearer \xff"), "ann"},
		{"letters beyond ASCII, unknown", "default", "/", lines("Authorization: Bearer ключ"), invalid},

		{"query", "default", "/?api_key=ann", nil, "ann"},
		{"among others", "default", "/?a=b&api_key=ann&c=d", nil, "ann"},
		{"encoded name", "default", "/?%61pi%5Fkey=ann", nil, "ann"},
		{"encoded value", "default", "/?api_key=%61nn", nil, "ann"},
		{"all that has to be encoded", "default", "/?api_key=k%26%3B%3D%25%2B", nil, "ann"},
		{"plus is a space", "default", "/?api_key=a+key", nil, "ann"},
		{"letters beyond ASCII in the query", "default", "/?api_key=cl%C3%A9", nil, "ann"},
		{"an equals sign belongs to the value", "default", "/?api_key=ann=bob", nil, invalid},
		{"name in another case", "default", "/?API_KEY=ann", nil, missing},
		{"part of a name", "default", "/?my_api_key=ann&api_keys=ann", nil, missing},
		{"the name as a value", "default", "/?x=api_key=ann", nil, missing},
		{"empty", "default", "/?api_key=", nil, missing},
		{"no value", "default", "/?api_key", nil, missing},
		{"empty and not", "default", "/?api_key=&api_key=ann&api_key", nil, "ann"},
		{"two parameters", "default", "/?api_key=ann&api_key=bob", nil, invalid},
		{"the same parameter twice", "default", "/?api_key=ann&api_key=ann", nil, invalid},
		{"two parameters, one encoded", "default", "/?api_key=ann&%61pi_key=bob", nil, invalid},
		{"two parameters, by semicolon", "default", "/?api_key=ann;api_key=bob", nil, invalid},
		{"after a semicolon", "default", "/?x=1;api_key=ann", nil, "ann"},
		{"before a semicolon", "default", "/?api_key=ann;x=1", nil, "ann"},
		{"badly encoded", "default", "/?api_key=%zz", nil, invalid},
		{"badly encoded beside a good one", "default", "/?api_key=%zz&api_key=ann", nil, invalid},
		{"badly encoded elsewhere", "default", "/?x%zz=%&api_key=ann", nil, "ann"},
		{"a name of signs", "list", "/?keys[]=ann", nil, "ann"},
		{"a name of signs, encoded", "list", "/?keys%5B%5D=ann", nil, "ann"},

		{"the header goes before the query", "default", "/?api_key=bob", lines("Authorization: Bearer ann"), "ann"},
		{"a wrong header is not saved by the query", "default", "/?api_key=bob", lines("Authorization: Bearer nobody"), invalid},
		{"two headers are not saved by the query", "default", "/?api_key=bob", lines("Authorization: Bearer ann", "Authorization: Bearer bob"), invalid},
		{"an empty header leaves it to the query", "default", "/?api_key=bob", lines("Authorization: Bearer "), "bob"},
		{"another scheme leaves it to the query", "default", "/?api_key=bob", lines("Authorization: Basic x"), "bob"},
		{"a cookie is not asked for", "default", "/", lines("Cookie: api_key=ann"), missing},

		{"a header of one's own", "header", "/", lines("X-API-Key: ann"), "ann"},
		{"its value is all key", "header", "/", lines("X-API-Key: Bearer ann"), "ann"},
		{"it replaces Authorization", "header", "/", lines("Authorization: Bearer ann"), missing},
		{"it replaces the query", "header", "/?api_key=ann", nil, missing},
		{"an empty one", "header", "/", lines("X-API-Key: "), missing},
		{"two of them", "header", "/", lines("X-API-Key: ann", "X-API-Key: bob"), invalid},

		{"a scheme of one's own", "scheme", "/", lines("X-Auth: token ann"), "ann"},
		{"Bearer is another scheme then", "scheme", "/", lines("X-Auth: Bearer ann"), missing},
		{"a query of one's own", "query", "/?key=ann", nil, "ann"},
		{"it replaces the header", "query", "/", lines("Authorization: Bearer ann"), missing},

		{"cookie", "cookie", "/", lines("Cookie: a=b; key=ann; c=d"), "ann"},
		{"a quoted cookie", "cookie", "/", lines(`Cookie: key="ann"`), "ann"},
		{"a cookie in a second header", "cookie", "/", lines("Cookie: a=b", "Cookie: key=ann"), "ann"},
		{"two cookies", "cookie", "/", lines("Cookie: key=ann; key=bob"), invalid},
		{"an empty cookie", "cookie", "/", lines("Cookie: key=; a=b"), missing},
		{"an empty quoted cookie", "cookie", "/", lines(`Cookie: key=""; a=b`), missing},
		{"a cookie of space", "cookie", "/", lines("Cookie: key= ; a=b"), missing},
		{"a cookie in another case", "cookie", "/", lines("Cookie: KEY=ann"), missing},

		{"header before query before cookie", "anywhere", "/?key=bob", lines("X-API-Key: ann", "Cookie: key=nobody"), "ann"},
		{"query before cookie", "anywhere", "/?key=ann", lines("Cookie: key=bob"), "ann"},
		{"cookie last", "anywhere", "/?key=", lines("X-API-Key: ", "Cookie: key=ann"), "ann"},
	} {
		r := rigs[test.source]
		w := r.do("GET", test.target, test.header...)
		got := ""
		if r.upstream != nil {
			got = r.upstream.Header.Get("X-App-Id")
		} else {
			got = reason(w)
		}
		if got != test.want {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
	}
}

// What goes upstream: the request's target and the headers that may hold a key.
func TestKeyIsHidden(t *testing.T) {
	hiding, showing := credentialRigs(t, true), credentialRigs(t, false)
	lines := func(l ...string) []string { return l }
	for _, test := range []struct {
		source, target string
		header         []string
		wantTarget     string
		wantHeader     []string
	}{
		{"default", "/p", lines("Authorization: Bearer ann"), "/p", nil},
		{"default", "/p?x=1", lines("Authorization: bearer ann"), "/p?x=1", nil},
		{"default", "/p", lines("Authorization: Bearer ann", "Authorization: Basic eA==", "Authorization: Bearer"), "/p", lines("Authorization: Basic eA==")},
		{"default", "/p?api_key=ann", lines("Authorization: Basic eA=="), "/p", lines("Authorization: Basic eA==")},
		{"default", "/p?api_key=bob&x=1", lines("Authorization: Bearer ann"), "/p?x=1", nil},

		{"default", "/p?api_key=ann", nil, "/p", nil},
		{"default", "/p?api_key=ann&b=2", nil, "/p?b=2", nil},
		{"default", "/p?a=1&api_key=ann", nil, "/p?a=1", nil},
		{"default", "/p?a=1&api_key=ann&b=2", nil, "/p?a=1&b=2", nil},
		{"default", "/p?a=1;api_key=ann&b=2", nil, "/p?a=1&b=2", nil},
		{"default", "/p?a=1&api_key=ann;b=2;c", nil, "/p?a=1;b=2;c", nil},
		{"default", "/p?%61pi_key=ann&api_key=&api_key", nil, "/p", nil},
		{"default", "/p?b=2&api_key=ann&a=1&b=1", nil, "/p?b=2&a=1&b=1", nil},
		{"default", "/p?a=%2f%2F&api_key=ann&b=+%20&=&c=%zz&%41=x=y&q=http://h/?api_key=1", nil, "/p?a=%2f%2F&b=+%20&=&c=%zz&%41=x=y&q=http://h/?api_key=1", nil},
		{"default", "/p?&&a&api_key=ann&&b", nil, "/p?&&a&&b", nil},
		{"default", "/p?api_keys=1&API_KEY=2&api_key=ann", nil, "/p?api_keys=1&API_KEY=2", nil},
		{"default", "/p%2Fq;v=1//x?api_key=ann", nil, "/p%2Fq;v=1//x", nil},
		{"default", "http://example.com/p?api_key=ann&x=1", nil, "http://example.com/p?x=1", nil},
		{"list", "/p?keys%5b%5d=ann&a[]=1", nil, "/p?a[]=1", nil},

		{"header", "/p?api_key=1&key=2", lines("X-API-Key: ann", "Authorization: Bearer x", "Cookie: key=1"),
			"/p?api_key=1&key=2", lines("Authorization: Bearer x", "Cookie: key=1")},
		{"scheme", "/p", lines("X-Auth: Token ann", "X-Auth: Bearer x"), "/p", lines("X-Auth: Bearer x")},
		{"cookie", "/p", lines("Cookie: key=ann"), "/p", nil},
		{"cookie", "/p", lines("Cookie: a=1; key=ann; b=2"), "/p", lines("Cookie: a=1; b=2")},
		{"cookie", "/p", lines("Cookie: key=ann; a=1"), "/p", lines("Cookie: a=1")},
		{"cookie", "/p", lines(`Cookie: a="1,2";b=x=y;key=ann;;keys=3`), "/p", lines(`Cookie: a="1,2";b=x=y;;keys=3`)},
		{"cookie", "/p", lines("Cookie: a=1", "Cookie: key=ann", "Cookie: b=2; key"), "/p", lines("Cookie: a=1", "Cookie: b=2")},
		{"anywhere", "/p?key=bob", lines("X-API-Key: ann", "Cookie: key=nobody"), "/p", nil},
	} {
		h := http.Header{}
		for _, line := range test.wantHeader {
			name, value, _ := strings.Cut(line, ": ")
			h.Add(name, value)
		}
		if got := sentUpstream(t, hiding[test.source], test.target, test.header); got.target != test.wantTarget || got.query != queryOf(test.wantTarget) || !reflect.DeepEqual(got.header, h) {
			t.Errorf("%s of %s %q: the upstream got %+v, want %s %v", test.source, test.target, test.header, got, test.wantTarget, h)
		}

		h = http.Header{}
		for _, line := range test.header {
			name, value, _ := strings.Cut(line, ": ")
			h.Add(name, value)
		}
		if got := sentUpstream(t, showing[test.source], test.target, test.header); got.target != test.target || got.query != queryOf(test.target) || !reflect.DeepEqual(got.header, h) {
			t.Errorf("with hideCredentials off, %s of %s %q: the upstream got %+v", test.source, test.target, test.header, got)
		}
	}
}

// received is what the upstream got.
type received struct {
	target, query string
	header        http.Header
}

func sentUpstream(t *testing.T, r *rig, target string, header []string) received {
	t.Helper()
	w := r.do("GET", target, header...)
	if r.upstream == nil {
		t.Fatalf("%s %q: refused, %s", target, header, w.Body)
	}
	got := received{r.upstream.RequestURI, r.upstream.URL.RawQuery, http.Header{}}
	for _, name := range []string{"Authorization", "X-Api-Key", "X-Auth", "Cookie"} {
		if values, ok := r.upstream.Header[name]; ok {
			got.header[name] = values
		}
	}
	return got
}

func queryOf(target string) string {
	_, query, _ := strings.Cut(target, "?")
	return query
}

// A middleware before this one may have changed the URL; Traefik forwards
// RequestURI, which then has the path that was asked for.
func TestKeyIsHiddenBehindOtherMiddlewares(t *testing.T) {
	r := credentialRigs(t, true)["default"]
	req := httptest.NewRequest(http.MethodGet, "/api/p?api_key=ann&x=1", nil)
	req.URL.Path = "/p"
	r.serve(req)
	if r.upstream == nil || r.upstream.RequestURI != "/api/p?x=1" || r.upstream.URL.String() != "/p?x=1" {
		t.Errorf("the upstream got %+v", r.upstream)
	}
}

// parametersOf splits a query as those do who take only an ampersand for a
// separator, or a semicolon too.
func parametersOf(query, separators string) []string {
	return strings.FieldsFunc(query, func(r rune) bool { return strings.ContainsRune(separators, r) })
}

// named tells whether a parameter has a name, for somebody who decodes it.
func named(parameter, name string) bool {
	encoded, _, _ := strings.Cut(parameter, "=")
	decoded, err := url.QueryUnescape(encoded)
	return encoded == name || err == nil && decoded == name
}

// After hiding, nobody finds a parameter of that name, and all others are there,
// in order and to the byte.
func FuzzHideQuery(f *testing.F) {
	for _, query := range []string{
		"api_key=k", "a=1&api_key=k;b=2", "%61pi_key;api_key&&;x", "a=api_key&api%5fkey=%zz", "&;&", ";api_key=;;a", "api_key;x=1&y", "+api_key=1&api%00key",
	} {
		f.Add(query, "api_key")
	}
	f.Add("a+b=1&a%20b=2;a b=3", "a b")
	f.Add("keys[]=1&keys%5B%5D=2", "keys[]")
	f.Fuzz(func(t *testing.T, query, name string) {
		if bad := (&problems{}); name == "" || !parameterName(bad, name) || strings.ContainsAny(query, "?#\r\n") {
			return
		}
		r := &http.Request{URL: &url.URL{Path: "/p", RawQuery: query}, RequestURI: "/p?" + query, Header: http.Header{}}
		hideKey(r, newKeySource("", "", name, ""))
		left := r.URL.RawQuery
		if want := strings.TrimSuffix("/p?"+left, "?"); strings.TrimSuffix(r.RequestURI, "?") != want {
			t.Errorf("RequestURI is %q beside the query %q", r.RequestURI, left)
		}
		for _, separators := range []string{"&", "&;"} {
			for _, parameter := range parametersOf(left, separators) {
				if named(parameter, name) {
					t.Errorf("%q without %q is %q, which still has %q", query, name, left, parameter)
				}
			}
		}
		var want []string
		for _, parameter := range parametersOf(query, "&;") {
			if !named(parameter, name) {
				want = append(want, parameter)
			}
		}
		if got := parametersOf(left, "&;"); strings.Join(got, "&") != strings.Join(want, "&") {
			t.Errorf("%q without %q is %q, want the parameters %q", query, name, left, want)
		}
		if key, _ := keyInQuery(left, newKeySource("", "", name, "")); key != "" {
			t.Errorf("%q without %q still has the key %q", query, name, key)
		}
	})
}

// parameterName reports whether a configuration may name a parameter so.
func parameterName(p *problems, name string) bool {
	p.query("keySource.query", name)
	return len(p.list) == 0
}
