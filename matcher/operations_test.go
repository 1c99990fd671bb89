package matcher

import (
	"math/rand"
	"net/url"
	"path"
	"regexp"
	"strings"
	"testing"

	"github.com/tollgate-apim/tollgate/table"
)

// filtered returns a view in which the key "k" is allowed the named sets.
func filtered(sets map[string][]table.Matcher, include ...string) *scene {
	filter := &table.OperationFilter{Include: include}
	return newScene(&table.Table{
		Plans:         map[string]table.Plan{"apps/plan": {}},
		APIs:          map[string]table.API{api: {OperationSets: sets}},
		Subscriptions: map[string]table.Subscription{"apps/sub": {Plan: "apps/plan", OperationFilter: filter}},
		Applications:  map[string]table.Application{"apps/app": {AppID: "app", Grants: map[string]string{api: "apps/sub"}}},
		Keys:          map[string][]table.Holder{"k": {{Application: "apps/app"}}},
	})
}

// allowed reports whether v allows a request such as "GET /weather%20x", parsed
// as an HTTP server does.
func allowed(t testing.TB, v *scene, request string) bool {
	t.Helper()
	method, target, _ := strings.Cut(request, " ")
	u, err := url.ParseRequestURI(target)
	if err != nil {
		t.Fatalf("%s: %v", request, err)
	}
	why := refusal(v, "k", method, u.Path, u.RawPath)
	if why != "" && why != OperationForbidden {
		t.Fatalf("%s: refused by %s", request, why)
	}
	return why == ""
}

func TestOperationFilters(t *testing.T) {
	sets := map[string][]table.Matcher{
		"prefix":         {{PathPrefix: "/weather"}},
		"prefix/":        {{PathPrefix: "/weather/"}},
		"deep prefix":    {{PathPrefix: "/v1/weather"}},
		"root":           {{PathPrefix: "/"}},
		"exact":          {{Path: "/weather"}},
		"exact/":         {{Path: "/weather/"}},
		"anchored":       {{PathRegex: "^/v[0-9]+/"}},
		"unanchored":     {{PathRegex: "public"}},
		"GET":            {{Methods: []string{"GET"}}},
		"lower case":     {{Methods: []string{"get", "Head"}}},
		"POST of orders": {{Methods: []string{"POST"}, Path: "/orders"}},
		"alternatives":   {{Path: "/a"}, {Methods: []string{"GET"}, PathPrefix: "/b"}},
		"no matchers":    {},
	}
	list := func(requests ...string) []string { return requests }
	for _, test := range []struct {
		include []string
		allowed []string
		refused []string
	}{
		{list("prefix"),
			list("GET /weather", "GET /weather/", "PUT /weather/x/y", "GET /weather?q=/admin", "GET /%77eather"),
			list("GET /weatherman", "GET /weathe", "GET /", "GET /x/weather", "GET /Weather", "GET /%77eatherman", "GET /?/weather")},
		{list("prefix/"), list("GET /weather", "GET /weather/", "GET /weather/x"), list("GET /weatherman", "GET /")},
		{list("deep prefix"), list("GET /v1/weather/x"), list("GET /v1", "GET /v1/", "GET /v1/weatherman", "GET /weather")},
		{list("root"), list("GET /", "DELETE /x", "GET /weather/../admin", "GET /a/..%2F..;/b"), nil},
		{list("exact"), list("GET /weather", "PUT /weather", "GET /weather?x"), list("GET /weather/", "GET /weather/x", "GET /weatherman", "GET /")},
		{list("exact/"), list("GET /weather/"), list("GET /weather", "GET /weather/x", "GET /weather//")},
		{list("anchored"), list("GET /v1/x", "GET /v22/"), list("GET /v1", "GET /x/v1/", "GET /vx/")},
		{list("unanchored"), list("GET /public", "GET /x/republican/y"), list("GET /private", "GET /?public")},
		{list("GET"), list("GET /x", "get /x", "Get /x", "GET /weather/..%2Fadmin"), list("HEAD /x", "POST /x", "GETS /x", "POST /weather/..%2Fadmin")},
		{list("lower case"), list("GET /x", "HEAD /", "head /"), list("POST /x", "OPTIONS /x")},
		{list("POST of orders"), list("POST /orders"), list("GET /orders", "POST /orders/1", "POST /")},
		{list("alternatives"), list("POST /a", "GET /b/c"), list("POST /b/c", "GET /c", "GET /a/c")},

		{list("exact", "POST of orders"), list("GET /weather", "POST /orders"), list("GET /orders", "POST /weather/x")},
		{list(), nil, list("GET /", "GET /weather")},
		{list("no matchers"), nil, list("GET /", "GET /weather")},
		{list("unknown"), nil, list("GET /", "GET /weather")},
		{list("unknown", "exact"), list("GET /weather"), list("GET /")},
		{list("exact", "exact"), list("GET /weather"), list("GET /")},
	} {
		v := filtered(sets, test.include...)
		for _, request := range test.allowed {
			if !allowed(t, v, request) {
				t.Errorf("%q refuses %s", test.include, request)
			}
		}
		for _, request := range test.refused {
			if allowed(t, v, request) {
				t.Errorf("%q allows %s", test.include, request)
			}
		}
	}
}

// Without a filter there is nothing to read a path for.
func TestNoFilterAllowsEverything(t *testing.T) {
	v := filtered(nil)
	row := v.table.Subscriptions["apps/sub"]
	row.OperationFilter = nil
	v.table.Subscriptions["apps/sub"] = row
	for _, request := range []string{"GET /", "BREW /weather/..%2Fadmin", "OPTIONS *"} {
		if !allowed(t, v, request) {
			t.Errorf("%s is refused", request)
		}
	}
}

var weather = map[string][]table.Matcher{"weather": {{PathPrefix: "/weather"}}}

// tricks try to reach /admin by way of /weather, one for each way of reading a
// path that some server has. They are also where the fuzzer starts.
var tricks = []string{
	"/weather/../admin", "/weather/./../admin", "/weather/x/../../admin", "/weather/..", "/weather/../",
	"/weather/%2e%2e/admin", "/weather/%2E./admin", "/weather/.%2e/admin", "/weather/%252e%252e/admin", "/weather/%25252e./admin",
	"/weather/..%2fadmin", "/weather/..%2Fadmin", "/weather%2f..%2fadmin", "/weather%2F%2e%2e%2Fadmin", "/weather/..%252fadmin",
	"/weather//../admin", "/weather//../../admin", "/weather/../admin//../weather", "//admin", "//weather/../admin",
	`/weather/..\admin`, `/weather\..\admin`, "/weather/..%5cadmin", "/weather%5c..%5Cadmin", "/weather/..%255cadmin",
	"/weather/..;/admin", "/weather/..;x=y/admin", "/weather;/../admin", "/weather/..%3b/admin", "/weather/..%253B/admin",
	`/weather/..;/admin/..\..\weather`, "/weather/a%2Fb%2Fc/../..%2Fadmin", "/weather/%2e%2e;%2fadmin",
	"/weather/..%00/admin", "/weather/..%3F/admin", "/weather/..%23/admin",
	"/admin", "/admin/", "/admin/../weather/../admin", "/./admin", "/../admin", "/admin;/weather", "/admin%3F/weather", "/admin%00/weather",
	`\weather`, "/admin/..;/weather", "/%2fweather", "/weather%2f", "/weather%5cx",
}

func TestTricksGainNothing(t *testing.T) {
	v := filtered(weather, "weather")
	for _, trick := range tricks {
		u, err := url.ParseRequestURI(trick)
		if err != nil {
			continue // The server refuses it.
		}
		if trick == "/weather%2f" { // Under the prefix, whoever reads it.
			continue
		}
		if refusal(v, "k", "GET", u.Path, u.RawPath) != OperationForbidden {
			t.Errorf("%s is allowed", trick)
		}
	}

	// What only looks like the path, or ends like it, is not it.
	v = filtered(map[string][]table.Matcher{
		"exact":  {{Path: "/public"}},
		"suffix": {{PathRegex: "/public$"}},
	}, "exact", "suffix")
	for _, trick := range []string{
		"/public/", "/public/.", "/public//", "/public;x", "/public%2f", "/public/..",
		"/admin/..;/public/../x/../public", "/admin%00/public", "/admin%3F/public", "/admin%23/public", `/admin\..%2fpublic`,
	} {
		if allowed(t, v, "GET "+trick) {
			t.Errorf("%s is allowed", trick)
		}
	}
}

func TestHarmlessPathsPass(t *testing.T) {
	v := filtered(weather, "weather")
	for _, harmless := range []string{
		"/weather/caf%C3%A9", "/weather/caf%c3%a9", "/weather/a%20b", "/weather/a+b", "/weather/100%25", "/weather/%41",
		"/weather/a%2Fb", "/weather/a%2fb", "/weather//x", "/weather/x/", "/weather/x//", "/weather/x;v=1/y", "/weather/x;v=1",
		"/weather/what%3F", "/weather/c%23", `/weather/a%5Cb`, "/weather/.well-known", "/weather/..x", "/weather/x..", "/weather/...",
		"/weather/.../x", "/weather/./x", "/weather/x/../y", "/weather/x/..", "/weather/a:b@c$d&e=f,g!h'i(j)k*l~m",
		"/weather/%25zz", "/weather/%252541",
	} {
		if !allowed(t, v, "GET "+harmless) {
			t.Errorf("%s is refused", harmless)
		}
	}

	v = filtered(map[string][]table.Matcher{"cities": {{PathRegex: "^/weather/[^/]+$"}}}, "cities")
	if allowed(t, v, "GET /weather/a%2Fb") {
		t.Error("a filter for one segment allows one that many servers read as two")
	}
	if !allowed(t, v, "GET /weather/S%C3%A3o%20Paulo") {
		t.Error("a filter for one segment refuses one with encoded letters")
	}
}

// What it costs to read an odd path in many ways is bounded.
func TestLongOddPathsAreNotRead(t *testing.T) {
	root := map[string][]table.Matcher{"root": {{PathPrefix: "/"}}}
	for _, begin := range []struct{ path, raw string }{
		{"/weather//", ""}, {"/weather/./", ""}, {"/weather/x;v/", ""}, {"/weather/%/", ""}, {"/weather/a/b", "/weather/a%2Fb"},
	} {
		for over, want := range map[int]string{0: "", 1: OperationForbidden, 1 << 20: OperationForbidden} {
			path, raw := begin.path, begin.raw
			path += strings.Repeat("a", maxOddPath-len(path)-len(raw)+over)
			if got := refusal(filtered(weather, "weather"), "k", "GET", path, raw); got != want {
				t.Errorf("%v in %d bytes: got %q, want %q", begin, len(path)+len(raw), got, want)
			}
			if got := refusal(filtered(root, "root"), "k", "GET", path, raw); got != "" {
				t.Errorf("%v in %d bytes: got %q where any path is allowed", begin, len(path)+len(raw), got)
			}
		}
	}
	if got := refusal(filtered(weather, "weather"), "k", "GET", "/weather/"+strings.Repeat("a", 1<<20), ""); got != "" {
		t.Errorf("a long path that is not odd: got %q", got)
	}
}

// servers are ways in which an upstream, or two in a row, find out which
// resource an encoded path means. They share nothing with the code.
var servers = map[string]func(encoded string) string{
	"decodes, then cleans":          func(p string) string { return path.Clean("/" + decode(p)) },
	"resolves as RFC 3986 has it":   func(p string) string { return decode(resolved(p)) },
	"resolves as browsers do":       func(p string) string { return decode(resolved(encodedDots.ReplaceAllString(p, "."))) },
	"decodes all, then resolves":    func(p string) string { return resolved(decode(p)) },
	"cleans, and the next decodes":  func(p string) string { return path.Clean("/" + decode(path.Clean("/"+p))) },
	"resolves, and the next cleans": func(p string) string { return path.Clean("/" + decode(resolved(p))) },
	"decodes twice":                 func(p string) string { return path.Clean("/" + decode(decode(p))) },
	"cuts parameters first":         func(p string) string { return path.Clean("/" + decode(cut(p))) },
	"cuts parameters of the decoded": func(p string) string {
		return path.Clean("/" + cut(decode(p)))
	},
	"cuts parameters, then resolves":    func(p string) string { return resolved(decode(cut(p))) },
	"takes backslashes for slashes":     func(p string) string { return path.Clean("/" + strings.ReplaceAll(decode(p), `\`, "/")) },
	"slashes of all kinds, then params": func(p string) string { return path.Clean("/" + cut(strings.ReplaceAll(decode(p), `\`, "/"))) },
	"params, then slashes of all kinds": func(p string) string { return path.Clean("/" + strings.ReplaceAll(decode(cut(p)), `\`, "/")) },
	"all of it, twice": func(p string) string {
		for i := 0; i < 2; i++ {
			p = resolved(strings.ReplaceAll(decode(cut(p)), `\`, "/"))
		}
		return path.Clean("/" + p)
	},
}

var (
	encodedDots = regexp.MustCompile("(?i)%2e")
	escapes     = regexp.MustCompile("%[0-9a-fA-F]{2}")
)

// decode decodes each escape and leaves what is none.
func decode(p string) string {
	return escapes.ReplaceAllStringFunc(p, func(escape string) string {
		decoded, _ := url.PathUnescape(escape)
		return decoded
	})
}

// cut cuts the parameters off each segment.
func cut(p string) string {
	segments := strings.Split(p, "/")
	for i := range segments {
		segments[i], _, _ = strings.Cut(segments[i], ";")
	}
	return strings.Join(segments, "/")
}

// resolved resolves dot segments and leaves empty ones (RFC 3986, section 5.2.4).
func resolved(p string) string {
	var kept []string
	for _, segment := range strings.Split(strings.TrimPrefix(p, "/"), "/") {
		if segment == ".." {
			if len(kept) > 0 {
				kept = kept[:len(kept)-1]
			}
			continue
		}
		if segment != "." {
			kept = append(kept, segment)
		}
	}
	return "/" + strings.Join(kept, "/")
}

// Whatever is allowed under a prefix is under it for every server.
func FuzzPrefixHolds(f *testing.F) {
	for _, trick := range tricks {
		f.Add(trick)
	}
	f.Add("/weather/x//y;z/a%2Fb%5Cc%252Fd/..e")
	v := filtered(weather, "weather")
	f.Fuzz(func(t *testing.T, target string) {
		u, err := url.ParseRequestURI(target)
		if err != nil || u.Host != "" || u.Opaque != "" || !strings.HasPrefix(target, "/") {
			return
		}
		if refusal(v, "k", "GET", u.Path, u.RawPath) != "" {
			return
		}
		encoded, _, _ := strings.Cut(target, "?")
		for name, server := range servers {
			if got := server(encoded); got != "/weather" && !strings.HasPrefix(got, "/weather/") {
				t.Errorf("%q is allowed, but a server that %s takes it for %q", target, name, got)
			}
		}
	})
}

// The one expression of a filter only hastens what its alternatives say.
func TestUsualExpressionAgrees(t *testing.T) {
	random := rand.New(rand.NewSource(1))
	pick := func(from []string) string { return from[random.Intn(len(from))] }
	paths := []string{"/", "/a", "/a/", "/a/b", "/ab", "/a.b", "/A", "/a|b", "/(a", "/a$", "/ä", "/a b", "/a b GET", "/a\n", "/a//b", "/a/../b", "/a;b", "/a%2Fb", "", "*"}
	// HTTP/2 lets through what is no method.
	methods := []string{"GET", "get", "POST", "M-SEARCH", "GETS", "*", "LOCK", "LOC\u212a", "GET /a", "GET /a/b", "b GET", "GET\n", "/a GET"}
	yes, no := 0, 0
	for i := 0; i < 3000; i++ {
		var matchers []table.Matcher
		for n := random.Intn(4); n >= 0; n-- {
			m := table.Matcher{}
			for random.Intn(2) == 0 {
				m.Methods = append(m.Methods, pick(methods))
			}
			switch random.Intn(4) {
			case 0:
				m.Path = pick(paths[:13])
			case 1:
				m.PathPrefix = pick(paths[:13])
			case 2:
				m.PathRegex = "^/a$"
			default:
				m.Methods = append(m.Methods, pick(methods))
			}
			matchers = append(matchers, m)
		}
		s := filtered(map[string][]table.Matcher{"set": matchers}, "set")
		c := meet(s, "k")
		slow := &Caller{filters: c.filters}
		for j := 0; j < 10; j++ {
			method, path := pick(methods), pick(paths)
			got, want := Allows(c, method, path, ""), Allows(slow, method, path, "")
			if got != want {
				t.Fatalf("%+v, %s %q: got %t, want %t", matchers, method, path, got, want)
			}
			if want {
				yes++
			} else {
				no++
			}
		}
	}
	if yes < 1000 || no < 1000 {
		t.Errorf("%d allowed and %d not: the requests show nothing", yes, no)
	}
	for _, path := range paths {
		if !plain(path) && !unusualPath.MatchString(path) {
			t.Errorf("%q passes for usual", path)
		}
	}
}

// A long path costs what comparing it costs.
func TestUsualExpressionIsOfShortPaths(t *testing.T) {
	// It matches what the only filter does not allow, and so shows where it is asked.
	c := &Caller{usual: regexp.MustCompile("^/"), filters: []*operations{{}}}
	for length, want := range map[int]bool{1: true, maxUsualPath: true, maxUsualPath + 1: false, 1 << 20: false} {
		if got := Allows(c, "GET", "/"+strings.Repeat("a", length-1), ""); got != want {
			t.Errorf("a path of %d bytes: the expression is asked: %t, want %t", length, got, want)
		}
	}
}
