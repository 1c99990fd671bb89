package metrics_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	"google.golang.org/protobuf/proto"

	"github.com/tollgate-apim/tollgate/controlplane/metrics"
)

// pushed is what arrived at a collector.
type pushed struct {
	path, authorization string
	request             *collector.ExportMetricsServiceRequest
}

// collect returns the URL of a collector that answers with a status, and what
// arrives there.
func collect(t *testing.T, status int) (string, <-chan pushed) {
	t.Helper()
	arrived := make(chan pushed, 10)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, err := readBody(r)
		p := pushed{r.URL.Path, r.Header.Get("Authorization"), &collector.ExportMetricsServiceRequest{}}
		if err = errors.Join(err, proto.Unmarshal(data, p.request)); err != nil {
			t.Errorf("what is pushed cannot be read: %v", err)
		}
		arrived <- p
		w.WriteHeader(status)
	}))
	t.Cleanup(s.Close)
	return s.URL, arrived
}

func readBody(r *http.Request) ([]byte, error) {
	if r.Header.Get("Content-Encoding") != "gzip" {
		return io.ReadAll(r.Body)
	}
	z, err := gzip.NewReader(r.Body)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(z)
}

// push pushes once, as a pusher does at its end.
func (w *world) push(url string) {
	w.t.Helper()
	p, err := w.metrics.NewPusher(w.t.Context(), url, "a-control-plane")
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	cancel()
	if err := p.End(ctx); err != nil {
		w.t.Errorf("End: %v", err)
	}
}

func attributes(pairs []*common.KeyValue) map[string]string {
	m := map[string]string{}
	for _, pair := range pairs {
		m[pair.GetKey()] = pair.GetValue().GetStringValue()
	}
	return m
}

func TestPush(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "Authorization=Bearer%20a-token")
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
	url, arrived := collect(t, http.StatusOK)
	w := newWorld(t)
	w.fill()
	w.push(url + "/v1/metrics")
	p := <-arrived
	if p.path != "/v1/metrics" || p.authorization != "Bearer a-token" {
		t.Errorf("pushed to %s with %q", p.path, p.authorization)
	}
	about := attributes(p.request.GetResourceMetrics()[0].GetResource().GetAttributes())
	if about["service.name"] != "tollgate" || about["service.instance.id"] != "a-control-plane" || about["deployment.environment.name"] != "test" {
		t.Errorf("pushed about %v", about)
	}
	limited, tables := 0.0, uint64(0)
	told := map[string]bool{}
	for _, scope := range p.request.GetResourceMetrics()[0].GetScopeMetrics() {
		for _, m := range scope.GetMetrics() {
			told[m.GetName()] = true
			for _, point := range m.GetSum().GetDataPoints() {
				if labels := attributes(point.GetAttributes()); m.GetName() == "tollgate_requests_total" && labels["code"] == "429" && labels["key_title"] == "mobile key" {
					limited += point.GetAsDouble()
				}
			}
			if m.GetName() == "tollgate_compile_duration_seconds" {
				tables += m.GetHistogram().GetDataPoints()[0].GetCount()
			}
		}
	}
	if limited != 3 || tables != 1 {
		t.Errorf("pushed %g limited requests and %d tables, want 3 and 1", limited, tables)
	}
	for name := range w.gather() {
		if !told[name] && !strings.HasPrefix(name, "go_") {
			t.Errorf("did not push %s", name)
		}
	}
}

// TestPushFails checks that what goes wrong is told, and does not keep a control
// plane from ending well.
func TestPushFails(t *testing.T) {
	url, arrived := collect(t, http.StatusBadRequest)
	w := newWorld(t)
	var log bytes.Buffer
	w.metrics = metrics.New(slog.New(slog.NewTextHandler(&log, nil)))
	w.push(url)
	<-arrived
	if !strings.Contains(log.String(), "metrics cannot be pushed") {
		t.Errorf("logged %s", &log)
	}
}
