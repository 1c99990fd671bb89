package tollgate

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tollgate-apim/tollgate/feed"
	"github.com/tollgate-apim/tollgate/hashing"
	"github.com/tollgate-apim/tollgate/table"
)

// nobody is an endpoint at which nobody answers.
const nobody = "http://127.0.0.1:1"

// testConfig returns a valid configuration for an API.
func testConfig(api string) *Config {
	c := CreateConfig()
	c.API = api
	c.Sync.Endpoint = []string{nobody}
	return c
}

// withSources puts an empty registry in place of the package's for one test.
func withSources(t testing.TB, start func(feed.Config, *feed.Snapshot) *feed.Feed) {
	t.Helper()
	before := sources
	sources = newRegistry(start, func(time.Duration, func()) {})
	sources.timing = noReports()
	t.Cleanup(func() { sources = before })
}

// holding starts feeds that never poll and hold a table, which may be nil, as
// confirmed some time ago.
func holding(rows *table.Table, age time.Duration) func(feed.Config, *feed.Snapshot) *feed.Feed {
	return func(c feed.Config, _ *feed.Snapshot) *feed.Feed {
		var snapshot *feed.Snapshot
		if rows != nil {
			snapshot = &feed.Snapshot{Table: rows, Confirmed: time.Now().Add(-age)}
		}
		c.Report = nil
		f := feed.Start(c, snapshot)
		f.Stop()
		return f
	}
}

// rig is a middleware and the upstream behind it.
type rig struct {
	t       testing.TB
	handler http.Handler
	// upstream is the last request that was handed on, and writer what came
	// with it; both are nil after a refusal.
	upstream *http.Request
	writer   http.ResponseWriter
}

// newRig returns the middleware of a configuration, with sources as they are.
func newRig(t testing.TB, c *Config) *rig {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	r := &rig{t: t}
	handler, err := New(ctx, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.upstream, r.writer = req, w
	}), c, "test")
	if err != nil {
		t.Fatal(err)
	}
	r.handler = handler
	return r
}

// do sends a request with header lines such as "X-API-Key: k", as a server that
// has read it would.
func (r *rig) do(method, target string, header ...string) *httptest.ResponseRecorder {
	r.t.Helper()
	req := httptest.NewRequest(method, target, nil)
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		req.Header.Add(name, value)
	}
	return r.serve(req)
}

func (r *rig) serve(req *http.Request) *httptest.ResponseRecorder {
	r.upstream = nil
	r.writer = nil
	w := httptest.NewRecorder()
	r.handler.ServeHTTP(w, req)
	return w
}

// call sends a request with a key and tells what came of it: a status, or the
// remaining amounts if it was admitted.
func (r *rig) call(key string) string {
	r.t.Helper()
	w := r.do("GET", "/weather", "Authorization: Bearer "+key)
	if admitted := r.upstream != nil; admitted != (w.Code == http.StatusOK) {
		r.t.Fatalf("status %d, but handed on: %t", w.Code, admitted)
	}
	if w.Code != http.StatusOK {
		return reason(w)
	}
	left := w.Header().Get("X-Ratelimit-Remaining") + " " + w.Header().Get("X-Quota-Remaining")
	return strings.Join(append([]string{"ok"}, strings.Fields(left)...), " ")
}

// reason returns the reason code in a problem.
func reason(w *httptest.ResponseRecorder) string {
	var problem struct {
		Reason string `json:"reason"`
	}
	if err := json.Unmarshal(w.Body.Bytes(), &problem); err != nil {
		return fmt.Sprintf("status %d and no problem: %s", w.Code, w.Body)
	}
	return problem.Reason
}

// The rows of testTable. Each key is held by the application of its name.
const (
	weatherAPI = "apps/weather-api"
	newsAPI    = "apps/news-api"
)

// testTable returns a table with two APIs and the applications ann and bob, who
// are subscribed to both by one subscription with the given plan; "filtered" may
// GET below /weather; "stranger" has no subscription; "suspended" may not use
// its key.
func testTable(plan table.Plan) *table.Table {
	both := map[string]string{weatherAPI: "apps/sub", newsAPI: "apps/sub"}
	rows := &table.Table{
		Revision: 1,
		IssuedAt: time.Date(2026, 11, 21, 17, 0, 0, 0, time.UTC),
		Plans:    map[string]table.Plan{"apps/plan": plan},
		APIs: map[string]table.API{
			weatherAPI: {OperationSets: map[string][]table.Matcher{"read": {{Methods: []string{"GET"}, PathPrefix: "/weather"}}}},
			newsAPI:    {},
		},
		Subscriptions: map[string]table.Subscription{
			"apps/sub":          {Plan: "apps/plan"},
			"apps/filtered-sub": {Plan: "apps/plan", OperationFilter: &table.OperationFilter{Include: []string{"read"}}},
		},
		Applications: map[string]table.Application{
			"apps/ann":       {AppID: "ann", Grants: both},
			"apps/bob":       {AppID: "bob", Grants: both},
			"apps/filtered":  {AppID: "filtered", Grants: map[string]string{weatherAPI: "apps/filtered-sub"}},
			"apps/stranger":  {AppID: "stranger"},
			"apps/suspended": {AppID: "suspended", Grants: both},
		},
		Keys: map[string][]table.Holder{},
	}
	for name, application := range rows.Applications {
		key := application.AppID
		rows.Keys[hashing.Digest(key)] = []table.Holder{{Application: name, Title: "key of " + key, Suspended: key == "suspended"}}
	}
	return rows
}

// Limits that a test does not see refill.
func perHour(n int64) *table.RateLimit { return &table.RateLimit{Limit: n, Period: "1h"} }
func per64Hours(n int64) *table.Quota  { return &table.Quota{Limit: n, Period: "64h"} }

var times = regexp.MustCompile(`\b[0-9]{3,}\b`)

// toMinutes rounds the times in a header up to minutes, so that a test may take
// a minute. They are its only numbers of three digits or more.
func toMinutes(value string) string {
	return times.ReplaceAllStringFunc(value, func(seconds string) string {
		n, _ := strconv.Atoi(seconds)
		return strconv.Itoa((n + 59) / 60 * 60)
	})
}

// headers returns what an answer's headers of the given names are.
func headers(h http.Header, names ...string) map[string]string {
	got := map[string]string{}
	for _, name := range names {
		if values := h.Values(name); len(values) > 0 {
			got[name] = toMinutes(strings.Join(values, " | "))
		}
	}
	return got
}

func TestAnswers(t *testing.T) {
	const (
		bearer  = `Bearer realm="apps/weather-api"`
		invalid = bearer + `, error="invalid_token"`
	)
	key := func(k string) string { return "Authorization: Bearer " + k }
	limits := func(values ...string) map[string]string {
		all := map[string]string{}
		for i, name := range []string{"Retry-After", "X-Ratelimit-Remaining", "X-Quota-Remaining", "RateLimit", "RateLimit-Policy"} {
			if values[i] != "" {
				all[name] = values[i]
			}
		}
		return all
	}
	for _, test := range []struct {
		name   string
		table  *table.Table
		age    time.Duration
		method string
		target string
		header []string
		calls  int // beforehand
		status int
		reason string
		want   map[string]string
	}{
		{name: "no table", header: []string{key("ann")}, status: 503, reason: "table_unavailable",
			want: map[string]string{"Retry-After": "10"}},
		{name: "a stale table", table: testTable(table.Plan{}), age: 31 * time.Minute, header: []string{key("ann")},
			status: 503, reason: "table_unavailable", want: map[string]string{"Retry-After": "10"}},
		{name: "no table goes before no key", status: 503, reason: "table_unavailable",
			want: map[string]string{"Retry-After": "10"}},

		{name: "no key", table: testTable(table.Plan{}), status: 401, reason: "key_missing",
			want: map[string]string{"WWW-Authenticate": bearer}},
		{name: "empty key", table: testTable(table.Plan{}), target: "/?api_key=", header: []string{key("")}, status: 401, reason: "key_missing",
			want: map[string]string{"WWW-Authenticate": bearer}},
		{name: "unknown key", table: testTable(table.Plan{}), header: []string{key("nobody")}, status: 401, reason: "key_invalid",
			want: map[string]string{"WWW-Authenticate": invalid}},
		{name: "suspended key", table: testTable(table.Plan{}), header: []string{key("suspended")}, status: 401, reason: "key_invalid",
			want: map[string]string{"WWW-Authenticate": invalid}},
		{name: "a key of 513 bytes", table: testTable(table.Plan{}), header: []string{key(strings.Repeat("k", 513))}, status: 401, reason: "key_invalid",
			want: map[string]string{"WWW-Authenticate": invalid}},
		{name: "two keys", table: testTable(table.Plan{}), header: []string{key("ann"), key("bob")}, status: 401, reason: "key_invalid",
			want: map[string]string{"WWW-Authenticate": invalid}},

		{name: "no subscription", table: testTable(table.Plan{}), header: []string{key("stranger")}, status: 403, reason: "subscription_missing"},
		{name: "operation outside the filter", table: testTable(table.Plan{}), target: "/admin", header: []string{key("filtered")},
			status: 403, reason: "operation_forbidden"},
		{name: "refused before limits are told", table: testTable(table.Plan{RateLimit: perHour(5), Quota: per64Hours(5)}),
			target: "/admin", header: []string{key("filtered")}, status: 403, reason: "operation_forbidden"},

		{name: "rate limit used up", table: testTable(table.Plan{RateLimit: perHour(2)}), header: []string{key("ann")}, calls: 2,
			status: 429, reason: "rate_limited",
			want: limits("1800", "0", "", `"rate";r=0;t=1800`, `"rate";q=2;w=3600`)},
		{name: "quota used up", table: testTable(table.Plan{Quota: per64Hours(2)}), header: []string{key("ann")}, calls: 2,
			status: 429, reason: "quota_exceeded",
			want: limits("234000", "", "0", `"quota";r=0;t=234000`, `"quota";q=2;w=230400`)},
		{name: "rate limit used up beside a quota", table: testTable(table.Plan{RateLimit: perHour(2), Quota: per64Hours(9)}),
			header: []string{key("ann")}, calls: 2, status: 429, reason: "rate_limited",
			want: limits("1800", "0", "7", `"rate";r=0;t=1800, "quota";r=7;t=234000`, `"rate";q=2;w=3600, "quota";q=9;w=230400`)},
		{name: "quota used up beside a rate limit", table: testTable(table.Plan{RateLimit: perHour(9), Quota: per64Hours(2)}),
			header: []string{key("ann")}, calls: 2, status: 429, reason: "quota_exceeded",
			want: limits("234000", "7", "0", `"rate";r=7;t=420, "quota";r=0;t=234000`, `"rate";q=9;w=3600, "quota";q=2;w=230400`)},
		{name: "of two refusals the one that lasts longer", table: testTable(table.Plan{RateLimit: perHour(2), Quota: per64Hours(2)}),
			header: []string{key("ann")}, calls: 2, status: 429, reason: "quota_exceeded",
			want: limits("234000", "0", "0", `"rate";r=0;t=1800, "quota";r=0;t=234000`, `"rate";q=2;w=3600, "quota";q=2;w=230400`)},
		{name: "a quota of 0", table: testTable(table.Plan{Quota: per64Hours(0)}), header: []string{key("ann")},
			status: 429, reason: "quota_exceeded",
			want: limits("230400", "", "0", `"quota";r=0;t=230400`, `"quota";q=0;w=230400`)},
	} {
		for _, body := range []string{"problem", "empty"} {
			for _, method := range []string{"GET", "HEAD", "POST"} {
				withSources(t, holding(test.table, test.age))
				c := testConfig(weatherAPI)
				c.ErrorBody = body
				c.Sync.MaxStaleness = "30m"
				r := newRig(t, c)
				target := test.target
				if target == "" {
					target = "/weather"
				}
				for i := 0; i < test.calls; i++ {
					if r.do(method, target, test.header...); r.upstream == nil {
						t.Fatalf("%s: call %d was not admitted", test.name, i+1)
					}
				}
				w := r.do(method, target, test.header...)
				name := test.name + ", " + body + ", " + method
				if r.upstream != nil {
					t.Errorf("%s: handed on to the upstream", name)
				}
				if w.Code != test.status {
					t.Errorf("%s: got status %d, want %d", name, w.Code, test.status)
				}
				want := test.want
				if want == nil {
					want = map[string]string{}
				}
				if got := headers(w.Header(), "WWW-Authenticate", "Retry-After", "X-Ratelimit-Remaining", "X-Quota-Remaining",
					"RateLimit", "RateLimit-Policy"); !reflect.DeepEqual(got, want) {
					t.Errorf("%s: got headers %q, want %q", name, got, want)
				}
				checkBody(t, name, w, method, body, test.reason)
			}
		}
	}
}

// checkBody checks what goes with the body of a refusal, and the body.
func checkBody(t *testing.T, name string, w *httptest.ResponseRecorder, method, mode, reason string) {
	t.Helper()
	if got := w.Header().Get("Cache-Control"); got != "no-store" {
		t.Errorf("%s: got Cache-Control %q, want no-store", name, got)
	}
	if mode == "empty" {
		if w.Body.Len() > 0 || w.Header().Get("Content-Type") != "" || w.Header().Get("Content-Length") != "0" {
			t.Errorf("%s: got body %q and headers %v, want none", name, w.Body, w.Header())
		}
		return
	}
	if got := w.Header().Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("%s: got Content-Type %q", name, got)
	}
	if method == "HEAD" {
		if w.Body.Len() > 0 || w.Header().Get("Content-Length") == "0" {
			t.Errorf("%s: got body %q and Content-Length %s, want no body and the length that GET has", name, w.Body, w.Header().Get("Content-Length"))
		}
		return
	}
	if got := w.Header().Get("Content-Length"); got != strconv.Itoa(w.Body.Len()) {
		t.Errorf("%s: got Content-Length %s for %d bytes", name, got, w.Body.Len())
	}
	var problem map[string]interface{}
	if err := json.Unmarshal(w.Body.Bytes(), &problem); err != nil {
		t.Fatalf("%s: %v in %s", name, err, w.Body)
	}
	detail, _ := problem["detail"].(string)
	want := map[string]interface{}{
		"type": "about:blank", "title": http.StatusText(w.Code), "status": float64(w.Code), "detail": detail, "reason": reason,
	}
	if !reflect.DeepEqual(problem, want) || detail == "" {
		t.Errorf("%s: got problem %v, want %v with some detail", name, problem, want)
	}
}

func TestAdmittedAnswers(t *testing.T) {
	for _, test := range []struct {
		name string
		plan table.Plan
		want map[string]string
	}{
		{"no limits", table.Plan{}, map[string]string{}},
		{"a rate limit", table.Plan{RateLimit: perHour(10)}, map[string]string{
			"X-Ratelimit-Remaining": "9", "RateLimit": `"rate";r=9;t=360`, "RateLimit-Policy": `"rate";q=10;w=3600`}},
		{"a quota", table.Plan{Quota: per64Hours(10)}, map[string]string{
			"X-Quota-Remaining": "9", "RateLimit": `"quota";r=9;t=234000`, "RateLimit-Policy": `"quota";q=10;w=230400`}},
		{"both", table.Plan{RateLimit: perHour(1), Quota: per64Hours(10)}, map[string]string{
			"X-Ratelimit-Remaining": "0", "X-Quota-Remaining": "9",
			"RateLimit": `"rate";r=0;t=3600, "quota";r=9;t=234000`, "RateLimit-Policy": `"rate";q=1;w=3600, "quota";q=10;w=230400`}},
		{"a rate limit of 0 is none", table.Plan{RateLimit: perHour(0)}, map[string]string{}},
		{"a burst", table.Plan{RateLimit: &table.RateLimit{Limit: 10, Period: "1h", Burst: 3}}, map[string]string{
			"X-Ratelimit-Remaining": "2", "RateLimit": `"rate";r=2;t=360`, "RateLimit-Policy": `"rate";q=10;w=3600`}},
	} {
		withSources(t, holding(testTable(test.plan), 0))
		r := newRig(t, testConfig(weatherAPI))
		w := r.do("GET", "/weather", "Authorization: Bearer ann")
		if r.upstream == nil || w.Code != http.StatusOK {
			t.Fatalf("%s: got %d %s, want it admitted", test.name, w.Code, w.Body)
		}
		if got := headers(w.Header(), "WWW-Authenticate", "Retry-After", "X-Ratelimit-Remaining", "X-Quota-Remaining",
			"RateLimit", "RateLimit-Policy", "Cache-Control", "Content-Type"); !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
	}
}

func TestRefusedRequestsConsumeNothing(t *testing.T) {
	for _, test := range []struct {
		name string
		plan table.Plan
		want []string // of calls in a row
		left string   // X-Ratelimit-Remaining and X-Quota-Remaining after them
	}{
		{"refused by quota", table.Plan{RateLimit: perHour(5), Quota: per64Hours(1)},
			[]string{"ok 4 0", "quota_exceeded", "quota_exceeded"}, "4 0"},
		{"refused by rate limit", table.Plan{RateLimit: perHour(1), Quota: per64Hours(5)},
			[]string{"ok 0 4", "rate_limited", "rate_limited"}, "0 4"},
	} {
		withSources(t, holding(testTable(test.plan), 0))
		r := newRig(t, testConfig(weatherAPI))
		for i, want := range test.want {
			if got := r.call("ann"); got != want {
				t.Errorf("%s, call %d: got %q, want %q", test.name, i+1, got, want)
			}
		}
		h := r.do("GET", "/weather", "Authorization: Bearer ann").Header()
		if got := h.Get("X-Ratelimit-Remaining") + " " + h.Get("X-Quota-Remaining"); got != test.left {
			t.Errorf("%s: %q is left, want %q", test.name, got, test.left)
		}
	}

	// Nor do requests that the filter refuses.
	withSources(t, holding(testTable(table.Plan{Quota: per64Hours(2)}), 0))
	r := newRig(t, testConfig(weatherAPI))
	for i := 0; i < 3; i++ {
		r.do("GET", "/admin", "Authorization: Bearer filtered")
	}
	if got := r.call("filtered"); got != "ok 1" {
		t.Errorf("after three forbidden operations: got %q, want ok 1", got)
	}
}

// Which requests share a counter, across the middlewares of two APIs.
func TestBuckets(t *testing.T) {
	for _, test := range []struct {
		rate, quota string
		// want is what is left of either limit after calls by ann to the
		// weather, ann to the news, and bob to the weather.
		want [3]string
	}{
		{"", "", [3]string{"ok 9 19", "ok 8 18", "ok 7 17"}},
		{"subscription", "subscription", [3]string{"ok 9 19", "ok 8 18", "ok 7 17"}},
		{"application", "application", [3]string{"ok 9 19", "ok 8 18", "ok 9 19"}},
		{"application-api", "application-api", [3]string{"ok 9 19", "ok 9 19", "ok 9 19"}},
		{"application-api", "subscription", [3]string{"ok 9 19", "ok 9 18", "ok 9 17"}},
		{"subscription", "application", [3]string{"ok 9 19", "ok 8 18", "ok 7 19"}},
	} {
		plan := table.Plan{RateLimit: perHour(10), Quota: per64Hours(20)}
		plan.RateLimit.Bucket, plan.Quota.Bucket = test.rate, test.quota
		withSources(t, holding(testTable(plan), 0))
		weather, news := newRig(t, testConfig(weatherAPI)), newRig(t, testConfig(newsAPI))
		got := [3]string{weather.call("ann"), news.call("ann"), weather.call("bob")}
		if got != test.want {
			t.Errorf("rate limit by %q, quota by %q: got %q, want %q", test.rate, test.quota, got, test.want)
		}
		// A second router with the same API changes nothing.
		if got, want := newRig(t, testConfig(newsAPI)).call("ann"), news.call("ann"); got == want {
			t.Errorf("rate limit by %q, quota by %q: two routers of one API count apart: both %q", test.rate, test.quota, got)
		}
	}
}

// Under two plans, an application has two counters; a subscription has one.
func TestPlansDoNotShareCounters(t *testing.T) {
	rows := testTable(table.Plan{Quota: &table.Quota{Limit: 10, Period: "64h", Bucket: "application"}})
	rows.Plans["apps/other"] = table.Plan{Quota: &table.Quota{Limit: 5, Period: "64h", Bucket: "application"}}
	rows.Subscriptions["apps/other-sub"] = table.Subscription{Plan: "apps/other"}
	rows.Applications["apps/ann"].Grants[newsAPI] = "apps/other-sub"
	withSources(t, holding(rows, 0))
	weather, news := newRig(t, testConfig(weatherAPI)), newRig(t, testConfig(newsAPI))
	got := []string{weather.call("ann"), news.call("ann"), weather.call("ann"), news.call("ann")}
	if want := []string{"ok 9", "ok 4", "ok 8", "ok 3"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// live is a sync endpoint whose table can be changed, for feeds that ask it
// every few milliseconds.
type live struct {
	t      testing.TB
	server *httptest.Server
	told   chan string

	mu   sync.Mutex
	body []byte
}

// newLive returns an endpoint without a table, and has all sources ask often.
func newLive(t *testing.T) *live {
	t.Helper()
	l := &live{t: t, told: make(chan string, 100)}
	l.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		l.mu.Lock()
		body := l.body
		l.mu.Unlock()
		if body == nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write(body)
	}))
	t.Cleanup(func() { l.server.Close() })
	withSources(t, func(c feed.Config, last *feed.Snapshot) *feed.Feed {
		c.Interval = 5 * time.Millisecond
		c.Report = func(line string, _ bool) { l.told <- line }
		f := feed.Start(c, last)
		t.Cleanup(func() { f.Stop() })
		return f
	})
	return l
}

// put changes the table and returns when it is in force.
func (l *live) put(rows *table.Table) {
	l.t.Helper()
	body, err := json.Marshal(rows)
	if err != nil {
		l.t.Fatal(err)
	}
	l.mu.Lock()
	l.body = body
	l.mu.Unlock()
	l.await(fmt.Sprintf("revision %d is in force", rows.Revision))
}

// await returns when a feed has reported a line with the given words.
func (l *live) await(words string) {
	l.t.Helper()
	late := time.AfterFunc(patience, func() { l.told <- "" })
	defer late.Stop()
	for line := range l.told {
		if line == "" {
			l.t.Fatalf("no feed has reported %q", words)
		}
		if strings.Contains(line, words) {
			return
		}
	}
}

func TestTableChanges(t *testing.T) {
	endpoint := newLive(t)
	c := testConfig(weatherAPI)
	c.Sync.Endpoint = []string{endpoint.server.URL}
	r := newRig(t, c)
	endpoint.await("no table yet")
	expect := func(when, key, want string) {
		t.Helper()
		if got := r.call(key); got != want {
			t.Errorf("%s: %s got %q, want %q", when, key, got, want)
		}
	}
	expect("before the first table", "ann", "table_unavailable")

	limit := func(revision, n int64) *table.Table {
		rows := testTable(table.Plan{Quota: per64Hours(n)})
		rows.Revision = revision
		return rows
	}
	endpoint.put(limit(1, 5))
	for _, want := range []string{"ok 4", "ok 3", "ok 2", "ok 1", "ok 0", "quota_exceeded"} {
		expect("with a quota of 5", "ann", want)
	}
	endpoint.put(limit(2, 500))
	expect("with the quota raised to 500", "ann", "ok 494")
	endpoint.put(limit(3, 3))
	expect("with the quota lowered to 3", "ann", "quota_exceeded")

	rows := limit(4, 500)
	rows.Plans["apps/other"] = table.Plan{Quota: per64Hours(100)}
	rows.Subscriptions["apps/sub"] = table.Subscription{Plan: "apps/other"}
	endpoint.put(rows)
	expect("with another plan for the subscription", "ann", "ok 93")

	rows = limit(5, 500)
	rows.Keys[hashing.Digest("new")] = rows.Keys[hashing.Digest("ann")]
	delete(rows.Keys, hashing.Digest("ann"))
	endpoint.put(rows)
	expect("with the key replaced", "ann", "key_invalid")
	expect("with the key replaced", "new", "ok 492")

	rows = limit(6, 500)
	rows.Applications["apps/ann"] = table.Application{AppID: "ann"}
	endpoint.put(rows)
	expect("with the subscription gone", "ann", "subscription_missing")

	rows = limit(7, 500)
	rows.Plans = map[string]table.Plan{}
	endpoint.put(rows)
	expect("with the plan gone", "ann", "subscription_missing")
}

func TestMaxStaleness(t *testing.T) {
	for _, test := range []struct {
		max  string
		age  time.Duration
		want string
	}{
		{"0s", 10000 * time.Hour, "ok"},
		{"1h", 59 * time.Minute, "ok"},
		{"1h", 61 * time.Minute, "table_unavailable"},
	} {
		withSources(t, holding(testTable(table.Plan{}), test.age))
		c := testConfig(weatherAPI)
		c.Sync.MaxStaleness = test.max
		if got := newRig(t, c).call("ann"); got != test.want {
			t.Errorf("maxStaleness %s, confirmed %s ago: got %q, want %q", test.max, test.age, got, test.want)
		}
	}
}

// A table that nobody knows the age of is stale, wherever that counts.
func TestStalenessOfUnknownAge(t *testing.T) {
	for max, want := range map[string]string{"0s": "ok", "9999h": "table_unavailable"} {
		withSources(t, func(c feed.Config, _ *feed.Snapshot) *feed.Feed {
			c.Report = nil
			f := feed.Start(c, &feed.Snapshot{Table: testTable(table.Plan{})})
			f.Stop()
			return f
		})
		c := testConfig(weatherAPI)
		c.Sync.MaxStaleness = max
		if got := newRig(t, c).call("ann"); got != want {
			t.Errorf("maxStaleness %s: got %q, want %q", max, got, want)
		}
	}
}

// What is wrong with the configuration is the only thing that New may refuse,
// and it does so before it asks anybody.
func TestNewRefusesWrongConfiguration(t *testing.T) {
	withSources(t, func(feed.Config, *feed.Snapshot) *feed.Feed {
		t.Error("a source was started")
		return nil
	})
	if _, err := New(context.Background(), http.NotFoundHandler(), CreateConfig(), "test"); err == nil {
		t.Error("New took a configuration without api and sync.endpoint")
	}
}

// The writer is handed on as it came: wrapped, it could neither flush nor hand
// over the connection.
func TestWriterIsHandedOn(t *testing.T) {
	withSources(t, holding(testTable(table.Plan{RateLimit: perHour(9)}), 0))
	r := newRig(t, testConfig(weatherAPI))
	if w := r.do("GET", "/weather", "Authorization: Bearer ann"); r.writer != http.ResponseWriter(w) {
		t.Errorf("the upstream got %T %p, want the %T %p that came", r.writer, r.writer, w, w)
	}

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	handler, err := New(ctx, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/events" {
			_, _ = io.WriteString(w, "data: 1\n")
			w.(http.Flusher).Flush()
			<-req.Context().Done()
			return
		}
		conn, stream, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = stream.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		_ = stream.Flush()
		line, _ := stream.ReadString('\n')
		_, _ = stream.WriteString(line)
		_ = stream.Flush()
	}), testConfig(weatherAPI), "test")
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close) // Not deferred: Yaegi would wait for ever if the handler were busy.

	streaming, stop := context.WithCancel(context.Background())
	req, err := http.NewRequestWithContext(streaming, http.MethodGet, server.URL+"/events?api_key=ann", nil)
	if err != nil {
		t.Fatal(err)
	}
	events, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	// The upstream has not returned, so this line was flushed.
	if line, err := bufio.NewReader(events.Body).ReadString('\n'); line != "data: 1\n" || err != nil {
		t.Errorf("got event %q, %v", line, err)
	}
	if got := events.Header.Get("X-Ratelimit-Remaining"); got != "7" {
		t.Errorf("a stream has X-Ratelimit-Remaining %q, want 7", got)
	}
	stop()
	events.Body.Close()

	req, err = http.NewRequestWithContext(ctx, http.MethodGet, server.URL+"/socket?api_key=ann", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "echo")
	socket, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Body.Close()
	conn, ok := socket.Body.(io.ReadWriter)
	if !ok || socket.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("got status %d and a body that is no connection", socket.StatusCode)
	}
	_, _ = io.WriteString(conn, "hello\n")
	if line, err := bufio.NewReader(conn).ReadString('\n'); line != "hello\n" || err != nil {
		t.Errorf("got %q through the connection, %v", line, err)
	}
}

// The seed's key works with the table that docs/sync.md shows.
func TestWeatherTable(t *testing.T) {
	data, err := os.ReadFile("testdata/tables/good/weather.json")
	if err != nil {
		t.Fatal(err)
	}
	rows, err := table.Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	withSources(t, holding(rows, 0))
	r := newRig(t, testConfig(weatherAPI))
	if got := r.call("secret-api-key"); got != "ok 9 999" {
		t.Errorf("got %q, want ok 9 999", got)
	}
}

// FuzzServe sends whatever a server may have read. It must not panic, and must
// hand on nothing without the key of somebody who may call.
func FuzzServe(f *testing.F) {
	const key = "the-key-0123456789"
	f.Add("GET", "/weather?api_key="+key, "", "", "")
	f.Add("GET", "/weather", "Bearer "+key, "", "keep-alive, X-App-Id")
	f.Add("get", "/weather//x;y?%61pi_key=the%2Dkey-0123456789;a=b&c", "basic x", "api_key="+key, "X-App-Id")
	f.Add("POST", "/weather/..%2F?api_key="+key+"&api_key="+key, "bearer", "", ",,\t")
	rows := testTable(table.Plan{RateLimit: &table.RateLimit{Limit: 1e9, Period: "1s"}})
	rows.Keys[hashing.Digest(key)] = rows.Keys[hashing.Digest("filtered")]
	delete(rows.Keys, hashing.Digest("filtered"))
	delete(rows.Keys, hashing.Digest("ann"))
	delete(rows.Keys, hashing.Digest("bob"))
	withSources(f, holding(rows, 0))
	c := testConfig(weatherAPI)
	c.KeySource = KeySource{Header: "Authorization", HeaderAuthScheme: "Bearer", Query: "api_key", Cookie: "api_key"}
	r := newRig(f, c)
	f.Fuzz(func(t *testing.T, method, target, authorization, cookie, connection string) {
		u, err := url.ParseRequestURI(target)
		if err != nil {
			return
		}
		req := &http.Request{Method: method, URL: u, RequestURI: target, Header: http.Header{
			"Authorization": {authorization}, "Cookie": {cookie}, "Connection": {connection},
			"X-App-Id": {"forged"}, "X-Api-Key-Title": {"forged", "forged"},
		}}
		sent := authorization + "\n" + cookie + "\n" + target
		w := r.serve(req.WithContext(context.Background()))
		if r.upstream == nil {
			if w.Code != 401 && w.Code != 403 {
				t.Errorf("refused with status %d", w.Code)
			}
			return
		}
		if unescaped := escapes.ReplaceAllStringFunc(sent, unescape); !strings.Contains(unescaped, key) {
			t.Errorf("handed on without the key: %q", sent)
		}
		if !strings.EqualFold(method, "GET") || !strings.HasPrefix(u.Path, "/weather") {
			t.Errorf("handed on %s %q, which the filter does not allow", method, u.Path)
		}
		h := r.upstream.Header
		if h.Get("X-App-Id") != "filtered" || !reflect.DeepEqual(h["X-Api-Key-Title"], []string{"key of filtered"}) {
			t.Errorf("the upstream is told %v", h)
		}
		for _, option := range strings.Split(strings.Join(h["Connection"], ","), ",") {
			if strings.EqualFold(strings.TrimSpace(option), "X-App-Id") {
				t.Errorf("Connection still lists an identity header: %q", h["Connection"])
			}
		}
		if key, _ := presentedKey(r.upstream, newKeySource("Authorization", "Bearer", "api_key", "api_key")); key != "" {
			t.Errorf("the upstream still gets a key: %q %v", r.upstream.RequestURI, h)
		}
	})
}

var escapes = regexp.MustCompile("%[0-9a-fA-F]{2}")

func unescape(escape string) string {
	decoded, _ := url.PathUnescape(escape)
	return decoded
}
