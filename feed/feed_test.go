package feed

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tollgate-apim/tollgate/table"
)

const testToken = "sync-token-0123456789"

// tableBody returns a small valid table. Two with the same arguments are the
// same bytes.
func tableBody(revision int, title string) string {
	return fmt.Sprintf(`{"revision": %d, "issuedAt": "2026-11-21T17:00:00Z", "plans": {"apps/plan": {"title": %q}},
		"apis": {}, "subscriptions": {}, "applications": {}, "keys": {}}`, revision, title)
}

// fakeTime stands in for the clock and the timer. A timer never runs by itself:
// poll runs the armed one on the caller's goroutine, so that all that a poll
// does is done when it returns.
type fakeTime struct {
	mu    sync.Mutex
	clock time.Time
	luck  float64
	// background runs what a feed would run on another goroutine; nil runs it on
	// the same one.
	background func(func())
	armed      []fakeTimer // at most one, unless the feed is wrong
}

type fakeTimer struct {
	delay time.Duration
	run   func()
}

func newFakeTime() *fakeTime {
	return &fakeTime{clock: time.Date(2026, 11, 21, 17, 0, 0, 0, time.UTC), luck: 0.5}
}

func (ft *fakeTime) timing() timing {
	return timing{
		now: func() time.Time {
			ft.mu.Lock()
			defer ft.mu.Unlock()
			return ft.clock
		},
		after: func(d time.Duration, run func()) func() bool {
			ft.mu.Lock()
			defer ft.mu.Unlock()
			ft.armed = append(ft.armed, fakeTimer{d, run})
			return func() bool {
				ft.mu.Lock()
				defer ft.mu.Unlock()
				ft.armed = nil
				return true
			}
		},
		draw: func() float64 {
			ft.mu.Lock()
			defer ft.mu.Unlock()
			return ft.luck
		},
		background: func(run func()) {
			if ft.background != nil {
				ft.background(run)
				return
			}
			run()
		},
	}
}

// take removes the armed timer and lets its delay pass.
func (ft *fakeTime) take(t *testing.T) fakeTimer {
	t.Helper()
	ft.mu.Lock()
	defer ft.mu.Unlock()
	if len(ft.armed) != 1 {
		t.Fatalf("got %d timers armed, want 1", len(ft.armed))
	}
	timer := ft.armed[0]
	ft.armed = nil
	ft.clock = ft.clock.Add(timer.delay)
	return timer
}

// poll runs the poll that is due next and returns the delay that preceded it.
func (ft *fakeTime) poll(t *testing.T) time.Duration {
	t.Helper()
	timer := ft.take(t)
	timer.run()
	return timer.delay
}

func (ft *fakeTime) nextDelay(t *testing.T) time.Duration {
	t.Helper()
	ft.mu.Lock()
	defer ft.mu.Unlock()
	if len(ft.armed) != 1 {
		t.Fatalf("got %d timers armed, want 1", len(ft.armed))
	}
	return ft.armed[0].delay
}

func (ft *fakeTime) armedTimers() int {
	ft.mu.Lock()
	defer ft.mu.Unlock()
	return len(ft.armed)
}

// site is a sync endpoint.
type site struct {
	server *httptest.Server

	mu       sync.Mutex
	handle   http.HandlerFunc
	requests []*http.Request
}

// newSite starts an endpoint that answers by handle.
func newSite(t testing.TB, handle http.HandlerFunc) *site {
	t.Helper()
	s := &site{handle: handle}
	s.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.requests = append(s.requests, r)
		handle := s.handle
		s.mu.Unlock()
		handle(w, r)
	}))
	t.Cleanup(func() { s.server.Close() })
	return s
}

// answer makes the endpoint answer by handle from now on.
func (s *site) answer(handle http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handle = handle
}

// asked returns the requests since it was last called.
func (s *site) asked() []*http.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	requests := s.requests
	s.requests = nil
	return requests
}

func (s *site) lastRequest() *http.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests[len(s.requests)-1]
}

func (s *site) requestCount() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.requests)
}

// rig is a feed, the endpoint that it asks first, and what it reported.
type rig struct {
	*site
	t    *testing.T
	feed *Feed
	time *fakeTime

	linesMu sync.Mutex
	lines   []string // with "+ " or "! " in front
}

// client returns a client that uses a transport.
func client(transport *http.Transport) func() *http.Client {
	c := &http.Client{Transport: transport}
	return func() *http.Client { return c }
}

// newRig starts a feed with sensible settings, changed by change if that is not
// nil, holding last. Its server answers by handle.
func newRig(t *testing.T, handle http.HandlerFunc, last *Snapshot, change func(*Config)) *rig {
	t.Helper()
	return newRigAt(t, newFakeTime(), handle, last, change)
}

// newRigAt is newRig with a clock and timers that there are already.
func newRigAt(t *testing.T, ft *fakeTime, handle http.HandlerFunc, last *Snapshot, change func(*Config)) *rig {
	t.Helper()
	g := &rig{t: t, time: ft, site: newSite(t, handle)}
	cfg := Config{
		Endpoints: []string{g.server.URL},
		Token:     testToken,
		Interval:  10 * time.Second,
		Timeout:   30 * time.Second,
		Client:    client(&http.Transport{}),
		Report: func(line string, failed bool) {
			mark := "+ "
			if failed {
				mark = "! "
			}
			g.linesMu.Lock()
			defer g.linesMu.Unlock()
			g.lines = append(g.lines, mark+line)
		},
	}
	if change != nil {
		change(&cfg)
	}
	g.feed = start(cfg, last, g.time.timing())
	t.Cleanup(func() { g.feed.Stop() })
	return g
}

// said returns the lines reported since it was last called.
func (g *rig) said() []string {
	g.linesMu.Lock()
	defer g.linesMu.Unlock()
	lines := g.lines
	g.lines = nil
	return lines
}

// wantLine checks that exactly one line was reported, and that it has all parts.
func (g *rig) wantLine(mark string, parts ...string) {
	g.t.Helper()
	lines := g.said()
	if len(lines) != 1 {
		g.t.Fatalf("got lines %q, want one", lines)
	}
	if !strings.HasPrefix(lines[0], mark+" sync endpoint ") {
		g.t.Errorf("got line %q, want it marked %q", lines[0], mark)
	}
	for _, part := range parts {
		if !strings.Contains(lines[0], part) {
			g.t.Errorf("got line %q, want %q in it", lines[0], part)
		}
	}
	if strings.Contains(lines[0], testToken) {
		g.t.Errorf("the token is in line %q", lines[0])
	}
}

func (g *rig) wantSilence() {
	g.t.Helper()
	if lines := g.said(); len(lines) != 0 {
		g.t.Errorf("got lines %q, want none", lines)
	}
}

func (g *rig) wantRevision(want int64) {
	g.t.Helper()
	if got := Current(g.feed); got == nil || got.Table.Revision != want {
		g.t.Fatalf("got %+v in force, want revision %d", got, want)
	}
}

// serve answers with a body and its tag.
func serve(tag, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if tag != "" {
			w.Header().Set("ETag", tag)
			if r.Header.Get("If-None-Match") == tag {
				w.WriteHeader(http.StatusNotModified)
				return
			}
		}
		_, _ = w.Write([]byte(body))
	}
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

func TestFirstPollIsAtOnce(t *testing.T) {
	g := newRig(t, serve(`"a"`, tableBody(42, "")), nil, nil)
	if got := Current(g.feed); got != nil {
		t.Errorf("before the first poll: got %+v in force, want nothing", got)
	}
	began := g.time.clock
	if delay := g.time.poll(t); delay != 0 {
		t.Errorf("first poll: got a delay of %s, want none", delay)
	}
	g.wantRevision(42)
	g.wantLine("+", g.server.URL, "revision 42 is in force")
	if got := Current(g.feed).Confirmed; !got.Equal(began) {
		t.Errorf("confirmed: got %s, want %s", got, began)
	}
	if got := g.time.nextDelay(t); got != 10*time.Second {
		t.Errorf("delay after success: got %s, want 10s", got)
	}
}

func TestRequest(t *testing.T) {
	g := newRig(t, serve(`"a"`, tableBody(42, "")), nil, nil)
	g.time.poll(t)
	r := g.lastRequest()
	if r.Method != http.MethodGet || r.RequestURI != "/v1/table" {
		t.Errorf("got %s %s, want GET /v1/table", r.Method, r.RequestURI)
	}
	rows := []struct{ header, want string }{
		{"Accept", "application/vnd.tollgate.index+json, application/json"},
		{"Authorization", "Bearer " + testToken},
		{"Accept-Encoding", "gzip"},
		{"User-Agent", "tollgate"},
		{"If-None-Match", ""},
	}
	for _, row := range rows {
		if got := r.Header.Get(row.header); got != row.want {
			t.Errorf("%s: got %q, want %q", row.header, got, row.want)
		}
	}
	g.time.poll(t)
	if got := g.lastRequest().Header.Get("If-None-Match"); got != `"a"` {
		t.Errorf("second request: got If-None-Match %q, want the tag of the first answer", got)
	}
}

func TestRequestWithoutToken(t *testing.T) {
	g := newRig(t, serve("", tableBody(42, "")), nil, func(c *Config) {
		c.Endpoints[0] += "/base"
		c.Token = ""
	})
	g.time.poll(t)
	r := g.lastRequest()
	if got, sent := r.Header["Authorization"]; sent {
		t.Errorf("got Authorization %q, want none", got)
	}
	if r.RequestURI != "/base/v1/table" {
		t.Errorf("got %s, want the path appended to the base URL", r.RequestURI)
	}
}

func TestNotModifiedConfirms(t *testing.T) {
	for _, tag := range []string{`"a"`, `W/"a"`, ""} {
		g := newRig(t, serve(`"a"`, tableBody(42, "")), nil, nil)
		g.time.poll(t)
		g.said()
		before := Current(g.feed)
		tag := tag
		g.answer(func(w http.ResponseWriter, _ *http.Request) {
			if tag != "" {
				w.Header().Set("ETag", tag)
			}
			w.WriteHeader(http.StatusNotModified)
		})
		g.time.poll(t)
		g.wantSilence()
		after := Current(g.feed)
		if after.Table != before.Table {
			t.Errorf("tag %s: the table was replaced", tag)
		}
		if got := after.Confirmed.Sub(before.Confirmed); got != 10*time.Second {
			t.Errorf("tag %s: confirmed %s after the first poll, want 10s", tag, got)
		}
	}
}

func TestNotModifiedWithoutTable(t *testing.T) {
	g := newRig(t, status(http.StatusNotModified), nil, nil)
	g.time.poll(t)
	g.wantLine("!", "304", "no table yet")
	if got := Current(g.feed); got != nil {
		t.Errorf("got %+v in force, want nothing", got)
	}
}

func TestNotModifiedForAnotherTag(t *testing.T) {
	g := newRig(t, serve(`"a"`, tableBody(42, "")), nil, nil)
	g.time.poll(t)
	g.said()
	before := Current(g.feed)
	g.answer(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("ETag", `"b"`)
		w.WriteHeader(http.StatusNotModified)
	})
	g.time.poll(t)
	g.wantLine("!", "304", "revision 42) stays in force")
	if Current(g.feed) != before {
		t.Error("a 304 for another tag confirmed the table")
	}
}

// A table that was never tagged cannot be confirmed by a tag.
func TestNotModifiedForAnUntaggedTable(t *testing.T) {
	g := newRig(t, serve("", tableBody(42, "")), nil, nil)
	g.time.poll(t)
	g.said()
	g.answer(status(http.StatusNotModified))
	g.time.poll(t)
	g.wantLine("!", "304", "revision 42) stays in force")
}

func TestSameBodyConfirms(t *testing.T) {
	g := newRig(t, serve(`"a"`, tableBody(42, "")), nil, nil)
	g.time.poll(t)
	g.said()
	before := Current(g.feed)
	g.answer(serve(`"b"`, tableBody(42, "")))
	g.time.poll(t)
	g.wantSilence()
	after := Current(g.feed)
	if after.Table != before.Table || !after.Confirmed.After(before.Confirmed) {
		t.Errorf("got %+v after %+v, want the same table confirmed later", after, before)
	}
	g.time.poll(t)
	if got := g.lastRequest().Header.Get("If-None-Match"); got != `"b"` {
		t.Errorf("got If-None-Match %s, want the newer tag", got)
	}
}

func TestHigherRevisionReplaces(t *testing.T) {
	g := newRig(t, serve(`"a"`, tableBody(42, "old")), nil, nil)
	g.time.poll(t)
	g.said()
	before := Current(g.feed)
	g.answer(serve(`"b"`, tableBody(43, "new")))
	g.time.poll(t)
	g.wantRevision(43)
	g.wantLine("+", "revision 43 is in force")
	if before.Table.Revision != 42 || before.Table.Plans["apps/plan"].Title != "old" {
		t.Error("the snapshot taken before was changed")
	}
}

func TestGzip(t *testing.T) {
	g := newRig(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept-Encoding") != "gzip" {
			w.WriteHeader(http.StatusNotAcceptable)
			return
		}
		w.Header().Set("Content-Encoding", "gzip")
		zip := gzip.NewWriter(w)
		_, _ = zip.Write([]byte(tableBody(42, "")))
		_ = zip.Close()
	}, nil, nil)
	g.time.poll(t)
	g.wantRevision(42)
}

// readTable returns a file of testdata/tables.
func readTable(t testing.TB, name string) string {
	t.Helper()
	data, err := os.ReadFile("../testdata/tables/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// badAnswer is an answer that leaves the last good table in force.
type badAnswer struct {
	name   string
	handle http.HandlerFunc
	change func(*Config)
	want   string
}

func badAnswers(t testing.TB) []badAnswer {
	page := func(name string) http.HandlerFunc { return serve(`"bad"`, readTable(t, "bad/"+name+".json")) }
	tiny := func(c *Config) { c.MaxBytes = 1000 }
	hurried := func(c *Config) { c.Timeout = 50 * time.Millisecond }
	return []badAnswer{
		{"truncated JSON", page("truncated"), nil, "unexpected end of JSON input"},
		{"truncated body", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100000")
			_, _ = w.Write([]byte(tableBody(43, "")))
		}, nil, "unexpected EOF"},
		{"truncated gzip", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			zip := gzip.NewWriter(w)
			_, _ = zip.Write([]byte(tableBody(43, "")))
			_ = zip.Flush()
		}, nil, "unexpected EOF"},
		{"no gzip", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write([]byte(tableBody(43, "")))
		}, nil, "gzip: invalid header"},
		{"wrong types", page("revision_text"), nil, "cannot unmarshal string"},
		{"revision missing", page("revision_missing"), nil, "revision: 0, must be 1 or more"},
		{"bad plan", page("rate_period_days"), nil, `"1d", must be a duration`},
		{"empty body", serve("", ""), nil, "0 bytes"},
		{"HTML with status 200", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			_, _ = w.Write([]byte(readTable(t, "bad/html.json")))
		}, nil, `Content-Type "text/html") is no valid table`},
		{"over the cap", serve("", tableBody(43, strings.Repeat("x", 1000))), tiny, "larger than allowed: over 1000 bytes"},
		{"over the cap when unzipped", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			zip := gzip.NewWriter(w)
			_, _ = zip.Write([]byte(tableBody(43, strings.Repeat("x", 1<<20))))
			_ = zip.Close()
		}, tiny, "larger than allowed: over 1000 bytes"},
		{"endless", func(w http.ResponseWriter, _ *http.Request) {
			block := []byte(strings.Repeat(" ", 1<<16))
			for {
				if _, err := w.Write(block); err != nil {
					return
				}
			}
		}, tiny, "larger than allowed"},
		{"201", status(http.StatusCreated), nil, "status 201 Created, expected status 200"},
		{"204", status(http.StatusNoContent), nil, "status 204 No Content, expected status 200"},
		{"206 with a table", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write([]byte(tableBody(43, "")))
		}, nil, "status 206 Partial Content, expected status 200"},
		{"401", status(http.StatusUnauthorized), nil, "status 401 Unauthorized (check the token), expected status 200"},
		{"403", status(http.StatusForbidden), nil, "status 403 Forbidden (check the token)"},
		{"404", status(http.StatusNotFound), nil, "status 404 Not Found"},
		{"500", status(http.StatusInternalServerError), nil, "status 500 Internal Server Error, expected status 200"},
		{"500 with a table", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = w.Write([]byte(tableBody(43, "")))
		}, nil, "status 500"},
		{"redirect to itself", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/v1/table?again", http.StatusFound)
		}, nil, "status 302 Found to http://127.0.0.1"},
		{"redirect with a secret", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "http://"+testToken+"@elsewhere.example/"+testToken)
			w.WriteHeader(http.StatusPermanentRedirect)
		}, nil, "status 308 Permanent Redirect to http://elsewhere.example (redirects are not followed)"},
		{"redirect to nowhere", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "http://[::1")
			w.WriteHeader(http.StatusMovedPermanently)
		}, nil, "Location"},
		{"an answer that tells the token", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", r.Header.Get("Authorization"))
			_, _ = w.Write([]byte("\n"))
		}, nil, `Content-Type "Bearer [hidden]"`},
		{"no answer", func(_ http.ResponseWriter, r *http.Request) {
			<-r.Context().Done()
		}, hurried, "no complete answer within 50ms"},
		{"no body", func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusOK)
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}, hurried, "no complete answer within 50ms"},
		// As one byte a second: progress does not buy time.
		{"byte by byte", func(w http.ResponseWriter, _ *http.Request) {
			for {
				if _, err := w.Write([]byte(" ")); err != nil {
					return
				}
				w.(http.Flusher).Flush()
			}
		}, hurried, "no complete answer within 50ms"},
		{"hang up", func(w http.ResponseWriter, _ *http.Request) {
			if conn, _, err := w.(http.Hijacker).Hijack(); err == nil {
				_ = conn.Close()
			}
		}, nil, "no answer: EOF"},
	}
}

// Each bad answer is told once, leaves the good table alone, and is forgotten
// after a good one.
func TestBadAnswers(t *testing.T) {
	for _, row := range badAnswers(t) {
		row := row
		t.Run(row.name, func(t *testing.T) {
			g := newRig(t, serve(`"good"`, tableBody(42, "")), nil, nil)
			g.time.poll(t)
			g.said()
			before := Current(g.feed)
			patient := g.feed.cfg
			if row.change != nil {
				row.change(&g.feed.cfg)
			}

			g.answer(row.handle)
			g.time.poll(t)
			g.wantLine("!", g.server.URL, row.want, "the last good table (revision 42) stays in force")
			if got := g.time.nextDelay(t); got != 500*time.Millisecond {
				t.Errorf("delay after the first failure: got %s, want 500ms", got)
			}
			g.time.poll(t)
			g.wantSilence()
			if got := g.time.nextDelay(t); got != time.Second {
				t.Errorf("delay after the second failure: got %s, want 1s", got)
			}
			if Current(g.feed) != before {
				t.Errorf("got %+v in force, want what was", Current(g.feed))
			}
			if got := g.lastRequest().Header.Get("If-None-Match"); got != `"good"` {
				t.Errorf("got If-None-Match %s, want the good table's tag", got)
			}

			g.feed.cfg = patient
			g.answer(serve(`"better"`, tableBody(43, "")))
			g.time.poll(t)
			g.wantRevision(43)
			g.wantLine("+", "answers again", "revision 43")
			if got := g.time.nextDelay(t); got != 10*time.Second {
				t.Errorf("delay after success: got %s, want 10s", got)
			}
		})
	}
}

func TestBadAnswersBeforeTheFirstTable(t *testing.T) {
	for _, row := range badAnswers(t) {
		row := row
		t.Run(row.name, func(t *testing.T) {
			g := newRig(t, row.handle, nil, row.change)
			g.time.poll(t)
			g.wantLine("!", g.server.URL, row.want, "there is no table yet, so requests are refused")
			if got := Current(g.feed); got != nil {
				t.Errorf("got %+v in force, want nothing", got)
			}
		})
	}
}

func TestRevisions(t *testing.T) {
	rows := []struct {
		name     string
		revision int
		title    string
		want     string
	}{
		{"lower", 41, "held", "revision 41 came after revision 42, expected a higher one"},
		{"lower with other content", 1, "other", "revision 1 came after revision 42"},
		{"same with other content", 42, "other", "revision 42 came again with other content"},
	}
	for _, row := range rows {
		row := row
		t.Run(row.name, func(t *testing.T) {
			g := newRig(t, serve(`"a"`, tableBody(42, "held")), nil, nil)
			g.time.poll(t)
			g.said()
			before := Current(g.feed)
			g.answer(serve(`"b"`, tableBody(row.revision, row.title)))
			g.time.poll(t)
			g.wantLine("!", row.want, "the last good table (revision 42) stays in force")
			if Current(g.feed) != before {
				t.Errorf("got %+v in force, want what was", Current(g.feed))
			}
		})
	}
}

func TestUnreachable(t *testing.T) {
	g := newRig(t, serve(`"a"`, tableBody(42, "")), nil, nil)
	g.time.poll(t)
	g.said()
	g.server.Close()
	g.time.poll(t)
	g.wantLine("!", g.server.URL, "no answer", "revision 42) stays in force")
	g.wantRevision(42)
}

// A connection that breaks tells its port, which differs each time.
func TestSameFailureIsToldOnce(t *testing.T) {
	g := newRig(t, status(http.StatusOK), nil, nil)
	g.feed.settle(outcome{err: errors.New("read tcp 127.0.0.1:40001->127.0.0.1:7070: connection reset by peer")})
	g.wantLine("!", "127.0.0.1:40001")
	g.feed.settle(outcome{err: errors.New("read tcp 127.0.0.1:40002->127.0.0.1:7070: connection reset by peer")})
	g.wantSilence()
}

func TestEachFailureIsTold(t *testing.T) {
	g := newRig(t, serve(`"a"`, tableBody(42, "")), nil, nil)
	steps := []struct {
		handle http.HandlerFunc
		want   string // empty: nothing is told
	}{
		{serve(`"a"`, tableBody(42, "")), "+ sync endpoint URL: the table of revision 42 is in force"},
		{serve(`"a"`, tableBody(42, "")), ""},
		{status(500), "! sync endpoint URL: status 500 Internal Server Error, expected status 200 with a table; the last good table (revision 42) stays in force"},
		{status(500), ""},
		{status(502), "! sync endpoint URL: status 502 Bad Gateway, expected status 200 with a table; the last good table (revision 42) stays in force"},
		{status(502), ""},
		{status(500), "! sync endpoint URL: status 500 Internal Server Error, expected status 200 with a table; the last good table (revision 42) stays in force"},
		{serve(`"a"`, tableBody(42, "")), "+ sync endpoint URL: answers again; the table of revision 42 is in force"},
		{serve(`"a"`, tableBody(42, "")), ""},
		{serve(`"b"`, tableBody(44, "")), "+ sync endpoint URL: the table of revision 44 is in force"},
		{status(500), "! sync endpoint URL: status 500 Internal Server Error, expected status 200 with a table; the last good table (revision 44) stays in force"},
	}
	for i, step := range steps {
		g.answer(step.handle)
		g.time.poll(t)
		got := strings.ReplaceAll(strings.Join(g.said(), "\n"), g.server.URL, "URL")
		if got != step.want {
			t.Errorf("step %d: got %q, want %q", i+1, got, step.want)
		}
	}
}

// A redirect is an answer, never a way: the other host is not asked at all.
func TestRedirectIsNotFollowed(t *testing.T) {
	var mu sync.Mutex
	asked := 0
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		asked++
		_, _ = w.Write([]byte(tableBody(43, "")))
	}))
	t.Cleanup(other.Close)
	for _, code := range []int{301, 302, 303, 307, 308} {
		code := code
		// A client that would follow is overruled, and left as it was.
		client := &http.Client{Transport: &http.Transport{}}
		given := func() *http.Client { return client }
		g := newRig(t, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, other.URL+"/v1/table", code)
		}, nil, func(c *Config) { c.Client = given })
		g.time.poll(t)
		g.wantLine("!", fmt.Sprintf("status %d", code), other.URL)
		if got := Current(g.feed); got != nil {
			t.Errorf("status %d: got %+v in force, want nothing", code, got)
		}
		if client.CheckRedirect != nil {
			t.Error("the caller's client was changed")
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if asked != 0 {
		t.Errorf("the other host was asked %d times", asked)
	}
}

func TestEndpointWithUser(t *testing.T) {
	g := newRig(t, func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		w.Header().Set("Content-Type", user+" "+password)
		_, _ = w.Write([]byte("{}"))
	}, nil, func(c *Config) {
		c.Endpoints[0] = strings.Replace(c.Endpoints[0], "http://", "http://gatekeeper:s%C3%A9same@", 1)
		c.Token = ""
	})
	g.time.poll(t)
	lines := strings.Join(g.said(), "\n")
	for _, secret := range []string{"gatekeeper", "s%C3%A9same", "sésame"} {
		if strings.Contains(lines, secret) {
			t.Errorf("%q is in %q", secret, lines)
		}
	}
	if want := "sync endpoint " + g.server.URL + ":"; !strings.Contains(lines, want) {
		t.Errorf("got %q, want %q in it", lines, want)
	}
}

func TestEndpointIsNoURL(t *testing.T) {
	g := newRig(t, status(http.StatusOK), nil, func(c *Config) { c.Endpoints = []string{"http://user:pass/word@host"} })
	g.time.poll(t)
	lines := strings.Join(g.said(), "\n")
	if !strings.Contains(lines, "cannot be asked") || strings.Contains(lines, "word") {
		t.Errorf("got %q", lines)
	}
}

func TestLinesAreShortAndSingle(t *testing.T) {
	g := newRig(t, serve("", tableBody(42, "")), nil, nil)
	g.feed.settle(outcome{err: errors.New("first\nsecond\x1b[31m" + strings.Repeat("é", 10000))})
	line := strings.Join(g.said(), "")
	if len(line) > 2*maxReason || strings.Contains(line, "\n") || strings.Contains(line, "\x1b") {
		t.Errorf("got a line of %d bytes: %q", len(line), line)
	}
}

func TestBackOff(t *testing.T) {
	rows := []struct {
		interval time.Duration
		want     string
	}{
		{10 * time.Second, "500ms 1s 2s 4s 8s 16s 30s 30s"},
		{time.Second, "500ms 1s 2s 4s 8s 16s 30s 30s"},
		{time.Minute, "500ms 1s 2s 4s 8s 16s 32s 1m0s 1m0s"},
		{31 * time.Second, "500ms 1s 2s 4s 8s 16s 31s 31s"},
	}
	for _, row := range rows {
		interval := row.interval
		g := newRig(t, status(500), nil, func(c *Config) { c.Interval = interval })
		var got []string
		for range strings.Fields(row.want) {
			g.time.poll(t)
			got = append(got, g.time.nextDelay(t).String())
		}
		if text := strings.Join(got, " "); text != row.want {
			t.Errorf("interval %s: got %s, want %s", row.interval, text, row.want)
		}
	}
}

func TestBackOffForEver(t *testing.T) {
	if got := retryDelay(1<<30, time.Second); got != maxRetry {
		t.Errorf("got %s, want %s", got, maxRetry)
	}
}

// Jitter is drawn for each delay, after success and after failure.
func TestJitter(t *testing.T) {
	g := newRig(t, serve(`"a"`, tableBody(42, "")), nil, nil)
	rows := []struct {
		luck   float64
		handle http.HandlerFunc
		want   time.Duration
	}{
		{0, serve(`"a"`, tableBody(42, "")), 9 * time.Second},
		{1, serve(`"a"`, tableBody(42, "")), 11 * time.Second},
		{0.5, serve(`"a"`, tableBody(42, "")), 10 * time.Second},
		{0, status(500), 450 * time.Millisecond},
		{1, status(500), 1100 * time.Millisecond},
		{0.25, status(500), 1900 * time.Millisecond},
	}
	for i, row := range rows {
		g.time.mu.Lock()
		g.time.luck = row.luck
		g.time.mu.Unlock()
		g.answer(row.handle)
		g.time.poll(t)
		// The product is made of floating point numbers.
		if got := g.time.nextDelay(t); got.Round(time.Microsecond) != row.want {
			t.Errorf("row %d: got %s, want %s", i+1, got, row.want)
		}
	}
}

// The real draw stays within its bounds and is not always the same.
func TestRealJitter(t *testing.T) {
	draw := realTiming().draw
	seen := map[float64]bool{}
	for i := 0; i < 100; i++ {
		x := draw()
		if x < 0 || x > 1 {
			t.Fatalf("got %v, want a number from 0 to 1", x)
		}
		seen[x] = true
	}
	if len(seen) < 2 {
		t.Error("got the same number each time")
	}
}

// A feed that follows another holds its table, tag and all.
func TestStartWithLast(t *testing.T) {
	first := newRig(t, serve(`"a"`, tableBody(42, "")), nil, nil)
	first.time.poll(t)
	last := Current(first.feed)
	first.feed.Stop()

	second := newRig(t, status(500), last, func(c *Config) { c.Endpoints = []string{first.server.URL} })
	if Current(second.feed) != last {
		t.Error("the last table is not in force at once")
	}
	second.time.poll(t)
	second.wantSilence()
	if got := first.lastRequest().Header.Get("If-None-Match"); got != `"a"` {
		t.Errorf("got If-None-Match %s, want the last table's tag", got)
	}
	if Current(second.feed).Table != last.Table {
		t.Error("the table was replaced by itself")
	}
	first.answer(serve(`"b"`, tableBody(41, "")))
	second.time.poll(t)
	second.wantLine("!", "revision 41 came after revision 42")
}

// A table whose bytes are not known, as a caller's own, may come again.
func TestStartWithForeignLast(t *testing.T) {
	own, err := table.Decode([]byte(tableBody(42, "")))
	if err != nil {
		t.Fatal(err)
	}
	g := newRig(t, serve(`"a"`, tableBody(42, "")), &Snapshot{Table: own}, nil)
	g.time.poll(t)
	if got := Current(g.feed); got.Table == own || got.Confirmed.IsZero() {
		t.Errorf("got %+v in force, want the server's table", got)
	}
	g.wantRevision(42)
}

// Stop cancels the poll under way; it changes nothing, tells nothing and arms
// nothing any more.
func TestStopDuringPoll(t *testing.T) {
	asked := make(chan bool)
	release := make(chan bool)
	g := newRig(t, func(w http.ResponseWriter, r *http.Request) {
		asked <- true
		<-r.Context().Done()
		release <- true
	}, nil, nil)
	done := make(chan bool)
	timer := g.time.take(t)
	go func() {
		defer func() { done <- recover() == nil }()
		timer.run()
	}()
	<-asked
	g.feed.Stop()
	<-release // the server saw the request end
	if !<-done {
		t.Error("the poll panicked")
	}
	if got := g.time.armedTimers(); got != 0 {
		t.Errorf("got %d timers armed after Stop, want none", got)
	}
	g.wantSilence()
	g.feed.Stop()
}

func TestStopBetweenPolls(t *testing.T) {
	g := newRig(t, serve(`"a"`, tableBody(42, "")), nil, nil)
	g.time.poll(t)
	g.feed.Stop()
	g.feed.Stop()
	if got := g.time.armedTimers(); got != 0 {
		t.Errorf("got %d timers armed after Stop, want none", got)
	}
	g.wantRevision(42)
}

// A timer may have fired just before Stop: its poll asks nobody.
func TestStopBeforePoll(t *testing.T) {
	g := newRig(t, serve(`"a"`, tableBody(42, "")), nil, nil)
	timer := g.time.take(t)
	g.feed.Stop()
	timer.run()
	if got := g.requestCount(); got != 0 {
		t.Errorf("got %d requests after Stop, want none", got)
	}
	if Current(g.feed) != nil || g.time.armedTimers() != 0 {
		t.Error("a stopped feed went on")
	}
	g.wantSilence()
}

// A poll may succeed just before Stop: what it brings comes too late.
func TestStopAfterPoll(t *testing.T) {
	g := newRig(t, serve(`"a"`, tableBody(42, "")), nil, nil)
	o := g.feed.poll()
	if o.err != nil {
		t.Fatal(o.err)
	}
	g.feed.Stop()
	g.feed.settle(o)
	if got := Current(g.feed); got != nil {
		t.Errorf("got %+v in force after Stop, want nothing", got)
	}
	g.wantSilence()
}

// A connection that waits for the next poll has nothing to wait for.
func TestStopClosesConnection(t *testing.T) {
	closed := make(chan bool, 1)
	server := httptest.NewUnstartedServer(serve(`"a"`, tableBody(42, "")))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateClosed {
			closed <- true
		}
	}
	server.Start()
	// Not deferred: in Yaegi a deferred call that waits for a closure of the same
	// function, as Close may for ConnState, waits for ever.
	t.Cleanup(server.Close)
	g := newRig(t, status(500), nil, func(c *Config) { c.Endpoints = []string{server.URL} })
	g.time.poll(t)
	g.wantRevision(42)
	g.feed.Stop()
	<-closed
}

func TestStopFromReport(t *testing.T) {
	var f *Feed
	g := newRig(t, serve(`"a"`, tableBody(42, "")), nil, func(c *Config) {
		c.Report = func(_ string, _ bool) { f.Stop() }
	})
	f = g.feed
	g.time.poll(t)
	if got := g.time.armedTimers(); got != 0 {
		t.Errorf("got %d timers armed after Stop, want none", got)
	}
}

// While a poll is under way no other is armed.
func TestOnePollAtATime(t *testing.T) {
	asked := make(chan bool)
	release := make(chan bool)
	g := newRig(t, func(w http.ResponseWriter, _ *http.Request) {
		asked <- true
		<-release
		_, _ = w.Write([]byte(tableBody(42, "")))
	}, nil, nil)
	for i := 0; i < 3; i++ {
		done := make(chan bool)
		timer := g.time.take(t)
		go func() {
			defer func() { done <- recover() == nil }()
			timer.run()
		}()
		<-asked
		if got := g.time.armedTimers(); got != 0 {
			t.Errorf("got %d timers armed during a poll, want none", got)
		}
		release <- true
		if !<-done {
			t.Error("the poll panicked")
		}
		if got := g.time.armedTimers(); got != 1 {
			t.Errorf("got %d timers armed after a poll, want 1", got)
		}
	}
	if got := g.requestCount(); got != 3 {
		t.Errorf("got %d requests, want 3", got)
	}
}

func TestPanicInPoll(t *testing.T) {
	g := newRig(t, serve(`"a"`, tableBody(42, "")), nil, nil)
	now := g.feed.timing.now
	g.feed.timing.now = func() time.Time { panic("the clock " + testToken + " is broken") }
	g.time.poll(t)
	g.wantLine("!", "polling panicked: the clock [hidden] is broken")
	if got := g.time.nextDelay(t); got != 500*time.Millisecond {
		t.Errorf("delay after a panic: got %s, want 500ms", got)
	}
	g.feed.timing.now = now
	g.time.poll(t)
	g.wantLine("+", "answers again")
}

func TestPanicInReport(t *testing.T) {
	g := newRig(t, serve(`"a"`, tableBody(42, "")), nil, func(c *Config) {
		c.Report = func(_ string, _ bool) { panic("no paper") }
	})
	g.time.poll(t)
	g.wantRevision(42)
	g.answer(status(500))
	g.time.poll(t)
	g.time.poll(t)
	if got := g.time.nextDelay(t); got != time.Second {
		t.Errorf("got a delay of %s, want 1s", got)
	}
}

func TestNoReport(t *testing.T) {
	g := newRig(t, serve(`"a"`, tableBody(42, "")), nil, func(c *Config) { c.Report = nil })
	g.time.poll(t)
	g.wantRevision(42)
}

// One connection serves many polls, also those that fail with a short body.
func TestConnectionIsReused(t *testing.T) {
	g := newRig(t, serve(`"a"`, tableBody(42, "")), nil, nil)
	handles := []http.HandlerFunc{
		serve(`"a"`, tableBody(42, "")),
		serve(`"a"`, tableBody(42, "")),
		func(w http.ResponseWriter, _ *http.Request) { http.Error(w, strings.Repeat("sorry ", 1000), 500) },
		serve(`"b"`, tableBody(43, "")),
	}
	for _, handle := range handles {
		g.answer(handle)
		g.time.poll(t)
	}
	requests := g.asked()
	for _, r := range requests {
		if r.RemoteAddr != requests[0].RemoteAddr {
			t.Errorf("got a connection from %s, want the one from %s", r.RemoteAddr, requests[0].RemoteAddr)
		}
	}
}

// passage hands connections on to an address, until it is cut: then those that
// there are stay open, and nothing comes through any more.
func passage(t *testing.T, to string) (address string, cut func()) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var near, far []net.Conn
	go func() {
		for {
			from, err := listener.Accept()
			if err != nil {
				return
			}
			onward, err := net.Dial("tcp", to)
			if err != nil {
				_ = from.Close()
				continue
			}
			mu.Lock()
			near = append(near, from)
			far = append(far, onward)
			mu.Unlock()
			go func() { _, _ = io.Copy(onward, from) }()
			go func() { _, _ = io.Copy(from, onward) }()
		}
	}()
	cut = func() {
		mu.Lock()
		defer mu.Unlock()
		for _, c := range far {
			_ = c.Close()
		}
	}
	t.Cleanup(func() {
		_ = listener.Close()
		cut()
		mu.Lock()
		defer mu.Unlock()
		for _, c := range near {
			_ = c.Close()
		}
	})
	return listener.Addr().String(), cut
}

// A connection that died without a trace is not used for ever, though HTTP/2 would
// keep it.
func TestDeadConnection(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		server := httptest.NewUnstartedServer(serve(`"a"`, tableBody(42, "")))
		server.EnableHTTP2 = http2
		server.StartTLS()
		t.Cleanup(func() { server.Close() })
		address, cut := passage(t, server.Listener.Addr().String())
		lines := make(chan string, 100)
		f := Start(Config{
			Endpoints: []string{"https://" + address}, Interval: 100 * time.Millisecond, Timeout: time.Second, Client: server.Client,
			Report: func(line string, _ bool) { lines <- line },
		}, nil)
		t.Cleanup(func() { f.Stop() })
		time.AfterFunc(20*time.Second, func() { lines <- "nothing in time" })
		for i, want := range []string{"revision 42 is in force", "no complete answer within 1s", "answers again"} {
			if i == 1 {
				cut()
			}
			if got := <-lines; !strings.Contains(got, want) {
				t.Fatalf("HTTP/2 %t: got line %q, want %q", http2, got, want)
			}
		}
		f.Stop()
	}
}

// With the real timer: polls follow one another, and end.
func TestRealTimer(t *testing.T) {
	asked := make(chan bool)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked <- true
		_, _ = w.Write([]byte(tableBody(42, "")))
	}))
	lines := make(chan string, 10)
	f := Start(Config{
		Endpoints: []string{server.URL},
		Interval:  time.Millisecond,
		Timeout:   time.Minute,
		Report:    func(line string, _ bool) { lines <- line },
	}, nil)
	<-asked
	if line := <-lines; !strings.Contains(line, "revision 42 is in force") {
		t.Errorf("got line %q", line)
	}
	<-asked
	<-asked
	f.Stop()
	// A poll may have been under way: the server takes what it sent.
	go func() {
		defer func() { _ = recover() }()
		for range asked {
		}
	}()
	server.Close()
	close(asked)
	if got := Current(f); got == nil || got.Table.Revision != 42 || time.Since(got.Confirmed) < 0 {
		t.Errorf("got %+v in force, want revision 42", got)
	}
}

// Current may be asked by any number of requests while tables come and go.
func TestCurrentDuringPolls(t *testing.T) {
	revision := 41
	var mu sync.Mutex
	g := newRig(t, func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		revision++
		_, _ = w.Write([]byte(tableBody(revision, "")))
	}, nil, nil)
	g.time.poll(t)
	var stop atomic.Bool
	var readers sync.WaitGroup
	for i := 0; i < 4; i++ {
		readers.Add(1)
		go func() {
			defer readers.Done()
			last := int64(42)
			for !stop.Load() {
				now := Current(g.feed).Table.Revision
				if now < last {
					t.Errorf("got revision %d after %d", now, last)
				}
				last = now
				runtime.Gosched()
			}
		}()
	}
	for i := 0; i < 20; i++ {
		g.time.poll(t)
	}
	g.wantRevision(62)
	stop.Store(true)
	readers.Wait()
}

// Whatever a server answers, a good table is only followed by a good one.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte(tableBody(42, "held")), "", false)
	f.Add([]byte(tableBody(42, "other")), `"held"`, false)
	f.Add([]byte(tableBody(41, "lower")), `"lower"`, false)
	f.Add([]byte(tableBody(43, "higher")), `"higher"`, false)
	f.Add([]byte(nil), `W/"held"`, true)
	f.Add([]byte(nil), `"other"`, true)
	for _, name := range []string{"truncated", "html", "null", "list", "revision_text", "keys_list", "many_problems"} {
		f.Add([]byte(readTable(f, "bad/"+name+".json")), "", false)
	}
	f.Add([]byte(readTable(f, "good/weather.json")), "", false)
	began := time.Date(2026, 11, 21, 17, 0, 0, 0, time.UTC)
	held, err := successor(nil, question{}, answer{etag: `"held"`, body: []byte(tableBody(42, "held"))}, nil, began)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body []byte, tag string, notModified bool) {
		now := began.Add(time.Minute)
		a := answer{notModified: notModified, etag: tag, body: body}
		next, err := successor(held, question{etag: `"held"`}, a, nil, now)
		if held.Table.Revision != 42 || held.etag != `"held"` || !held.Confirmed.Equal(began) {
			t.Fatalf("the snapshot held was changed to %+v", held)
		}
		if err != nil {
			if next != nil {
				t.Fatalf("got a snapshot beside the error %v", err)
			}
			return
		}
		if !next.Confirmed.Equal(now) {
			t.Fatalf("confirmed: got %s, want %s", next.Confirmed, now)
		}
		if next.Table == held.Table {
			return
		}
		if err := table.Validate(next.Table); err != nil {
			t.Fatalf("an invalid table came in force: %v", err)
		}
		if next.Table.Revision <= held.Table.Revision {
			t.Fatalf("revision %d replaced %d", next.Table.Revision, held.Table.Revision)
		}
	})
}

// Wherever an answer is cut, it changes nothing, and the next one is taken.
func TestCutAtEveryByte(t *testing.T) {
	body := tableBody(43, "new")
	var zipped strings.Builder
	zip := gzip.NewWriter(&zipped)
	_, _ = zip.Write([]byte(body))
	_ = zip.Close()
	chunk := func(text string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(text), text) }
	for name, response := range map[string]string{
		"length":  fmt.Sprintf("HTTP/1.1 200 OK\r\nETag: \"b\"\r\nContent-Length: %d\r\n\r\n%s", len(body), body),
		"chunks":  "HTTP/1.1 200 OK\r\nETag: \"b\"\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(body[:50]) + chunk(body[50:]) + "0\r\n\r\n",
		"close":   "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + body,
		"gzip":    fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s", zipped.Len(), zipped.String()),
		"refusal": "HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nsorry",
	} {
		cut := 0
		g := newRig(t, serve(`"a"`, tableBody(42, "old")), nil, func(c *Config) {
			c.Client = client(&http.Transport{DisableKeepAlives: true})
		})
		g.time.poll(t)
		before := Current(g.feed).Table
		g.answer(func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = conn.Write([]byte(response[:cut]))
			_ = conn.Close()
		})
		for ; cut < len(response); cut += 7 {
			g.time.poll(t)
			if Current(g.feed).Table != before {
				t.Fatalf("%s: cut after %d of %d bytes, it came in force", name, cut, len(response))
			}
		}
		cut = len(response)
		g.time.poll(t)
		if taken := Current(g.feed).Table != before; taken != (name != "refusal") {
			t.Errorf("%s: whole, it came in force: %t", name, taken)
		}
	}
}

// One failure is told once, however its text varies, and another one is told.
func TestGist(t *testing.T) {
	others := map[string]string{}
	for _, same := range [][]string{
		{
			"no answer: dial tcp 10.1.2.3:7070: connect: connection refused",
			"no answer: dial tcp 10.1.22.131:7070: connect: connection refused",
			"no answer: dial tcp [2001:db8::1]:7070: connect: connection refused",
			"no answer: dial tcp [fe80::1%eth0]:7070: connect: connection refused",
		}, {
			"no answer: read tcp 10.0.0.1:54321->10.0.0.7:443: read: connection reset by peer",
			"no answer: read tcp [::1]:3->[::1]:443: read: connection reset by peer",
		}, {
			"no answer: dial tcp: lookup sync.example.com on 10.96.0.10:53: no such host",
			"no answer: dial tcp: lookup sync.example.com on 10.96.0.11:53: no such host",
		}, {
			"x509: certificate has expired or is not yet valid: current time 2026-11-22T03:40:12Z is after 2026-11-20T00:00:00Z",
			"x509: certificate has expired or is not yet valid: current time 2026-11-22T04:40:12+01:00 is after 2026-11-20T00:00:00Z",
		}, {
			"no answer: stream error: stream ID 5; INTERNAL_ERROR; received from peer",
			"no answer: stream error: stream ID 1999; INTERNAL_ERROR; received from peer",
		}, {
			`http2: server sent GOAWAY and closed the connection; LastStreamID=7, ErrCode=NO_ERROR, debug=""`,
			`http2: server sent GOAWAY and closed the connection; LastStreamID=23, ErrCode=NO_ERROR, debug=""`,
		}, {
			`the body (1234 bytes, Content-Type "text/html") is no valid table`,
			`the body (987 bytes, Content-Type "text/html") is no valid table`,
		}, {
			"revision 41 came after revision 45, expected a higher one: tables are not rolled back",
			"revision 42 came after revision 46, expected a higher one: tables are not rolled back",
		}, {
			"part 3 of 256 of revision 43: status 500 Internal Server Error",
			"part 200 of 256 of revision 44: status 500 Internal Server Error",
		}, {
			"part 1 of 2 of revision 3: part " + strings.Repeat("0a", 32) + ": has SHA-256 " + strings.Repeat("1b", 32) + " (5 bytes)",
			"part 2 of 2 of revision 3: part " + strings.Repeat("1a", 32) + ": has SHA-256 " + strings.Repeat("2b", 32) + " (17 bytes)",
		}, {
			"24 of 64 parts of revision 42 did not come within 2m30s",
			"3 of 64 parts of revision 42 did not come within 1m0s",
		},
		{"status 500 Internal Server Error"},
		{"status 503 Service Unavailable"},
		{"plans.apps/plan-1.quota.limit: -5, must be 0 to 10"},
		{"plans.apps/plan-2.quota.limit: -5, must be 0 to 10"},
		{"part 3 of 256 of revision 43: status 404 Not Found"},
		{"no answer: dial tcp 10.1.2.3:7070: connect: no route to host"},
		{"no answer: tls: failed to verify certificate: x509: certificate signed by unknown authority"},
	} {
		gist := Gist(same[0])
		for _, text := range same {
			if got := Gist(text); got != gist {
				t.Errorf("%q: got the gist %q, want that of %q", text, got, same[0])
			}
		}
		if others[gist] != "" {
			t.Errorf("%q has the gist of %q", same[0], others[gist])
		}
		others[gist] = same[0]
	}
}

// A login page that is another one each time is told of once.
func TestFailureThatVaries(t *testing.T) {
	polls := 0
	g := newRig(t, func(w http.ResponseWriter, _ *http.Request) {
		polls++
		_, _ = w.Write([]byte("<html>" + strings.Repeat(" ", polls)))
	}, nil, nil)
	g.time.poll(t)
	g.wantLine("!", "is no valid table")
	g.time.poll(t)
	g.wantSilence()
}
