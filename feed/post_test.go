package feed

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// postRig is a feed that is in force, and its endpoint from then on.
func postRig(t *testing.T, handle http.HandlerFunc, change func(*Config)) *rig {
	t.Helper()
	g := newRig(t, serve(`"1"`, tableBody(1, "")), nil, change)
	g.time.poll(t)
	g.asked()
	g.answer(handle)
	return g
}

func TestPost(t *testing.T) {
	g := postRig(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		_, _ = fmt.Fprintf(w, "%s %s %s %s %d %s", r.Method, r.URL.Path, r.Header.Get("Content-Type"), r.Header.Get("Authorization"), len(r.Header["Idempotency-Key"]), body)
	}, nil)
	got := Post(g.feed, "/v1/report", []byte(`{"a":1}`))
	want := `POST /v1/report application/json Bearer ` + testToken + ` 0 {"a":1}`
	if got.Err != nil || got.Status != 200 || string(got.Body) != want || got.Endpoint != g.server.URL {
		t.Errorf("got %+v, body %s, want %s", got, got.Body, want)
	}
}

func TestPostFails(t *testing.T) {
	release := make(chan bool)
	for _, test := range []struct {
		name   string
		handle http.HandlerFunc
		change func(*Config)
		status int
		want   string
	}{
		{"not found", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) }, nil, 404, "status 404 Not Found, expected status 200 with an answer"},
		{"no content", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }, nil, 204, "status 204 No Content, expected status 200"},
		{"unauthorized", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(401) }, nil, 401, "(check the token)"},
		{"a wrong report", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(400)
			_, _ = w.Write([]byte("usage[3].count: 0\nfor " + testToken + strings.Repeat(".", 10000)))
		}, nil, 400, `it says "usage[3].count: 0\nfor [hidden]...`},
		{"a redirect", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusPermanentRedirect)
		}, nil, 308, "redirects are not followed"},
		{"a long answer", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, maxReply+1)) }, nil, 0, "the answer has more than 1048576 bytes"},
		{"a cut answer", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write([]byte("{"))
		}, nil, 0, "reading the answer: unexpected EOF"},
		{"a cut connection", func(_ http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) }, nil, 0, "no answer: "},
		{"no answer", func(_ http.ResponseWriter, _ *http.Request) { <-release }, func(c *Config) { c.Timeout = 50 * time.Millisecond }, 0, "no complete answer within 50ms"},
	} {
		g := postRig(t, test.handle, test.change)
		got := Post(g.feed, "/v1/report", []byte(`{}`))
		if got.Err == nil || !strings.Contains(got.Err.Error(), test.want) || strings.Contains(got.Err.Error(), testToken) || got.Status != test.status || got.Endpoint != g.server.URL {
			t.Errorf("%s: got %d, %v at %s, want %d, %q", test.name, got.Status, got.Err, got.Endpoint, test.status, test.want)
		}
		if len(got.Body) > maxReply+1 || got.Err != nil && len(got.Err.Error()) > 2*maxReason {
			t.Errorf("%s: %d bytes of a body, and %d of an error", test.name, len(got.Body), len(got.Err.Error()))
		}
	}
	close(release)
}

func TestPostTellsWhenToComeBack(t *testing.T) {
	now := time.Date(2026, 11, 21, 17, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"": 0, "0": 0, "7": 7 * time.Second, "-7": 0, "soon": 0, "99999999999": 0,
		"Sat, 21 Nov 2026 17:00:30 GMT": 30 * time.Second,
		"Sat, 21 Nov 2026 16:00:30 GMT": 0,
	} {
		if got := retryAfter(http.Header{"Retry-After": {value}}, now); got != want {
			t.Errorf("Retry-After: %s: got %s, want %s", value, got, want)
		}
	}
}

// A report goes to the endpoint that is asked for tables: after a failure the
// next one.
func TestPostFollowsTheFeed(t *testing.T) {
	other := newSite(t, serve(`"2"`, tableBody(2, "")))
	g := postRig(t, serve(`"1"`, tableBody(1, "")), func(c *Config) { c.Endpoints = append(c.Endpoints, other.server.URL) })
	if got := Post(g.feed, "/v1/report", nil); got.Endpoint != g.server.URL {
		t.Errorf("posted to %s, want %s", got.Endpoint, g.server.URL)
	}
	g.answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) })
	g.time.poll(t)
	if got := Post(g.feed, "/v1/report", nil); got.Endpoint != other.server.URL {
		t.Errorf("posted to %s, want %s", got.Endpoint, other.server.URL)
	}
}

// A poll that waits for its answer does not hold up a report, and a feed that has
// ended may still send its last.
func TestPostBesideAPoll(t *testing.T) {
	waits, release := make(chan bool), make(chan bool)
	g := postRig(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			waits <- true
			<-release
		}
		_, _ = w.Write([]byte(r.Method))
	}, nil)
	timer := g.time.take(t)
	polled := make(chan bool)
	go func() {
		timer.run()
		close(polled)
	}()
	<-waits
	if got := Post(g.feed, "/v1/report", nil); string(got.Body) != "POST" {
		t.Errorf("during a poll: got %+v", got)
	}
	g.feed.Stop()
	if got := Post(g.feed, "/v1/report", nil); string(got.Body) != "POST" {
		t.Errorf("after the end: got %+v", got)
	}
	close(release)
	<-polled
}

func TestPostBeforeTheFirstPoll(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(func() { server.Close() })
	f := start(Config{Endpoints: []string{server.URL}}, nil, newFakeTime().timing())
	if got := Post(f, "/v1/report", nil); got.Err == nil || got.Status != 0 || got.Endpoint != server.URL {
		t.Errorf("got %+v, want an error", got)
	}
}
