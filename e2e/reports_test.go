package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tollgate-apim/tollgate/e2e/stack"
)

// usageRow is a row of a report, without its count.
type usageRow struct {
	API          string `json:"api"`
	Application  string `json:"application"`
	KeyTitle     string `json:"keyTitle"`
	Subscription string `json:"subscription"`
	Plan         string `json:"plan"`
	Code         int    `json:"code"`
	Reason       string `json:"reason"`
	DryRun       bool   `json:"dryRun"`
}

// usageReport is what a gateway posts.
type usageReport struct {
	Instance string `json:"instance"`
	Sequence int64  `json:"sequence"`
	Host     string `json:"host"`
	Revision int64  `json:"revision"`
	Usage    []struct {
		usageRow
		Count int64 `json:"count"`
	} `json:"usage"`
}

// reportServer is a sync endpoint that serves one table and takes reports.
type reportServer struct {
	url string

	mu sync.Mutex
	// reports are those that arrived, with repetitions, and counted sums those
	// that were taken up.
	reports []usageReport
	counted map[usageRow]int64
	last    map[string]int64 // sequence by instance
	header  http.Header      // of the last one
	// lose is how many answers are lost, and hang holds reports up until it is
	// closed; nil holds up none. With none, reports are answered with 404.
	lose int
	hang chan struct{}
	none bool
	// most is how many bytes a report may have, 0 for any number, and tooLarge how
	// many had more. The instance exhausted has no sequence number left.
	most, tooLarge int
	exhausted      string
}

func newReportServer(t *testing.T, table string) *reportServer {
	t.Helper()
	s := &reportServer{counted: map[usageRow]int64{}, last: map[string]int64{}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Method + " " + r.URL.Path {
		case "GET /base/v1/table":
			w.Header().Set("ETag", `"1"`)
			_, _ = w.Write([]byte(table))
		case "POST /base/v1/report":
			s.take(w, r)
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	s.url = server.URL + "/base"
	return s
}

func (s *reportServer) take(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var report usageReport
	if err == nil {
		err = json.Unmarshal(body, &report)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	if s.most > 0 && len(body) > s.most {
		s.tooLarge++
		s.mu.Unlock()
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		return
	}
	s.reports = append(s.reports, report)
	s.header = r.Header.Clone()
	hang := s.hang
	s.mu.Unlock()
	if hang != nil {
		<-hang
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.none {
		http.NotFound(w, r)
		return
	}
	if report.Instance == s.exhausted {
		w.WriteHeader(http.StatusConflict)
		_, _ = fmt.Fprintf(w, `{"sequence": %d}`, int64(1<<53-1))
		return
	}
	if report.Sequence > s.last[report.Instance] {
		s.last[report.Instance] = report.Sequence
		for _, row := range report.Usage {
			s.counted[row.usageRow] += row.Count
		}
	}
	if s.lose > 0 {
		s.lose--
		panic(http.ErrAbortHandler)
	}
	_, _ = fmt.Fprintf(w, `{"sequence": %d, "next": 0.2}`, report.Sequence)
}

func (s *reportServer) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

func (s *reportServer) arrived() []usageReport {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]usageReport(nil), s.reports...)
}

// sums returns what was counted, less what was before.
func (s *reportServer) sums(before map[usageRow]int64) map[usageRow]int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	sums := maps.Clone(s.counted)
	for row, n := range before {
		if sums[row] -= n; sums[row] == 0 {
			delete(sums, row)
		}
	}
	return sums
}

// awaitSums waits until something was counted, beside what was before.
func (s *reportServer) awaitSums(t *testing.T, before, want map[usageRow]int64) {
	t.Helper()
	shared.await(t, "the requests to be reported", func() error {
		if got := s.sums(before); !maps.Equal(got, want) {
			return fmt.Errorf("got %v, want %v", got, want)
		}
		return nil
	})
}

var longTitle = strings.Repeat("t", 300)

// reportedTable has an application that may GET below /weather, twice an hour.
func reportedTable() string {
	return fmt.Sprintf(`{"revision": 7, "issuedAt": "2026-11-21T17:00:00Z",
		"plans": {"apps/plan": {"rateLimit": {"limit": 2, "period": "1h"}}},
		"apis": {"apps/api": {"operationSets": {"read": [{"methods": ["GET"], "pathPrefix": "/weather"}]}}},
		"subscriptions": {"apps/sub": {"plan": "apps/plan", "operationFilter": {"include": ["read"]}}},
		"applications": {"apps/app": {"appId": "app", "grants": {"apps/api": "apps/sub"}}},
		"keys": {"%s": [{"application": "apps/app", "title": "a title"}],
			"%s": [{"application": "apps/app", "title": "%s"}]}}`,
		stack.Digest("reported"), stack.Digest("reported with a long title"), longTitle)
}

// TestReports: what a gateway admits and refuses is reported to whom gave it its
// table, each request once.
func TestReports(t *testing.T) {
	server := newReportServer(t, reportedTable())
	config := shared.config("apps/api")
	config.Sync.Endpoint, config.Sync.Token, config.Sync.Timeout = server.url, "reports-token", "5s"
	shared.protect(t, "reports.test", config)
	call := func(request string, header ...string) answer {
		return shared.send(t, "reports.test", request, header...)
	}
	const key = "Authorization: Bearer reported"
	refusal := func(code int, reason string) usageRow { return usageRow{API: "apps/api", Code: code, Reason: reason} }
	row := func(code int, reason string) usageRow {
		return usageRow{"apps/api", "apps/app", "a title", "apps/sub", "apps/plan", code, reason, false}
	}
	// The requests that found out that there is a table are reported too.
	var before map[usageRow]int64
	shared.await(t, "the first report that tells of a table", func() error {
		reports := server.arrived()
		if len(reports) < 3 || reports[len(reports)-1].Revision != 7 {
			return fmt.Errorf("there were %d", len(reports))
		}
		before = server.sums(nil)
		if before[refusal(401, "key_missing")] == 0 {
			return errors.New("no request is reported")
		}
		return nil
	})

	t.Run("admitted and refused", func(t *testing.T) {
		admitted(t, call("GET /weather", key))
		admitted(t, call("GET /weather?api_key=reported"))
		refused(t, call("GET /weather", key), 429, "rate_limited")
		refused(t, call("GET /weather", key), 429, "rate_limited")
		refused(t, call("DELETE /weather", key), 403, "operation_forbidden")
		refused(t, call("GET /weather", key+"x"), 401, "key_invalid")
		refused(t, call("GET /weather"), 401, "key_missing")
		server.awaitSums(t, before, map[usageRow]int64{
			row(0, ""): 2, row(429, "rate_limited"): 2, row(403, "operation_forbidden"): 1,
			refusal(401, "key_invalid"): 1, refusal(401, "key_missing"): 1,
		})
	})

	t.Run("who reports", func(t *testing.T) {
		reports := server.arrived()
		last := reports[len(reports)-1]
		if len(last.Instance) != 32 || last.Instance != reports[0].Instance || last.Host == "" || last.Sequence < 2 {
			t.Errorf("first %+v, last %+v", reports[0], last)
		}
		server.set(func() {
			if got := server.header; got.Get("Authorization") != "Bearer reports-token" || got.Get("Content-Type") != "application/json" {
				t.Errorf("got the header %v", got)
			}
		})
		text, err := json.Marshal(reports)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), stack.Digest("reported")) || strings.Contains(string(text), `"reported`) {
			t.Errorf("a key or a digest is reported: %s", text)
		}
	})

	t.Run("lost answers", func(t *testing.T) {
		before = server.sums(nil)
		server.set(func() { server.lose = 2 })
		for range 3 {
			refused(t, call("GET /weather", key), 429, "rate_limited")
		}
		shared.await(t, "two answers to be lost", func() error {
			server.mu.Lock()
			defer server.mu.Unlock()
			if server.lose > 0 {
				return fmt.Errorf("%d are still to be lost", server.lose)
			}
			return nil
		})
		refused(t, call("GET /weather", key), 429, "rate_limited")
		server.awaitSums(t, before, map[usageRow]int64{row(429, "rate_limited"): 4})
		seen := map[int64]string{}
		for _, report := range server.arrived() {
			text := fmt.Sprint(report)
			if other := seen[report.Sequence]; other != "" && other != text {
				t.Errorf("report %d was sent as %s, and as %s", report.Sequence, other, text)
			}
			seen[report.Sequence] = text
		}
		if len(seen) == len(server.arrived()) {
			t.Error("no report came twice")
		}
	})

	t.Run("a report that hangs", func(t *testing.T) {
		before = server.sums(nil)
		hang := make(chan struct{})
		n := len(server.arrived())
		server.set(func() { server.hang = hang })
		refused(t, call("GET /weather", key), 429, "rate_limited")
		shared.await(t, "a report that hangs", func() error {
			if len(server.arrived()) == n {
				return errors.New("none has come")
			}
			return nil
		})
		begin := time.Now()
		for range 20 {
			refused(t, call("GET /weather", key), 429, "rate_limited")
		}
		t.Logf("20 requests took %s meanwhile", time.Since(begin))
		if got := server.sums(before); len(got) != 0 {
			t.Errorf("counted %v while the report hung", got)
		}
		server.set(func() { server.hang = nil })
		close(hang)
		server.awaitSums(t, before, map[usageRow]int64{row(429, "rate_limited"): 21})
	})

	// The next report after one that hangs has all kinds of requests.
	t.Run("a report that is too large", func(t *testing.T) {
		before = server.sums(nil)
		lines := shared.traefik.Log.Len()
		hang := make(chan struct{})
		n := len(server.arrived())
		server.set(func() { server.hang = hang })
		refused(t, call("GET /weather", key), 429, "rate_limited")
		shared.await(t, "a report that hangs", func() error {
			if len(server.arrived()) == n {
				return errors.New("none has come")
			}
			return nil
		})
		refused(t, call("GET /weather", key), 429, "rate_limited")
		refused(t, call("GET /weather", "Authorization: Bearer reported with a long title"), 429, "rate_limited")
		refused(t, call("DELETE /weather", key), 403, "operation_forbidden")
		refused(t, call("GET /weather", key+"x"), 401, "key_invalid")
		refused(t, call("GET /weather"), 401, "key_missing")
		server.set(func() { server.hang, server.most = nil, 750 })
		close(hang)
		long := row(429, "rate_limited")
		long.KeyTitle = longTitle
		server.awaitSums(t, before, map[usageRow]int64{
			row(429, "rate_limited"): 2, long: 1, row(403, "operation_forbidden"): 1,
			refusal(401, "key_invalid"): 1, refusal(401, "key_missing"): 1,
		})
		server.set(func() {
			if server.tooLarge != 1 {
				t.Errorf("%d reports were too large, want 1", server.tooLarge)
			}
		})
		shared.awaitLine(t, lines, "reports to "+server.url, "smaller ones follow")
		shared.awaitLine(t, lines, "reports to "+server.url, "accepted again")
	})

	t.Run("a reload", func(t *testing.T) {
		before = server.sums(nil)
		refused(t, call("GET /weather", key), 429, "rate_limited")
		config.ErrorBody = "empty"
		if err := shared.traefik.Configure("reports.test", shared.route("reports.test", config)); err != nil {
			t.Fatal(err)
		}
		sent := int64(1)
		shared.await(t, "the reload", func() error {
			a := call("GET /weather", key)
			sent++
			if len(a.body) > 0 {
				return errors.New("still with a body")
			}
			return nil
		})
		server.awaitSums(t, before, map[usageRow]int64{row(429, "rate_limited"): sent})
		if reports := server.arrived(); reports[0].Instance != reports[len(reports)-1].Instance {
			t.Error("the gateway calls itself another one")
		}
	})

	t.Run("no sequence number is left", func(t *testing.T) {
		before = server.sums(nil)
		reports := server.arrived()
		was := reports[len(reports)-1].Instance
		server.set(func() { server.exhausted = was })
		a := call("GET /weather", key)
		if a.status != 429 {
			t.Errorf("got %d", a.status)
		}
		server.awaitSums(t, before, map[usageRow]int64{row(429, "rate_limited"): 1})
		reports = server.arrived()
		if last := reports[len(reports)-1]; last.Instance == was || last.Sequence > 2 {
			t.Errorf("got report %d of instance %s, want the first of another one than %s", last.Sequence, last.Instance, was)
		}
	})
}

// TestNoReports: a web server that takes no reports is left alone, without an
// error in the log.
func TestNoReports(t *testing.T) {
	server := newReportServer(t, reportedTable())
	server.none = true
	config := shared.config("apps/api")
	config.Sync.Endpoint = server.url
	lines := shared.traefik.Log.Len()
	shared.protect(t, "no-reports.test", config)
	line := shared.awaitLine(t, lines, "reports to "+server.url, "404")
	if !strings.Contains(line, `"level":"debug"`) {
		t.Errorf("it is an error: %s", line)
	}
	for range 3 {
		refused(t, shared.send(t, "no-reports.test", "GET /"), 401, "key_missing")
	}
	if n := len(server.arrived()); n != 1 {
		t.Errorf("it was asked %d times, want once", n)
	}
	if line, found := shared.traefik.Log.Find(lines, `"level":"error"`, server.url); found {
		t.Errorf("an error: %s", line)
	}
}

// TestReportsReachTheControlPlane: what gateways report shows in its status.
func TestReportsReachTheControlPlane(t *testing.T) {
	const ns = namespace("told")
	g := newGateway(t, stack.TraefikOptions{}) // The busiest are told, of all that there was for a minute.
	g.apply(t, "told",
		ns.api("api"), ns.plan("plan", "rateLimit: {limit: 3, period: 1h}"), ns.app("app", "told-key"), ns.sub("sub", "plan", list("app"), list("api")))
	g.protect(t, "told.test", byHeader(g.config("told/api")))
	for range 5 {
		g.send(t, "told.test", "GET /", apiKeyHeader+"told-key")
	}
	g.await(t, "the requests in the status", func() error {
		text, err := g.status(t)
		if err != nil {
			return err
		}
		var status struct {
			Busiest struct {
				Applications []struct {
					Name              string
					Requests, Refused int64
				}
			}
		}
		if err := json.Unmarshal(text, &status); err != nil {
			return err
		}
		for _, row := range status.Busiest.Applications {
			if row.Name == "told/app" && row.Requests == 5 && row.Refused == 2 {
				return nil
			}
		}
		return fmt.Errorf("it is not there: %s", text)
	})
}

// status returns what the control plane tells of the gateways.
func (g *gateway) status(t *testing.T) ([]byte, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, g.plane.URL+"/v1/status", nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+g.plane.Token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(resp.Body)
}
