package e2e

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tollgate-apim/tollgate/e2e/stack"
	"github.com/tollgate-apim/tollgate/table"
	"github.com/tollgate-apim/tollgate/usage"
)

// TestAlertRules has promtool check the alerts, and run their tests.
func TestAlertRules(t *testing.T) {
	promtool, err := stack.Promtool()
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"check", "rules", "alerts.yml"}, {"test", "rules", "alerts_test.yml"}} {
		cmd := exec.CommandContext(t.Context(), promtool, args...)
		cmd.Dir = "../monitoring/prometheus"
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// monitored is a control plane with TLS and a token that has something to tell
// under each of its metrics.
type monitored struct {
	t        *testing.T
	plane    *stack.ControlPlane
	caFile   string
	client   *http.Client
	revision int64
	sequence int64
	tenure   int64
}

func newMonitored(t *testing.T, dir string) *monitored {
	t.Helper()
	m := &monitored{t: t}
	var key string
	m.caFile, key = selfSigned(t, dir)
	certificate, err := os.ReadFile(m.caFile)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(certificate)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	t.Cleanup(transport.CloseIdleConnections)
	m.client = &http.Client{Transport: transport, Timeout: patience}

	manifests := filepath.Join(dir, "manifests")
	if err := os.Mkdir(manifests, 0o700); err != nil {
		t.Fatal(err)
	}
	m.plane, err = stack.StartControlPlane(t.Context(), stack.ControlPlaneOptions{
		Binary: tollgateBinary, Dir: dir, Manifests: manifests, TLSCert: m.caFile, TLSKey: key,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.plane.Stop(); err != nil {
			t.Error(err)
		}
	})
	// Each of them has an error and a warning.
	const ns = namespace("monitored")
	err = m.plane.Apply("monitored.yaml", strings.Join([]string{
		ns.api("api"), ns.plan("plan", "rateLimit: {limit: 100, period: 1s}, quota: {limit: 1000, period: 720h, bucket: application}"), ns.app("app", "monitored-key"), ns.sub("sub", "plan", list("app", "nobody"), list("api")),
	}, "\n---\n"))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// do sends a request to the control plane, and decodes what it answers.
func (m *monitored) do(method, path string, body, answer any) error {
	m.t.Helper()
	data, err := json.Marshal(body)
	if err != nil {
		m.t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(m.t.Context(), method, m.plane.URL+path, nil)
	if err != nil {
		m.t.Fatal(err)
	}
	if method == http.MethodPost {
		r, err = http.NewRequestWithContext(m.t.Context(), method, m.plane.URL+path, bytes.NewReader(data))
		if err != nil {
			m.t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
	}
	r.Header.Set("Authorization", "Bearer "+m.plane.Token)
	res, err := m.client.Do(r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", path, res.Status)
	}
	return json.NewDecoder(res.Body).Decode(answer)
}

// report tells of requests with each outcome, and asks for shares of limits.
func (m *monitored) report() error {
	m.sequence++
	row := usage.Row{API: "monitored/api", Application: "monitored/app", KeyTitle: "key", Subscription: "monitored/sub", Plan: "monitored/plan", Count: 10}
	rows := []usage.Row{row, row, row, row, {API: "monitored/api", Code: 401, Reason: "key_missing", Count: 1}, {API: "monitored/api", Code: 503, Reason: "table_unavailable", Count: 1}}
	rows[1].Code, rows[1].Reason = 429, "rate_limited"
	rows[2].DryRun, rows[2].Reason = true, "quota_exceeded"
	rows[3].Code, rows[3].Reason = 429, "limits_unavailable"
	report := &usage.Report{
		Instance: strings.Repeat("0", 32), Sequence: m.sequence, Host: "gw-1", Revision: m.revision, Usage: rows,
		Sharing: true, Tenure: m.tenure,
	}
	if m.tenure > 0 {
		entry := usage.Entry{Kind: usage.KindRate, Bucket: "subscription monitored/sub", Plan: "monitored/plan", Account: 1, Wanted: 10, Over: int64(time.Second)}
		report.Entries = []usage.Entry{entry, entry}
		report.Entries[1].Kind, report.Entries[1].Bucket, report.Entries[1].Account = usage.KindQuota, "application monitored/app plan monitored/plan", 2
	}
	var answer usage.Answer
	err := m.do(http.MethodPost, usage.Path, report, &answer)
	if err == nil && answer.Tenure != nil {
		m.tenure = answer.Tenure.Number
	}
	return err
}

// TestPrometheus has Prometheus scrape a control plane as docs/monitoring.md shows,
// with the alerts, and looks at all panels of the dashboards.
func TestPrometheus(t *testing.T) {
	dir := t.TempDir()
	m := newMonitored(t, dir)
	err := stack.Until(t.Context(), "the table", patience, func() error {
		var tbl table.Table
		err := m.do(http.MethodGet, table.Path, nil, &tbl)
		m.revision = tbl.Revision
		if err == nil && len(tbl.Keys) == 0 {
			err = fmt.Errorf("it has the revision %d and no keys", tbl.Revision)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}

	alerts, err := filepath.Abs("../monitoring/prometheus/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../docs/monitoring.md")
	if err != nil {
		t.Fatal(err)
	}
	_, shown, _ := strings.Cut(string(page), "```yaml\n")
	shown, _, _ = strings.Cut(shown, "```")
	config := strings.NewReplacer(
		"/etc/prometheus/tollgate-token", filepath.Join(dir, "sync-token"), "/etc/prometheus/tollgate-ca.pem", m.caFile,
		`"10.0.0.1:7070", "10.0.0.2:7070"`, `"`+strings.TrimPrefix(m.plane.URL, "https://")+`"`, "/etc/prometheus/tollgate/alerts.yml", alerts,
	).Replace(shown)
	p, err := stack.StartPrometheus(t.Context(), dir, "global: {scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 200ms}\n"+config)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.Stop(); err != nil {
			t.Error(err)
		}
	}()

	// Rates need counters that grow from one scrape to the next.
	err = stack.Until(t.Context(), "rates", patience, func() error {
		if err := m.report(); err != nil {
			return err
		}
		grown, err := p.Query(t.Context(), "count(rate(tollgate_requests_total[1m]) > 0)")
		if err == nil && (len(grown) == 0 || grown[0].Value[1] != "5") {
			err = fmt.Errorf("got %v", grown)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"application.json, Quota left, A": "application monitored/app plan monitored/plan", "application.json, Rate limit given away, A": "subscription monitored/sub",
	}
	for name, query := range panels(t) {
		err := stack.Until(t.Context(), name, patience, func() error {
			found, err := p.Query(t.Context(), query)
			if err == nil && len(found) == 0 {
				err = fmt.Errorf("%s finds nothing", query)
			}
			if bucket := want[name]; err == nil && bucket != "" && (len(found) != 1 || found[0].Metric["bucket"] != bucket) {
				err = fmt.Errorf("%s finds %v, want the bucket %q", query, found, bucket)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	err = stack.Until(t.Context(), "the alerts to be evaluated", patience, func() error {
		rules, err := p.Rules(t.Context())
		if err == nil && len(rules) < 10 {
			err = fmt.Errorf("there are %d", len(rules))
		}
		for _, rule := range rules {
			if rule.Health != "ok" {
				err = fmt.Errorf("%+v", rule)
			}
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	got := map[string]bool{}
	err = stack.Until(t.Context(), "alerts", patience, func() error {
		pending, err := p.Query(t.Context(), "ALERTS")
		for _, sample := range pending {
			got[sample.Metric["alertname"]] = true
		}
		if err == nil && (!got["TollgateFindings"] || !got["TollgateCannotDecide"]) {
			err = fmt.Errorf("there are %v", got)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	for _, alert := range []string{"TollgateDown", "TollgateNoTable", "TollgateGatewayBehind", "TollgateTableStale", "TollgateStoreErrors"} {
		if got[alert] {
			t.Errorf("there is %s", alert)
		}
	}
}

// panels returns the queries of all panels, with their variables filled in.
func panels(t *testing.T) map[string]string {
	t.Helper()
	queries := map[string]string{}
	for _, file := range []string{"operators.json", "application.json"} {
		data, err := os.ReadFile("../monitoring/grafana/" + file)
		if err != nil {
			t.Fatal(err)
		}
		var dashboard struct {
			Panels []struct {
				Title   string
				Targets []struct{ Expr, RefID string }
			}
		}
		if err := json.Unmarshal(data, &dashboard); err != nil {
			t.Fatal(err)
		}
		for _, panel := range dashboard.Panels {
			for _, target := range panel.Targets {
				query := strings.NewReplacer("$job", "tollgate", "$api", ".*", "$application", "monitored/app", "$__rate_interval", "1m", "$__range", "1h").Replace(target.Expr)
				if left := regexp.MustCompile(`\$[a-z_]\w*`).FindString(query); left != "" {
					t.Fatalf("%s: %s: there is no %s", file, panel.Title, left)
				}
				queries[file+", "+panel.Title+", "+target.RefID] = query
			}
		}
	}
	return queries
}

// TestMetricsOfRequests sends requests through Traefik, and finds them counted at
// the control plane.
func TestMetricsOfRequests(t *testing.T) {
	const ns = namespace("counted")
	g := newGateway(t, stack.TraefikOptions{})
	g.apply(t, "counted", ns.api("api"), ns.unlimited("plan"), ns.app("app", "counted-key"), ns.sub("sub", "plan", list("app"), list("api")))
	g.protect(t, "counted.test", byHeader(g.config("counted/api")))
	g.await(t, "the key", func() error {
		if a := g.send(t, "counted.test", "GET /", apiKeyHeader+"counted-key"); a.status != http.StatusOK {
			return fmt.Errorf("got %d", a.status)
		}
		return nil
	})
	admitted := regexp.MustCompile(`(?m)^tollgate_requests_total{api="counted/api",application="counted/app",code="",key_title="title of app",plan="counted/plan",reason="",subscription="counted/sub"} (\d+)$`)
	refused := regexp.MustCompile(`(?m)^tollgate_requests_total{api="counted/api",application="",code="401",key_title="",plan="",reason="key_invalid",subscription=""} (\d+)$`)
	// count returns how many are told of, as soon as there are at least so many.
	count := func(of *regexp.Regexp, least int) int {
		t.Helper()
		n := 0
		err := stack.Until(t.Context(), "requests to be reported", 2*patience, func() error {
			found := of.FindStringSubmatch(scrape(t, g.plane))
			if found == nil {
				return errors.New("there are none")
			}
			var err error
			if n, err = strconv.Atoi(found[1]); err == nil && n < least {
				err = fmt.Errorf("there are %d", n)
			}
			return err
		})
		if err != nil {
			t.Fatalf("%v; of reports Traefik says:\n%s", err, strings.Join(linesWith(g.traefik.Log.Since(0), "reports"), "\n"))
		}
		return n
	}
	before := count(admitted, 1)
	for range 7 {
		g.send(t, "counted.test", "GET /", apiKeyHeader+"counted-key")
	}
	for range 3 {
		g.send(t, "counted.test", "GET /", apiKeyHeader+"another-key")
	}
	if got := count(admitted, before+7); got != before+7 {
		t.Errorf("%d were admitted, want %d", got, before+7)
	}
	if got := count(refused, 3); got != 3 {
		t.Errorf("%d were refused, want 3", got)
	}
	current := regexp.MustCompile(`(?m)^tollgate_table_revision (\S+)$`).FindStringSubmatch(scrape(t, g.plane))
	if current == nil {
		t.Fatal("there is no tollgate_table_revision")
	}
	gateway := regexp.MustCompile(`(?m)^tollgate_gateway_revision{gateway="[0-9a-f]{32}",host="[^"]*"} (\S+)$`)
	g.await(t, "the gateway's revision", func() error {
		// Each endpoint has a gateway of its own, and those of other tests may have
		// gone with an older table.
		all := gateway.FindAllStringSubmatch(scrape(t, g.plane), -1)
		for _, found := range all {
			if found[1] == current[1] {
				return nil
			}
		}
		return fmt.Errorf("they are %v, want %s", all, current[1])
	})
}

// scrape returns the metrics of a control plane without TLS.
func scrape(t *testing.T, plane *stack.ControlPlane) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, plane.URL+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+plane.Token)
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("got %s, %v: %s", res.Status, err, data)
	}
	return string(data)
}
