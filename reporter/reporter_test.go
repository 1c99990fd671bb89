package reporter

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tollgate-apim/tollgate/feed"
	"github.com/tollgate-apim/tollgate/usage"
)

const (
	testInstance  = "0123456789abcdef0123456789abcdef"
	testInstance2 = "000000000000000000000000000000" // and which life it is, from the second on
)

// rig is a reporter, what it reports, and the endpoint that it reports to.
type rig struct {
	t        *testing.T
	reporter *Reporter

	mu    sync.Mutex
	clock time.Time
	// delay is how long the armed timer runs; negative if there is none.
	delay time.Duration
	run   func()

	counted  []usage.Row
	lasts    int // how often the last collection was asked for
	revision int64
	age      time.Duration
	// answer answers a report; by default it accepts each.
	answer func(r *usage.Report) feed.Reply
	posts  []string
	// endpoint is where reports go.
	endpoint string
	// got is what the endpoint counts, by the rows without their count. It has
	// accepted a report of an instance last.
	got      map[usage.Row]int64
	instance string
	accepted int64
	next     float64
	lines    []string // with "+ " or "! " in front

	sharing bool
	entries []usage.Entry
	answers []*usage.Answer
	lives   int // how many instances were drawn
}

func newRig(t *testing.T) *rig {
	g := &rig{
		t: t, clock: time.Date(2026, 11, 21, 17, 0, 0, 0, time.UTC), delay: -1,
		revision: 42, age: 3500 * time.Millisecond, got: map[usage.Row]int64{}, next: 1,
		endpoint: "http://e", instance: testInstance,
	}
	g.reporter = New(Config{
		Instance: func() string {
			g.lives++
			if g.lives == 1 {
				return testInstance
			}
			return fmt.Sprintf("%s%02d", testInstance2, g.lives%100)
		},
		Host: "gw-1",
		Collect: func(add func(usage.Row), last bool) {
			if last {
				g.lasts++
			}
			for _, row := range g.counted {
				add(row)
			}
			g.counted = nil
		},
		State:   func() (int64, time.Duration) { return g.revision, g.age },
		Sharing: func() bool { return g.sharing },
		Active:  func() bool { return len(g.entries) > 0 },
		Entries: func(bytes int) (int64, []usage.Entry, int) {
			entries := g.entriesOf(bytes)
			return 7, entries, len(g.entries) - len(entries)
		},
		Answered: func(a *usage.Answer) { g.answers = append(g.answers, a) },
		Post: func(body []byte, sharing bool) feed.Reply {
			if sharing != g.sharing {
				t.Errorf("a report is said to share limits: %t", sharing)
			}
			return g.post(body)
		},
		Endpoint: func() string { return g.endpoint },
		Report: func(line string, failed bool) {
			mark := "+ "
			if failed {
				mark = "! "
			}
			g.lines = append(g.lines, mark+line)
		},
		Timing: Timing{
			Now: func() time.Time { return g.clock },
			AfterFunc: func(d time.Duration, f func()) func() bool {
				g.mu.Lock()
				defer g.mu.Unlock()
				g.delay = d
				g.run = f
				return func() bool { return true }
			},
			Draw: func() float64 { return 0.5 },
		},
	})
	return g
}

// post takes a report as a control plane does: each counts once.
func (g *rig) post(body []byte) feed.Reply {
	g.t.Helper()
	g.posts = append(g.posts, string(body))
	r, err := usage.Decode(body)
	if err != nil {
		g.t.Fatalf("an invalid report: %v: %s", err, body)
	}
	if g.answer != nil {
		return g.answer(r)
	}
	return g.accept(r)
}

// entriesOf returns as many entries as come to so many bytes, at least one.
func (g *rig) entriesOf(bytes int) []usage.Entry {
	for i := range g.entries {
		bytes -= 150
		if (bytes < 0 || i == usage.MaxEntries) && i > 0 {
			return g.entries[:i]
		}
	}
	return g.entries
}

func (g *rig) accept(r *usage.Report) feed.Reply {
	if r.Instance != g.instance {
		g.instance, g.accepted = r.Instance, 0
	}
	if r.Sequence < g.accepted {
		return feed.Reply{Endpoint: "http://e", Status: 409, Body: []byte(fmt.Sprintf(`{"sequence": %d}`, g.accepted)), Err: errors.New("status 409 Conflict")}
	}
	if r.Sequence > g.accepted {
		for _, row := range r.Usage {
			count := row.Count
			row.Count = 0
			g.got[row] += count
		}
		g.accepted = r.Sequence
	}
	return feed.Reply{Endpoint: "http://e", Status: 200, Body: []byte(fmt.Sprintf(`{"sequence": %d, "next": %g}`, r.Sequence, g.next))}
}

// refusing answers each report with a status, or not at all if that is 0.
func refusing(status int) func(*usage.Report) feed.Reply {
	return func(_ *usage.Report) feed.Reply {
		return feed.Reply{Endpoint: "http://e", Status: status, Err: fmt.Errorf("status %d", status)}
	}
}

// step lets the armed timer fire, and returns how long it had run.
func (g *rig) step() time.Duration {
	g.t.Helper()
	g.mu.Lock()
	delay, run := g.delay, g.run
	g.delay = -1
	g.mu.Unlock()
	if delay < 0 {
		g.t.Fatal("no timer is armed")
	}
	g.clock = g.clock.Add(delay)
	run()
	return delay
}

// untilPost steps until there is another post, and returns how long that took.
func (g *rig) untilPost() time.Duration {
	g.t.Helper()
	before, begin := len(g.posts), g.clock
	for i := 0; i < 1000; i++ {
		g.step()
		if len(g.posts) > before {
			return g.clock.Sub(begin)
		}
	}
	g.t.Fatal("there is no other post")
	return 0
}

func (g *rig) lastPost() *usage.Report {
	g.t.Helper()
	r, err := usage.Decode([]byte(g.posts[len(g.posts)-1]))
	if err != nil {
		g.t.Fatal(err)
	}
	return r
}

func (g *rig) count(application string, n int64) {
	g.counted = append(g.counted, usage.Row{API: "apps/api", Application: application, Count: n})
}

func (g *rig) wantCounted(application string, want int64) {
	g.t.Helper()
	if got := g.got[usage.Row{API: "apps/api", Application: application}]; got != want {
		g.t.Errorf("of %s %d requests were counted, want %d", application, got, want)
	}
}

func (g *rig) wantLines(want ...string) {
	g.t.Helper()
	if !reflect.DeepEqual(g.lines, want) && len(g.lines)+len(want) > 0 {
		g.t.Errorf("got the lines\n%s\nwant\n%s", strings.Join(g.lines, "\n"), strings.Join(want, "\n"))
	}
	g.lines = nil
}

const firstLine = "+ reports to http://e: accepted, as those of instance " + testInstance

func TestReports(t *testing.T) {
	g := newRig(t)
	if g.delay >= 0 {
		t.Fatal("a reporter that sleeps has a timer")
	}
	g.reporter.Wake()
	g.count("apps/a", 3)
	g.count("apps/b", 4)
	g.count("apps/a", 2)
	if took := g.untilPost(); took != time.Second {
		t.Errorf("the first report came after %s, want 1s", took)
	}
	r := g.lastPost()
	if r.Instance != testInstance || r.Host != "gw-1" || r.Sequence != 1 || r.Revision != 42 || r.TableAge != 3.5 || len(r.Usage) != 2 {
		t.Errorf("got %+v", r)
	}
	g.count("apps/a", 1)
	if took := g.untilPost(); took != time.Second || g.lastPost().Sequence != 2 {
		t.Errorf("after %s: %+v", took, g.lastPost())
	}
	g.wantCounted("apps/a", 6)
	g.wantCounted("apps/b", 4)
	g.wantLines(firstLine)
}

// What there is to tell is told when the endpoint wants it; nothing, ten times
// later; a new revision is something.
func TestNext(t *testing.T) {
	g := newRig(t)
	g.next = 5
	g.reporter.Wake()
	g.untilPost()
	g.count("apps/a", 1)
	if took := g.untilPost(); took != 5*time.Second {
		t.Errorf("a report came after %s, want 5s", took)
	}
	if took := g.untilPost(); took != 50*time.Second || len(g.lastPost().Usage) != 0 {
		t.Errorf("an empty report came after %s, want 50s", took)
	}
	g.revision = 43
	if took := g.untilPost(); took != 5*time.Second || g.lastPost().Revision != 43 {
		t.Errorf("a new revision was told after %s, want 5s", took)
	}
	// However long there is to wait, what was counted is collected.
	g.next = 3600
	g.count("apps/a", 1)
	g.untilPost()
	g.count("apps/a", 1)
	if rest := g.step(); rest != longestRest || g.counted != nil {
		t.Errorf("nothing was collected for %s", rest)
	}
}

// Entries that do not fit come so soon that all are told in the usual time.
func TestNextWithManyEntries(t *testing.T) {
	g := newRig(t)
	g.sharing = true
	g.next = 5
	for len(g.entries) < 9000 {
		g.entries = append(g.entries, entriesOf(fmt.Sprint("bucket ", len(g.entries)))...)
	}
	g.reporter.Wake()
	g.untilPost()
	told := len(g.lastPost().Entries)
	want := time.Duration(float64(5*time.Second) * float64(told) / float64(len(g.entries)))
	if took := g.untilPost(); told > len(g.entries)/2 || took != want {
		t.Errorf("%d of %d entries were told, and the next ones %s later, want %s", told, len(g.entries), took, want)
	}
}

func TestJitter(t *testing.T) {
	for draw, want := range map[float64]time.Duration{0: 900 * time.Millisecond, 1: 1100 * time.Millisecond} {
		g := newRig(t)
		g.reporter.cfg.Timing.Draw = func() float64 { return draw }
		g.reporter.Wake()
		for i := 0; i < 2; i++ {
			g.count("apps/a", 1)
			if took := g.untilPost(); took != want {
				t.Errorf("draw %g: after %s, want %s", draw, took, want)
			}
		}
	}
}

// A report without an answer is sent again as it was, later and later, and what
// was counted meanwhile goes into the next one.
func TestRetries(t *testing.T) {
	for _, status := range []int{0, 401, 403, 408, 413, 429, 500, 502, 503, 307} {
		g := newRig(t)
		g.reporter.Wake()
		g.count("apps/a", 3)
		g.answer = refusing(status)
		g.untilPost()
		want := 500 * time.Millisecond
		for i := 0; i < 12; i++ {
			g.count("apps/a", 1)
			g.age += time.Second
			if took := g.untilPost(); took != want {
				t.Errorf("status %d: retry %d came after %s, want %s", status, i+1, took, want)
			}
			if want *= 2; want > maxRetry {
				want = maxRetry
			}
			if got := g.posts[len(g.posts)-1]; got != g.posts[0] {
				t.Errorf("status %d: first %s, then %s", status, g.posts[0], got)
			}
		}
		g.answer = nil
		g.untilPost()
		g.wantCounted("apps/a", 3)
		// What waits goes soon.
		if took := g.untilPost(); took != soonest || g.lastPost().Sequence != 2 {
			t.Errorf("status %d: the next report, %d, came after %s", status, g.lastPost().Sequence, took)
		}
		g.wantCounted("apps/a", 15)
		g.wantLines(fmt.Sprintf("! reports to http://e: status %d; 3 requests wait to be reported", status), "+ reports to http://e: accepted again")
	}
}

func TestRetryAfter(t *testing.T) {
	for asked, want := range map[time.Duration]time.Duration{
		time.Millisecond: 500 * time.Millisecond,
		time.Minute:      time.Minute,
		time.Hour * 1000: time.Hour,
	} {
		g := newRig(t)
		g.reporter.Wake()
		g.answer = func(_ *usage.Report) feed.Reply {
			return feed.Reply{Status: 503, RetryAfter: asked, Err: errors.New("status 503")}
		}
		g.untilPost()
		if took := g.untilPost(); took != want {
			t.Errorf("asked to wait for %s, it waited for %s, want %s", asked, took, want)
		}
	}
}

// Only what changes is told: not each port, and not each failure.
func TestFailuresAreToldOnce(t *testing.T) {
	g := newRig(t)
	g.reporter.Wake()
	for i := 0; i < 4; i++ {
		reason := fmt.Errorf("read 127.0.0.1:%d: reset", 40000+i)
		if i == 3 {
			reason = errors.New("refused")
		}
		g.answer = func(_ *usage.Report) feed.Reply { return feed.Reply{Endpoint: "http://e", Err: reason} }
		g.untilPost()
	}
	g.answer = nil
	g.untilPost()
	g.count("a", 1)
	g.untilPost()
	g.wantLines("! reports to http://e: read 127.0.0.1:40000: reset; 0 requests wait to be reported",
		"! reports to http://e: refused; 0 requests wait to be reported", "+ reports to http://e: accepted again")
}

// An answer that got lost loses nothing, and what it answered counts once.
func TestLostAnswers(t *testing.T) {
	g := newRig(t)
	g.reporter.Wake()
	g.count("apps/a", 3)
	g.answer = func(r *usage.Report) feed.Reply {
		g.accept(r)
		return feed.Reply{Endpoint: "http://e", Err: errors.New("no answer")}
	}
	g.untilPost()
	g.count("apps/a", 4)
	g.answer = nil
	g.untilPost()
	g.untilPost()
	g.wantCounted("apps/a", 7)
}

// An endpoint that takes no reports is left alone until there is another table.
func TestNoReports(t *testing.T) {
	for _, status := range []int{404, 405, 501} {
		g := newRig(t)
		g.reporter.Wake()
		g.count("apps/a", 3)
		g.answer = refusing(status)
		g.untilPost()
		for i := 0; i < 100; i++ {
			g.count("apps/a", 1)
			if rest := g.step(); rest != longestRest {
				t.Fatalf("status %d: nothing was collected for %s", status, rest)
			}
		}
		if len(g.posts) != 1 {
			t.Fatalf("status %d: there were %d reports", status, len(g.posts))
		}
		g.reporter.Renew()
		if took := g.untilPost(); took != time.Second {
			t.Errorf("status %d: after a new table a report came after %s, want 1s", status, took)
		}
		g.reporter.Renew()
		g.answer = nil
		if g.untilPost(); g.posts[0] != g.posts[2] {
			t.Errorf("status %d: first %s, then %s", status, g.posts[0], g.posts[2])
		}
		g.untilPost()
		g.wantCounted("apps/a", 103)
		if len(g.lines) != 2 || !strings.HasPrefix(g.lines[0], fmt.Sprintf("+ reports to http://e: it takes none (status %d ", status)) {
			t.Errorf("status %d: got the lines %q", status, g.lines)
		}
	}
}

// A table that comes while an endpoint says that it takes no reports may be why
// it does next time.
func TestNoReportsAndAnotherTable(t *testing.T) {
	g := newRig(t)
	g.reporter.Wake()
	g.answer = func(_ *usage.Report) feed.Reply {
		g.reporter.Renew()
		return feed.Reply{Endpoint: "http://e", Status: 404, Err: errors.New("status 404")}
	}
	g.untilPost()
	g.answer = nil
	if took := g.untilPost(); took != time.Second {
		t.Errorf("a report came after %s, want 1s", took)
	}
}

// What an endpoint will never take is given up, and that is said.
func TestBadReports(t *testing.T) {
	g := newRig(t)
	g.reporter.Wake()
	g.count("apps/a", 3)
	g.answer = refusing(400)
	g.untilPost()
	g.answer = nil
	g.count("apps/a", 4)
	if took := g.untilPost(); took != 500*time.Millisecond || g.lastPost().Sequence != 2 {
		t.Errorf("after %s: %+v", took, g.lastPost())
	}
	g.wantCounted("apps/a", 4)
	g.wantLines("! reports to http://e: status 400; 3 requests will never be reported", "+ reports to http://e: accepted again")
}

func TestSequenceBehind(t *testing.T) {
	g := newRig(t)
	g.reporter.Wake()
	g.accepted = 7
	g.count("apps/a", 3)
	g.untilPost()
	g.count("apps/a", 4)
	g.untilPost()
	if got := g.lastPost().Sequence; got != 8 {
		t.Errorf("went on with report %d, want 8", got)
	}
	g.wantCounted("apps/a", 4)

	// One that makes no sense is a failure like any other.
	for _, body := range []string{"", "{}", `{"sequence": 8}`, `{"sequence": 9007199254740991}`, `{"sequence": -1}`} {
		g.answer = func(_ *usage.Report) feed.Reply {
			return feed.Reply{Endpoint: "http://e", Status: 409, Body: []byte(body), Err: errors.New("status 409")}
		}
		g.count("apps/a", 1)
		g.untilPost()
		g.answer = nil
		g.untilPost()
	}
	g.wantCounted("apps/a", 9)
}

// An answer that cannot be read may belong to a report that was taken, or to none.
func TestBadAnswers(t *testing.T) {
	for _, body := range []string{"", "<html>", "{}", `{"sequence": 2, "next": 1}`, `{"sequence": 1, "next": 0}`} {
		g := newRig(t)
		g.reporter.Wake()
		g.count("apps/a", 3)
		g.answer = func(_ *usage.Report) feed.Reply {
			return feed.Reply{Endpoint: "http://e", Status: 200, Body: []byte(body)}
		}
		g.untilPost()
		g.answer = nil
		g.untilPost()
		if g.posts[0] != g.posts[1] {
			t.Errorf("%s: first %s, then %s", body, g.posts[0], g.posts[1])
		}
		g.wantCounted("apps/a", 3)
		if len(g.lines) != 2 || !strings.HasPrefix(g.lines[0], "! reports to http://e: the answer is not valid: ") {
			t.Errorf("%s: got the lines %q", body, g.lines)
		}
	}
}

// A report is bounded, and what is left over follows soon.
func TestLargeReports(t *testing.T) {
	g := newRig(t)
	g.reporter.Wake()
	for i := 0; i < mostRows+10; i++ {
		g.count(fmt.Sprint("apps/", i), 1)
	}
	g.untilPost()
	if got := len(g.lastPost().Usage); got != mostRows {
		t.Errorf("got %d rows, want %d", got, mostRows)
	}
	if took := g.untilPost(); took != soonest || len(g.got) != mostRows+10 {
		t.Errorf("after %s more %d kinds are known, want %d", took, len(g.got), mostRows+10)
	}
	if took := g.untilPost(); took != idle*time.Second {
		t.Errorf("an empty report came after %s", took)
	}

	long := strings.Repeat("é", 3000)
	for i := 0; i < 1000; i++ {
		g.counted = append(g.counted, usage.Row{API: "apps/api", KeyTitle: fmt.Sprint(i, long), Count: 1})
	}
	for i := 0; i < 100 && len(g.got) < mostRows+1010; i++ {
		g.untilPost()
		if n := len(g.posts[len(g.posts)-1]); n > mostBytes {
			t.Fatalf("a report has %d bytes, more than %d", n, mostBytes)
		}
	}
	if len(g.got) != mostRows+1010 {
		t.Errorf("got %d kinds, want %d", len(g.got), mostRows+1010)
	}
}

// Where too many kinds wait, callers are no longer told apart, and none is lost.
func TestTooManyKinds(t *testing.T) {
	g := newRig(t)
	g.reporter.waiting = newTally(10)
	g.reporter.Wake()
	g.answer = refusing(404)
	for i := 0; i < 25; i++ {
		g.count(fmt.Sprint("apps/", i), 2)
		g.step()
	}
	g.reporter.Renew()
	g.answer = nil
	g.untilPost()
	g.untilPost()
	sum := int64(0)
	for _, n := range g.got {
		sum += n
	}
	// The first report was made of the first row.
	if sum != 50 || len(g.got) != 12 || g.got[usage.Row{API: "apps/api"}] != 28 {
		t.Errorf("%d requests of %d kinds, %d of them without a name, want 50 of 12, 28", sum, len(g.got), g.got[usage.Row{API: "apps/api"}])
	}
	told := 0
	for _, line := range g.lines {
		if strings.Contains(line, "kinds of requests") {
			told++
		}
	}
	if told != 1 {
		t.Errorf("it was told %d times, want once: %q", told, g.lines)
	}
}

// Names are cut to what a report may have, and stay apart.
func TestLongNames(t *testing.T) {
	g := newRig(t)
	g.reporter.Wake()
	long := strings.Repeat("é", 5000)
	g.counted = append(g.counted, usage.Row{API: long, Application: long, KeyTitle: long, Subscription: long, Plan: long, Count: 1})
	g.counted = append(g.counted, usage.Row{API: long, Application: long + "x", KeyTitle: long, Subscription: long, Plan: long, Count: 1})
	g.untilPost()
	if got := g.lastPost().Usage; len(got) != 2 || !strings.HasPrefix(got[0].Application, strings.Repeat("é", 490)) {
		t.Errorf("got %d rows", len(got))
	}
}

// A number that is too low for now is made up for later, and never told.
func TestNegativeCounts(t *testing.T) {
	g := newRig(t)
	g.reporter.Wake()
	for _, n := range []int64{-3, 2, 5, -4, 4} {
		g.count("apps/a", n)
		g.step()
	}
	g.wantCounted("apps/a", 4)
}

func TestSleep(t *testing.T) {
	g := newRig(t)
	g.reporter.Wake()
	g.untilPost()
	done := 0
	for i := 0; i < 2*mostRows+1; i++ {
		g.count(fmt.Sprint("apps/", i), 1)
	}
	g.reporter.Sleep(func() { done++ })
	if rest := g.step(); rest != 0 || done != 1 || g.lasts != 1 || len(g.posts) != 4 || g.delay >= 0 {
		t.Errorf("after %s: done %d times, %d last collections, %d reports, timer %s", rest, done, g.lasts, len(g.posts), g.delay)
	}
	if len(g.got) != 2*mostRows+1 {
		t.Errorf("got %d kinds", len(g.got))
	}
	g.reporter.Sleep(func() { done++ })
	if done != 2 || g.delay >= 0 {
		t.Errorf("done %d times, timer %s", done, g.delay)
	}

	// It goes on where it was.
	g.reporter.Wake()
	g.count("apps/a", 1)
	if took := g.untilPost(); took != time.Second || g.lastPost().Sequence != 5 {
		t.Errorf("after %s: %d", took, g.lastPost().Sequence)
	}
}

// What the last report could not tell waits until the reporter wakes.
func TestSleepWithoutAnswer(t *testing.T) {
	for _, status := range []int{0, 404} {
		g := newRig(t)
		g.reporter.Wake()
		g.count("apps/a", 3)
		g.answer = refusing(status)
		g.untilPost()
		g.count("apps/a", 4)
		done := false
		g.reporter.Sleep(func() { done = true })
		if g.step(); !done || g.delay >= 0 {
			t.Errorf("status %d: done %t, timer %s", status, done, g.delay)
		}
		g.answer = nil
		g.reporter.Wake()
		g.untilPost()
		g.untilPost()
		g.wantCounted("apps/a", 7)
	}
}

// Another life begins without the delays of the last one.
func TestWakeForgetsDelays(t *testing.T) {
	g := newRig(t)
	g.reporter.Wake()
	g.answer = func(_ *usage.Report) feed.Reply {
		return feed.Reply{Status: 503, RetryAfter: time.Hour, Err: errors.New("status 503")}
	}
	g.untilPost()
	g.reporter.Sleep(func() {})
	g.step()
	g.answer = nil
	g.reporter.Wake()
	if took := g.untilPost(); took != time.Second {
		t.Errorf("a report came after %s, want 1s", took)
	}
}

// Waking a reporter that is about to sleep keeps it awake.
func TestWakeBeforeSleep(t *testing.T) {
	g := newRig(t)
	g.reporter.Wake()
	done := false
	g.reporter.Sleep(func() { done = true })
	g.reporter.Wake()
	g.count("apps/a", 1)
	if took := g.untilPost(); took != time.Second || done || g.lasts != 0 {
		t.Errorf("after %s: done %t, %d last collections", took, done, g.lasts)
	}

	// Likewise while a report is under way, at whose end it would.
	g.answer = func(r *usage.Report) feed.Reply {
		g.reporter.Sleep(func() { done = true })
		g.answer = nil
		return g.accept(r)
	}
	g.count("apps/a", 1)
	g.untilPost()
	if g.delay != 0 || done {
		t.Errorf("the end comes after %s, want at once; done %t", g.delay, done)
	}
	g.count("apps/a", 1)
	g.answer = func(r *usage.Report) feed.Reply {
		g.reporter.Wake()
		g.answer = nil
		return g.accept(r)
	}
	g.untilPost()
	if g.delay < 0 || done {
		t.Errorf("it sleeps: timer %s, done %t", g.delay, done)
	}
	g.wantCounted("apps/a", 3)
}

// Turns never overlap, whatever the timer does.
func TestOneAtATime(t *testing.T) {
	g := newRig(t)
	g.reporter.Wake()
	g.count("apps/a", 1)
	turn := g.run
	g.answer = func(r *usage.Report) feed.Reply {
		turn()
		g.reporter.Wake()
		g.reporter.Renew()
		if g.delay >= 0 {
			t.Error("a timer is armed during a turn")
		}
		return g.accept(r)
	}
	g.untilPost()
	if len(g.posts) != 1 {
		t.Errorf("%d reports, want 1", len(g.posts))
	}
}

// Panics end neither the process nor the reports.
func TestPanics(t *testing.T) {
	g := newRig(t)
	g.reporter.Wake()
	g.count("apps/a", 3)
	g.answer = func(_ *usage.Report) feed.Reply { panic("post") }
	g.untilPost()
	report := g.reporter.cfg.Report
	g.reporter.cfg.Report = func(_ string, _ bool) { panic("report") }
	g.answer = refusing(500)
	g.untilPost()
	g.reporter.cfg.Report = report
	g.answer = nil
	if took := g.untilPost(); took != maxRetry {
		t.Errorf("the next one came after %s, want %s", took, maxRetry)
	}
	g.wantCounted("apps/a", 3)
	if len(g.lines) == 0 || !strings.HasPrefix(g.lines[0], "! reports: reporting panicked: post") {
		t.Errorf("got the lines %q", g.lines)
	}
}

// Whatever happens to reports and answers, each request counts once.
func TestEachRequestCountsOnce(t *testing.T) {
	for seed := int64(1); seed <= 100; seed++ {
		dice := rand.New(rand.NewSource(seed))
		g := newRig(t)
		g.reporter.waiting = newTally(5)
		g.reporter.Wake()
		awake := true
		g.answer = func(r *usage.Report) feed.Reply {
			switch dice.Intn(7) {
			case 0:
				return refusing([]int{0, 404, 500, 503}[dice.Intn(4)])(r)
			case 1:
				g.accept(r) // and its answer is lost
				return feed.Reply{Err: errors.New("no answer")}
			case 2:
				g.accept(r)
				return refusing(404)(r)
			case 3:
				g.reporter.Renew()
			}
			return g.accept(r)
		}
		sent := int64(0)
		for i := 0; i < 60; i++ {
			n := int64(dice.Intn(5))
			sent += n
			if n > 0 {
				g.count(fmt.Sprint("apps/", dice.Intn(8)), n)
			}
			switch dice.Intn(12) {
			case 0:
				g.reporter.Renew()
			case 1:
				g.reporter.Sleep(func() { awake = false })
			case 2:
				g.reporter.Wake()
				awake = true
			}
			if awake {
				g.step()
			}
		}
		g.answer = nil
		g.reporter.Wake()
		g.reporter.Renew()
		for i := 0; i < 30; i++ {
			g.step()
		}
		got := int64(0)
		for _, n := range g.got {
			got += n
		}
		if got != sent {
			t.Fatalf("seed %d: %d requests were counted, want %d", seed, got, sent)
		}
	}
}

func TestRealTimingRunsWhatItIsGiven(t *testing.T) {
	with := realTiming()
	ran := make(chan bool, 1)
	f := func() { ran <- true }
	with.AfterFunc(time.Hour, f)
	with.AfterFunc(0, f)
	<-ran
	if stop := with.AfterFunc(time.Hour, f); !stop() {
		t.Error("the timer was not stopped")
	}
	if d := with.Draw(); d < 0 || d >= 1 {
		t.Errorf("drew %g", d)
	}
}

func TestReportsAreJSON(t *testing.T) {
	g := newRig(t)
	g.reporter.Wake()
	g.counted = []usage.Row{{API: "apps/api", Code: 401, Reason: "key_missing", Count: 1}}
	g.untilPost()
	var got map[string]interface{}
	if err := json.Unmarshal([]byte(g.posts[0]), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]interface{}{
		"instance": testInstance, "sequence": 1.0, "host": "gw-1", "revision": 42.0, "tableAge": 3.5,
		"usage": []interface{}{map[string]interface{}{"api": "apps/api", "code": 401.0, "reason": "key_missing", "count": 1.0}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
