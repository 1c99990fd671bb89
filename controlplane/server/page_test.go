package server_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tollgate-apim/tollgate/controlplane/finding"
	"github.com/tollgate-apim/tollgate/controlplane/server"
	"github.com/tollgate-apim/tollgate/table"
)

// TestPages asks for a page and for others, with the token that the table needs,
// without it, and where everything that is there is for everybody.
func TestPages(t *testing.T) {
	s := quietServer()
	s.AddPage("/page", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "a page") }))
	s.AdmitTokens([]string{"a-token"})
	publish(t, s, newTable("Standard"))
	for _, test := range []struct {
		method, path, token string
		want, open          int
	}{
		{"GET", "/page", "a-token", 200, 200},
		{"HEAD", "/page", "a-token", 200, 200},
		{"GET", "/page", "", 401, 200},
		{"GET", "/page", "another", 401, 200},
		{"PUT", "/page", "a-token", 405, 405},
		{"PUT", "/page", "", 401, 405},
		{"GET", "/page/", "a-token", 404, 404},
		{"GET", "/healthz", "", 200, 200},
		{"PUT", "/healthz", "", 405, 405},
		{"GET", table.Path, "a-token", 200, 404},
		{"GET", table.Path, "", 401, 404},
	} {
		if got := get(s, test.method, test.path, "Authorization", "Bearer "+test.token).StatusCode; got != test.want {
			t.Errorf("%s %s with %q: got %d, want %d", test.method, test.path, test.token, got, test.want)
		}
		w := httptest.NewRecorder()
		s.Monitoring().Handler.ServeHTTP(w, httptest.NewRequest(test.method, test.path, nil))
		if w.Code != test.open {
			t.Errorf("%s %s of what is open: got %d, want %d", test.method, test.path, w.Code, test.open)
		}
	}
	res := get(s, "GET", "/page", "Authorization", "Bearer a-token")
	if got := body(t, res); got != "a page" || res.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("got %q, %v", got, res.Header)
	}
	w := httptest.NewRecorder()
	s.Monitoring().Handler.ServeHTTP(w, httptest.NewRequest("GET", "/page", strings.NewReader("a body")))
	if w.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("with a body: got %d, want 413", w.Code)
	}
}

func TestState(t *testing.T) {
	synctest.Test(t, testState) // in which time stands still
}

func testState(t *testing.T) {
	s := quietServer()
	if got, want := s.State(), (server.State{}); !cmp.Equal(got, want) {
		t.Errorf("at the start: got %+v, want %+v", got, want)
	}
	tbl := newTable("Standard")
	tbl.APIs["apps/api"] = table.API{}
	tbl.Keys[strings.Repeat("0", 128)] = []table.Holder{{Application: "apps/a"}}
	findings := []finding.Finding{
		{Rule: finding.Secret, Severity: finding.Error, File: "a"},
		{Rule: finding.Secret, Severity: finding.Error, File: "b"},
		{Rule: finding.Secret, Severity: finding.Warning},
		{Rule: finding.Selector, Severity: finding.Warning},
	}
	if err := s.Publish(tbl, nil, findings); err != nil {
		t.Fatal(err)
	}
	want := server.State{
		Revision: tbl.Revision, PublishedAt: time.Now(), Rows: server.Rows{APIs: 1, Plans: 1, Keys: 1},
		Findings: map[server.Kind]int{
			{Severity: finding.Error, Rule: finding.Secret}:     2,
			{Severity: finding.Warning, Rule: finding.Secret}:   1,
			{Severity: finding.Warning, Rule: finding.Selector}: 1,
		},
	}
	if diff := cmp.Diff(want, s.State()); diff != "" {
		t.Errorf("with a table (-want +got):\n%s", diff)
	}
	s.KeepOut(findings[3:])
	want.KeptOut, want.Findings = true, map[server.Kind]int{{Severity: finding.Warning, Rule: finding.Selector}: 1}
	if diff := cmp.Diff(want, s.State()); diff != "" {
		t.Errorf("with a change kept out (-want +got):\n%s", diff)
	}
}

// TestStateOfParts checks that a table in parts is counted as a whole.
func TestStateOfParts(t *testing.T) {
	s := dividing()
	publish(t, s, tableOf(3))
	if got, want := s.State().Rows, (server.Rows{Plans: 1, Subscriptions: 3, Applications: 3, Keys: 3}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
