package tollgate

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tollgate-apim/tollgate/feed"
	"github.com/tollgate-apim/tollgate/hashing"
	"github.com/tollgate-apim/tollgate/quota"
	"github.com/tollgate-apim/tollgate/table"
	"github.com/tollgate-apim/tollgate/usage"
)

// lender is a control plane of one rule: who wants something of a bucket gets twice
// that, while there is any. It takes note of what it has lent.
type lender struct {
	mu      sync.Mutex
	limit   int64 // of each bucket
	tenures map[string]int64
	left    map[string]int64 // by kind and bucket
	granted map[string]int64 // by gateway, kind, bucket and account
	// reserve is what of each bucket stands for credits.
	reserve int64
}

func newLender(limit, reserve int64) *lender {
	return &lender{limit: limit, reserve: reserve, tenures: map[string]int64{}, left: map[string]int64{}, granted: map[string]int64{}}
}

// answer answers a report of a gateway.
func (l *lender) answer(r *usage.Report) *usage.Answer {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.tenures[r.Instance] == 0 {
		l.tenures[r.Instance] = int64(len(l.tenures) + 1)
	}
	number := l.tenures[r.Instance]
	a := &usage.Answer{
		Sequence: r.Sequence, Next: 1,
		Tenure: &usage.Tenure{Number: number, Ranks: []int64{number, number, number, number, number}, Lasts: 300 * second, Gateways: 2},
	}
	if r.Tenure != number {
		return a
	}
	for _, e := range r.Entries {
		name := e.Kind + " " + e.Bucket
		if _, met := l.left[name]; !met {
			l.left[name] = l.limit - l.reserve
		}
		account := fmt.Sprint(r.Instance, name, e.Account)
		more := 2*e.Wanted + e.Spare - (l.granted[account] - e.Used)
		if more < 0 {
			more = 0
		}
		if more > l.left[name] {
			more = l.left[name]
		}
		l.left[name] -= more
		l.granted[account] += more
		a.Shares = append(a.Shares, usage.Share{
			Kind: e.Kind, Bucket: e.Bucket, Account: e.Account, Granted: l.granted[account], Keep: 1 << 40,
			Lasts: 15 * second, Left: l.left[name], Reset: 3600 * second,
		})
	}
	return a
}

// exchange has an account report, and be answered.
func (l *lender) exchange(kept *account) {
	r := &usage.Report{Instance: fmt.Sprintf("%p", kept)}
	r.Tenure, r.Entries, _ = kept.entries(1 << 20)
	kept.sending()
	kept.sent(false)
	kept.answered(l.answer(r))
}

// latecomer gives an account a rank that has no standing credit.
func (l *lender) latecomer(kept *account) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tenures[fmt.Sprintf("%p", kept)] = int64(100_000 + len(l.tenures))
}

// sharing returns the configuration of a middleware that shares limits.
func sharing() *Config {
	c := testConfig(weatherAPI)
	c.Limits = "shared"
	return c
}

// newSharing returns a gateway of its own, with the account in which it shares limits.
func newSharing(t *testing.T, rows *table.Table, c *Config) (*rig, *account) {
	t.Helper()
	withSources(t, holding(rows, 0))
	r := newRig(t, c)
	return r, sources.accounts[nobody]
}

func wantCalls(t *testing.T, r *rig, key string, want ...string) {
	t.Helper()
	for i := range want {
		if got := r.call(key); got != want[i] {
			t.Errorf("request %d of %s: got %q, want %q", i+1, key, got, want[i])
		}
	}
}

// Two gateways share a quota of 10: together they never let more pass.
func TestSharedQuota(t *testing.T) {
	rows := testTable(table.Plan{Quota: per64Hours(10)})
	l := newLender(10, 0)
	a, first := newSharing(t, rows, sharing())
	b, second := newSharing(t, rows, sharing())

	wantCalls(t, a, "ann", "limits_unavailable")
	l.exchange(first)
	l.exchange(second)
	// The gateway is known, and holds nothing yet.
	w := a.do("GET", "/weather", "Authorization: Bearer ann")
	if reason(w) != "quota_exceeded" || w.Header().Get("Retry-After") != "1" {
		t.Errorf("got %d %v %s", w.Code, w.Header(), w.Body)
	}
	l.exchange(first)
	wantCalls(t, a, "ann", "ok 9", "ok 8")
	wantCalls(t, b, "bob", "quota_exceeded")
	l.exchange(second)
	l.exchange(first)
	passed := 2
	for i := 0; i < 30; i++ {
		for _, r := range []*rig{a, b} {
			if strings.HasPrefix(r.call("ann"), "ok") {
				passed++
			}
		}
		l.exchange(first)
		l.exchange(second)
	}
	if passed != 10 {
		t.Errorf("%d requests have passed, want 10", passed)
	}
	w = a.do("GET", "/weather", "Authorization: Bearer ann")
	if reason(w) != "quota_exceeded" || toMinutes(w.Header().Get("Retry-After")) != toMinutes("3600") || w.Header().Get("X-Quota-Remaining") != "0" {
		t.Errorf("at last: got %d %v %s", w.Code, w.Header(), w.Body)
	}
	if got := w.Header().Get("RateLimit-Policy"); got != `"quota";q=10;w=230400` {
		t.Errorf("got policy %s", got)
	}
}

// The first request to a bucket passes by standing credit, where the plan is large
// enough for one.
func TestFirstSharedRequest(t *testing.T) {
	l := newLender(320, 10)
	r, kept := newSharing(t, testTable(table.Plan{Quota: per64Hours(320)}), sharing())
	l.exchange(kept)
	wantCalls(t, r, "ann", "ok 0", "quota_exceeded")
	l.exchange(kept)
	// Of 310 that are not reserved, 1 is spent.
	wantCalls(t, r, "ann", "ok 308")
}

// With a rate limit and a quota, each request that passes is charged to both and the
// others to none.
func TestSharedLimitsTogether(t *testing.T) {
	l := newLender(4, 0)
	plan := table.Plan{RateLimit: perHour(4), Quota: &table.Quota{Limit: 4, Period: "64h", Bucket: table.BucketApplication}}
	r, kept := newSharing(t, testTable(plan), sharing())
	l.latecomer(kept)
	l.exchange(kept)
	// Ann takes three tokens, and three of her quota.
	wantCalls(t, r, "ann", "quota_exceeded")
	l.exchange(kept)
	wantCalls(t, r, "ann", "ok 2 3", "ok 1 2", "ok 0 1")
	l.exchange(kept)
	wantCalls(t, r, "ann", "ok 0 0")
	// Bob has all of his quota, and there is no token.
	wantCalls(t, r, "bob", "quota_exceeded")
	l.exchange(kept)
	wantCalls(t, r, "bob", "rate_limited", "rate_limited")
	if got := kept.holdings.Len(); got != 3 {
		t.Errorf("%d holdings, want 3", got)
	}
}

// A part of a rate limit is spent without more ado, and its headers tell what is left.
func TestSharedPart(t *testing.T) {
	r, kept := newSharing(t, testTable(table.Plan{RateLimit: perHour(100)}), sharing())
	newLender(1, 1).exchange(kept)
	r.call("ann")
	number, entries, _ := kept.entries(1 << 20)
	if number != 1 || len(entries) != 1 {
		t.Fatalf("got tenure %d, entries %+v", number, entries)
	}
	e := entries[0]
	if e.Kind != usage.KindRate || e.Plan != "apps/plan" || e.Bucket == "" || e.Used != 1 || e.Wanted != 1 {
		t.Errorf("got %+v", e)
	}
	kept.sending()
	kept.answered(&usage.Answer{
		Tenure: &usage.Tenure{Number: 1, Lasts: 300 * second},
		Shares: []usage.Share{{
			Kind: e.Kind, Bucket: e.Bucket, Account: e.Account, Granted: 1, Lasts: 15 * second,
			Part: 1, Interval: 900 * second, Capacity: 3, Fill: 3,
		}},
	})
	wantCalls(t, r, "ann", "ok 2", "ok 1", "ok 0", "rate_limited")
	w := r.do("GET", "/weather", "Authorization: Bearer bob")
	if w.Code != http.StatusTooManyRequests || w.Header().Get("RateLimit-Policy") != `"rate";q=100;w=3600` {
		t.Errorf("got %d %v", w.Code, w.Header())
	}
}

// What the upstream is told of a caller does not depend on who counts.
func TestSharedIdentity(t *testing.T) {
	l := newLender(100, 0)
	r, kept := newSharing(t, testTable(table.Plan{Quota: per64Hours(100)}), sharing())
	l.exchange(kept)
	r.call("filtered")
	l.exchange(kept)
	r.do("GET", "/weather?x=1", "Authorization: Bearer filtered", "X-App-Id: admin", "Connection: x-app-id")
	if r.upstream == nil {
		t.Fatal("the request was refused")
	}
	h := r.upstream.Header
	if h.Get("X-App-Id") != "filtered" || h.Get("X-Subscription") != "apps/filtered-sub" || h.Get("Authorization") != "" || h.Get("Connection") != "" {
		t.Errorf("the upstream gets %v", h)
	}
	if w := r.do("DELETE", "/weather", "Authorization: Bearer filtered"); reason(w) != "operation_forbidden" {
		t.Errorf("another operation: got %s", reason(w))
	}
	wantCalls(t, r, "stranger", "subscription_missing")
	wantCalls(t, r, "nobody", "key_invalid")
}

// Neither a new table, an edit of the plan nor a reload of the middleware changes what
// the gateway holds.
func TestHoldingsOutliveReloads(t *testing.T) {
	l := newLender(100, 0)
	rows := testTable(table.Plan{Quota: per64Hours(100)})
	withSources(t, holding(rows, 0))
	ctx, cancel := context.WithCancel(context.Background())
	r := &rig{t: t}
	next := http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { r.upstream, r.writer = req, w })
	handler, err := New(ctx, next, sharing(), "test")
	if err != nil {
		t.Fatal(err)
	}
	r.handler = handler
	kept := sources.accounts[nobody]
	l.latecomer(kept)
	l.exchange(kept)
	for i := 0; i < 10; i++ {
		r.call("ann")
	}
	l.exchange(kept)
	wantCalls(t, r, "ann", "ok 99")
	for _, src := range sources.sources {
		src.activate(&feed.Snapshot{Table: testTable(table.Plan{Quota: per64Hours(3)})})
	}
	wantCalls(t, r, "ann", "ok 98")
	cancel()
	again := newRig(t, sharing())
	wantCalls(t, again, "ann", "ok 97")
	wantCalls(t, r, "ann", "ok 96") // a request in flight
	if sources.accounts[nobody] != kept || kept.holdings.Len() != 1 {
		t.Error("there is another account, or another holding")
	}
	l.exchange(kept)
	var sum int64
	for _, n := range l.granted {
		sum += n
	}
	if sum != 100-l.left["quota "+onlyBucket(t, kept)] {
		t.Errorf("%d granted, %v left", sum, l.left)
	}
}

// onlyBucket returns the name of the one bucket that an account tells of.
func onlyBucket(t *testing.T, kept *account) string {
	t.Helper()
	_, entries, _ := kept.entries(1 << 20)
	if len(entries) != 1 {
		t.Fatalf("got %+v, want one entry", entries)
	}
	return entries[0].Bucket
}

// What becomes of requests when nobody can lend the gateway anything.
func TestOnLimitsLost(t *testing.T) {
	for _, test := range []struct {
		lost string
		want []string
	}{
		{"refuse", []string{"limits_unavailable", "limits_unavailable"}},
		// A half of 5 tokens, and of a quota of 100.
		{"fair-share", []string{"ok 1 49", "ok 0 48", "rate_limited"}},
		{"admit", []string{"ok", "ok", "ok", "ok", "ok", "ok"}},
	} {
		c := sharing()
		c.OnLimitsLost = test.lost
		plan := table.Plan{RateLimit: perHour(5), Quota: per64Hours(100)}
		r, kept := newSharing(t, testTable(plan), c)
		l := newLender(2, 0)
		l.exchange(kept)
		r.call("ann")
		l.exchange(kept)
		// While reports fail, what it holds is good.
		kept.sending()
		kept.sent(true)
		wantCalls(t, r, "ann", "ok 1 1", "ok 0 0", "quota_exceeded")
		// Then it is over.
		kept.now = func() int64 { return int64(time.Since(started)) + lostAfter + 1 }
		kept.mu.Lock()
		kept.answeredAt -= lostAfter + 1
		kept.judgeLocked()
		kept.mu.Unlock()
		wantCalls(t, r, "ann", test.want...)
		if test.lost == "refuse" {
			w := r.do("GET", "/weather", "Authorization: Bearer ann")
			if w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") != "10" {
				t.Errorf("got %d %v", w.Code, w.Header())
			}
		}
		// An answer ends it.
		kept.now = func() int64 { return int64(time.Since(started)) }
		l.exchange(kept)
		l.exchange(kept)
		wantCalls(t, r, "ann", "quota_exceeded")
	}
}

// Before the first answer, and with an endpoint that does not share limits, they are
// lost too.
func TestLimitsNeverShared(t *testing.T) {
	c := sharing()
	c.OnLimitsLost = "fair-share"
	r, kept := newSharing(t, testTable(table.Plan{Quota: per64Hours(2)}), c)
	wantCalls(t, r, "ann", "ok 1")
	var lines []string
	kept.mu.Lock()
	kept.tell = func(line string, _ bool) { lines = append(lines, line) }
	kept.mu.Unlock()
	for i := 0; i < 3; i++ {
		kept.entries(1 << 20)
		kept.sending()
		kept.answered(&usage.Answer{Sequence: 1, Next: 1})
	}
	wantCalls(t, r, "ann", "ok 0", "quota_exceeded")
	newLender(10, 0).exchange(kept)
	if len(lines) != 2 || !strings.Contains(lines[0], "does not share limits") || !strings.Contains(lines[1], "the endpoint shares limits") {
		t.Errorf("got the lines %q", lines)
	}
}

// A control plane whose store is away shares none for a while. That is no loss before
// what it shared is over.
func TestLimitsNotSharedForAWhile(t *testing.T) {
	c := sharing()
	c.OnLimitsLost = "admit"
	r, kept := newSharing(t, testTable(table.Plan{Quota: per64Hours(5)}), c)
	l := newLender(0, 0)
	l.exchange(kept)
	var lines []string
	kept.mu.Lock()
	kept.tell = func(line string, _ bool) { lines = append(lines, line) }
	kept.mu.Unlock()
	wantCalls(t, r, "ann", "quota_exceeded")
	unshared := func() {
		kept.entries(1 << 20)
		kept.sending()
		kept.sent(false)
		kept.answered(&usage.Answer{Sequence: 1, Next: 1})
	}
	unshared()
	wantCalls(t, r, "ann", "quota_exceeded")
	kept.mu.Lock()
	kept.answeredAt -= lostAfter
	kept.mu.Unlock()
	unshared()
	wantCalls(t, r, "ann", "ok")
	l.exchange(kept)
	wantCalls(t, r, "ann", "quota_exceeded")
	if len(lines) != 2 || !strings.Contains(lines[0], "shares none at present") || !strings.Contains(lines[1], "the endpoint shares limits") {
		t.Errorf("got the lines %q", lines)
	}
}

// An endpoint whose answers nobody can read shares no limits either.
func TestUnreadableAnswers(t *testing.T) {
	r, kept := newSharing(t, testTable(table.Plan{Quota: per64Hours(5)}), sharing())
	l := newLender(5, 0)
	l.exchange(kept)
	wantCalls(t, r, "ann", "quota_exceeded")
	late := int64(0)
	kept.now = func() int64 { return int64(time.Since(started)) - late }
	// The last good answer was long ago.
	late = lostAfter + 1
	l.exchange(kept)
	late = 0
	for i := 0; i < 2; i++ {
		wantCalls(t, r, "bob", "quota_exceeded")
		kept.sending()
		kept.sent(false)
	}
	wantCalls(t, r, "bob", "limits_unavailable")
	l.exchange(kept)
	l.exchange(kept)
	if got := r.call("bob"); !strings.HasPrefix(got, "ok") {
		t.Errorf("after the next answer: got %s", got)
	}
}

// A gateway that has only just begun to share limits waits for its first answer, whatever
// it has reported before.
func TestFirstAnswerIsAwaited(t *testing.T) {
	r, kept := newSharing(t, testTable(table.Plan{Quota: per64Hours(5)}), testConfig(weatherAPI))
	for i := 0; i < 3; i++ {
		kept.post(nil, false)
	}
	shared := newRig(t, sharing())
	wantRetry := func(want string) {
		t.Helper()
		w := shared.do("GET", "/weather", "Authorization: Bearer ann")
		if reason(w) != "limits_unavailable" || w.Header().Get("Retry-After") != want {
			t.Errorf("got %d %v %s, want Retry-After %s", w.Code, w.Header(), w.Body, want)
		}
	}
	wantRetry("1")
	wantCalls(t, r, "ann", "ok 4")
	// The first report that shares is under way, and fails.
	kept.sending()
	wantRetry("1")
	kept.sent(true)
	wantRetry("10")
	newLender(5, 0).exchange(kept)
	wantCalls(t, shared, "ann", "quota_exceeded")
}

// When the last middleware that shares limits has gone, reports go on telling of them for
// a minute, until what was lent is given back, and then no more.
func TestSharingEnds(t *testing.T) {
	withSources(t, holding(testTable(table.Plan{Quota: per64Hours(100)}), 0))
	l := newLender(100, 0)
	begin := func() (*rig, context.CancelFunc) {
		ctx, cancel := context.WithCancel(context.Background())
		r := &rig{t: t}
		handler, err := New(ctx, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { r.upstream, r.writer = req, w }), sharing(), "test")
		if err != nil {
			t.Fatal(err)
		}
		r.handler = handler
		return r, cancel
	}
	r, cancel := begin()
	kept := sources.accounts[nobody]
	later := int64(0)
	kept.mu.Lock()
	kept.now = func() int64 { return int64(time.Since(started)) + atomic.LoadInt64(&later) }
	kept.mu.Unlock()
	gone := func(cancel context.CancelFunc, sharers int) {
		t.Helper()
		cancel()
		passed := make(chan bool, 1)
		go func() {
			for {
				kept.mu.Lock()
				left := kept.sharers
				kept.mu.Unlock()
				if left == sharers {
					passed <- true
					return
				}
				runtime.Gosched()
			}
		}()
		await(t, "the end of a middleware", passed)
	}

	l.latecomer(kept)
	l.exchange(kept)
	r.call("ann")
	l.exchange(kept)
	wantCalls(t, r, "ann", "ok 99")

	// A reload ends nothing.
	gone(cancel, 0)
	if !kept.shares() {
		t.Error("it does not share limits while Traefik reloads")
	}
	r, cancel = begin()
	atomic.AddInt64(&later, 2*int64(linger))
	if !kept.shares() {
		t.Error("it does not share limits after a reload")
	}
	_, another := begin()
	gone(cancel, 1)
	if !kept.shares() {
		t.Error("it does not share limits while a middleware does")
	}

	l.exchange(kept)
	gone(another, 0)
	atomic.AddInt64(&later, int64(linger))
	if !kept.shares() {
		t.Error("it does not share limits while something is lent")
	}
	for i := 0; i < 5; i++ {
		atomic.AddInt64(&later, second)
		l.exchange(kept)
	}
	if kept.shares() || kept.holdings.Len() != 0 {
		t.Errorf("still sharing: %t, with %d holdings", kept.shares(), kept.holdings.Len())
	}
	// A request in flight finds that limits are lost.
	wantCalls(t, r, "ann", "limits_unavailable")

	// It may begin again.
	r, _ = begin()
	wantCalls(t, r, "ann", "limits_unavailable")
	l.exchange(kept)
	r.call("ann")
	l.exchange(kept)
	if got := r.call("ann"); !kept.shares() || !strings.HasPrefix(got, "ok") {
		t.Errorf("sharing again: %t, and a request gets %s", kept.shares(), got)
	}
}

// Sharing ends too if nobody takes back what was lent: by then all of it is over.
func TestSharingEndsUnanswered(t *testing.T) {
	for _, failing := range []bool{false, true} {
		withSources(t, holding(testTable(table.Plan{Quota: per64Hours(100)}), 0))
		ctx, cancel := context.WithCancel(context.Background())
		r := &rig{t: t}
		handler, err := New(ctx, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { r.upstream, r.writer = req, w }), sharing(), "test")
		if err != nil {
			t.Fatal(err)
		}
		r.handler = handler
		kept := sources.accounts[nobody]
		later := int64(0)
		kept.mu.Lock()
		kept.now = func() int64 { return int64(time.Since(started)) + atomic.LoadInt64(&later) }
		kept.mu.Unlock()
		l := newLender(100, 0)
		l.exchange(kept)
		r.call("ann")
		l.exchange(kept)
		wantCalls(t, r, "ann", "ok 98")
		cancel()
		for left := 1; left > 0; runtime.Gosched() {
			kept.mu.Lock()
			left = kept.sharers
			kept.mu.Unlock()
		}
		report := func() {
			kept.entries(1 << 20)
			kept.sending()
			kept.sent(failing)
			if failing {
				kept.answered(nil)
				return
			}
			kept.answered(&usage.Answer{Sequence: 1, Next: 1})
		}
		report()
		atomic.AddInt64(&later, int64(linger)-second)
		report()
		if !kept.shares() {
			t.Errorf("failing: %t: it does not share limits for a minute", failing)
		}
		atomic.AddInt64(&later, 2*second)
		if kept.shares() {
			t.Errorf("failing: %t: it shares limits that nobody has lent for a minute", failing)
		}
	}
}

// A gateway that goes on as another instance gives up its tenure, and with the next one
// all that it held.
func TestAnotherInstance(t *testing.T) {
	l := newLender(20, 0)
	r, kept := newSharing(t, testTable(table.Plan{Quota: per64Hours(20)}), sharing())
	l.latecomer(kept)
	l.exchange(kept)
	r.call("ann")
	l.exchange(kept)
	name := kept.newInstance()
	if again := kept.newInstance(); len(name) != 32 || again == name {
		t.Errorf("got the instances %s, %s", name, again)
	}
	report := &usage.Report{Instance: name}
	if report.Tenure, report.Entries, _ = kept.entries(1 << 20); report.Tenure != 0 || len(report.Entries) != 0 {
		t.Errorf("another instance tells of tenure %d and %+v", report.Tenure, report.Entries)
	}
	kept.sending()
	kept.answered(l.answer(report))
	// What was lent before counts as spent, and the next tenure begins with nothing.
	report.Tenure, report.Entries, _ = kept.entries(1 << 20)
	if len(report.Entries) != 1 || report.Entries[0].Account != 2 || report.Entries[0].Granted != 0 {
		t.Errorf("got tenure %d, %+v", report.Tenure, report.Entries)
	}
	kept.sending()
	kept.answered(l.answer(report))
	passed := 0
	for i := 0; i < 30; i++ {
		if strings.HasPrefix(r.call("ann"), "ok") {
			passed++
		}
		if i%3 == 0 {
			report.Tenure, report.Entries, _ = kept.entries(1 << 20)
			kept.sending()
			kept.answered(l.answer(report))
		}
	}
	if passed == 0 || passed > 20-2 {
		t.Errorf("%d requests have passed of those 20, of which 2 had been lent before", passed)
	}
}

// Names that no report can have are cut in what reports tell, and stay apart: here two
// applications and their subscriptions have names that differ in the last letter. Of plans
// and APIs a table can have none.
func TestLongNamesAreShared(t *testing.T) {
	long := strings.Repeat("n", 3000)
	for _, by := range []string{table.BucketSubscription, table.BucketApplicationAPI} {
		rows := testTable(table.Plan{})
		rows.Plans = map[string]table.Plan{strings.Repeat("p", table.MaxName): {Quota: &table.Quota{Limit: 10, Period: "64h", Bucket: by}}}
		for _, key := range []string{"ann", "bob"} {
			rows.Subscriptions[long+long+key] = table.Subscription{Plan: strings.Repeat("p", table.MaxName)}
			rows.Applications[long+key] = table.Application{AppID: key, Grants: map[string]string{weatherAPI: long + long + key}}
			rows.Keys[hashing.Digest(key)] = []table.Holder{{Application: long + key, Title: long + long}}
		}
		if err := table.Validate(rows); err != nil {
			t.Fatal(err)
		}
		l := newLender(10, 0)
		r, kept := newSharing(t, rows, sharing())
		l.latecomer(kept)
		l.exchange(kept)
		r.call("ann")
		r.call("bob")
		report := &usage.Report{Instance: strings.Repeat("0", 32), Sequence: 1, Usage: []usage.Row{}}
		l.exchange(kept)
		kept.collect(func(row usage.Row) { report.Usage = append(report.Usage, usage.Shorten(row)) }, true)
		l.exchange(kept)
		report.Tenure, report.Entries, _ = kept.entries(1 << 20)
		body, err := json.Marshal(report)
		if err != nil {
			t.Fatal(err)
		}
		told, err := usage.Decode(body)
		if err != nil {
			t.Fatalf("by %s: the report would be refused: %v", by, err)
		}
		if len(told.Entries) != 2 || told.Entries[0].Bucket == told.Entries[1].Bucket {
			t.Errorf("by %s: got %d entries, want two of different buckets", by, len(told.Entries))
		}
		if len(told.Usage) < 2 || told.Usage[0].Application == told.Usage[1].Application {
			t.Errorf("by %s: got %d rows of usage, want some of two applications", by, len(told.Usage))
		}
		l.exchange(kept)
		wantCalls(t, r, "ann", "ok 9")
	}
}

// Middlewares with local limits count for themselves, beside those that share.
func TestLocalBesideShared(t *testing.T) {
	rows := testTable(table.Plan{Quota: per64Hours(10)})
	shared, kept := newSharing(t, rows, sharing())
	local := newRig(t, testConfig(weatherAPI))
	l := newLender(10, 0)
	l.exchange(kept)
	wantCalls(t, local, "ann", "ok 9")
	wantCalls(t, shared, "ann", "quota_exceeded")
	wantCalls(t, local, "ann", "ok 8")
	l.exchange(kept)
	wantCalls(t, shared, "ann", "ok 9")
	wantCalls(t, local, "ann", "ok 7")
}

// Without room for another holding, what needs one is refused.
func TestHoldingsFull(t *testing.T) {
	plan := table.Plan{Quota: &table.Quota{Limit: 5, Period: "64h", Bucket: table.BucketApplication}}
	withSources(t, holding(testTable(plan), 0))
	kept := accountWith(quota.NewStore(10))
	kept.limitHoldings(1)
	sources.accounts[nobody] = kept
	r := newRig(t, sharing())
	l := newLender(5, 0)
	l.exchange(kept)
	r.call("ann")
	l.exchange(kept)
	wantCalls(t, r, "ann", "ok 4")
	wantCalls(t, r, "bob", "counters_full", "counters_full")
	wantCalls(t, r, "ann", "ok 3")
}

// In a dry run, what would be refused is told and admitted.
func TestSharedDryRun(t *testing.T) {
	c := sharing()
	c.DryRun = true
	r, _ := newSharing(t, testTable(table.Plan{Quota: per64Hours(5)}), c)
	r.do("GET", "/weather", "Authorization: Bearer ann")
	if r.upstream == nil || r.upstream.Header.Get("X-Tollgate-Dry-Run") != "limits_unavailable" {
		t.Error("the upstream is not told")
	}
}

// However many requests and reports there are at once, no more passes than was lent.
func TestConcurrentSharing(t *testing.T) {
	const gateways, callers, limit = 3, 4, 150
	plan := table.Plan{RateLimit: perHour(1000), Quota: per64Hours(limit)}
	l := newLender(limit, 0)
	var passed, refused int64
	var mu sync.Mutex
	var all sync.WaitGroup
	for g := 0; g < gateways; g++ {
		withSources(t, holding(testTable(plan), 0))
		var handlers []http.Handler
		for i := 0; i < callers; i++ {
			handlers = append(handlers, newRig(t, sharing()).handler)
		}
		kept := sources.accounts[nobody]
		l.latecomer(kept)
		l.exchange(kept)
		for i := range handlers {
			handler := handlers[i]
			all.Add(1)
			go func() {
				defer all.Done()
				for n := 0; n < 100; n++ {
					w := httptest.NewRecorder()
					req := httptest.NewRequest("GET", "/weather", nil)
					req.Header.Set("Authorization", "Bearer ann")
					handler.ServeHTTP(w, req)
					mu.Lock()
					if w.Code == http.StatusOK {
						passed++
					} else {
						refused++
					}
					mu.Unlock()
				}
			}()
		}
		all.Add(1)
		go func() {
			defer all.Done()
			for n := 0; n < 100; n++ {
				l.exchange(kept)
			}
		}()
	}
	all.Wait()
	if passed > limit || passed+refused != gateways*callers*100 {
		t.Errorf("%d requests have passed and %d were refused, of %d", passed, refused, limit)
	}
}

// Control planes that share no store, behind one address, take a gateway for another one
// each time. Reports do not hurry then, and the log tells why, once.
func TestAlternatingTenures(t *testing.T) {
	clock := reporting(t)
	rows := testTable(table.Plan{Quota: per64Hours(100)})
	rows.Revision = 1
	var reports int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != usage.Path {
			_ = json.NewEncoder(w).Encode(rows)
			return
		}
		var report usage.Report
		_ = json.NewDecoder(r.Body).Decode(&report)
		number := 1 + atomic.AddInt64(&reports, 1)%2
		_ = json.NewEncoder(w).Encode(&usage.Answer{
			Sequence: report.Sequence, Next: 1, Tenure: &usage.Tenure{Number: number, Lasts: 300 * second},
		})
	}))
	t.Cleanup(func() { server.Close() })
	c := sharing()
	c.Sync.Endpoint = []string{server.URL}
	c.Sync.Wait = "0s"
	c.Sync.Interval = "1h"
	r, _ := clock.begin(t, c)
	clock.step()
	var told []string
	kept := sources.accounts[server.URL]
	kept.mu.Lock()
	kept.tell = func(line string, _ bool) { told = append(told, line) }
	kept.mu.Unlock()
	at := func() time.Time {
		clock.mu.Lock()
		defer clock.mu.Unlock()
		return clock.clock
	}
	begin := at()
	atomic.StoreInt64(&reports, 0)
	for at().Sub(begin) < 20*time.Second {
		wantCalls(t, r, "ann", "quota_exceeded")
		wantCalls(t, r, "bob", "quota_exceeded")
		clock.step()
	}
	if n := atomic.LoadInt64(&reports); n < 15 || n > 30 {
		t.Errorf("%d reports in 20 s, want about one a second", n)
	}
	if len(told) != 1 || !strings.Contains(told[0], "do not share a store") {
		t.Errorf("got the lines %q", told)
	}
}

// Over the wire: reports carry entries, and answers shares.
func TestSharesByReports(t *testing.T) {
	clock := reporting(t)
	l := newLender(5, 0)
	rows := testTable(table.Plan{Quota: per64Hours(5)})
	rows.Revision = 1
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != usage.Path {
			_ = json.NewEncoder(w).Encode(rows)
			return
		}
		var report usage.Report
		if err := json.NewDecoder(r.Body).Decode(&report); err != nil || !report.Sharing {
			t.Errorf("a report that shares no limits: %+v, %v", report, err)
		}
		_ = json.NewEncoder(w).Encode(l.answer(&report))
	}))
	t.Cleanup(func() { server.Close() })
	c := sharing()
	c.Sync.Endpoint = []string{server.URL}
	c.Sync.Wait = "0s"
	c.Sync.Interval = "1h"
	r, _ := clock.begin(t, c)
	clock.step() // the first report, for the tenure
	wantCalls(t, r, "ann", "quota_exceeded")
	clock.mu.Lock()
	if clock.delay > 100*time.Millisecond {
		t.Errorf("the next report comes after %s", clock.delay)
	}
	clock.mu.Unlock()
	clock.step()
	wantCalls(t, r, "ann", "ok 4", "ok 3")
	for i := 0; i < 5; i++ {
		clock.step()
	}
	wantCalls(t, r, "ann", "ok 2")
}
