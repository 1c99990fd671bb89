package server_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tollgate-apim/tollgate/controlplane/compile"
	"github.com/tollgate-apim/tollgate/controlplane/finding"
	"github.com/tollgate-apim/tollgate/controlplane/server"
	"github.com/tollgate-apim/tollgate/table"
)

var start = time.Date(2026, 11, 21, 17, 0, 0, 0, time.UTC)

func newTable(planTitle string) *table.Table {
	return &table.Table{
		Revision:      start.UnixMilli(),
		IssuedAt:      start,
		Plans:         map[string]table.Plan{"apps/plan": {Title: planTitle}},
		APIs:          map[string]table.API{},
		Subscriptions: map[string]table.Subscription{},
		Applications:  map[string]table.Application{},
		Keys:          map[string][]table.Holder{},
	}
}

func publish(t *testing.T, s *server.Server, tbl *table.Table) {
	t.Helper()
	if err := s.Publish(tbl, nil, nil); err != nil {
		t.Fatal(err)
	}
}

func get(s *server.Server, method, path string, headers ...string) *http.Response {
	r := httptest.NewRequest(method, path, nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	return w.Result()
}

func body(t *testing.T, res *http.Response) string {
	t.Helper()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestTable(t *testing.T) {
	s := quietServer()
	publish(t, s, newTable("Standard"))

	res := get(s, "GET", table.Path)
	plain := body(t, res)
	got, err := table.Decode([]byte(plain))
	if err != nil {
		t.Fatal(err)
	}
	want := newTable("Standard")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
	etag := res.Header.Get("ETag")
	wantHeader := http.Header{
		"Cache-Control":  {"no-cache"},
		"Vary":           {"Accept, Accept-Encoding, Authorization, Prefer"},
		"Content-Type":   {"application/json"},
		"Content-Length": {res.Header.Get("Content-Length")},
		"Etag":           {etag},
	}
	if diff := cmp.Diff(wantHeader, res.Header); diff != "" {
		t.Errorf("header (-want +got):\n%s", diff)
	}

	res = get(s, "GET", table.Path, "Accept-Encoding", "gzip")
	zipped := body(t, res)
	z, err := gzip.NewReader(strings.NewReader(zipped))
	if err != nil {
		t.Fatal(err)
	}
	unzipped, err := io.ReadAll(z)
	if err != nil || string(unzipped) != plain {
		t.Errorf("gzip holds %q, %v, want %q", unzipped, err, plain)
	}
	zippedETag := res.Header.Get("ETag")
	if zippedETag == etag || res.Header.Get("Content-Encoding") != "gzip" {
		t.Errorf("gzip has the header %v, want its own ETag and a Content-Encoding", res.Header)
	}

	res = get(s, "HEAD", table.Path)
	if diff := cmp.Diff(wantHeader, res.Header); diff != "" || body(t, res) != "" {
		t.Errorf("HEAD has a body or another header (-want +got):\n%s", diff)
	}

	for _, test := range []struct {
		name, encoding, match string
		want                  int
	}{
		{"the tag", "", etag, 304},
		{"weak", "", "W/" + etag, 304},
		{"a list", "", `"other", ` + etag, 304},
		{"any", "", "*", 304},
		{"another tag", "", `"other"`, 200},
		{"without quotes", "", strings.Trim(etag, `"`), 200},
		{"of another representation", "", zippedETag, 200},
		{"gzip", "gzip", zippedETag, 304},
		{"plain's for gzip", "gzip", etag, 200},
	} {
		t.Run(test.name, func(t *testing.T) {
			res := get(s, "GET", table.Path, "If-None-Match", test.match, "Accept-Encoding", test.encoding)
			if res.StatusCode != test.want {
				t.Errorf("got %d, want %d", res.StatusCode, test.want)
			}
			if res.StatusCode == 304 && (body(t, res) != "" || res.Header.Get("ETag") == "" || res.Header.Get("Vary") == "") {
				t.Errorf("304 has a body or lacks a header: %v", res.Header)
			}
		})
	}
}

func TestAcceptEncoding(t *testing.T) {
	s := quietServer()
	publish(t, s, newTable("Standard"))
	for accept, want := range map[string]string{
		"":                     "",
		"gzip":                 "gzip",
		"GZIP":                 "gzip",
		"x-gzip":               "gzip",
		"br, gzip;q=0.5":       "gzip",
		"gzip;q=0":             "",
		"gzip; q=0.0, *":       "",
		"*":                    "gzip",
		"*;q=0":                "",
		"*;q=0, gzip;q=1":      "gzip",
		"identity":             "",
		"deflate, br":          "",
		"gzip;q=nothing":       "",
		"identity;q=1, *;q=.5": "gzip",
	} {
		t.Run(accept, func(t *testing.T) {
			if got := get(s, "GET", table.Path, "Accept-Encoding", accept).Header.Get("Content-Encoding"); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	var log bytes.Buffer
	s := server.New(server.Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	s.AdmitTokens([]string{"a-token", "the-next-token"})
	empty := quietServer()
	publish(t, s, newTable("Standard"))
	for _, test := range []struct {
		name         string
		server       *server.Server
		method, path string
		token        string
		want         int
		header       string
		value        string
	}{
		{"the token", s, "GET", table.Path, "Bearer a-token", 200, "", ""},
		{"the scheme in lower case", s, "GET", table.Path, "bearer a-token", 200, "", ""},
		{"no token", s, "GET", table.Path, "", 401, "WWW-Authenticate", `Bearer realm="tollgate"`},
		{"another token", s, "GET", table.Path, "Bearer b-token", 401, "WWW-Authenticate", `Bearer realm="tollgate"`},
		{"a part of it", s, "GET", table.Path, "Bearer a-toke", 401, "", ""},
		{"another scheme", s, "GET", table.Path, "Basic a-token", 401, "", ""},
		{"without a scheme", s, "GET", table.Path, "a-token", 401, "", ""},
		{"health needs none", s, "GET", "/healthz", "", 200, "Cache-Control", "no-store"},
		{"another method", s, "POST", table.Path, "Bearer a-token", 405, "Allow", "GET, HEAD"},
		{"another method of health", s, "DELETE", "/healthz", "", 405, "Allow", "GET, HEAD"},
		{"another path", s, "GET", "/v1/tables", "Bearer a-token", 404, "Content-Type", "application/problem+json"},
		{"no table yet", empty, "GET", table.Path, "", 503, "Retry-After", "1"},
		{"no health yet", empty, "GET", "/healthz", "", 503, "Content-Type", "application/json"},
	} {
		t.Run(test.name, func(t *testing.T) {
			res := get(test.server, test.method, test.path, "Authorization", test.token)
			if res.StatusCode != test.want || test.header != "" && res.Header.Get(test.header) != test.value {
				t.Errorf("got %d, %v, want %d, %s: %s", res.StatusCode, res.Header, test.want, test.header, test.value)
			}
			if b := body(t, res); !json.Valid([]byte(b)) {
				t.Errorf("the body is no JSON: %q", b)
			}
		})
	}
	if got := strings.Count(log.String(), `msg="request without a valid token"`); got != 1 {
		t.Errorf("logged %d refusals, want one for all", got)
	}
	if strings.Contains(log.String(), "a-tok") || strings.Contains(log.String(), "b-tok") {
		t.Error("the log has a token")
	}
}

func TestPublish(t *testing.T) {
	s := quietServer()
	publish(t, s, newTable("Standard"))
	served := body(t, get(s, "GET", table.Path))
	same := newTable("Standard")
	if err := s.Publish(same, &compile.Change{}, nil); err != nil {
		t.Fatal(err)
	}
	if got := body(t, get(s, "GET", table.Path)); got != served {
		t.Errorf("the same again: serves %s, want %s", got, served)
	}
	// The same under another revision, as after an edit that changes nothing.
	same.Revision, same.IssuedAt = same.Revision+1, start.Add(time.Millisecond)
	if err := s.Publish(same, &compile.Change{}, nil); err != nil {
		t.Fatal(err)
	}
	if got := body(t, get(s, "GET", table.Path)); !strings.Contains(got, `"revision":1795280400001,"issuedAt":"2026-11-21T17:00:00.001Z"`) {
		t.Errorf("under another revision: serves %s", got)
	}
	gold := newTable("Gold")
	gold.Revision = same.Revision + 1
	if err := s.Publish(gold, &compile.Change{Plans: true}, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Publish(&table.Table{}, nil, nil); err == nil {
		t.Error("a table without sections: got no error")
	}
	if got := body(t, get(s, "GET", table.Path)); !strings.Contains(got, "Gold") {
		t.Errorf("after the bad table: serves %s", got)
	}
}

func TestHealth(t *testing.T) {
	s := quietServer()
	check := func(want string) {
		t.Helper()
		if got := strings.TrimSpace(body(t, get(s, "GET", "/healthz"))); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	check(`{"status":"starting","waiting":0,"keptOut":false,"findings":{"errors":0,"warnings":0}}`)
	found := []finding.Finding{{Severity: finding.Error}, {Severity: finding.Warning}, {Severity: finding.Warning}}
	if err := s.Publish(newTable("Standard"), nil, found); err != nil {
		t.Fatal(err)
	}
	check(`{"status":"ok","revision":1795280400000,"issuedAt":"2026-11-21T17:00:00Z","waiting":0,"keptOut":false,"findings":{"errors":1,"warnings":2}}`)
	s.KeepOut(found[:1])
	check(`{"status":"ok","revision":1795280400000,"issuedAt":"2026-11-21T17:00:00Z","waiting":0,"keptOut":true,"findings":{"errors":1,"warnings":0}}`)
	publish(t, s, newTable("Standard"))
	check(`{"status":"ok","revision":1795280400000,"issuedAt":"2026-11-21T17:00:00Z","waiting":0,"keptOut":false,"findings":{"errors":0,"warnings":0}}`)
}
