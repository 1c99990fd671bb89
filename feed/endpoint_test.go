package feed

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// waiting makes a feed ask its endpoints to wait.
func waiting(c *Config) { c.Wait = 30 * time.Second }

// held answers by handle, and holds a request that may be held for so long
// before that: on the clock of the test.
func (g *rig) held(d time.Duration, handle http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if prefer := r.Header.Get("Prefer"); prefer != "" {
			w.Header().Set("Preference-Applied", prefer)
			g.time.pass(d)
		}
		handle(w, r)
	}
}

// pass lets time pass.
func (ft *fakeTime) pass(d time.Duration) {
	ft.mu.Lock()
	defer ft.mu.Unlock()
	ft.clock = ft.clock.Add(d)
}

// wantDelay runs the poll that is due next, and checks the delay that follows it.
func (g *rig) wantDelay(want time.Duration, when string) {
	g.t.Helper()
	g.time.poll(g.t)
	if got := g.time.nextDelay(g.t); got != want {
		g.t.Errorf("%s: got a delay of %s, want %s", when, got, want)
	}
}

// preferences returns what the requests since it was last called preferred.
func (s *site) preferences() string {
	var list []string
	for _, r := range s.asked() {
		p := r.Header.Get("Prefer")
		if p == "" {
			p = "-"
		}
		list = append(list, p)
	}
	return strings.Join(list, " ")
}

func wantPreferences(t *testing.T, when string, s *site, want string) {
	t.Helper()
	if got := s.preferences(); got != want {
		t.Errorf("%s: the requests preferred %q, want %q", when, got, want)
	}
}

// An endpoint that waits is asked again at once, and a change arrives at once.
func TestWait(t *testing.T) {
	g := newRig(t, nil, nil, waiting)
	g.answer(g.held(20*time.Second, serve(`"a"`, tableBody(42, ""))))
	g.wantDelay(0, "after the first table")
	wantPreferences(t, "first poll", g.site, "-")
	g.said()

	g.wantDelay(0, "after an answer that was held")
	r := g.lastRequest()
	if got := r.Header.Get("If-None-Match"); got != `"a"` {
		t.Errorf("got If-None-Match %q with a request to wait, want the tag", got)
	}
	wantPreferences(t, "second poll", g.site, "wait=27")
	// Confirmed counts from when the question was asked.
	if got := g.time.clock.Sub(Current(g.feed).Confirmed); got != 20*time.Second {
		t.Errorf("the table was confirmed %s ago, want 20s", got)
	}
	g.wantSilence()

	g.answer(g.held(3*time.Second, serve(`"b"`, tableBody(43, ""))))
	g.wantDelay(0, "after a new table that was waited for")
	g.wantRevision(43)
	g.wantLine("+", "revision 43 is in force")
}

// Each wait is drawn, and told in whole seconds.
func TestWaitIsDrawn(t *testing.T) {
	rows := []struct {
		wait time.Duration
		luck float64
		want string
	}{
		{30 * time.Second, 0, "wait=30"},
		{30 * time.Second, 1, "wait=24"},
		{2 * time.Second, 0, "wait=2"},
		{2 * time.Second, 1, "wait=1"},
		{2900 * time.Millisecond, 0, "wait=2"},
		{1999 * time.Millisecond, 0, "-"},
		{0, 0, "-"},
	}
	for _, row := range rows {
		wait := row.wait
		g := newRig(t, serve(`"a"`, tableBody(42, "")), nil, func(c *Config) { c.Wait = wait })
		g.time.luck = row.luck
		g.time.poll(t)
		g.asked()
		g.time.poll(t)
		wantPreferences(t, fmt.Sprint("wait ", row.wait, ", luck ", row.luck), g.site, row.want)
	}
}

// Without a tag there is nothing to compare, so nothing to wait for.
func TestNoWaitWithoutTag(t *testing.T) {
	g := newRig(t, nil, nil, waiting)
	g.answer(g.held(20*time.Second, serve("", tableBody(42, ""))))
	g.wantDelay(10*time.Second, "after the first table")
	g.wantDelay(10*time.Second, "after the second")
	wantPreferences(t, "without a tag", g.site, "- -")
}

// An endpoint that does not wait is polled, and may learn it any time.
func TestEndpointThatDoesNotWait(t *testing.T) {
	g := newRig(t, serve(`"a"`, tableBody(42, "")), nil, waiting)
	g.wantDelay(0, "after the first table")
	for i := 0; i < 3; i++ {
		g.wantDelay(10*time.Second, "after an answer that was not held")
	}
	wantPreferences(t, "without Preference-Applied", g.site, "- wait=27 wait=27 wait=27")
	g.answer(g.held(20*time.Second, serve(`"a"`, tableBody(42, ""))))
	g.wantDelay(0, "after one that was")

	// What it sends beside a new table says nothing of waiting.
	g.answer(serve(`"b"`, tableBody(43, "")))
	g.wantDelay(10*time.Second, "after a new table without a wait")
}

// Who says that he waited, and did not, does not make a feed run in circles.
func TestWaitThatIsALie(t *testing.T) {
	g := newRig(t, nil, nil, waiting)
	lie := g.held(499*time.Millisecond, serve(`"a"`, tableBody(42, "")))
	g.answer(lie)
	g.time.poll(t)
	for _, want := range []string{"500ms", "1s", "2s", "4s", "8s", "10s", "10s"} {
		g.time.poll(t)
		if got := g.time.nextDelay(t).String(); got != want {
			t.Errorf("got a delay of %s, want %s", got, want)
		}
	}
	g.answer(g.held(500*time.Millisecond, serve(`"a"`, tableBody(42, ""))))
	g.wantDelay(0, "after half a second")
	g.answer(lie)
	g.wantDelay(500*time.Millisecond, "after a lie that follows the truth")

	// The same bytes under another tag are nothing new either.
	g.answer(g.held(0, serve(`"b"`, tableBody(42, ""))))
	g.wantDelay(time.Second, "after the same table")
	for revision := 43; revision < 46; revision++ {
		g.answer(g.held(0, serve(fmt.Sprint(`"`, revision, `"`), tableBody(revision, ""))))
		g.wantDelay(afterNews, "after news that came at once")
	}
}

func TestPreferenceApplied(t *testing.T) {
	rows := []struct {
		values []string
		want   bool
	}{
		{nil, false},
		{[]string{""}, false},
		{[]string{"wait=30"}, true},
		{[]string{"Wait = 30"}, true},
		{[]string{"wait"}, true},
		{[]string{"respond-async, wait=5"}, true},
		{[]string{"respond-async", "wait=5"}, true},
		{[]string{"waits=5"}, false},
		{[]string{"respond-async; wait=5"}, false},
	}
	for _, row := range rows {
		if got := waited(http.Header{"Preference-Applied": row.values}); got != row.want {
			t.Errorf("%q: got %t, want %t", row.values, got, row.want)
		}
	}
}

// hangUp ends the connection without an answer.
func hangUp() http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if conn, _, err := w.(http.Hijacker).Hijack(); err == nil {
			_ = conn.Close()
		}
	}
}

// impatient answers a request that may be held by cut, and others by handle.
func impatient(cut, handle http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Prefer") != "" {
			cut(w, r)
			return
		}
		handle(w, r)
	}
}

// A proxy that cuts what is held is no outage: the feed asks plainly, and then
// for shorter waits.
func TestWaitIsCut(t *testing.T) {
	for name, cut := range map[string]http.HandlerFunc{
		"hang up": hangUp(),
		"408":     status(http.StatusRequestTimeout),
		"502":     status(http.StatusBadGateway),
		"503":     status(http.StatusServiceUnavailable),
		"504":     status(http.StatusGatewayTimeout),
	} {
		cut := cut
		t.Run(name, func(t *testing.T) {
			g := newRig(t, impatient(cut, serve(`"a"`, tableBody(42, ""))), nil, func(c *Config) {
				waiting(c)
				// Else http.Transport may try by itself once more.
				c.Client = client(&http.Transport{DisableKeepAlives: true})
			})
			g.time.poll(t)
			g.said()
			g.asked()
			for _, step := range []struct {
				delay       time.Duration
				preferences string
				told        string
			}{
				{0, "wait=27 -", "no request can be held for 30s; for the next 5m0s it is asked to hold them for 15s"},
				{0, "wait=13 -", "no request can be held for 15s; for the next 5m0s it is asked to hold them for 7.5s"},
				{0, "wait=6 -", "no request can be held for 7.5s; for the next 5m0s it is asked to hold them for 3.75s"},
				{10 * time.Second, "wait=3 -", "no request can be held for 3.75s; for the next 5m0s it is not asked to hold any"},
			} {
				g.wantDelay(step.delay, step.preferences)
				wantPreferences(t, "while requests are cut", g.site, step.preferences)
				g.wantLine("+", step.told)
			}
			for i := 0; i < 29; i++ {
				g.wantDelay(10*time.Second, "when polling plainly")
			}
			wantPreferences(t, "for five minutes", g.site, strings.TrimSpace(strings.Repeat("- ", 29)))
			g.wantSilence()

			g.answer(g.held(20*time.Second, serve(`"a"`, tableBody(42, ""))))
			g.wantDelay(0, "five minutes later")
			wantPreferences(t, "five minutes later", g.site, "wait=27")
		})
	}
}

// A proxy that bears half of it gets that.
func TestShorterWait(t *testing.T) {
	g := newRig(t, impatient(hangUp(), serve(`"a"`, tableBody(42, ""))), nil, waiting)
	g.time.poll(t)
	g.time.poll(t)
	g.asked()
	g.answer(g.held(13*time.Second, serve(`"a"`, tableBody(42, ""))))
	for i := 0; i < 24; i++ { // 24 times 13 seconds are more than five minutes
		g.wantDelay(0, "with a shorter wait")
	}
	wantPreferences(t, "for five minutes", g.site, strings.TrimSpace(strings.Repeat("wait=13 ", 24)))
	g.time.poll(t)
	wantPreferences(t, "five minutes later", g.site, "wait=27")
}

// An endpoint that is down cuts what it held, too. That is told, once, and the
// wait is as long as before when it is back.
func TestEndpointGoesDownWhileItHolds(t *testing.T) {
	g := newRig(t, serve(`"a"`, tableBody(42, "")), nil, waiting)
	g.time.poll(t)
	g.said()
	g.asked()
	g.answer(hangUp())
	g.wantDelay(500*time.Millisecond, "after the outage began")
	if requests := g.asked(); len(requests) < 2 || requests[0].Header.Get("Prefer") == "" || requests[len(requests)-1].Header.Get("Prefer") != "" {
		t.Errorf("got %d requests, want one to wait and then a plain one", len(requests))
	}
	g.wantLine("!", "no answer: EOF; the last good table (revision 42) stays in force")
	g.wantDelay(time.Second, "when it went on")
	g.wantSilence()
	g.answer(g.held(20*time.Second, serve(`"a"`, tableBody(42, ""))))
	g.asked()
	// What counts first is that it is back.
	g.wantDelay(0, "after the outage")
	g.wantLine("+", "answers again")
	g.wantDelay(0, "after that")
	wantPreferences(t, "after the outage", g.site, "- wait=27")
}

// unwilling refuses whoever asks it to wait, and answers everybody else by handle.
func unwilling(handle http.HandlerFunc) http.HandlerFunc {
	refuse := status(http.StatusBadRequest)
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Prefer") != "" {
			refuse(w, r)
			return
		}
		handle(w, r)
	}
}

// Endpoints that answer, but never while they are asked to wait, are asked less and
// less often: neither they nor the log are flooded.
func TestEndpointThatRefusesToWait(t *testing.T) {
	handle := unwilling(serve(`"a"`, tableBody(42, "")))
	g := newRig(t, handle, nil, waiting)
	for i, want := range []time.Duration{0, 500, 0, 500, 500, 500, 1000, 500, 2000, 500, 4000, 500, 8000, 500, 10000, 500, 10000} {
		g.wantDelay(want*time.Millisecond, fmt.Sprintf("after poll %d", i+1))
	}
	g.asked()
	g.answer(g.held(20*time.Second, serve(`"a"`, tableBody(42, ""))))
	g.wantDelay(0, "when it waited")
	g.answer(hangUp())
	g.wantDelay(500*time.Millisecond, "after an outage")
	g.answer(serve(`"a"`, tableBody(42, "")))
	g.wantDelay(0, "when it was back")

	other := newSite(t, handle)
	g = newRig(t, handle, nil, func(c *Config) {
		waiting(c)
		c.Endpoints = append(c.Endpoints, other.server.URL)
	})
	began := g.time.clock
	for i := 0; i < 40; i++ {
		g.time.poll(t)
	}
	if took := g.time.clock.Sub(began); took < time.Minute {
		t.Errorf("two endpoints were asked 40 times within %s", took)
	}
}

// A table from elsewhere is confirmed before anybody waits for the next one: its
// age counts.
func TestInheritedTableIsConfirmedFirst(t *testing.T) {
	first := newRig(t, serve(`"a"`, tableBody(42, "")), nil, nil)
	first.time.poll(t)
	first.asked()
	second := newRig(t, nil, Current(first.feed), func(c *Config) {
		waiting(c)
		c.Endpoints = []string{first.server.URL}
	})
	second.wantDelay(0, "after the first poll")
	second.time.poll(t)
	wantPreferences(t, "with an inherited table", first.site, "- wait=27")
}

// A failure that is the endpoint's own is not asked about twice.
func TestFailureWhileWaiting(t *testing.T) {
	for _, handle := range []http.HandlerFunc{status(500), status(401), status(404), serve("", "{}"), func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		_, _ = w.Write([]byte("{"))
	}} {
		g := newRig(t, serve(`"a"`, tableBody(42, "")), nil, waiting)
		g.time.poll(t)
		g.said()
		g.asked()
		g.answer(handle)
		g.wantDelay(500*time.Millisecond, "after a failure")
		wantPreferences(t, "the failure", g.site, "wait=27")
		g.wantLine("!", "revision 42) stays in force")
	}
}

// A request that may be held has its wait on top of the timeout.
func TestWaitOutlastsTheTimeout(t *testing.T) {
	g := newRig(t, serve(`"a"`, tableBody(42, "")), nil, waiting)
	g.time.poll(t)
	g.said()
	g.feed.cfg.Timeout = 50 * time.Millisecond
	g.answer(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Prefer") != "" {
			timer := time.NewTimer(150 * time.Millisecond)
			defer timer.Stop()
			<-timer.C
		}
		serve(`"b"`, tableBody(43, ""))(w, r)
	})
	g.asked()
	g.time.poll(t)
	g.wantRevision(43)
	wantPreferences(t, "a long wait", g.site, "wait=27")
	g.wantLine("+", "revision 43 is in force")
}

// But not for its body, once that has begun.
func TestBodyIsNotWaitedFor(t *testing.T) {
	g := newRig(t, serve(`"a"`, tableBody(42, "")), nil, waiting)
	g.time.poll(t)
	g.said()
	g.feed.cfg.Timeout = 50 * time.Millisecond
	g.asked()
	g.answer(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	g.promptly("the body to be given up", func() { g.time.poll(t) })
	g.wantLine("!", "no complete answer within 50ms")
	wantPreferences(t, "a body that never comes", g.site, "wait=27")
}

// And not for getting a connection.
func TestConnectionIsNotWaitedFor(t *testing.T) {
	reachable := true
	dialer := &net.Dialer{}
	g := newRig(t, serve(`"a"`, tableBody(42, "")), nil, func(c *Config) {
		waiting(c)
		c.Client = client(&http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				if !reachable {
					<-ctx.Done()
					return nil, ctx.Err()
				}
				return dialer.DialContext(ctx, network, address)
			},
		})
	})
	g.time.poll(t)
	g.said()
	g.feed.cfg.Timeout = 50 * time.Millisecond
	reachable = false
	g.promptly("the connection to be given up", func() { g.time.poll(t) })
	g.wantLine("!", "no complete answer within 50ms")
}

// promptly fails the test if f takes as long as a feed may wait.
func (g *rig) promptly(what string, f func()) {
	g.t.Helper()
	late := time.AfterFunc(20*time.Second, func() { panic("in vain: " + what) })
	defer late.Stop()
	f()
}

// Stop does not wait for what is held.
func TestStopWhileHeld(t *testing.T) {
	asked := make(chan bool)
	g := newRig(t, serve(`"a"`, tableBody(42, "")), nil, waiting)
	g.time.poll(t)
	g.said()
	g.asked()
	g.answer(func(_ http.ResponseWriter, r *http.Request) {
		asked <- true
		<-r.Context().Done()
	})
	done := make(chan bool)
	timer := g.time.take(t)
	go func() {
		defer func() { done <- recover() == nil }()
		timer.run()
	}()
	<-asked
	g.feed.Stop()
	g.promptly("the poll to end", func() {
		if !<-done {
			t.Error("the poll panicked")
		}
	})
	wantPreferences(t, "before Stop", g.site, "wait=27")
	if got := g.time.armedTimers(); got != 0 {
		t.Errorf("got %d timers armed after Stop, want none", got)
	}
	g.wantSilence()
}

// pair is a feed with two endpoints; the first is the rig's.
func pair(t *testing.T, first, second http.HandlerFunc) (*rig, *site) {
	t.Helper()
	other := newSite(t, second)
	return newRig(t, first, nil, func(c *Config) { c.Endpoints = append(c.Endpoints, other.server.URL) }), other
}

func TestFirstEndpointThatWorks(t *testing.T) {
	g, other := pair(t, serve(`"a"`, tableBody(42, "")), serve(`"a"`, tableBody(42, "")))
	for i := 0; i < 3; i++ {
		g.wantDelay(10*time.Second, "while the first works")
	}
	if got := other.requestCount(); got != 0 {
		t.Errorf("the second endpoint was asked %d times although the first works", got)
	}
	g.wantLine("+", g.server.URL, "revision 42")

	g.answer(status(500))
	g.asked()
	g.wantDelay(0, "after the first failed")
	g.wantLine("!", g.server.URL, "status 500", "revision 42) stays in force")
	other.answer(serve(`"b"`, tableBody(43, "")))
	g.wantDelay(10*time.Second, "when the second works")
	g.wantRevision(43)
	g.wantLine("+", other.server.URL, "answers instead; the table of revision 43 is in force")

	// The feed stays with it.
	g.answer(serve(`"b"`, tableBody(43, "")))
	g.asked()
	for i := 0; i < 3; i++ {
		g.wantDelay(10*time.Second, "while the second works")
	}
	g.wantSilence()
	if got := g.requestCount(); got != 0 {
		t.Errorf("the first endpoint was asked %d times although the second works", got)
	}

	other.answer(status(503))
	g.wantDelay(0, "after the second failed")
	g.wantLine("!", other.server.URL, "status 503")
	g.wantDelay(10*time.Second, "when the first is back")
	g.wantLine("+", g.server.URL, "answers again; the table of revision 43 is in force")
}

// Only a whole round of failures is followed by a pause. Each endpoint's failure
// is told once.
func TestBackOffAfterARound(t *testing.T) {
	g, other := pair(t, status(500), status(502))
	third := newSite(t, status(404))
	g.feed.endpoints = append(g.feed.endpoints, &endpoint{url: third.server.URL, shown: third.server.URL})
	var delays []string
	for i := 0; i < 9; i++ {
		g.time.poll(t)
		delays = append(delays, g.time.nextDelay(t).String())
	}
	if got, want := strings.Join(delays, " "), "0s 0s 500ms 0s 0s 1s 0s 0s 2s"; got != want {
		t.Errorf("got delays %s, want %s", got, want)
	}
	lines := g.said()
	if len(lines) != 3 {
		t.Fatalf("got lines %q, want one of each endpoint", lines)
	}
	for i, want := range []string{g.server.URL + ": status 500", other.server.URL + ": status 502", third.server.URL + ": status 404"} {
		if !strings.Contains(lines[i], want) {
			t.Errorf("got line %q, want %q in it", lines[i], want)
		}
	}
	if g.requestCount() != 3 || other.requestCount() != 3 || third.requestCount() != 3 {
		t.Errorf("got %d, %d and %d requests, want 3 each", g.requestCount(), other.requestCount(), third.requestCount())
	}
}

// Each endpoint gets the token, and a tag only if it means the same there.
func TestRequestsToSeveralEndpoints(t *testing.T) {
	body := tableBody(42, "")
	sum := sha256.Sum256([]byte(body))
	for _, row := range []struct {
		tag    string
		abroad bool
	}{
		{`"a"`, false},
		{`"` + hex.EncodeToString(sum[:16]) + `"`, true},
		{`W/"` + hex.EncodeToString(sum[:]) + `-gzip"`, true},
		{`"` + hex.EncodeToString(sum[:15]) + `"`, false},
	} {
		g, other := pair(t, serve(row.tag, body), serve(row.tag, body))
		g.time.poll(t)
		g.answer(status(500))
		g.time.poll(t)
		g.said()
		g.time.poll(t)
		g.wantRevision(42)
		r := other.lastRequest()
		want := ""
		if row.abroad {
			want = row.tag
		}
		if got := r.Header.Get("If-None-Match"); got != want {
			t.Errorf("tag %s: the second endpoint was asked with If-None-Match %q, want %q", row.tag, got, want)
		}
		if got := r.Header.Get("Authorization"); got != "Bearer "+testToken {
			t.Errorf("the second endpoint got Authorization %q", got)
		}
		g.wantLine("+", other.server.URL, "answers instead")
		// Where it came from, or was confirmed, it is known.
		g.time.poll(t)
		if got := other.lastRequest().Header.Get("If-None-Match"); got != row.tag {
			t.Errorf("tag %s: the second endpoint was asked again with If-None-Match %q", row.tag, got)
		}
	}
}

// A list of tags, among them that of another endpoint's newer table, would have
// that endpoint confirm an older one.
func TestTagsForAnother(t *testing.T) {
	body := tableBody(41, "")
	g, other := pair(t, serve(hashTag(body)+`, "newer"`, body), serve(`"newer"`, tableBody(42, "")))
	g.time.poll(t)
	g.answer(status(500))
	g.time.poll(t)
	g.time.poll(t)
	if got := other.lastRequest().Header.Get("If-None-Match"); got != "" {
		t.Errorf("got If-None-Match %s at an endpoint that did not give that", got)
	}
}

// Two endpoints that do not agree: the newer table stays, and it is told who has
// another. Nothing swings.
func TestEndpointsThatDisagree(t *testing.T) {
	for _, row := range []struct{ name, body, want string }{
		{"an older table", tableBody(41, "other"), "revision 41 came after revision 42"},
		{"another table of the same revision", tableBody(42, "other"), "revision 42 came again with other content"},
	} {
		g, other := pair(t, serve(`"a"`, tableBody(42, "held")), serve(`"b"`, row.body))
		g.time.poll(t)
		g.said()
		before := Current(g.feed).Table
		g.answer(status(500))
		for i := 0; i < 4; i++ {
			g.time.poll(t)
		}
		if Current(g.feed).Table != before {
			t.Errorf("%s: it replaced the table in force", row.name)
		}
		lines := g.said()
		if len(lines) != 2 || !strings.Contains(lines[1], other.server.URL+": "+row.want) {
			t.Errorf("%s: got lines %q, want two, the last with %q", row.name, lines, row.want)
		}
		g.answer(serve(`"a"`, tableBody(42, "held")))
		g.wantDelay(10*time.Second, row.name)
		g.wantLine("+", g.server.URL, "answers again; the table of revision 42")
	}
}

// A held request that one endpoint cuts is asked there first, and then elsewhere.
func TestWaitIsCutByOneOfTwo(t *testing.T) {
	g, other := pair(t, serve(`"a"`, tableBody(42, "")), serve(`"a"`, tableBody(42, "")))
	for _, e := range g.feed.endpoints {
		e.wait = 30 * time.Second
	}
	g.time.poll(t)
	g.said()
	g.asked()
	g.answer(status(502))
	other.answer(g.held(9*time.Second, serve(`"b"`, tableBody(43, ""))))
	g.wantDelay(0, "after the first failed")
	wantPreferences(t, "the first", g.site, "wait=27 -")
	g.wantDelay(0, "after the second's answer")
	g.wantRevision(43)
	g.wantDelay(0, "while the second holds")
	wantPreferences(t, "the second", other, "- wait=27")
	lines := g.said()
	if len(lines) != 2 || !strings.Contains(lines[0], g.server.URL) || !strings.Contains(lines[1], other.server.URL) {
		t.Errorf("got lines %q, want one of each endpoint", lines)
	}
}

// A feed without endpoints says so, and goes on.
func TestNoEndpoints(t *testing.T) {
	g := newRig(t, status(200), nil, func(c *Config) { c.Endpoints = nil })
	g.time.poll(t)
	g.wantLine("!", "no answer", "no table yet")
	g.wantDelay(time.Second, "without endpoints")
}
