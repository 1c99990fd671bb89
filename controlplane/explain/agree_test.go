package explain_test

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tollgate-apim/tollgate"
	"github.com/tollgate-apim/tollgate/controlplane/compile"
	"github.com/tollgate-apim/tollgate/controlplane/explain"
	"github.com/tollgate-apim/tollgate/controlplane/key"
	"github.com/tollgate-apim/tollgate/controlplane/manifest"
	"github.com/tollgate-apim/tollgate/controlplane/server"
	"github.com/tollgate-apim/tollgate/matcher"
	"github.com/tollgate-apim/tollgate/table"
)

var seed = flag.Uint64("seed", 20261121, "seed of the generated cases")

const (
	worlds        = 60
	casesPerWorld = 60
	patience      = 20 * time.Second
)

// gateway is the plugin's own middleware in front of every API, fed by a server
// with the table.
type gateway struct {
	t    *testing.T
	apis map[string]http.Handler
	// upstream is the request that was handed on, or nil.
	upstream *http.Request
}

// newGateway returns a gateway with a table in force.
func newGateway(t *testing.T, tbl *table.Table, apis []string) *gateway {
	t.Helper()
	s := server.New(server.Options{Log: slog.New(slog.DiscardHandler)})
	tbl.Revision, tbl.IssuedAt = 1, time.Now()
	if err := s.Publish(tbl, nil, nil); err != nil {
		t.Fatal(err)
	}
	endpoint := httptest.NewServer(s.Handler())
	t.Cleanup(endpoint.Close)
	g := &gateway{t: t, apis: map[string]http.Handler{}}
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	for _, api := range apis {
		config := tollgate.CreateConfig()
		config.API = api
		config.Sync.Endpoint = []string{endpoint.URL}
		config.Sync.Interval, config.Sync.Wait = "1h", "0s" // one poll is enough
		next := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { g.upstream = r })
		handler, err := tollgate.New(ctx, next, config, "test")
		if err != nil {
			t.Fatal(err)
		}
		g.apis[api] = handler
	}
	// A table comes into force for one API after the other.
	for _, api := range apis {
		for end := time.Now().Add(patience); g.ask(explain.Question{API: api, Method: "GET", Target: "/"}).reason != "key_missing"; runtime.Gosched() {
			if time.Now().After(end) {
				t.Fatalf("%s gets no table", api)
			}
		}
	}
	return g
}

// decision is what a gateway decides.
type decision struct {
	invalid  bool // no server would read the request
	admitted bool
	status   int
	reason   string // empty where a refusal has no body
	// What the upstream is told, and the client of its limits.
	appID, subscription, plan, policy, rateLeft, quotaLeft string
}

// ask sends the request of a question as a server that has read it would.
func (g *gateway) ask(q explain.Question) decision {
	g.t.Helper()
	text := q.Method + " " + q.Target + " HTTP/1.1\r\nHost: api.test\r\n"
	if q.Key != "" {
		text += "Authorization: Bearer " + q.Key + "\r\n"
	}
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text + "\r\n")))
	if err != nil {
		return decision{invalid: true}
	}
	g.upstream = nil
	w := httptest.NewRecorder()
	g.apis[q.API].ServeHTTP(w, r)
	d := decision{
		policy: w.Header().Get("RateLimit-Policy"), rateLeft: w.Header().Get("X-Ratelimit-Remaining"), quotaLeft: w.Header().Get("X-Quota-Remaining"),
	}
	if g.upstream != nil {
		h := g.upstream.Header
		d.admitted, d.appID, d.subscription, d.plan = true, h.Get("X-App-Id"), h.Get("X-Subscription"), h.Get("X-Api-Plan")
		return d
	}
	d.status = w.Code
	body, err := io.ReadAll(w.Result().Body)
	if err != nil {
		g.t.Fatal(err)
	}
	if len(body) > 0 {
		var problem struct{ Reason string }
		if err := json.Unmarshal(body, &problem); err != nil {
			g.t.Fatal(err)
		}
		d.reason = problem.Reason
	}
	return d
}

// explained is the decision in an explanation.
func explained(e *explain.Explanation, err error) decision {
	if err != nil {
		return decision{invalid: true}
	}
	d := decision{admitted: e.Answer.Admitted, status: e.Answer.Status, reason: e.Answer.Reason}
	if e.Limits != nil {
		d.policy = e.Limits.Policy
		if e.Limits.RateLimit != nil {
			d.rateLeft = fmt.Sprint(e.Limits.RateLimit.Left)
		}
		if e.Limits.Quota != nil {
			d.quotaLeft = fmt.Sprint(e.Limits.Quota.Left)
		}
	}
	if d.admitted {
		d.subscription = e.Answer.Subscription
		for _, h := range e.Holders {
			if h.Application == e.Answer.Application && !h.Suspended {
				d.appID, d.plan = h.AppID, h.Plan
			}
		}
	}
	return d
}

// TestAgreesWithGateway compares explanations with the decisions of the plugin
// in generated cases.
func TestAgreesWithGateway(t *testing.T) {
	seen := map[string]int{}
	for n := range uint64(worlds) {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			g := newGenerator(*seed, n)
			text := g.manifests()
			loaded := manifest.Parse("world.yaml", []byte(text))
			compiled := compile.Compile(loaded.Objects)
			world := explain.World{Table: compiled.Table, Loaded: loaded, Compiled: compiled}
			if n%4 == 3 {
				// As somebody else may make one, with rows that point at nothing.
				lose(g, compiled.Table)
				world = explain.World{Table: compiled.Table}
			}
			apis := []string{"apps/nothing"}
			for _, ns := range namespaces {
				for _, api := range apiNames {
					apis = append(apis, ns+"/"+api)
				}
			}
			gw := newGateway(t, compiled.Table, apis)
			first := map[string]bool{}
			for i := range casesPerWorld {
				q := explain.Question{API: "apps/" + g.pick(apiNames...), Method: g.pick(methods...), Target: g.target(), Key: g.presented()}
				if g.chance(6) {
					q.API = g.pick(apis...)
				}
				want := gw.ask(q)
				e, err := explain.Explain(world, q)
				got := explained(e, err)
				if want.admitted && first[want.subscription] {
					// Only then nothing has been counted before.
					want.rateLeft, want.quotaLeft, got.rateLeft, got.quotaLeft = "", "", "", ""
				}
				for _, s := range compiled.Subscriptions {
					first[s.Namespace+"/"+s.Name] = first[s.Namespace+"/"+s.Name] || want.admitted
				}
				if q.Method == http.MethodHead && !want.admitted {
					got.reason = ""
				}
				if got != want {
					t.Fatalf("seed %d, world %d, case %d: %+v (%v)\nexplained: %+v\ngateway:   %+v\n%s", *seed, n, i, q, err, got, want, text)
				}
				seen[fmt.Sprintf("%t %s %t", want.admitted, want.reason, want.invalid)]++
				checkSecrets(t, e, q)
				checkCoherence(t, e)
				checkOtherWorlds(t, world, q, e)
			}
		})
	}
	t.Log(seen)
	total := 0
	for _, n := range seen {
		total += n
	}
	if total < 2000 {
		t.Errorf("only %d cases", total)
	}
	for _, kind := range []string{
		"true  false", "false key_missing false", "false key_invalid false", "false subscription_missing false",
		"false operation_forbidden false", "false quota_exceeded false", "false  true",
	} {
		if seen[kind] < 20 {
			t.Errorf("%q came up in %d cases only, of %v", kind, seen[kind], seen)
		}
	}
}

// lose takes some rows out of a table.
func lose(g *generator, t *table.Table) {
	loseRows(g, t.Plans)
	loseRows(g, t.APIs)
	loseRows(g, t.Subscriptions)
	loseRows(g, t.Applications)
}

func loseRows[T any](g *generator, rows map[string]T) {
	for _, name := range slices.Sorted(maps.Keys(rows)) {
		if g.chance(6) {
			delete(rows, name)
		}
	}
}

// checkSecrets looks for the key and its digest in what is written.
func checkSecrets(t *testing.T, e *explain.Explanation, q explain.Question) {
	t.Helper()
	if e == nil || q.Key == "" {
		return
	}
	data, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	if err := e.Text(&text); err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{q.Key, key.Digest(q.Key), key.Digest(q.Key)[:20]} {
		if strings.Contains(string(data), secret) || strings.Contains(text.String(), secret) {
			t.Fatalf("seed %d: an explanation tells a key or its digest:\n%s", *seed, text.String())
		}
	}
}

// checkCoherence checks that what is told of each holder goes with the answer.
func checkCoherence(t *testing.T, e *explain.Explanation) {
	t.Helper()
	if e == nil {
		return
	}
	refused := map[string]string{} // reasons by application
	for _, h := range e.Holders {
		if h.Refusal != "" {
			refused[h.Application] = h.Refusal
		}
		if (h.Refusal == "") != (h.Why == "") {
			t.Fatalf("seed %d: refusal and reason do not go together: %+v", *seed, h)
		}
		if len(h.Candidates) > 0 && h.Subscription != "" && h.Candidates[0].Subscription != h.Subscription {
			t.Fatalf("seed %d: the winner is not what grants: %+v", *seed, h)
		}
		if o := h.Operations; o != nil && !o.All && o.Allowed != covered(e, o) {
			t.Fatalf("seed %d: the matchers do not go with the filter: %+v", *seed, o)
		}
	}
	a := e.Answer
	if a.Status == http.StatusForbidden && refused[a.Application] != a.Reason || a.Why == "" {
		t.Fatalf("seed %d: %+v is not what the holders say: %v", *seed, a, refused)
	}
	if a.Admitted && len(refused) > 0 {
		t.Fatalf("seed %d: admitted, but holders say %v", *seed, refused)
	}
}

// covered reports whether what is told of the matchers allows the request.
func covered(e *explain.Explanation, o *explain.Operations) bool {
	var all []explain.Tried
	for _, s := range o.Sets {
		all = append(all, s.Matchers...)
	}
	some := func(matches func(explain.Tried) bool) bool { return slices.ContainsFunc(all, matches) }
	for _, r := range e.Readings {
		if !some(func(m explain.Tried) bool { return m.Matches || matcher.Matches(m.Matcher, e.Method, r) }) {
			return false
		}
	}
	return len(e.Readings) > 0 || some(func(m explain.Tried) bool { return m.Matches })
}

// checkOtherWorlds asks the same by the table alone, and for the application that
// holds the key in place of the key.
func checkOtherWorlds(t *testing.T, world explain.World, q explain.Question, e *explain.Explanation) {
	t.Helper()
	if e == nil {
		return
	}
	byTable, err := explain.Explain(explain.World{Table: world.Table}, q)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := explained(byTable, nil), explained(e, nil); got != want {
		t.Fatalf("seed %d: %+v: by the table: %+v, by manifests: %+v", *seed, q, got, want)
	}
	if len(e.Holders) != 1 || e.Holders[0].Suspended {
		return
	}
	if _, ok := world.Table.Applications[e.Holders[0].Application]; !ok {
		return // Nobody can ask for it.
	}
	q.Key, q.Application = "", e.Holders[0].Application
	byApplication, err := explain.Explain(world, q)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := explained(byApplication, nil), explained(e, nil); got != want {
		t.Fatalf("seed %d: %+v: as application: %+v, by key: %+v", *seed, q, got, want)
	}
}
