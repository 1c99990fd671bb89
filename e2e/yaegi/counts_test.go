package yaegi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/traefik/yaegi/interp"
	"github.com/traefik/yaegi/stdlib"

	"github.com/tollgate-apim/tollgate/e2e/stack"
	"github.com/tollgate-apim/tollgate/usage"
)

// mostAllocations bounds the objects that the interpreter allocates for a
// request. It allocates one for each parameter, variable and intermediate
// result of each function that is called, so their number tells how much is
// interpreted, and unlike a time it is the same on every machine.
//
// A change that needs more of them makes every request slower. If it is worth
// that, raise the bound; after one that needs fewer, lower it to the number that
// `go test -v -run Counts` tells and a few more.
var mostAllocations = []struct {
	name, key string
	status    int
	atMost    float64
}{
	{"rate limit", "rate", http.StatusOK, 114},
	{"high rate limit", "high", http.StatusOK, 144},
	{"rate limit and quota, filtered", "full", http.StatusOK, 350},
	{"rate limit used up", "limited", http.StatusTooManyRequests, 448},
	{"unknown key", "unknown", http.StatusUnauthorized, 251},
	{"no key", "", http.StatusUnauthorized, 176},
}

// moreInParts is how many more a key takes that is not recalled, in a table in
// parts: unknown keys are looked up with every request.
const moreInParts = 70

// moreIfShared is by what part more a request may take if limits are shared.
const moreIfShared = 0.1

func TestCounts(t *testing.T) { testCounts(t, countingTable(t), 0) }

// TestCountsShared is TestCounts for limits that are shared: each kind of request may
// take a tenth more than with local ones.
func TestCountsShared(t *testing.T) {
	gopath := t.TempDir()
	if _, err := stack.CopyPlugin(gopath, false, nil); err != nil {
		t.Fatal(err)
	}
	server := lendingServer(t)
	handler := newHandlerOf(t, gopath, server.URL, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), func(config reflect.Value) {
		config.FieldByName("Limits").SetString("shared")
		config.FieldByName("Sync").FieldByName("Interval").SetString("1h")
	})
	for _, test := range mostAllocations {
		// The first requests come before the answer to a report.
		var c *call
		err := stack.Until(t.Context(), "a share", 10*time.Second, func() error {
			c = newCall(test.key)
			c.serve(handler)
			left := strings.Join(c.header["Ratelimit"], "")
			if c.status != test.status || c.status == http.StatusOK && strings.Contains(left, "r=0") || strings.Contains(left, "t=0") {
				return fmt.Errorf("%s: got status %d, want %d; %s", test.name, c.status, test.status, left)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		got := allocations(func() { c.serve(handler) })
		if c.status != test.status {
			t.Fatalf("%s: got status %d", test.name, c.status)
		}
		t.Logf("%s: %.1f allocations", test.name, got)
		if atMost := test.atMost * (1 + moreIfShared); got > atMost {
			t.Errorf("%s: %.1f allocations, at most %g", test.name, got, atMost)
		}
	}
}

// lendingServer is countingTable that lends each gateway all that it may have, save of
// the plan that is used up.
func lendingServer(t *testing.T) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			_, _ = w.Write([]byte(countedTable()))
			return
		}
		var report usage.Report
		if err := json.NewDecoder(r.Body).Decode(&report); err != nil {
			t.Error(err)
		}
		const life = int64(15 * time.Second)
		answer := usage.Answer{
			Sequence: report.Sequence, Next: 0.5,
			Tenure: &usage.Tenure{Number: 1, Ranks: []int64{0, 0, 0, 0, 0}, Lasts: 20 * life, Gateways: 1},
		}
		for _, e := range report.Entries {
			share := usage.Share{Kind: e.Kind, Bucket: e.Bucket, Account: e.Account, Granted: e.Granted, Lasts: life, Reset: int64(time.Hour)}
			switch {
			case e.Plan == "apps/limited":
			case e.Kind == usage.KindQuota:
				share.Granted, share.Keep = 1_000_000, 1_000_000
			case e.Plan == "apps/rate":
				share.Part, share.Interval, share.Capacity, share.Fill = 1, int64(time.Second)/900, 900, 900
			default:
				share.Part, share.Interval, share.Capacity, share.Fill = 1, int64(time.Second)/100_000, 100_000, 100_000
			}
			answer.Shares = append(answer.Shares, share)
		}
		_ = json.NewEncoder(w).Encode(answer)
	}))
	t.Cleanup(server.Close)
	return server
}

func TestCountsInParts(t *testing.T) {
	index, parts, err := stack.SplitTable([]byte(countedTable()), 4)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := index
		if sum, ok := strings.CutPrefix(r.URL.Path, stack.PartsPath); ok {
			body = parts[sum]
		}
		_, _ = w.Write(body)
	}))
	t.Cleanup(server.Close)
	testCounts(t, server, moreInParts)
}

func testCounts(t *testing.T, endpoint *httptest.Server, moreForUnknown float64) {
	gopath := t.TempDir()
	if _, err := stack.CopyPlugin(gopath, false, nil); err != nil {
		t.Fatal(err)
	}
	passed := 0
	handler := newHandler(t, gopath, endpoint.URL, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { passed++ }))
	for _, test := range mostAllocations {
		c := newCall(test.key)
		err := stack.Until(t.Context(), "the table", 10*time.Second, func() error {
			if c.serve(handler); c.status != test.status {
				return fmt.Errorf("%s: got status %d, want %d", test.name, c.status, test.status)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		passed = 0
		got := allocations(func() { c.serve(handler) })
		if admitted := passed > 0; c.status != test.status || admitted != (test.status == http.StatusOK) {
			t.Fatalf("%s: got status %d, admitted %t", test.name, c.status, admitted)
		}
		t.Logf("%s: %.1f allocations", test.name, got)
		if test.key == "unknown" {
			test.atMost += moreForUnknown
		}
		if got > test.atMost {
			t.Errorf("%s: %.1f allocations, at most %g", test.name, got, test.atMost)
		}
	}
}

// TestCountsOfLongRequests: what anybody can send a megabyte of is searched by
// compiled code. Interpreted, each of these would take tens of thousands.
func TestCountsOfLongRequests(t *testing.T) {
	const many = 2000
	gopath := t.TempDir()
	if _, err := stack.CopyPlugin(gopath, false, nil); err != nil {
		t.Fatal(err)
	}
	handler := newHandler(t, gopath, countingTable(t).URL, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	for _, test := range []struct {
		name, key  string
		query      string
		connection string
		status     int
	}{
		{"no key, parameters", "", strings.Repeat("%61&", many), "", http.StatusUnauthorized},
		{"no key, a long key", "", "api_key=" + strings.Repeat("k", many), "", http.StatusUnauthorized},
		{"no key, many empty ones", "", strings.Repeat("api_key&", many), "", http.StatusUnauthorized},
		{"a key, parameters", "rate", strings.Repeat("%61&", many), "", http.StatusOK},
		{"a key, and many in the query", "rate", strings.Repeat("api_key=k&", many), "", http.StatusOK},
		{"a key, a long Connection", "rate", "", strings.Repeat("a,", many), http.StatusOK},
	} {
		c := newCall(test.key)
		send := func() {
			c.request.URL.RawQuery, c.request.RequestURI = test.query, "/weather/today?"+test.query
			c.connection = test.connection
			c.serve(handler)
		}
		err := stack.Until(t.Context(), "the table", 10*time.Second, func() error {
			if send(); c.status != test.status {
				return fmt.Errorf("%s: got status %d, want %d", test.name, c.status, test.status)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		got := allocations(send)
		t.Logf("%s: %.1f allocations", test.name, got)
		if got > 6000 {
			t.Errorf("%s: %.1f allocations, at most 6000", test.name, got)
		}
	}
}

// countingTable serves a table for ever.
func countingTable(t *testing.T) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write([]byte(countedTable()))
	}))
	t.Cleanup(server.Close)
	return server
}

func countedTable() string {
	key := func(application string) string {
		return fmt.Sprintf(`"%s": [{"application": "apps/%[2]s", "title": "key"}]`, stack.Digest(application), application)
	}
	application := func(name string) string {
		return fmt.Sprintf(`"apps/%s": {"appId": "%[1]s", "grants": {"apps/api": "apps/%[1]s"}}`, name)
	}
	return `{"revision": 1, "issuedAt": "2026-11-21T17:00:00Z",
		"plans": {
			"apps/rate": {"rateLimit": {"limit": 900, "period": "1s"}},
			"apps/high": {"rateLimit": {"limit": 100000, "period": "1s"}},
			"apps/full": {"rateLimit": {"limit": 100000, "period": "1s"}, "quota": {"limit": 1000000000, "period": "720h"}},
			"apps/limited": {"rateLimit": {"limit": 1, "period": "1h"}}},
		"apis": {"apps/api": {"operationSets": {"read": [{"methods": ["POST"]}, {"methods": ["GET"], "pathPrefix": "/weather"}]}}},
		"subscriptions": {
			"apps/rate": {"plan": "apps/rate"},
			"apps/high": {"plan": "apps/high"},
			"apps/full": {"plan": "apps/full", "operationFilter": {"include": ["read"]}},
			"apps/limited": {"plan": "apps/limited"}},
		"applications": {` + application("rate") + `, ` + application("high") + `, ` + application("full") + `, ` + application("limited") + `},
		"keys": {` + key("rate") + `, ` + key("high") + `, ` + key("full") + `, ` + key("limited") + `}}`
}

// newHandler returns the interpreted middleware, as Traefik has it. It does not
// poll while we count, and reports at most once.
func newHandler(t *testing.T, gopath, endpoint string, next http.Handler) http.Handler {
	t.Helper()
	return newHandlerWith(t, gopath, endpoint, next, func(sync reflect.Value) {
		sync.FieldByName("Interval").SetString("1h")
	})
}

// newHandlerWith is newHandler with sync settings, which set changes.
func newHandlerWith(t *testing.T, gopath, endpoint string, next http.Handler, set func(sync reflect.Value)) http.Handler {
	t.Helper()
	return newHandlerOf(t, gopath, endpoint, next, func(config reflect.Value) { set(config.FieldByName("Sync")) })
}

// newHandlerOf is newHandler with a configuration that set changes.
func newHandlerOf(t *testing.T, gopath, endpoint string, next http.Handler, set func(config reflect.Value)) http.Handler {
	t.Helper()
	i := newInterpreter(t, gopath, stdlib.Symbols)
	if _, err := i.Eval(`import "` + module + `"`); err != nil {
		t.Fatal(err)
	}
	config := value(t, i, "tollgate.CreateConfig").Call(nil)[0]
	fields := config.Elem()
	fields.FieldByName("API").SetString("apps/api")
	fields.FieldByName("Sync").FieldByName("Endpoint").Set(reflect.ValueOf([]string{endpoint}))
	set(fields)
	results := value(t, i, "tollgate.New").Call([]reflect.Value{
		reflect.ValueOf(t.Context()), reflect.ValueOf(next), config, reflect.ValueOf("counts"),
	})
	if err, _ := results[1].Interface().(error); err != nil {
		t.Fatal(err)
	}
	handler, ok := results[0].Interface().(http.Handler)
	if !ok {
		t.Fatalf("New returns a %s, which is no http.Handler", results[0].Type())
	}
	return handler
}

func value(t *testing.T, i *interp.Interpreter, expression string) reflect.Value {
	t.Helper()
	v, err := i.Eval(expression)
	if err != nil {
		t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// call is a request and its answer, made once and used again: it allocates
// nothing by itself.
type call struct {
	request       *http.Request
	authorization []string
	connection    string
	header        http.Header
	status        int
}

func newCall(key string) *call {
	c := &call{request: httptest.NewRequest(http.MethodGet, "/weather/today", nil), header: http.Header{}}
	if key != "" {
		c.authorization = []string{"Bearer " + key}
	}
	return c
}

// serve sends the request as a client would send it for the first time.
func (c *call) serve(h http.Handler) {
	clear(c.request.Header)
	clear(c.header)
	if c.authorization != nil {
		c.request.Header["Authorization"] = c.authorization
	}
	if c.connection != "" {
		c.request.Header["Connection"] = []string{c.connection}
	}
	c.status = http.StatusOK
	h.ServeHTTP(c, c.request)
}

func (c *call) Header() http.Header         { return c.header }
func (c *call) WriteHeader(status int)      { c.status = status }
func (c *call) Write(p []byte) (int, error) { return len(p), nil }

// allocations returns how many objects f allocates. What else allocates
// meanwhile is left out, by taking the least of several tries.
func allocations(f func()) float64 {
	const calls, tries = 50, 5
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // A collection empties the pools of reflect.
	f()
	least := uint64(1 << 62)
	var before, after runtime.MemStats
	for range tries {
		runtime.ReadMemStats(&before)
		for range calls {
			f()
		}
		runtime.ReadMemStats(&after)
		least = min(least, after.Mallocs-before.Mallocs)
	}
	return float64(least) / calls
}
