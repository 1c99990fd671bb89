package metrics_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"

	"github.com/tollgate-apim/tollgate/controlplane/finding"
	"github.com/tollgate-apim/tollgate/controlplane/ledger"
	"github.com/tollgate-apim/tollgate/controlplane/metrics"
	"github.com/tollgate-apim/tollgate/controlplane/server"
	"github.com/tollgate-apim/tollgate/controlplane/sharing"
	"github.com/tollgate-apim/tollgate/controlplane/store"
	"github.com/tollgate-apim/tollgate/table"
	"github.com/tollgate-apim/tollgate/usage"
)

var start = time.Date(2026, 11, 21, 17, 0, 0, 0, time.UTC)

// series is how many callers world tells of one by one.
const series = 50

// world is a control plane with metrics, without manifests and network.
type world struct {
	t       *testing.T
	now     time.Time
	server  *server.Server
	store   *broken
	ledger  *ledger.Ledger
	sharing *sharing.Sharing
	metrics *metrics.Metrics
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldOf(t, series)
}

// newWorldOf returns a world that tells of so many callers one by one.
func newWorldOf(t *testing.T, series int) *world {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	w := &world{t: t, now: start, server: server.New(server.Options{Log: log}), metrics: metrics.New(log)}
	w.store = &broken{Store: store.NewMemory(nil)}
	w.ledger = ledger.New(ledger.Options{
		Store: w.metrics.Store(w.store), Log: log, Series: series, Now: func() time.Time { return w.now },
	})
	w.sharing = sharing.New(sharing.Options{Store: w.metrics.Store(w.store), Log: log, Now: func() time.Time { return w.now }})
	w.metrics.ObserveServer(w.server)
	w.metrics.ObserveSharing(w.sharing)
	w.metrics.ObserveLedger(w.ledger)
	w.server.AddPage(metrics.Path, w.metrics.Handler())
	return w
}

// broken is a store that can be made to fail.
type broken struct {
	store.Store
	err  error
	lost bool // all races
}

func (b *broken) Get(ctx context.Context, keys ...string) ([]store.Value, time.Time, error) {
	if b.err != nil {
		return nil, time.Time{}, b.err
	}
	return b.Store.Get(ctx, keys...)
}

func (b *broken) GetChanged(ctx context.Context, known ...store.Known) ([]store.Value, time.Time, error) {
	if b.err != nil {
		return nil, time.Time{}, b.err
	}
	return b.Store.GetChanged(ctx, known...)
}

func (b *broken) Swap(ctx context.Context, changes ...store.Change) ([]int64, error) {
	if b.lost {
		return make([]int64, len(changes)), nil
	}
	return b.Store.Swap(ctx, changes...)
}

func instance(n int) string { return fmt.Sprintf("%032x", n) }

func (w *world) take(r *usage.Report) {
	w.t.Helper()
	if _, err := w.ledger.Take(w.t.Context(), r); err != nil {
		w.t.Fatal(err)
	}
}

// fill has something to tell under each name.
func (w *world) fill() {
	w.t.Helper()
	err := w.server.Publish(&table.Table{
		Revision: 42, IssuedAt: start,
		Plans: map[string]table.Plan{"apps/plan": {}}, APIs: map[string]table.API{"apps/api": {}},
		Subscriptions: map[string]table.Subscription{}, Applications: map[string]table.Application{}, Keys: map[string][]table.Holder{},
	}, nil, []finding.Finding{{Rule: finding.Secret, Severity: finding.Error}, {Rule: finding.Orphan, Severity: finding.Warning}})
	if err != nil {
		w.t.Fatal(err)
	}
	caller := usage.Row{API: "apps/api", Application: "apps/app", KeyTitle: "mobile key", Subscription: "apps/sub", Plan: "apps/plan", Count: 12}
	limited, dry := caller, caller
	limited.Code, limited.Reason, limited.Count = 429, "rate_limited", 3
	dry.DryRun, dry.Reason, dry.Count = true, "quota_exceeded", 2
	w.take(&usage.Report{Instance: instance(1), Sequence: 1, Host: "gw-1", Revision: 42, TableAge: 3.5, Usage: []usage.Row{
		caller, limited, dry, {API: "apps/api", Code: 401, Reason: "key_missing", Count: 7},
	}})
	w.metrics.Compiled(20 * time.Millisecond)
	w.share()
}

// share has a gateway tell of a bucket with both limits.
func (w *world) share() {
	w.t.Helper()
	w.sharing.UseTable(&table.Table{
		Plans: map[string]table.Plan{"apps/plan": {
			Quota: &table.Quota{Limit: 1000, Period: "1h"}, RateLimit: &table.RateLimit{Limit: 10, Period: "1s"},
		}},
		Subscriptions: map[string]table.Subscription{"apps/sub": {Plan: "apps/plan"}},
	}, nil)
	r := &usage.Report{Instance: instance(1), Sequence: 1, Sharing: true}
	for range 2 {
		told, _, err := w.sharing.Settle(w.t.Context(), r)
		if err != nil {
			w.t.Fatal(err)
		}
		r.Tenure = told.Number
		for account, kind := range []string{usage.KindQuota, usage.KindRate, "none"} {
			r.Entries = append(r.Entries, usage.Entry{Kind: kind, Bucket: "subscription apps/sub", Plan: "apps/plan", Account: int64(account + 1), Wanted: 100, Over: int64(time.Second)})
		}
	}
}

// gather returns all families of metrics by name.
func (w *world) gather() map[string]*dto.MetricFamily {
	w.t.Helper()
	families, err := w.metrics.Gatherer().Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	byName := map[string]*dto.MetricFamily{}
	for _, f := range families {
		byName[f.GetName()] = f
	}
	return byName
}

// scrape returns what a GET answers, and its media type.
func (w *world) scrape(accept string) (body, contentType string) {
	w.t.Helper()
	r := httptest.NewRequest(http.MethodGet, metrics.Path, nil)
	r.Header.Set("Accept", accept)
	recorder := httptest.NewRecorder()
	w.server.Handler().ServeHTTP(recorder, r)
	data, err := io.ReadAll(recorder.Body)
	if err != nil || recorder.Code != http.StatusOK {
		w.t.Fatalf("got %d, %v: %s", recorder.Code, err, data)
	}
	return string(data), recorder.Header().Get("Content-Type")
}

// expect checks lines of a scrape.
func (w *world) expect(lines ...string) {
	w.t.Helper()
	body, _ := w.scrape("text/plain")
	for _, line := range lines {
		if !strings.Contains("\n"+body, "\n"+line+"\n") {
			name, _, _ := strings.Cut(line, "{")
			w.t.Errorf("there is no line %s but\n%s", line, strings.Join(regexp.MustCompile(`(?m)^`+name+`\b.*`).FindAllString(body, -1), "\n"))
		}
	}
}

func TestMetrics(t *testing.T) {
	w := newWorld(t)
	w.expect("tollgate_table_revision 0", "tollgate_table_published_timestamp_seconds 0", "tollgate_store_up 0",
		`tollgate_reports_total{result="accepted"} 0`, `tollgate_store_operations_total{operation="get",result="error"} 0`)
	w.fill()
	w.now = start.Add(90 * time.Second)
	w.take(&usage.Report{Instance: instance(2), Sequence: 1, Host: "gw-2", Revision: 41})
	w.take(&usage.Report{Instance: instance(2), Sequence: 1, Host: "gw-2", Revision: 41})
	w.ledger.Refuse()
	const caller = `api="apps/api",application="apps/app",`
	const rest = `key_title="mobile key",plan="apps/plan",`
	seen := strconv.FormatFloat(float64(start.Unix()), 'g', -1, 64)
	w.expect(
		`tollgate_requests_total{`+caller+`code="",`+rest+`reason="",subscription="apps/sub"} 12`,
		`tollgate_requests_total{`+caller+`code="429",`+rest+`reason="rate_limited",subscription="apps/sub"} 3`,
		`tollgate_requests_total{api="apps/api",application="",code="401",key_title="",plan="",reason="key_missing",subscription=""} 7`,
		`tollgate_dry_run_requests_total{`+caller+`code="",`+rest+`reason="quota_exceeded",subscription="apps/sub"} 2`,
		`tollgate_gateways{revision="42"} 1`, `tollgate_gateways{revision="41"} 1`,
		`tollgate_gateway_revision{gateway="`+instance(1)+`",host="gw-1"} 42`,
		`tollgate_gateway_table_age_seconds{gateway="`+instance(1)+`",host="gw-1"} 93.5`,
		`tollgate_gateway_last_report_timestamp_seconds{gateway="`+instance(1)+`",host="gw-1"} `+seen,
		`tollgate_reports_total{result="accepted"} 2`, `tollgate_reports_total{result="duplicate"} 1`, `tollgate_reports_total{result="refused"} 1`,
		"tollgate_table_revision 42", "tollgate_table_plans 1", "tollgate_table_apis 1", "tollgate_table_keys 0",
		"tollgate_table_change_kept_out 0", "tollgate_table_requests_waiting 0", "tollgate_store_up 1",
		`tollgate_findings{check="secret",severity="error"} 1`, `tollgate_findings{check="orphan",severity="warning"} 1`,
		`tollgate_compile_duration_seconds_bucket{le="0.01"} 0`, `tollgate_compile_duration_seconds_bucket{le="0.025"} 1`,
		`tollgate_store_operations_total{operation="swap",result="ok"} 4`,
		`tollgate_bucket_quota_limit{bucket="subscription apps/sub",plan="apps/plan"} 1000`,
		`tollgate_bucket_quota_remaining{bucket="subscription apps/sub",plan="apps/plan"} 800`, `tollgate_bucket_rate_saturation_ratio{bucket="subscription apps/sub",plan="apps/plan"} 1`,
		`tollgate_report_entries_total{result="settled"} 2`, `tollgate_report_entries_total{result="unknown"} 1`, `tollgate_report_entries_total{result="failed"} 0`,
	)
	w.server.KeepOut(nil)
	w.expect("tollgate_table_change_kept_out 1")
	w.now = start.Add(time.Hour)
	if got := w.gather()["tollgate_gateways"]; got != nil {
		t.Errorf("an hour later: got %v", got)
	}
}

// TestStoreOperations counts what goes wrong in a store.
func TestStoreOperations(t *testing.T) {
	w := newWorld(t)
	s := w.metrics.Store(w.store)
	w.store.err = errors.New("away")
	_, _, _ = s.Get(t.Context(), "a")
	if _, err := w.ledger.Take(t.Context(), &usage.Report{Instance: instance(1), Sequence: 1}); err == nil {
		t.Error("a report was taken")
	}
	w.expect(`tollgate_store_operations_total{operation="get",result="error"} 2`, "tollgate_store_up 0", `tollgate_reports_total{result="failed"} 1`)
	w.store.err = fmt.Errorf("asking: %w", context.Canceled)
	_, _, _ = s.Get(t.Context(), "a")
	w.store.err, w.store.lost = nil, true
	if made, err := s.Swap(t.Context(), store.Change{Key: "a", Data: []byte("a")}); err != nil || made[0] != 0 {
		t.Errorf("got %v, %v", made, err)
	}
	w.store.lost = false
	if made, err := s.Swap(t.Context(), store.Change{Key: "a", Data: []byte("a")}); err != nil || made[0] == 0 {
		t.Errorf("got %v, %v", made, err)
	}
	values, _, err := s.Get(t.Context(), "a")
	if err != nil || string(values[0].Data) != "a" {
		t.Errorf("got %v, %v", values, err)
	}
	if values, _, err := s.GetChanged(t.Context(), store.Known{Key: "a", Version: values[0].Version}); err != nil || values[0].Data != nil {
		t.Errorf("unchanged: got %v, %v", values, err)
	}
	w.expect(
		`tollgate_store_operations_total{operation="get",result="canceled"} 1`,
		`tollgate_store_operations_total{operation="get",result="ok"} 2`,
		`tollgate_store_operations_total{operation="swap",result="conflict"} 1`,
		`tollgate_store_operations_total{operation="swap",result="ok"} 1`,
		`tollgate_store_operation_duration_seconds_count{operation="swap"} 2`,
	)
}

func TestFormats(t *testing.T) {
	w := newWorld(t)
	w.fill()
	body, contentType := w.scrape("application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
	if !strings.HasPrefix(contentType, "application/openmetrics-text") || !strings.HasSuffix(body, "# EOF\n") {
		t.Errorf("asked for OpenMetrics: got %s", contentType)
	}
	if _, contentType = w.scrape("*/*"); !strings.HasPrefix(contentType, "text/plain") {
		t.Errorf("asked for anything: got %s", contentType)
	}
}

func TestNeedsToken(t *testing.T) {
	w := newWorld(t)
	w.server.AdmitTokens([]string{"a-token"})
	recorder := httptest.NewRecorder()
	w.server.Handler().ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, metrics.Path, nil))
	if recorder.Code != http.StatusUnauthorized {
		t.Errorf("got %d, want 401", recorder.Code)
	}
}

// TestNames checks names, types and help by the conventions of Prometheus.
func TestNames(t *testing.T) {
	w := newWorld(t)
	w.fill()
	problems, err := testutil.GatherAndLint(w.metrics.Gatherer())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// TestBounded has gateways report more than is told of.
func TestBounded(t *testing.T) {
	w := newWorld(t)
	const gateways, revisions = 1_200, 30
	var sent float64
	for n := range gateways {
		var rows []usage.Row
		for i := range 3 {
			rows = append(rows, usage.Row{
				API: fmt.Sprintf("apps/api-%d", n%7), Application: fmt.Sprintf("apps/app-%d", n), KeyTitle: strconv.Itoa(i), Count: 2,
			}, usage.Row{API: fmt.Sprintf("apps/never-%d-%d", n, i), Code: 401, Reason: fmt.Sprint("reason-", n), Count: 1})
			sent += 3
		}
		w.take(&usage.Report{Instance: instance(n), Sequence: 1, Host: fmt.Sprint("gw-", n), Revision: int64(100 + n%revisions), Usage: rows})
	}
	families := w.gather()
	var callers, others int
	var told float64
	for _, m := range families["tollgate_requests_total"].GetMetric() {
		told += m.GetCounter().GetValue()
		if application := labelsOf(m)["application"]; application != "" && application != ledger.Other {
			callers++
		} else {
			others++
		}
	}
	if callers != series || others > 1_001 {
		t.Errorf("tells of %d callers and %d others, want %d and 1001 at most", callers, others, series)
	}
	if told != sent {
		t.Errorf("tells of %g requests, want %g", told, sent)
	}
	var counted float64
	byRevision := map[string]float64{}
	for _, m := range families["tollgate_gateways"].GetMetric() {
		byRevision[labelsOf(m)["revision"]] = m.GetGauge().GetValue()
		counted += m.GetGauge().GetValue()
	}
	if len(byRevision) != 21 || counted != gateways || byRevision["129"] != gateways/revisions || byRevision["109"] != 0 || byRevision[ledger.Other] != 10*gateways/revisions {
		t.Errorf("gateways by revision: got %v", byRevision)
	}
	for _, name := range []string{"tollgate_gateway_revision", "tollgate_gateway_table_age_seconds", "tollgate_gateway_last_report_timestamp_seconds"} {
		if got := len(families[name].GetMetric()); got != 1_000 {
			t.Errorf("%s: got %d series, want 1000", name, got)
		}
	}
	for _, m := range families["tollgate_gateway_revision"].GetMetric() {
		if m.GetGauge().GetValue() > 125 {
			t.Fatalf("tells of a gateway with the revision %g, and not of all with lower ones", m.GetGauge().GetValue())
		}
	}
}

func labelsOf(m *dto.Metric) map[string]string {
	labels := map[string]string{}
	for _, pair := range m.GetLabel() {
		labels[pair.GetName()] = pair.GetValue()
	}
	return labels
}

// TestDocumented checks that docs/monitoring.md tells of each metric what it is,
// and of no others.
func TestDocumented(t *testing.T) {
	data, err := os.ReadFile("../../docs/monitoring.md")
	if err != nil {
		t.Fatal(err)
	}
	type described struct{ Type, Labels string }
	row := regexp.MustCompile("(?m)^\\| `(tollgate_[a-z_]+)` \\| ([a-z]+) \\| ([a-z_, `]*)\\| ([^|]+) \\| .+ \\|$")
	got := map[string]described{}
	for _, m := range row.FindAllStringSubmatch(string(data), -1) {
		labels := strings.Fields(strings.NewReplacer("`", "", ",", "").Replace(m[3]))
		slices.Sort(labels)
		got[m[1]] = described{m[2], strings.Join(labels, " ")}
		if seconds := strings.Contains(m[1], "_seconds"); seconds != strings.HasPrefix(m[4], "seconds") {
			t.Errorf("%s: has the unit %s", m[1], m[4])
		}
	}
	w := newWorld(t)
	w.fill()
	want := map[string]described{}
	for name, family := range w.gather() {
		if strings.HasPrefix(name, "go_") || strings.HasPrefix(name, "process_") {
			continue
		}
		labels := slices.Sorted(maps.Keys(labelsOf(family.GetMetric()[0])))
		want[name] = described{strings.ToLower(family.GetType().String()), strings.Join(labels, " ")}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("docs/monitoring.md (-metrics +page):\n%s", diff)
	}
}
