package status_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"github.com/tollgate-apim/tollgate/controlplane/finding"
	"github.com/tollgate-apim/tollgate/controlplane/ledger"
	"github.com/tollgate-apim/tollgate/controlplane/server"
	"github.com/tollgate-apim/tollgate/controlplane/sharing"
	"github.com/tollgate-apim/tollgate/controlplane/status"
	"github.com/tollgate-apim/tollgate/controlplane/store"
	"github.com/tollgate-apim/tollgate/table"
	"github.com/tollgate-apim/tollgate/usage"
)

var update = flag.Bool("update", false, "write what is compared anew")

var start = time.Date(2026, 11, 21, 17, 0, 0, 0, time.UTC)

// documents are what the golden files show.
func documents() map[string]*status.Document {
	since, remaining := start.Add(-3*time.Hour), int64(600)
	gateway := func(n, host string, revision int64, age float64, seen time.Duration) status.Gateway {
		return status.Gateway{
			Instance: strings.Repeat(n, 32), Host: host, Revision: revision, Lag: 42 - revision, TableAge: age, LastSeen: start.Add(-seen),
		}
	}
	return map[string]*status.Document{
		"empty": {Time: start, Store: status.Store{Kind: "memory"}},
		"busy": {
			Time: start, Revision: 42, PublishedAt: &since,
			Findings: status.Findings{Errors: 1, Warnings: 3, Checks: []status.Check{
				{Check: finding.Reference, Severity: finding.Error, Count: 1}, {Check: finding.Orphan, Severity: finding.Warning, Count: 3},
			}},
			Store:    status.Store{Kind: "redis", Healthy: true, Since: &since},
			Reports:  status.Reports{Accepted: 1000, Duplicate: 1, Refused: 2, Failed: 3, Lost: 4},
			Requests: status.Requests{Total: 123456, Refused: 789, LastMinute: status.Count{Requests: 1200, Refused: 34}},
			Busiest: status.Busiest{
				Applications: []status.Busy{{Name: "apps/weather-mobile", Count: status.Count{Requests: 1000, Refused: 4}}, {Name: "apps/b"}},
				APIs:         []status.Busy{{Name: "apps/weather-api", Count: status.Count{Requests: 1200, Refused: 34}}},
				Buckets: []status.Bucket{
					{Kind: "rate", Bucket: "subscription apps/sub", Plan: "apps/plan", Limit: 100, Period: "1s", Used: 0.999, SettledAt: start.Add(-time.Second)},
					{Kind: "quota", Bucket: "subscription apps/sub", Plan: "apps/plan", Limit: 1000, Period: "720h0m0s", Used: 0.4, Remaining: &remaining, SettledAt: start.Add(-time.Minute)},
				},
			},
			Gateways: []status.Gateway{
				gateway("0", "gw-1", 42, 0.5, time.Second), gateway("1", "gw-2", 41, 130, 90*time.Second),
				gateway("2", "", 43, 1e300, 5*time.Minute), gateway("3", "gw-4", 0, 1e300, 0),
			},
		},
		"away": {
			Time: start, Revision: 42, KeptOut: true,
			Findings: status.Findings{Errors: 2, Warnings: 1, Checks: []status.Check{{Check: finding.Syntax, Severity: finding.Error, Count: 2}}},
			Store:    status.Store{Kind: "redis", Since: &since, Failure: "connection refused"},
			Gateways: []status.Gateway{gateway("0", "evil\x1b[2J\tname\nof\u202ehost", 42, 1, 0)},
		},
	}
}

func TestText(t *testing.T) {
	for name, d := range documents() {
		t.Run(name, func(t *testing.T) {
			var got strings.Builder
			if err := d.Text(&got); err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join("testdata", name+".txt")
			if *update {
				if err := os.WriteFile(golden, []byte(got.String()), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got.String()); diff != "" {
				t.Errorf("text (-want +got):\n%s", diff)
			}
		})
	}
}

func TestScreen(t *testing.T) {
	d := documents()["busy"]
	var out strings.Builder
	columns, rows := 20, 5
	s := status.Screen{Out: &out, Size: func() (int, int) { return columns, rows }}
	show := func(first string, d *status.Document) []string {
		t.Helper()
		out.Reset()
		if err := s.Show(first, d); err != nil {
			t.Fatal(err)
		}
		text, ok := strings.CutPrefix(out.String(), "\x1b[H")
		text, ends := strings.CutSuffix(text, "\x1b[J")
		if !ok || !ends {
			t.Errorf("got %q", out.String())
		}
		lines := strings.Split(text, "\r\n")
		for i := range lines {
			if lines[i], ok = strings.CutSuffix(lines[i], "\x1b[K"); !ok || strings.Contains(lines[i], "\x1b") {
				t.Errorf("got the line %q", lines[i])
			}
		}
		return lines
	}
	got := show("first \x1b[2J", d)
	if len(got) != 5 || got[0] != "first \uFFFD[2J" || got[1] != "" || got[2] != "table     revision 4" || !strings.HasPrefix(got[4], "… ") {
		t.Errorf("got %q", got)
	}
	rows = 0
	all := show("first", d)
	columns = 0
	if whole := show("first", d); len(whole) != len(all) || len(whole[len(whole)-1]) < 25 {
		t.Errorf("got %q", whole)
	}
	if got := show("first", nil); len(got) != 1 {
		t.Errorf("without a document: got %q", got)
	}
	out.Reset()
	if err := s.Open(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if out.String() != "\x1b[?1049h\x1b[?25l\x1b[?25h\x1b[?1049l" {
		t.Errorf("got %q", out.String())
	}
}

func TestFetch(t *testing.T) {
	want := documents()["busy"]
	answer, code := []byte(nil), http.StatusOK
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/base/v1/status" || r.Header.Get("Authorization") != "Bearer a-token" {
			t.Errorf("asked for %s with %q", r.URL.Path, r.Header.Get("Authorization"))
		}
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(code)
		_, _ = w.Write(answer)
	}))
	defer web.Close()
	var err error
	if answer, err = json.Marshal(want); err != nil {
		t.Fatal(err)
	}
	got, err := status.Fetch(t.Context(), web.Client(), web.URL+"/base/", "a-token")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("document (-want +got):\n%s", diff)
	}
	for answered, hint := range map[int]string{401: "--token-file", 403: "--client-cert", 404: "no control plane", 302: "302", 503: "503"} {
		code = answered
		if _, err := status.Fetch(t.Context(), web.Client(), web.URL+"/base", "a-token"); err == nil || !strings.Contains(err.Error(), hint) {
			t.Errorf("%d: got %v", answered, err)
		}
	}
	code, answer = 200, []byte("<html>")
	if _, err := status.Fetch(t.Context(), web.Client(), web.URL+"/base", "a-token"); err == nil || !strings.Contains(err.Error(), "decoding") {
		t.Errorf("no JSON: got %v", err)
	}
	for _, endpoint := range []string{"", "localhost", "ftp://x", "http://user:secret@x", "http://%zz"} {
		if _, err := status.Fetch(t.Context(), web.Client(), endpoint, ""); err == nil || !strings.Contains(err.Error(), "--endpoint: must be") || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: got %v", endpoint, err)
		}
	}
}

func TestDocument(t *testing.T) {
	now := start
	clock := func() time.Time { return now }
	log := slog.New(slog.DiscardHandler)
	l := ledger.New(ledger.Options{Store: store.NewMemory(clock), Log: log, Now: clock})
	s := server.New(server.Options{Log: log, Ledger: l})
	shared := sharing.New(sharing.Options{Store: store.NewMemory(clock), Log: log, Now: clock})
	s.AddPage(status.Path, status.Source{Server: s, Ledger: l, Sharing: shared, StoreKind: "kind", Now: clock})
	look := func() string {
		t.Helper()
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, status.Path, nil))
		if w.Code != 200 || w.Header().Get("Content-Type") != "application/json" || w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("got %d, %v", w.Code, w.Header())
		}
		return w.Body.String()
	}
	compare := func(got, want string) {
		t.Helper()
		var indented bytes.Buffer
		if err := json.Indent(&indented, []byte(got), "", "  "); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, strings.TrimSpace(indented.String())); diff != "" {
			t.Errorf("document (-want +got):\n%s", diff)
		}
	}
	compare(look(), golden(t, "before.json", look()))

	tbl := &table.Table{
		Revision: 50, IssuedAt: start, Plans: map[string]table.Plan{}, APIs: map[string]table.API{},
		Subscriptions: map[string]table.Subscription{}, Applications: map[string]table.Application{}, Keys: map[string][]table.Holder{},
	}
	findings := []finding.Finding{
		{Rule: finding.Orphan, Severity: finding.Warning, File: "a"}, {Rule: finding.Orphan, Severity: finding.Warning, File: "b"},
		{Rule: finding.Reference, Severity: finding.Error, File: "c"}, {Rule: finding.Deprecated, Severity: finding.Error, File: "c"},
	}
	if err := s.Publish(tbl, nil, findings); err != nil {
		t.Fatal(err)
	}
	s.KeepOut(findings)
	published := s.State().PublishedAt.UTC().Format(time.RFC3339Nano)
	report := &usage.Report{
		Instance: strings.Repeat("0", 32), Sequence: 1, Host: "gw-1", Revision: 42, TableAge: 3.5,
		Usage: []usage.Row{{API: "apps/x", Application: "apps/a", Count: 10}, {API: "apps/x", Code: 401, Count: 1}},
	}
	for range 2 {
		if _, err := l.Take(t.Context(), report); err != nil {
			t.Fatal(err)
		}
	}
	shared.UseTable(&table.Table{
		Plans:         map[string]table.Plan{"apps/p": {Quota: &table.Quota{Limit: 100, Period: "1h"}, RateLimit: &table.RateLimit{Limit: 5, Period: "1s"}}},
		Subscriptions: map[string]table.Subscription{"apps/s": {Plan: "apps/p"}},
	}, nil)
	report.Sharing = true
	told, _, err := shared.Settle(t.Context(), report)
	if err != nil {
		t.Fatal(err)
	}
	report.Tenure, report.Entries = told.Number, []usage.Entry{
		{Kind: usage.KindQuota, Bucket: "subscription apps/s", Plan: "apps/p", Account: 1, Wanted: 5, Over: int64(time.Second)},
		{Kind: usage.KindRate, Bucket: "subscription apps/s", Plan: "apps/p", Account: 2, Wanted: 50, Over: int64(time.Second)},
	}
	if _, _, err := shared.Settle(t.Context(), report); err != nil {
		t.Fatal(err)
	}
	now = start.Add(10 * time.Second)
	got := strings.Replace(look(), published, "PUBLISHED", 1)
	compare(got, golden(t, "after.json", got))
}

// golden returns what a file of testdata holds; with -update the JSON is put there
// before.
func golden(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		var indented bytes.Buffer
		if err := json.Indent(&indented, []byte(text), "", "  "); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, indented.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(data))
}

// FuzzText shows what any control plane may say.
func FuzzText(f *testing.F) {
	for _, d := range documents() {
		data, err := json.Marshal(d)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		d := &status.Document{}
		if json.Unmarshal(data, d) != nil {
			return
		}
		var text strings.Builder
		if err := d.Text(&text); err != nil {
			t.Fatal(err)
		}
		for _, r := range text.String() {
			if r != '\n' && !unicode.IsPrint(r) {
				t.Fatalf("%q has %q", text.String(), r)
			}
		}
	})
}
