package metrics_test

import (
	"strings"
	"testing"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/tollgate-apim/tollgate/usage"
)

// FuzzReport checks that whatever a gateway reports can be scraped, once.
func FuzzReport(f *testing.F) {
	report := func(rows string) []byte {
		return []byte(`{"instance": "` + instance(1) + `", "sequence": 1, "host": "gw\ud800\n\"1", "tableAge": 1e300, "revision": 9007199254740993, "usage": [` + rows + `]}`)
	}
	f.Add(report(`{"api": "a\"}\n# EOF", "code": 401, "count": 1}, {"api": "a", "application": "\u0000", "count": 9007199254740991}`))
	f.Add(report("{\"api\": \"\xff\", \"keyTitle\": \"\xfe\", \"count\": 1}"))
	// These are called as what there was no room for.
	const named = `{"api": "a", "application": "other", "keyTitle": "other", "subscription": "other", "plan": "other", "count": 1}`
	f.Add(report(named + strings.Repeat(`, {"api": "a", "application": "b", "count": 1}, {"api": "a", "application": "c", "count": 1}, {"api": "a", "application": "d", "count": 1}`, 2)))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := usage.Decode(data)
		if err != nil {
			return
		}
		w := newWorldOf(t, 2)
		var sent float64
		for _, row := range r.Usage {
			sent += float64(row.Count)
		}
		w.take(r)
		body, _ := w.scrape("text/plain; version=0.0.4")
		parser := expfmt.NewTextParser(model.UTF8Validation)
		families, err := parser.TextToMetricFamilies(strings.NewReader(body))
		if err != nil {
			t.Fatalf("%v in\n%s", err, body)
		}
		var told float64
		for _, name := range []string{"tollgate_requests_total", "tollgate_dry_run_requests_total"} {
			for _, m := range families[name].GetMetric() {
				told += m.GetCounter().GetValue()
			}
		}
		if told < sent*(1-1e-9) || told > sent*(1+1e-9) {
			t.Errorf("tells of %g requests, want %g:\n%s", told, sent, body)
		}
		if len(families["tollgate_gateway_revision"].GetMetric()) != 1 || families["tollgate_gateways"] == nil {
			t.Errorf("tells of no gateway:\n%s", body)
		}
		if len(w.gather()) != len(families) {
			t.Errorf("scraped %d families", len(families))
		}
	})
}
