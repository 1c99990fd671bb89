package server_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/tollgate-apim/tollgate/controlplane/ledger"
	"github.com/tollgate-apim/tollgate/controlplane/server"
	"github.com/tollgate-apim/tollgate/controlplane/store"
	"github.com/tollgate-apim/tollgate/usage"
)

const instance = "0123456789abcdef0123456789abcdef"

// reportBody returns a report of so many requests, as JSON.
func reportBody(sequence, count int64) string {
	return fmt.Sprintf(`{"instance": %q, "sequence": %d, "host": "gw-1", "revision": 42, "tableAge": 3.5, "usage": [
		{"api": "apps/api", "application": "apps/a", "keyTitle": "t", "subscription": "apps/s", "plan": "apps/p", "count": %d},
		{"api": "apps/api", "code": 401, "reason": "key_invalid", "count": 1}]}`, instance, sequence, count)
}

// post posts a report with header fields, of which an empty value takes one away.
func post(s *server.Server, body string, headers ...string) *http.Response {
	r := httptest.NewRequest(http.MethodPost, usage.Path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
		if headers[i+1] == "" {
			r.Header.Del(headers[i])
		}
	}
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	return w.Result()
}

func zip(t *testing.T, text string) string {
	t.Helper()
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	if _, err := io.WriteString(z, text); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return zipped.String()
}

// newCounting returns a server and the ledger that it counts in.
func newCounting(s store.Store) (*server.Server, *ledger.Ledger) {
	log := slog.New(slog.DiscardHandler)
	l := ledger.New(ledger.Options{Store: s, Log: log})
	return server.New(server.Options{Log: log, Ledger: l}), l
}

func counted(l *ledger.Ledger) (n int64) {
	for _, r := range l.Requests() {
		n += r.Count
	}
	return n
}

func TestReport(t *testing.T) {
	s, l := newCounting(store.NewMemory(nil))
	res := post(s, reportBody(17, 10))
	answer, err := usage.DecodeAnswer([]byte(body(t, res)), 17)
	if err != nil || res.StatusCode != 200 || answer.Next != 1 {
		t.Fatalf("got %d, %+v, %v", res.StatusCode, answer, err)
	}
	if got := res.Header; got.Get("Content-Type") != "application/json" || got.Get("Cache-Control") != "no-store" {
		t.Errorf("got the header %v", got)
	}
	// The same again, and the next as it may come.
	for _, headers := range [][]string{
		{},
		{"Content-Type", "application/json; charset=utf-8"},
		{"Content-Encoding", "identity"},
	} {
		if res := post(s, reportBody(17, 10), headers...); res.StatusCode != 200 {
			t.Errorf("%v: got %d", headers, res.StatusCode)
		}
	}
	if got := counted(l); got != 11 {
		t.Errorf("counted %d, want 11", got)
	}
	if res := post(s, zip(t, reportBody(18, 100)), "Content-Encoding", "GZIP"); res.StatusCode != 200 {
		t.Errorf("gzip: got %d", res.StatusCode)
	}
	if got := counted(l); got != 112 {
		t.Errorf("counted %d, want 112", got)
	}

	res = post(s, reportBody(16, 10))
	var problem struct {
		Title, Detail string
		Status        int
		Sequence      int64
	}
	if err := json.Unmarshal([]byte(body(t, res)), &problem); err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != 409 || problem.Status != 409 || problem.Sequence != 18 || problem.Title != "Conflict" || res.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("behind: got %d, %+v", res.StatusCode, problem)
	}
	if got, want := l.Reports(), (ledger.Reports{Accepted: 2, Duplicate: 3, Refused: 1}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestReportIsRefused(t *testing.T) {
	s, l := newCounting(store.NewMemory(nil))
	s.AdmitTokens([]string{"a-token"})
	good := reportBody(1, 1)
	large := good[:len(good)-1] + `, "more": "` + strings.Repeat("x", usage.MaxBytes) + `"}`
	for _, test := range []struct {
		name, method, body string
		headers            []string
		want               int
		detail             string
	}{
		{"no token", "POST", good, []string{"Authorization", ""}, 401, "a valid token is required"},
		{"another token", "POST", good, []string{"Authorization", "Bearer other"}, 401, "a valid token is required"},
		{"GET", "GET", "", nil, 405, "only POST is allowed"},
		{"HEAD", "HEAD", "", nil, 405, "only POST is allowed"},
		{"PUT", "PUT", good, nil, 405, "only POST is allowed"},
		{"no type", "POST", good, []string{"Content-Type", ""}, 415, "Content-Type: application/json"},
		{"another type", "POST", good, []string{"Content-Type", "text/plain"}, 415, "Content-Type: application/json"},
		{"another coding", "POST", good, []string{"Content-Encoding", "br"}, 415, "Content-Encoding: gzip"},
		{"no gzip", "POST", good, []string{"Content-Encoding", "gzip"}, 400, "gzip"},
		{"half a gzip", "POST", zip(t, good)[:50], []string{"Content-Encoding", "gzip"}, 400, "gzip"},
		{"nothing", "POST", "", nil, 400, "the report is wrong: decoding report: "},
		{"no JSON", "POST", "<html>", nil, 400, "the report is wrong: decoding report: "},
		{"a negative count", "POST", reportBody(1, -1), nil, 400, "the report is wrong: validating report: usage[0].count: -1, must be from 1"},
		{"too large", "POST", large, nil, 413, "at most 33554432 bytes"},
		{"too large when decompressed", "POST", zip(t, large), []string{"Content-Encoding", "gzip"}, 413, "at most 33554432 bytes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := httptest.NewRequest(test.method, usage.Path, strings.NewReader(test.body))
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set("Authorization", "Bearer a-token")
			for i := 0; i < len(test.headers); i += 2 {
				r.Header.Set(test.headers[i], test.headers[i+1])
			}
			w := httptest.NewRecorder()
			s.Handler().ServeHTTP(w, r)
			res := w.Result()
			var problem struct {
				Status int
				Detail string
			}
			text := body(t, res)
			if err := json.Unmarshal([]byte(text), &problem); err != nil {
				t.Fatal(err)
			}
			if res.StatusCode != test.want || problem.Status != test.want || !strings.Contains(problem.Detail, test.detail) {
				t.Errorf("got %d and %s, want %d and %q", res.StatusCode, text, test.want, test.detail)
			}
			if res.StatusCode == 405 && res.Header.Get("Allow") != "POST" {
				t.Errorf("allows %q", res.Header.Get("Allow"))
			}
		})
	}
	if got, want := l.Reports(), (ledger.Reports{Refused: 5}); got != want || counted(l) != 0 {
		t.Errorf("got %+v and %d requests, want %+v and none", got, counted(l), want)
	}
}

// away is a store that does not answer.
type away struct{ store.Store }

func (away) Get(context.Context, ...string) ([]store.Value, time.Time, error) {
	return nil, time.Time{}, errors.New("password in an error")
}

func TestReportWithoutStore(t *testing.T) {
	s, _ := newCounting(away{})
	res := post(s, reportBody(1, 1))
	if text := body(t, res); res.StatusCode != 503 || res.Header.Get("Retry-After") == "" || strings.Contains(text, "password") {
		t.Errorf("got %d, %v, %s", res.StatusCode, res.Header, text)
	}
}

// TestReportBroken has a sender that goes away in the midst of it.
func TestReportBroken(t *testing.T) {
	s, l := newCounting(store.NewMemory(nil))
	web := httptest.NewServer(s.Handler())
	defer web.Close()
	for _, coding := range []string{"identity", "gzip"} {
		text := reportBody(1, 1)
		if coding == "gzip" {
			text = zip(t, text)
		}
		conn, err := net.Dial("tcp", web.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Encoding: %s\r\nContent-Length: %d\r\n\r\n%s",
			usage.Path, coding, len(text), text[:len(text)/2])
		if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(conn)
		if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 408 ") {
			t.Errorf("%s: got %s, %v", coding, answer, err)
		}
		conn.Close()
	}
	if got := l.Reports(); got != (ledger.Reports{}) {
		t.Errorf("got %+v", got)
	}
}

// FuzzReport posts anything.
func FuzzReport(f *testing.F) {
	f.Add([]byte(reportBody(1, 1)), "application/json", "")
	f.Add([]byte(reportBody(2, 1)), "application/json; charset=utf-8", "identity")
	f.Add([]byte("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"), "application/json", "gzip")
	f.Add([]byte("{"), "text/plain;", "br, gzip")
	f.Fuzz(func(t *testing.T, data []byte, contentType, coding string) {
		s, l := newCounting(store.NewMemory(nil))
		res := post(s, string(data), "Content-Type", contentType, "Content-Encoding", coding)
		accepted := int64(0)
		switch res.StatusCode {
		case 200:
			accepted = 1
		case 400, 413, 415:
		default:
			t.Errorf("got %d", res.StatusCode)
		}
		if text := body(t, res); !json.Valid([]byte(text)) {
			t.Errorf("got %q", text)
		}
		if got := l.Reports().Accepted; got != accepted {
			t.Errorf("accepted %d and answered %d", got, res.StatusCode)
		}
	})
}
