package tollgate

import (
	"bytes"
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tollgate-apim/tollgate/feed"
	"github.com/tollgate-apim/tollgate/table"
)

// desk is a registry whose feeds and timers a test looks at.
type desk struct {
	t        *testing.T
	registry *registry
	// started are the feeds, with the tables that they began with.
	started []*feed.Feed
	began   []*feed.Snapshot
	// timers take what waits for the linger to pass.
	timers chan func()
}

func newDesk(t *testing.T) *desk {
	d := &desk{t: t, timers: make(chan func(), 100)}
	d.registry = newRegistry(
		func(c feed.Config, last *feed.Snapshot) *feed.Feed {
			f := feed.Start(c, last)
			t.Cleanup(func() { f.Stop() })
			d.started = append(d.started, f)
			d.began = append(d.began, last)
			return f
		},
		func(delay time.Duration, f func()) {
			if delay != linger {
				t.Errorf("a source lingers for %s, want %s", delay, linger)
			}
			d.timers <- f
		})
	d.registry.timing = noReports()
	return d
}

// acquire takes a source, and returns how to end what it was taken for.
func (d *desk) acquire(s syncSettings) (*source, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	d.t.Cleanup(cancel)
	return d.registry.acquire(ctx, s, func(string, bool) {}), cancel
}

// patience is how long a test waits for what happens by itself. It is far more
// than it takes.
const patience = 20 * time.Second

// expired returns what runs when the linger of a source has passed.
func (d *desk) expired() func() {
	d.t.Helper()
	late := time.AfterFunc(patience, func() { d.timers <- nil })
	defer late.Stop()
	f := <-d.timers
	if f == nil {
		d.t.Fatal("no source was given up")
	}
	return f
}

// await returns when something has come to pass.
func await(t *testing.T, what string, passed chan bool) {
	t.Helper()
	late := time.AfterFunc(patience, func() { passed <- false })
	defer late.Stop()
	if !<-passed {
		t.Fatalf("in vain: %s", what)
	}
}

// pollWatch is a sync endpoint that never answers. It tells of each poll that
// begins, and of each that is given up.
func pollWatch(t *testing.T) (endpoint string, began, ended chan bool) {
	t.Helper()
	began, ended = make(chan bool, 100), make(chan bool, 100)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		began <- true
		<-r.Context().Done()
		ended <- true
	}))
	t.Cleanup(func() { server.Close() })
	return server.URL, began, ended
}

func settingsOf(endpoint string) syncSettings {
	return syncSettings{endpoints: []string{endpoint}, interval: time.Hour, timeout: time.Hour, maxBytes: 1 << 20}
}

func TestReloadsKeepOneFeed(t *testing.T) {
	d := newDesk(t)
	endpoint, began, ended := pollWatch(t)
	s := settingsOf(endpoint)

	first, end := d.acquire(s)
	await(t, "a poll", began)
	for i := 0; i < 20; i++ {
		// Traefik ends all middlewares before it makes the new ones.
		end()
		expired := d.expired()
		var again *source
		if again, end = d.acquire(s); again != first {
			t.Fatalf("reload %d: another source", i+1)
		}
		expired()
	}
	if len(d.started) != 1 || len(ended) > 0 {
		t.Errorf("after 20 reloads %d feeds were started and %d polls given up, want 1 and 0", len(d.started), len(ended))
	}

	end()
	expired := d.expired()
	if len(ended) > 0 {
		t.Error("the feed ended before the linger had passed")
	}
	expired()
	await(t, "the poll under way to be given up", ended)
	if len(d.registry.sources) != 0 {
		t.Errorf("%d sources are left", len(d.registry.sources))
	}

	other, end := d.acquire(s)
	await(t, "a poll", began)
	if other == first || len(d.started) != 2 {
		t.Errorf("%d feeds were started, want another after the first had ended", len(d.started))
	}
	if other.counters != first.counters {
		t.Error("a source that comes back has forgotten what was consumed")
	}
	// What is left of the first feed cannot end the second.
	expired()
	end()
	d.expired()()
	await(t, "the poll of the second feed to be given up", ended)
	if len(began)+len(ended) > 0 {
		t.Errorf("%d polls too many", len(began)+len(ended))
	}
}

func TestMiddlewaresShareASource(t *testing.T) {
	d := newDesk(t)
	s := settingsOf(nobody)
	first, endFirst := d.acquire(s)
	second, endSecond := d.acquire(s)
	if first != second || len(d.started) != 1 {
		t.Fatalf("%d feeds for two middlewares with one configuration, want 1", len(d.started))
	}
	endFirst()
	endSecond()
	expired := d.expired()
	if len(d.timers) > 0 {
		t.Error("a source was given up although somebody used it")
	}
	expired()
	if len(d.registry.sources) != 0 {
		t.Error("a source that nobody uses is kept")
	}
}

// A reload that comes and goes while the source lingers starts the linger anew.
func TestLingerStartsAnew(t *testing.T) {
	d := newDesk(t)
	s := settingsOf(nobody)
	_, end := d.acquire(s)
	end()
	early := d.expired()
	_, end = d.acquire(s)
	end()
	late := d.expired()
	early()
	if len(d.registry.sources) != 1 {
		t.Fatal("the linger of the first use ended the source after the second")
	}
	late()
	if len(d.registry.sources) != 0 {
		t.Error("the source was not ended")
	}
}

func TestSourcesOfOneEndpoint(t *testing.T) {
	d := newDesk(t)
	s := settingsOf(nobody)
	first, _ := d.acquire(s)
	others := map[string]*source{}
	for name, change := range map[string]func(*syncSettings){
		"token":    func(s *syncSettings) { s.token = "t" },
		"interval": func(s *syncSettings) { s.interval++ },
		"timeout":  func(s *syncSettings) { s.timeout++ },
		"wait":     func(s *syncSettings) { s.wait = time.Minute },
		"maxBytes": func(s *syncSettings) { s.maxBytes++ },
		"key":      func(s *syncSettings) { s.publicKeys = []string{strings.Repeat("k", 32)} },
		"tls":      func(s *syncSettings) { s.tls.InsecureSkipVerify = true },
		"list":     func(s *syncSettings) { s.endpoints = []string{nobody + "/new", nobody} },
	} {
		other := s
		change(&other)
		others[name], _ = d.acquire(other)
	}
	for name, other := range others {
		if other == first {
			t.Errorf("another %s, but the same source", name)
		}
		if other.counters != first.counters {
			t.Errorf("another %s, and counters of its own", name)
		}
	}
	elsewhere, _ := d.acquire(settingsOf(nobody + "/elsewhere"))
	if elsewhere.counters == first.counters {
		t.Error("two endpoints share counters")
	}
	// What was beside an endpoint for a while goes on with its counters.
	beside, _ := d.acquire(settingsOf(nobody + "/new"))
	if beside.counters != first.counters {
		t.Error("an endpoint forgot its counters when another was taken out")
	}
}

func TestNewSettingsInheritTheTable(t *testing.T) {
	d := newDesk(t)
	// Feeds that hold a table from the start stand for feeds that have polled.
	revisions := []int64{1, 5, 3}
	real := d.registry.start
	d.registry.start = func(c feed.Config, last *feed.Snapshot) *feed.Feed {
		if len(d.began) < len(revisions) {
			d.began = append(d.began, last)
			return feed.Start(c, &feed.Snapshot{Table: &table.Table{Revision: revisions[len(d.began)-1]}, Confirmed: time.Now()})
		}
		return real(c, last)
	}
	s := settingsOf(nobody)
	for i := 0; i < 4; i++ {
		s.interval++
		d.acquire(s)
	}
	other := s
	other.endpoints = []string{nobody + "/elsewhere"}
	d.acquire(other)

	var got []string
	for _, last := range d.began {
		if last == nil {
			got = append(got, "none")
		} else {
			got = append(got, fmt.Sprint(last.Table.Revision))
		}
	}
	if want := "none 1 5 5 none"; strings.Join(got, " ") != want {
		t.Errorf("sources began with the revisions %s, want %s: the newest of the same endpoint", strings.Join(got, " "), want)
	}
}

// A table from where anybody may have answered is taken over only by settings
// that ask such an endpoint themselves.
func TestTrustIsNotInherited(t *testing.T) {
	const plain, secure = "http://127.0.0.1:1", "https://127.0.0.1:1"
	for _, test := range []struct {
		name      string
		from      string
		unchecked bool
		to        syncSettings
		want      bool
	}{
		{"plain to both", plain, false, syncSettings{endpoints: []string{plain, secure}}, true},
		{"plain to secure", plain, false, syncSettings{endpoints: []string{secure}}, false},
		{"secure to secure", secure, false, syncSettings{endpoints: []string{secure}}, true},
		{"secure to plain", secure, false, syncSettings{endpoints: []string{plain}}, true},
		{"unchecked to secure", secure, true, syncSettings{endpoints: []string{secure}}, false},
		{"unchecked to plain", secure, true, syncSettings{endpoints: []string{plain}}, true},
	} {
		d := newDesk(t)
		real := d.registry.start
		d.registry.start = func(c feed.Config, last *feed.Snapshot) *feed.Feed {
			if len(d.began) == 0 {
				last = &feed.Snapshot{Table: &table.Table{Revision: 1}, From: test.from}
			}
			return real(c, last)
		}
		first := syncSettings{endpoints: []string{plain, secure}, interval: time.Hour, timeout: time.Hour, maxBytes: 1}
		first.tls.InsecureSkipVerify = test.unchecked
		d.acquire(first)
		test.to.interval = 2 * time.Hour
		test.to.timeout = time.Hour
		d.acquire(test.to)
		if got := d.began[1] != nil; got != test.want {
			t.Errorf("%s: the table was taken over: %t, want %t", test.name, got, test.want)
		}
	}
}

// Two settings for other tables with one file are told of, unless it is an edit.
func TestSharedCacheFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "table.cache")
	for _, test := range []struct {
		name   string
		change func(*syncSettings)
		edit   bool
		want   int // lines
	}{
		{"another endpoint", func(s *syncSettings) { s.endpoints = []string{nobody + "/elsewhere"} }, false, 1},
		{"another key", func(s *syncSettings) { s.publicKeys = []string{strings.Repeat("k", 32)} }, false, 1},
		{"another token", func(s *syncSettings) { s.token = "t" }, false, 0},
		{"another file", func(s *syncSettings) { s.cacheFile = file + "2" }, false, 0},
		{"an edit", func(s *syncSettings) { s.endpoints = []string{nobody + "/elsewhere"} }, true, 0},
	} {
		d := newDesk(t)
		first := settingsOf(nobody)
		first.cacheFile = file
		second := first
		test.change(&second)
		_, end := d.acquire(first)
		var lines []string
		src := d.registry.acquire(context.Background(), second, func(line string, _ bool) {
			if strings.Contains(line, "cacheFile") {
				lines = append(lines, line)
			}
		})
		if test.edit {
			end()
			await := d.expired() // of the cache, or of the end of the first source
			other := d.expired()
			await()
			other()
		} else if len(d.timers) > 0 {
			d.expired()()
		}
		if len(lines) != test.want || test.want == 1 && !strings.Contains(lines[0], file+" is named by middlewares with another") {
			t.Errorf("%s: got lines %q, want %d", test.name, lines, test.want)
		}
		src.feed.Stop()
	}
}

// A table that was kept decides the first request, whatever the endpoint does.
func TestCacheFileDecidesTheFirstRequest(t *testing.T) {
	endpoint := newLive(t)
	c := testConfig(weatherAPI)
	c.Sync.Endpoint = []string{endpoint.server.URL}
	c.Sync.CacheFile = filepath.Join(t.TempDir(), "table.cache")
	r := newRig(t, c)
	endpoint.await("no table yet")
	endpoint.put(testTable(table.Plan{RateLimit: perHour(9)}))
	for late := time.Now().Add(patience); ; runtime.Gosched() {
		if _, err := os.Stat(c.Sync.CacheFile); err == nil {
			break
		}
		if time.Now().After(late) {
			t.Fatal("no file was written")
		}
	}
	if got := r.call("ann"); got != "ok 8" {
		t.Errorf("got %q", got)
	}

	// Another process: nothing but the file is left, and nobody answers.
	endpoint.server.Close()
	withSources(t, func(c feed.Config, last *feed.Snapshot) *feed.Feed {
		c.Report = func(string, bool) {}
		f := feed.Start(c, last)
		f.Stop()
		return f
	})
	r = newRig(t, c)
	if got := r.call("ann"); got != "ok 8" {
		t.Errorf("the first request after a restart: got %q, want ok 8", got)
	}
	if got := r.call("eve"); got != "key_invalid" {
		t.Errorf("the second request after a restart: got %q, want key_invalid", got)
	}
}

// The header of an answer is bounded too.
func TestClientBoundsHeaders(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/long" {
			w.Header().Set("ETag", strings.Repeat("x", 1<<20))
		}
	}))
	t.Cleanup(server.Close)
	client := newClient(time.Minute, nil)
	for _, path := range []string{"/short", "/long"} {
		req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, server.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err == nil {
			_ = resp.Body.Close()
		}
		if refused := err != nil; refused != (path == "/long") {
			t.Errorf("%s: got error %v", path, err)
		}
	}
}

func TestSourcesUnderLoad(t *testing.T) {
	d := newDesk(t)
	s := settingsOf(nobody)
	var wait sync.WaitGroup
	for i := 0; i < 8; i++ {
		wait.Add(1)
		go func() {
			defer wait.Done()
			for j := 0; j < 10; j++ {
				ctx, cancel := context.WithCancel(context.Background())
				d.registry.acquire(ctx, s, func(string, bool) {})
				cancel()
			}
		}()
	}
	wait.Wait()
	// A release that found the source unused armed a timer. Those of earlier
	// ones may still be under way, so go on until the source has ended.
	for len(d.started) == 1 {
		d.expired()()
		d.registry.mu.Lock()
		left := len(d.registry.sources)
		d.registry.mu.Unlock()
		if left == 0 {
			return
		}
	}
	t.Errorf("%d feeds were started, want 1", len(d.started))
}

// A middleware serves the requests in flight after its context has ended.
func TestOldMiddlewaresGoOn(t *testing.T) {
	withSources(t, holding(testTable(table.Plan{RateLimit: perHour(9)}), 0))
	ended := make(chan func(), 1)
	sources.after = func(_ time.Duration, f func()) { ended <- f }
	ctx, cancel := context.WithCancel(context.Background())
	served := 0
	handler, err := New(ctx, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served++ }), testConfig(weatherAPI), "test")
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	(<-ended)()
	r := newRig(t, testConfig(weatherAPI))
	w := (&rig{t: t, handler: handler}).do("GET", "/weather", "Authorization: Bearer ann")
	if served != 1 || w.Code != http.StatusOK {
		t.Errorf("got status %d from a middleware whose context has ended", w.Code)
	}
	if got := r.call("ann"); got != "ok 7" {
		t.Errorf("old and new middleware count apart: got %q, want ok 7", got)
	}
}

func TestReportOnce(t *testing.T) {
	var lines []string
	s := &source{reported: map[string]bool{}, report: func(line string, failed bool) {
		if !failed {
			t.Errorf("%s: not reported as a failure", line)
		}
		lines = append(lines, line)
	}}
	for i := 0; i < 3; i++ {
		s.reportOnce("a")
		s.reportOnce("b")
	}
	if got := strings.Join(lines, " "); got != "a b" {
		t.Errorf("reported %q, want a and b once each", got)
	}
	for i := 0; i < 2000; i++ {
		s.reportOnce(fmt.Sprint("line ", i))
	}
	if len(lines) != 1000 || len(s.reported) != 1000 {
		t.Errorf("reported %d different lines and remembers %d, want 1000", len(lines), len(s.reported))
	}
}

// Traefik makes an ERROR line of what goes where package log writes.
func TestFailuresGoToTheLog(t *testing.T) {
	var written bytes.Buffer
	before := log.Writer()
	log.SetOutput(&written)
	report("trouble", true)
	log.SetOutput(before)
	if got := written.String(); got != "tollgate: trouble\n" {
		t.Errorf("got %q", got)
	}
}

func TestPanicsAreReported(t *testing.T) {
	told := make(chan string, 1)
	tell := func(line string, failed bool) { told <- fmt.Sprint(line, " ", failed) }
	go func() {
		defer recovered(tell)
		panic("oh")
	}()
	if got := <-told; got != "panic: oh true" {
		t.Errorf("reported %q", got)
	}
}
