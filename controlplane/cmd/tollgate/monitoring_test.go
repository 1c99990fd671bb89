package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	"google.golang.org/protobuf/proto"

	"github.com/tollgate-apim/tollgate/usage"
)

// TestMonitoring asks a running control plane for its metrics, at both its
// addresses, and has it push them.
func TestMonitoring(t *testing.T) {
	t.Setenv("OTEL_METRIC_EXPORT_INTERVAL", "100")
	pushes := make(chan *collector.ExportMetricsServiceRequest, 1)
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		request := &collector.ExportMetricsServiceRequest{}
		data, err := io.ReadAll(r.Body)
		if err = errors.Join(err, proto.Unmarshal(data, request)); err != nil || r.URL.Path != "/v1/metrics" {
			t.Errorf("pushed to %s: %v", r.URL.Path, err)
		}
		select {
		case pushes <- request:
		default:
		}
	}))
	defer receiver.Close()

	dir := t.TempDir()
	file := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	p := startServe(t, "--manifests", file("weather.yaml", weatherManifests), "--listen", "127.0.0.1:0", "--log-format", "json",
		"--token-file", file("token", "a-token\n"), "--metrics-listen", "127.0.0.1:0", "--otlp-endpoint", receiver.URL)
	open := "http://" + p.await("metrics are served to everybody")["address"].(string)
	guarded := "http://" + p.await("listening")["address"].(string)
	p.await("table served")

	ask := func(method, url, token, body string) (int, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Authorization", "Bearer "+token)
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		data, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(data)
	}
	report := `{"instance": "` + strings.Repeat("0", 32) + `", "sequence": 1, "usage": [{"api": "apps/weather-api", "code": 401, "reason": "key_missing", "count": 5}]}`
	if status, body := ask("POST", guarded+usage.Path, "a-token", report); status != http.StatusOK {
		t.Fatalf("the report: got %d: %s", status, body)
	}
	for _, test := range []struct {
		url, token string
		want       int
	}{
		{guarded + "/metrics", "a-token", 200},
		{guarded + "/metrics", "", 401},
		{open + "/metrics", "", 200},
		{open + "/v1/status", "", 200},
		{open + "/healthz", "", 200},
		{open + "/v1/table", "a-token", 404},
		{open + usage.Path, "a-token", 404},
	} {
		status, body := ask("GET", test.url, test.token, "")
		if status != test.want {
			t.Errorf("%s with %q: got %d, want %d", test.url, test.token, status, test.want)
		}
		if !strings.HasSuffix(test.url, "/metrics") || status != http.StatusOK {
			continue
		}
		for _, line := range []string{
			`tollgate_requests_total{api="apps/weather-api",application="",code="401",key_title="",plan="",reason="key_missing",subscription=""} 5`,
			"tollgate_table_keys 1", "tollgate_compile_duration_seconds_count 1", `tollgate_reports_total{result="accepted"} 1`,
			`tollgate_store_operations_total{operation="swap",result="ok"} 1`,
		} {
			if !strings.Contains(body, line+"\n") {
				t.Errorf("%s has no line %s", test.url, line)
			}
		}
	}
	<-pushes
	p.stop()
	if strings.Contains(p.log.String(), "a-token") {
		t.Error("the log tells the token")
	}
}

// TestLastPush has a report that arrives while the control plane stops, which goes on
// pushing until then.
func TestLastPush(t *testing.T) {
	t.Setenv("OTEL_METRIC_EXPORT_INTERVAL", "10")
	pushes := make(chan bool)
	var last atomic.Int64
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		request := &collector.ExportMetricsServiceRequest{}
		data, err := io.ReadAll(r.Body)
		if err = errors.Join(err, proto.Unmarshal(data, request)); err != nil {
			t.Error(err)
		}
		requests := int64(0)
		for _, scope := range request.GetResourceMetrics()[0].GetScopeMetrics() {
			for _, m := range scope.GetMetrics() {
				for _, point := range m.GetSum().GetDataPoints() {
					if m.GetName() == "tollgate_requests_total" {
						requests += int64(point.GetAsDouble())
					}
				}
			}
		}
		last.Store(requests)
		select {
		case pushes <- true:
		default:
		}
	}))
	defer receiver.Close()
	p := startServe(t, "--manifests", t.TempDir(), "--listen", "127.0.0.1:0", "--log-format", "json", "--otlp-endpoint", receiver.URL)
	conn, err := net.Dial("tcp", p.await("listening")["address"].(string))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	report := `{"instance": "` + strings.Repeat("0", 32) + `", "sequence": 1, "usage": [{"api": "apps/weather-api", "count": 5}]}`
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n", usage.Path, len(report))
	answers := bufio.NewReader(conn)
	if line, err := answers.ReadString('\n'); err != nil || !strings.HasPrefix(line, "HTTP/1.1 100 ") {
		t.Fatalf("got %q, %v", line, err) // It is being read when this has come.
	}
	p.cancel()
	p.await("stopping")
	for range 3 { // more than one that was under way, and a last one
		select {
		case <-pushes:
		case <-time.After(patience):
			t.Fatal("pushes end before the last request")
		}
	}
	fmt.Fprint(conn, report)
	if rest, err := io.ReadAll(answers); err != nil || !strings.Contains(string(rest), "HTTP/1.1 200 ") {
		t.Fatalf("got %q, %v", rest, err)
	}
	p.stop()
	if got := last.Load(); got != 5 {
		t.Errorf("pushed %d requests at the end, want 5", got)
	}
}

func TestPushURL(t *testing.T) {
	for endpoint, want := range map[string]string{
		"http://127.0.0.1:4318":              "http://127.0.0.1:4318/v1/metrics",
		"https://collector.example.com/":     "https://collector.example.com/v1/metrics",
		"http://127.0.0.1:9090/api/v1/otlp":  "http://127.0.0.1:9090/api/v1/otlp",
		"127.0.0.1:4318":                     "",
		"grpc://127.0.0.1:4317":              "",
		"http://":                            "",
		"http://user:a-password@example.com": "",
		"http://example.com?token=a-token":   "",
		"http://a-password\x7f":              "",
	} {
		got, err := pushURL(endpoint)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: got %q, %v, want %q", endpoint, got, err, want)
		}
		if err != nil && (strings.Contains(err.Error(), "a-password") || strings.Contains(err.Error(), "a-token")) {
			t.Errorf("%q: tells a secret: %v", endpoint, err)
		}
	}
}
