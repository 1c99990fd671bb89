package tollgate

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tollgate-apim/tollgate/feed"
	hold "github.com/tollgate-apim/tollgate/holding"
	"github.com/tollgate-apim/tollgate/matcher"
	"github.com/tollgate-apim/tollgate/quota"
	"github.com/tollgate-apim/tollgate/reporter"
	"github.com/tollgate-apim/tollgate/table"
	"github.com/tollgate-apim/tollgate/usage"
)

// noReports is a timer that never fires.
func noReports() reporter.Timing {
	return reporter.Timing{AfterFunc: func(_ time.Duration, _ func()) func() bool { return func() bool { return true } }}
}

// accountWith returns an account with a store of counters, whose reports never
// come.
func accountWith(counters *quota.Store) *account {
	a := newAccount(noReports())
	a.counters = counters
	return a
}

// limitHoldings has an account keep at most so many holdings.
func (a *account) limitHoldings(max int) {
	a.holdings = hold.NewStore(max, func() { a.reporter.Hurry() })
}

// sums adds rows up, by what they say without their count.
type sums map[usage.Row]int64

func (s sums) add(row usage.Row) {
	count := row.Count
	row.Count = 0
	s[row] += count
	if s[row] == 0 {
		delete(s, row)
	}
}

// readable is one line for each row, for failures.
func (s sums) readable() string {
	text := ""
	for row, n := range s {
		text += fmt.Sprintf("\n%d × %+v", n, row)
	}
	return text
}

// collected returns what the account of nobody has counted.
func collected() sums {
	got := sums{}
	sources.accounts[nobody].collect(got.add, true)
	return got
}

// of is a row of requests to weatherAPI by an application, which has the key of
// its name under the one plan.
func of(application string, code int, reason string) usage.Row {
	row := usage.Row{API: weatherAPI, Code: code, Reason: reason}
	if application == "" {
		return row
	}
	row.Application = "apps/" + application
	row.KeyTitle = "key of " + application
	if reason == "subscription_missing" {
		return row
	}
	row.Subscription = "apps/sub"
	row.Plan = "apps/plan"
	if application == "filtered" {
		row.Subscription = "apps/filtered-sub"
	}
	return row
}

func dry(row usage.Row) usage.Row {
	row.Code = 0
	row.DryRun = true
	return row
}

func wantSums(t *testing.T, name string, got, want sums) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s: got %s\nwant %s", name, got.readable(), want.readable())
	}
}

// waysOfRequests are requests, one after the other, and what each counts as.
func waysOfRequests() []struct {
	name, method, target string
	header               []string
	want                 usage.Row
} {
	bearer := func(key string) []string { return lines("Authorization: Bearer " + key) }
	return []struct {
		name, method, target string
		header               []string
		want                 usage.Row
	}{
		{"a header", "GET", "/weather", bearer("ann"), of("ann", 0, "")},
		{"a header that is recalled", "GET", "/weather", bearer("ann"), of("ann", 0, "")},
		{"a query", "GET", "/weather?api_key=bob", nil, of("bob", 0, "")},
		{"a cookie", "GET", "/weather", lines("Cookie: key=bob"), of("bob", 0, "")},
		{"a rate limit", "GET", "/weather", bearer("ann"), of("ann", 429, "rate_limited")},
		{"the same again", "GET", "/weather", bearer("ann"), of("ann", 429, "rate_limited")},
		{"another application", "GET", "/weather?api_key=filtered", nil, of("filtered", 0, "")},
		{"an operation", "DELETE", "/weather", bearer("filtered"), of("filtered", 403, "operation_forbidden")},
		{"no subscription", "GET", "/weather", bearer("stranger"), of("stranger", 403, "subscription_missing")},
		{"no subscription again", "GET", "/weather", bearer("stranger"), of("stranger", 403, "subscription_missing")},
		{"an unknown key", "GET", "/weather", bearer("nobody"), of("", 401, "key_invalid")},
		{"an unknown key in the query", "GET", "/weather?api_key=nobody", nil, of("", 401, "key_invalid")},
		{"a suspended key", "GET", "/weather", bearer("suspended"), of("", 401, "key_invalid")},
		{"a long key", "GET", "/weather", bearer(strings.Repeat("k", 1000)), of("", 401, "key_invalid")},
		{"no key", "GET", "/weather", nil, of("", 401, "key_missing")},
		{"another header", "HEAD", "/weather", lines("Authorization: Basic abc"), of("", 401, "key_missing")},
	}
}

func TestEachWayIsCounted(t *testing.T) {
	for _, dryRun := range []bool{false, true} {
		withSources(t, holding(testTable(table.Plan{RateLimit: &table.RateLimit{Limit: 2, Period: "1h", Bucket: table.BucketApplication}}), 0))
		c := testConfig(weatherAPI)
		c.KeySource = KeySource{Header: "Authorization", HeaderAuthScheme: "Bearer", Query: "api_key", Cookie: "key"}
		c.DryRun = dryRun
		r := newRig(t, c)
		all := sums{}
		for _, test := range waysOfRequests() {
			want := test.want
			if dryRun && want.Reason != "" {
				want = dry(want)
			}
			r.do(test.method, test.target, test.header...)
			wantSums(t, test.name, collected(), sums{want: 1})
			all[want]++
		}
		// All at once make the same sums.
		withSources(t, holding(testTable(table.Plan{RateLimit: &table.RateLimit{Limit: 2, Period: "1h", Bucket: table.BucketApplication}}), 0))
		r = newRig(t, c)
		for _, test := range waysOfRequests() {
			r.do(test.method, test.target, test.header...)
		}
		wantSums(t, "all at once", collected(), all)
		wantSums(t, "after that", collected(), sums{})
	}
}

func TestQuotasAreCounted(t *testing.T) {
	withSources(t, holding(testTable(table.Plan{Quota: per64Hours(1)}), 0))
	r := newRig(t, testConfig(weatherAPI))
	for i := 0; i < 3; i++ {
		r.call("ann")
	}
	wantSums(t, "a quota", collected(), sums{of("ann", 0, ""): 1, of("ann", 429, "quota_exceeded"): 2})
}

func TestUnlimitedCallersAreCounted(t *testing.T) {
	withSources(t, holding(testTable(table.Plan{}), 0))
	r := newRig(t, testConfig(weatherAPI))
	for i := 0; i < 3; i++ {
		r.call("ann")
	}
	wantSums(t, "no limits", collected(), sums{of("ann", 0, ""): 3})
}

func TestRequestsWithoutTableAreCounted(t *testing.T) {
	for _, test := range []struct {
		name   string
		rows   *table.Table
		dryRun bool
	}{{"none", nil, false}, {"a stale one", dryTable(), false}, {"none, dry run", nil, true}, {"a stale one, dry run", dryTable(), true}} {
		withSources(t, holding(test.rows, time.Hour))
		c := testConfig(weatherAPI)
		c.DryRun = test.dryRun
		c.Sync.MaxStaleness = "30m"
		r := newRig(t, c)
		r.do("GET", "/weather", "Authorization: Bearer ann")
		r.do("GET", "/weather")
		want := of("", 503, "table_unavailable")
		if test.dryRun {
			want = dry(want)
		}
		wantSums(t, test.name, collected(), sums{want: 2})
	}
}

// Refusals and admissions of one caller are told apart by whether the middleware
// only tries.
func TestDryRunsBesideOthersAreCounted(t *testing.T) {
	withSources(t, holding(dryTable(), 0))
	r := newRig(t, testConfig(weatherAPI))
	c := testConfig(weatherAPI)
	c.DryRun = true
	try := newRig(t, c)
	for i := 0; i < 3; i++ {
		r.call("ann")
		try.do("GET", "/weather", "Authorization: Bearer ann")
	}
	wantSums(t, "both", collected(), sums{of("ann", 0, ""): 2, of("ann", 429, "rate_limited"): 2, dry(of("ann", 0, "rate_limited")): 2})
}

// Whoever asked is told one report late, when it is known what came of it.
func TestRequestsAreCollectedWhenDecided(t *testing.T) {
	withSources(t, holding(dryTable(), 0))
	r := newRig(t, testConfig(weatherAPI))
	kept := sources.accounts[nobody]
	for i := 0; i < 4; i++ {
		r.call("ann")
	}
	first, second, third := sums{}, sums{}, sums{}
	kept.collect(first.add, false)
	r.call("ann")
	kept.collect(second.add, false)
	kept.collect(third.add, false)
	wantSums(t, "the first", first, sums{})
	// The last request is refused already, but not yet among those that asked.
	wantSums(t, "the second", second, sums{of("ann", 0, ""): 1, of("ann", 429, "rate_limited"): 3})
	wantSums(t, "the third", third, sums{of("ann", 0, ""): 1})
}

// Counts do not end with the middlewares, nor with a table.
func TestCountsOutliveReloads(t *testing.T) {
	withSources(t, holding(testTable(table.Plan{}), 0))
	for i := 0; i < 3; i++ {
		ctx, cancel := context.WithCancel(context.Background())
		handler, err := New(ctx, http.HandlerFunc(func(_ http.ResponseWriter, _ *http.Request) {}), testConfig(weatherAPI), "test")
		if err != nil {
			t.Fatal(err)
		}
		r := &rig{t: t, handler: handler}
		r.do("GET", "/weather", "Authorization: Bearer ann")
		r.do("GET", "/weather")
		for _, src := range sources.sources {
			src.activate(&feed.Snapshot{Table: testTable(table.Plan{})})
		}
		r.do("GET", "/weather", "Authorization: Bearer ann")
		cancel()
		r.do("GET", "/weather", "Authorization: Bearer ann")
	}
	wantSums(t, "three reloads", collected(), sums{of("ann", 0, ""): 9, of("", 401, "key_missing"): 3})
}

// A request that is decided anew, because its counter was dropped, counts once.
func TestRenewedCallersAreCountedOnce(t *testing.T) {
	withSources(t, holding(testTable(table.Plan{RateLimit: &table.RateLimit{Limit: 1, Period: "100h", Bucket: table.BucketApplication}}), 0))
	r := newRig(t, testConfig(weatherAPI))
	want := sums{}
	g := &gateway{api: weatherAPI, answers: map[string]*answer{"rate_limited": {reason: "rate_limited", status: 429}}}
	for _, src := range sources.sources {
		g.source = src
		for _, held := range src.views {
			g.held = held
		}
	}
	countAnswers(g.source.account, weatherAPI, false, g.answers)
	for i := 0; i < 5; i++ {
		if strings.HasPrefix(r.call("ann"), "ok") {
			want[of("ann", 0, "")]++
		} else {
			want[of("ann", 429, "rate_limited")]++
		}
		// What the one that it had is replaced by refuses too, or admits.
		for _, c := range g.held.recalled {
			again := renew(g.held, g.source, c)
			ask(g, c)
			if admit(httptest.NewRecorder(), httptest.NewRequest("GET", "/weather", nil), g, again) {
				want[of("ann", 0, "")]++
			} else {
				want[of("ann", 429, "rate_limited")]++
			}
		}
	}
	wantSums(t, "renewed", collected(), want)
	if want[of("ann", 429, "rate_limited")] < 5 {
		t.Error("next to nothing was refused, so this test shows little")
	}
}

// Callers that are not kept, for want of counters, are collected as one.
func TestCallersWithoutCountersAreCounted(t *testing.T) {
	plan := table.Plan{Quota: &table.Quota{Limit: 5, Period: "64h", Bucket: table.BucketApplication}}
	withSources(t, holding(testTable(plan), 0))
	sources.accounts[nobody] = accountWith(quota.NewStore(1))
	r := newRig(t, testConfig(weatherAPI))
	r.call("ann")
	for i := 0; i < 3; i++ {
		r.call("bob")
		r.do("DELETE", "/weather", "Authorization: Bearer filtered")
	}
	if n := len(sources.accounts[nobody].touched); n != 3 {
		t.Errorf("%d callers are to be collected from, want 3", n)
	}
	wantSums(t, "full", collected(), sums{
		of("ann", 0, ""): 1, of("bob", 503, "counters_full"): 3, of("filtered", 403, "operation_forbidden"): 3,
	})
}

// The first two of them may come at once.
func TestCallersWithoutCountersAtOnce(t *testing.T) {
	kept := accountWith(quota.NewStore(1))
	v, g := testView(), &gateway{source: &source{account: kept}, held: &heldView{}}
	var wait sync.WaitGroup
	for i := 0; i < 2; i++ {
		wait.Add(1)
		go func() {
			defer wait.Done()
			c := &caller{digest: "d", who: &matcher.Caller{API: weatherAPI}, refused: make([]int64, len(refusable)), untouched: true}
			askAs(standIn(v, c), g, c)
			atomic.AddInt64(&c.refused[0], 1)
		}()
	}
	wait.Wait()
	got := sums{}
	kept.collect(got.add, true)
	wantSums(t, "at once", got, sums{{API: weatherAPI, Code: 403, Reason: "subscription_missing"}: 2})
}

// However many ask at once, and whenever it is collected, each counts once.
func TestConcurrentRequestsAreCounted(t *testing.T) {
	withSources(t, holding(testTable(table.Plan{RateLimit: &table.RateLimit{Limit: 50, Period: "1h", Bucket: table.BucketApplication}}), 0))
	c := testConfig(weatherAPI)
	kept := accountWith(quota.NewStore(10))
	sources.accounts[nobody] = kept
	var mu sync.Mutex
	got, want := sums{}, sums{}
	worker := func(i int) {
		r := newRig(t, c)
		mine := sums{}
		keys := []string{"ann", "bob", "stranger", "nobody", "filtered"}
		for j := 0; j < 200; j++ {
			key := keys[(i+j)%len(keys)]
			if answer := r.call(key); strings.HasPrefix(answer, "ok") {
				mine[of(key, 0, "")]++
			} else if answer == "rate_limited" {
				mine[of(key, 429, answer)]++
			} else if answer == "subscription_missing" {
				mine[of(key, 403, answer)]++
			} else {
				mine[of("", 401, answer)]++
			}
		}
		mu.Lock()
		for row, n := range mine {
			want[row] += n
		}
		mu.Unlock()
	}
	var wait, collecting sync.WaitGroup
	ended := make(chan bool, 1)
	collecting.Add(1)
	go func() {
		defer collecting.Done()
		for len(ended) == 0 {
			kept.collect(got.add, false)
		}
	}()
	for i := 0; i < 4; i++ {
		i := i
		wait.Add(1)
		go func() {
			defer wait.Done()
			worker(i)
		}()
	}
	wait.Wait()
	ended <- true
	collecting.Wait()
	// Who was refused later than a report after asking, as may be while they come
	// one upon the other, is told when asking again.
	worker(0)
	kept.collect(got.add, true)
	wantSums(t, "together", got, want)
}

// endpoint is a sync endpoint that takes reports, and counts each once.
type endpoint struct {
	t      testing.TB
	server *httptest.Server

	mu sync.Mutex
	// table is what it serves; polls tells of each that was asked for.
	table []byte
	// behave says what becomes of a report: whether it is taken, and what status
	// it is answered with, 0 being no answer at all. By default it is taken.
	behave   func() (taken bool, status int)
	got      sums
	accepted map[string]int64 // sequence by instance
	reports  int
}

func newEndpoint(t testing.TB, rows *table.Table) *endpoint {
	t.Helper()
	e := &endpoint{t: t, got: sums{}, accepted: map[string]int64{}}
	e.put(rows)
	e.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e.mu.Lock()
		defer e.mu.Unlock()
		if r.URL.Path != usage.Path {
			_, _ = w.Write(e.table)
			return
		}
		status := e.take(r)
		if status == 0 {
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, `{"sequence": %s, "next": 1}`, r.Header.Get("X-Sequence"))
	}))
	t.Cleanup(func() { e.server.Close() })
	return e
}

func (e *endpoint) put(rows *table.Table) {
	body, err := json.Marshal(rows)
	if err != nil {
		e.t.Fatal(err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.table = body
}

// behaves changes what becomes of reports; nil takes all.
func (e *endpoint) behaves(behave func() (taken bool, status int)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.behave = behave
}

// counted returns what was reported so far, and in how many reports.
func (e *endpoint) counted() (sums, int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	got := sums{}
	for row, n := range e.got {
		got[row] = n
	}
	return got, e.reports
}

// want says what was to be reported so far.
func (e *endpoint) want(name string, want sums) {
	e.t.Helper()
	if got, _ := e.counted(); !reflect.DeepEqual(got, want) {
		e.t.Errorf("%s: got %s\nwant %s", name, got.readable(), want.readable())
	}
}

// reported says how many reports there were.
func (e *endpoint) reported() int {
	_, n := e.counted()
	return n
}

// take takes a report, and returns the status of its answer.
func (e *endpoint) take(r *http.Request) int {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return 0
	}
	report, err := usage.Decode(body)
	if err != nil {
		e.t.Errorf("%v: %s", err, body)
		return 400
	}
	e.reports++
	r.Header.Set("X-Sequence", decimal(report.Sequence))
	taken, status := true, 200
	if e.behave != nil {
		taken, status = e.behave()
	}
	if taken && report.Sequence > e.accepted[report.Instance] {
		e.accepted[report.Instance] = report.Sequence
		for _, row := range report.Usage {
			e.got.add(row)
		}
	}
	return status
}

// turns is the timer of reports, which fires when a test says so.
type turns struct {
	mu    sync.Mutex
	clock time.Time
	run   func()
	delay time.Duration
	armed bool

	// started counts the feeds, and told takes what they tell.
	started int
	told    chan string
}

func (c *turns) timing() reporter.Timing {
	c.clock = time.Now()
	return reporter.Timing{
		Now: func() time.Time {
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.clock
		},
		AfterFunc: func(d time.Duration, f func()) func() bool {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.run = f
			c.delay = d
			c.armed = true
			return func() bool { return true }
		},
	}
}

// step lets the timer fire, and says whether it was armed.
func (c *turns) step() bool {
	c.mu.Lock()
	run, armed := c.run, c.armed
	c.clock = c.clock.Add(c.delay)
	c.armed = false
	c.mu.Unlock()
	if armed {
		run()
	}
	return armed
}

// reporting has sources ask endpoints once, and report when the turns that it
// returns say so.
func reporting(t testing.TB) *turns {
	t.Helper()
	clock := &turns{told: make(chan string, 1000)}
	withSources(t, func(c feed.Config, last *feed.Snapshot) *feed.Feed {
		c.Report = func(line string, _ bool) { clock.told <- line }
		f := feed.Start(c, last)
		t.Cleanup(func() { f.Stop() })
		clock.started++
		return f
	})
	sources.timing = clock.timing()
	return clock
}

// begin makes a middleware and returns when it has a table, and how to end it.
func (c *turns) begin(t testing.TB, config *Config) (*rig, context.CancelFunc) {
	t.Helper()
	r := &rig{t: t}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	before := c.started
	handler, err := New(ctx, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { r.upstream, r.writer = req, w }), config, "test")
	if err != nil {
		t.Fatal(err)
	}
	r.handler = handler
	if c.started > before {
		c.inForce(t)
	}
	return r, cancel
}

// inForce returns when a feed has told that a table is in force.
func (c *turns) inForce(t testing.TB) {
	t.Helper()
	late := time.AfterFunc(patience, func() { c.told <- "" })
	defer late.Stop()
	for line := range c.told {
		if line == "" {
			t.Fatal("no table has come into force")
		}
		if strings.Contains(line, "is in force") {
			return
		}
	}
}

func configOf(e *endpoint) *Config {
	c := testConfig(weatherAPI)
	c.Sync.Endpoint = []string{e.server.URL}
	c.Sync.Wait = "0s"
	c.Sync.Interval = "1h"
	return c
}

func TestReportsArePosted(t *testing.T) {
	clock := reporting(t)
	e := newEndpoint(t, dryTable())
	r, _ := clock.begin(t, configOf(e))
	for i := 0; i < 5; i++ {
		r.call("ann")
	}
	r.call("nobody")
	for i := 0; i < 3; i++ {
		clock.step()
	}
	e.want("reported", sums{of("ann", 0, ""): 2, of("ann", 429, "rate_limited"): 3, of("", 401, "key_invalid"): 1})
}

// When the last middleware is gone there is a last report, by the feed that was,
// which is let go then; and the next middleware goes on.
func TestLastReport(t *testing.T) {
	clock := reporting(t)
	e := newEndpoint(t, dryTable())
	lingering := make(chan func(), 10)
	sources.after = func(_ time.Duration, f func()) { lingering <- f }
	r, cancel := clock.begin(t, configOf(e))
	clock.step()
	r.do("GET", "/weather", "Authorization: Bearer ann")
	cancel()
	(<-lingering)()
	kept := sources.accounts[e.server.URL]
	if f, _ := kept.posting(); f == nil {
		t.Fatal("nobody sends the last report")
	}
	clock.step()
	e.want("the last report", sums{of("ann", 0, ""): 1})
	if f, tell := kept.posting(); f != nil || tell != nil {
		t.Error("the account holds on to a feed that has ended")
	}
	if clock.step() {
		t.Error("there is a timer after the last report")
	}

	r.do("GET", "/weather", "Authorization: Bearer ann") // by a request in flight
	other, _ := clock.begin(t, configOf(e))
	other.call("ann")
	for i := 0; i < 3; i++ {
		clock.step()
	}
	e.want("afterwards", sums{of("ann", 0, ""): 2, of("ann", 429, "rate_limited"): 1})
	if len(e.accepted) != 1 {
		t.Errorf("there were reports of %d instances, want 1", len(e.accepted))
	}
}

// Reports go where the middleware asks that was made last and is still there.
func TestReportsFollowTheMiddlewares(t *testing.T) {
	clock := reporting(t)
	next := dryTable()
	next.Revision = 2
	first, second := newEndpoint(t, dryTable()), newEndpoint(t, next)
	both := configOf(first)
	both.Sync.Endpoint = append(both.Sync.Endpoint, second.server.URL)
	clock.begin(t, both)
	clock.step()

	ended := make(chan bool, 10)
	sources.after = func(_ time.Duration, _ func()) { ended <- true }
	_, cancel := clock.begin(t, configOf(second))
	if first.reported() != 1 || second.reported() != 0 {
		t.Fatalf("%d and %d reports", first.reported(), second.reported())
	}
	for i := 0; i < 20; i++ {
		clock.step()
	}
	if first.reported() != 1 || second.reported() == 0 {
		t.Errorf("with the second: %d and %d reports", first.reported(), second.reported())
	}
	before := second.reported()
	cancel()
	await(t, "the second to be given up", ended)
	for i := 0; i < 20; i++ {
		clock.step()
	}
	if first.reported() == 1 || second.reported() != before {
		t.Errorf("without the second: %d and %d reports, before %d", first.reported(), second.reported(), before)
	}
}

// An endpoint that takes no reports is asked again when there is another table.
func TestReportsAfterAnotherTable(t *testing.T) {
	clock := reporting(t)
	e := newEndpoint(t, dryTable())
	e.behaves(func() (bool, int) { return false, 404 })
	r, _ := clock.begin(t, configOf(e))
	r.call("ann")
	for i := 0; i < 10; i++ {
		clock.step()
	}
	if n := e.reported(); n != 1 {
		t.Fatalf("%d reports, want 1", n)
	}
	e.behaves(nil)
	for _, src := range sources.sources {
		src.activate(feed.Current(src.feed))
	}
	for i := 0; i < 3; i++ {
		clock.step()
	}
	e.want("afterwards", sums{of("ann", 0, ""): 1})
}

// So it is for the first middleware that shares limits, and then after each failure.
func TestReportsForSharedLimits(t *testing.T) {
	clock := reporting(t)
	e := newEndpoint(t, dryTable())
	e.behaves(func() (bool, int) { return false, 404 })
	r, _ := clock.begin(t, configOf(e))
	r.call("ann")
	for i := 0; i < 10; i++ {
		clock.step()
	}
	if n := e.reported(); n != 1 {
		t.Fatalf("%d reports, want 1", n)
	}
	c := configOf(e)
	c.Limits = "shared"
	clock.begin(t, c)
	for i := 0; i < 3; i++ {
		clock.step()
	}
	if n := e.reported(); n < 3 {
		t.Errorf("%d reports, want 3", n)
	}
	e.behaves(nil)
	for i := 0; i < 5; i++ {
		clock.step()
	}
	e.want("afterwards", sums{of("ann", 0, ""): 1})
}

// Whatever is asked, and whatever becomes of reports, tables and middlewares, the
// endpoint's sums are those of what was answered.
func TestSumsAreExact(t *testing.T) {
	for seed := int64(1); seed <= 15; seed++ {
		dice := rand.New(rand.NewSource(seed))
		clock := reporting(t)
		rows := testTable(table.Plan{RateLimit: &table.RateLimit{Limit: 20, Period: "1h", Bucket: table.BucketApplication}})
		e := newEndpoint(t, rows)
		luck := rand.New(rand.NewSource(-seed))
		e.behaves(func() (bool, int) {
			switch luck.Intn(6) {
			case 0:
				return false, []int{0, 404, 500, 503}[luck.Intn(4)]
			case 1:
				return true, []int{0, 404, 502}[luck.Intn(3)]
			}
			return true, 200
		})
		c := configOf(e)
		lingering := []func(){}
		var mu sync.Mutex
		idle := make(chan bool, 100)
		sources.after = func(_ time.Duration, f func()) {
			mu.Lock()
			lingering = append(lingering, f)
			mu.Unlock()
			idle <- true
		}
		r, cancel := clock.begin(t, c)
		want := sums{}
		for i := 0; i < 150; i++ {
			key := []string{"ann", "bob", "stranger", "nobody", "suspended"}[dice.Intn(5)]
			answer := r.call(key)
			if strings.HasPrefix(answer, "ok") {
				want[of(key, 0, "")]++
			} else if answer == "rate_limited" {
				want[of(key, 429, answer)]++
			} else if answer == "subscription_missing" {
				want[of(key, 403, answer)]++
			} else if answer == "key_invalid" {
				want[of("", 401, answer)]++
			} else {
				want[of("", 503, answer)]++
			}
			switch dice.Intn(8) {
			case 0:
				for _, src := range sources.sources {
					if snapshot := feed.Current(src.feed); snapshot != nil {
						src.activate(snapshot)
					}
				}
			case 1:
				cancel()
				await(t, "the middleware to end", idle)
				if dice.Intn(2) == 0 {
					mu.Lock()
					over := lingering
					lingering = nil
					mu.Unlock()
					for _, f := range over {
						f()
					}
					clock.step()
				}
				r, cancel = clock.begin(t, c)
			case 2, 3, 4:
				clock.step()
			}
		}
		cancel()
		await(t, "the last middleware to end", idle)
		e.behaves(nil)
		_, cancel = clock.begin(t, c)
		for _, src := range sources.sources {
			src.account.reporter.Renew()
		}
		for i := 0; i < 40; i++ {
			clock.step()
		}
		cancel()
		if got, _ := e.counted(); !reflect.DeepEqual(got, want) {
			t.Fatalf("seed %d: got %s\nwant %s", seed, got.readable(), want.readable())
		}
	}
}
