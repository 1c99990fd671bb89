package faults

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tollgate-apim/tollgate/e2e/stack"
	"github.com/tollgate-apim/tollgate/usage"
)

// What the plans of exchanges allow: so many of a quota for a month, and so many a
// second, which is also the burst.
const (
	sharedQuota = 30
	sharedRate  = 12
)

// exchange is three gateways of a host, what takes their reports, and a fault of what
// is between them. Local counts for itself, and the others share limits.
type exchange struct {
	name   string
	fault  reportFault
	host   host
	plane  *reportPlane
	local  *gateway
	shared [2]*gateway

	mu   sync.Mutex
	lies []reportLie // told in turn; none for the truth
	lied int         // how many since they are told
	// taken has the reports that were taken, by instance and sequence.
	taken map[string]*usage.Report
	// last is what gateways have told last, and what they were answered.
	last  map[string]string
	wrong error

	// What follows belongs to the story. Requests are counted by application.
	began time.Time
	sent  map[string]int
	// rated are those that passed under the rate limit, and quota counts those under
	// the quota.
	rated []passed
	quota int
}

// passed is a request that a gateway let pass between two times.
type passed struct {
	sent, answered time.Duration
	gateway        int
}

// reportPlane is a control plane that several exchanges may have.
type reportPlane struct {
	mu      sync.Mutex
	options stack.ControlPlaneOptions
	plane   *stack.ControlPlane
	// again says that it was started again, so that it does not know what it counted
	// before.
	again bool
}

// reportFault is something that goes wrong with the exchange of reports, until it ends.
type reportFault struct {
	name       string
	begin, end func(e *exchange) error
	// alone says that it needs a control plane of its own.
	alone bool
}

// reportLie is what is told in place of the answer to a report.
type reportLie struct {
	name string
	// lost says that the report is not taken before that.
	lost bool
	tell func(w http.ResponseWriter, r *http.Request, said []byte, sequence int64)
}

// lyingToReports tells lies in turn.
func lyingToReports(name string, lies ...reportLie) reportFault {
	set := func(to []reportLie) func(e *exchange) error {
		return func(e *exchange) error {
			e.mu.Lock()
			defer e.mu.Unlock()
			e.lies, e.lied = to, 0
			return nil
		}
	}
	return reportFault{name: name, begin: set(lies), end: set(nil)}
}

// saysInstead is another status and body for a report that was taken.
func saysInstead(status int, body string) reportLie {
	name := fmt.Sprintf("status %d and %.20q", status, body)
	return reportLie{name: name, tell: func(w http.ResponseWriter, _ *http.Request, _ []byte, _ int64) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}}
}

// conflicts is a 409 that tells a number so much higher than that of the report.
func conflicts(by int64) reportLie {
	return reportLie{name: fmt.Sprintf("status 409, %d higher", by), tell: func(w http.ResponseWriter, _ *http.Request, _ []byte, sequence int64) {
		w.WriteHeader(http.StatusConflict)
		_, _ = fmt.Fprintf(w, `{"sequence": %d}`, sequence+by)
	}}
}

// changed is an answer with something changed.
func changed(name string, change func(a *usage.Answer)) reportLie {
	return reportLie{name: name, tell: func(w http.ResponseWriter, _ *http.Request, said []byte, sequence int64) {
		a, err := usage.DecodeAnswer(said, sequence)
		if err != nil {
			panic(err)
		}
		change(a)
		_, _ = w.Write(mustJSON(a))
	}}
}

// sharing is an answer with something changed in its shares, or with a share more.
func sharing(name string, change func(s *usage.Share)) reportLie {
	return changed(name, func(a *usage.Answer) {
		a.Shares = append(a.Shares, usage.Share{Kind: usage.KindQuota, Bucket: "subscription faults/nobody", Account: 1})
		for i := range a.Shares {
			change(&a.Shares[i])
		}
	})
}

// cutting ends an answer after some part of its bytes.
func cutting(part float64, reset bool) reportLie {
	return reportLie{name: fmt.Sprintf("cut after %.3f (reset: %t)", part, reset), tell: func(w http.ResponseWriter, _ *http.Request, said []byte, _ int64) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		defer conn.Close()
		answer := fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(said), said)
		_, _ = conn.Write(answer[:int(part*float64(len(answer)))])
		if tcp, ok := conn.(*net.TCPConn); ok && reset {
			_ = tcp.SetLinger(0)
		}
	}}
}

// reportFaults returns what can go wrong with the exchange. Nothing of it makes a
// gateway take a report for counted that was not, or hold more than it was given.
func reportFaults() []reportFault {
	random := rand.New(rand.NewPCG(*seed, 0))
	cuts := []reportLie{cutting(0, false), cutting(0.999, false)}
	for i := range 8 {
		cuts = append(cuts, cutting(random.Float64(), i%2 == 0))
	}
	nothing := func(*exchange) error { return nil }
	return []reportFault{
		{name: "no fault", begin: nothing, end: nothing},
		lyingToReports("no answers",
			saysInstead(http.StatusOK, `{"sequence": `), saysInstead(http.StatusOK, ""), saysInstead(http.StatusOK, "null"),
			saysInstead(http.StatusOK, "<html></html>"), saysInstead(http.StatusOK, strings.Repeat(" ", 2<<20)),
			saysInstead(http.StatusInternalServerError, "sorry"), saysInstead(http.StatusConflict, "no"),
			conflicts(-1), conflicts(math.MinInt64/2),
		),
		lyingToReports("answers that cannot be",
			changed("a lower number", func(a *usage.Answer) { a.Sequence-- }),
			changed("a higher number", func(a *usage.Answer) { a.Sequence++ }),
			changed("next at once", func(a *usage.Answer) { a.Next = 0 }),
			changed("next before now", func(a *usage.Answer) { a.Next = -1 }),
			changed("next in a century", func(a *usage.Answer) { a.Next = 3e9 }),
			changed("a negative tenure", func(a *usage.Answer) { a.Tenure = &usage.Tenure{Number: -1} }),
			sharing("negative units", func(s *usage.Share) { s.Granted = -1 }),
			sharing("all units there are", func(s *usage.Share) { s.Granted = math.MaxInt64 }),
			sharing("a negative time", func(s *usage.Share) { s.Lasts = math.MinInt64 }),
			sharing("for centuries", func(s *usage.Share) { s.Lasts = math.MaxInt64 }),
			sharing("a part without bounds", func(s *usage.Share) { s.Part++; s.Interval, s.Capacity = 1, math.MaxInt64 }),
		),
		lyingToReports("shares that are nothing to the gateway",
			changed("no shares", func(a *usage.Answer) { a.Shares = nil }),
			changed("no tenure", func(a *usage.Answer) { a.Tenure, a.Shares = nil, nil }),
			changed("each share twice", func(a *usage.Answer) { a.Shares = append(a.Shares, a.Shares...) }),
			sharing("other buckets", func(s *usage.Share) { s.Bucket += "-else"; s.Granted += 1000; s.Lasts = int64(time.Minute) }),
			sharing("another kind", func(s *usage.Share) { s.Kind = "else"; s.Granted += 1000; s.Lasts = int64(time.Minute) }),
			sharing("other accounts", func(s *usage.Share) { s.Account += 1000; s.Granted += 1000; s.Lasts = int64(time.Minute) }),
		),
		lyingToReports("told before, or dropped, but taken",
			conflicts(0), conflicts(7), saysInstead(http.StatusBadRequest, "no"),
		),
		lyingToReports("cut off", cuts...),
		lyingToReports("late or lost",
			reportLie{name: "nothing", tell: func(_ http.ResponseWriter, r *http.Request, _ []byte, _ int64) { <-r.Context().Done() }},
			reportLie{name: "one byte at a time", tell: func(w http.ResponseWriter, r *http.Request, said []byte, _ int64) {
				for i := range said {
					if r.Context().Err() != nil {
						return
					}
					_, _ = w.Write(said[i : i+1])
					_ = http.NewResponseController(w).Flush()
					time.Sleep(20 * time.Millisecond)
				}
			}},
			reportLie{name: "status 503 and not taken", lost: true, tell: func(w http.ResponseWriter, _ *http.Request, _ []byte, _ int64) {
				w.WriteHeader(http.StatusServiceUnavailable)
			}},
			reportLie{name: "no answer and not taken", lost: true, tell: func(http.ResponseWriter, *http.Request, []byte, int64) {
				panic(http.ErrAbortHandler)
			}},
		),
		{
			name: "control plane killed", alone: true,
			begin: func(e *exchange) error { return e.plane.plane.Kill() },
			end:   func(e *exchange) error { return e.plane.start() },
		},
		{
			name: "control plane paused", alone: true,
			begin: func(e *exchange) error { return e.plane.plane.Pause() },
			end:   func(e *exchange) error { return e.plane.plane.Resume() },
		},
	}
}

// start starts the control plane, with what the store knows.
func (p *reportPlane) start() (err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.again = p.plane != nil
	started, err := stack.StartControlPlane(context.Background(), p.options)
	if err == nil {
		p.plane = started
	}
	return err
}

// exchangeManifests has an API with three applications for each number.
func exchangeManifests(numbers []int) (string, error) {
	object := func(kind, name, spec string) string {
		return fmt.Sprintf("apiVersion: hub.traefik.io/v1alpha1\nkind: %s\nmetadata: {name: %s, namespace: %s}\nspec: %s\n", kind, name, namespace, spec)
	}
	objects := []string{
		object("API", "api", "{title: An API}"),
		object("APIPlan", "local", "{title: A plan, rateLimit: {limit: 1000000, period: 1h}, quota: {limit: 1000000, period: 720h}}"),
		object("APIPlan", "rate", fmt.Sprintf("{title: A plan, rateLimit: {limit: %d, period: 1s}}", sharedRate)),
		object("APIPlan", "quota", fmt.Sprintf("{title: A plan, quota: {limit: %d, period: 720h}}", sharedQuota)),
	}
	for _, n := range numbers {
		for _, plan := range []string{"local", "rate", "quota"} {
			name := fmt.Sprintf("%s-%d", plan, n)
			objects = append(objects,
				object("ManagedApplication", name, fmt.Sprintf(`{appId: %s, owner: o, apiKeys: [{value: "{{digest %q}}"}]}`, name, name)),
				object("ManagedSubscription", name, fmt.Sprintf("{apiPlan: {name: %s}, managedApplications: [{name: %s}], apis: [{name: api}]}", plan, name)))
		}
	}
	return stack.RenderManifests(strings.Join(objects, "---\n"))
}

// newReportPlane starts a control plane for the exchanges of these numbers.
func newReportPlane(t *testing.T, store string, numbers []int) *reportPlane {
	t.Helper()
	dir := t.TempDir()
	manifests := filepath.Join(dir, "manifests")
	if err := os.Mkdir(manifests, 0o700); err != nil {
		t.Fatal(err)
	}
	text, err := exchangeManifests(numbers)
	if err != nil {
		t.Fatal(err)
	}
	if err := (&stack.ControlPlane{Manifests: manifests}).Apply("all.yaml", text); err != nil {
		t.Fatal(err)
	}
	address, err := stack.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	p := &reportPlane{options: stack.ControlPlaneOptions{
		Binary: tollgateBinary, Dir: dir, Manifests: manifests, Address: address, Token: "token-of-reports", Revision: "mtime", Args: []string{"--store", store},
	}}
	if err := p.start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.plane.Kill() })
	return p
}

func newExchange(t *testing.T, h host, number int, f reportFault, plane *reportPlane) *exchange {
	t.Helper()
	e := &exchange{
		name: strconv.Itoa(number), fault: f, host: h, plane: plane,
		taken: map[string]*usage.Report{}, last: map[string]string{}, sent: map[string]int{}, began: time.Now(),
	}
	between := httptest.NewServer(e)
	t.Cleanup(func() {
		between.CloseClientConnections()
		between.Close()
	})
	newOne := func(name, limits string) *gateway {
		g := newGateway(h, name+"-"+e.name, stack.Sync{
			Endpoint: between.URL + "/" + name, Token: plane.options.Token, Interval: "1s", Timeout: "1s", Wait: "0s",
		}, nil)
		g.limits = limits
		return g
	}
	e.local, e.shared = newOne("local", "local"), [2]*gateway{newOne("first", "shared"), newOne("second", "shared")}
	return e
}

// ServeHTTP hands requests on to the control plane, and lies about reports.
func (e *exchange) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	target := &url.URL{Scheme: "http", Host: e.plane.options.Address}
	name, path, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if r.Method != http.MethodPost {
		(&httputil.ReverseProxy{
			Rewrite:      func(p *httputil.ProxyRequest) { p.SetURL(target); p.Out.URL.Path = "/" + path },
			ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
		}).ServeHTTP(w, r)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	report, err := usage.Decode(body)
	if err != nil {
		e.blame(err)
		return
	}
	l := e.nextLie()
	if l != nil && l.lost {
		l.tell(w, r, nil, report.Sequence)
		return
	}
	status, said, err := e.ask(r, target.String()+"/"+path, body)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	e.mu.Lock()
	e.last[name] = fmt.Sprintf("%s\nanswered %d\n%s", body, status, said)
	e.mu.Unlock()
	if status == http.StatusOK {
		e.take(report)
		if l != nil {
			l.tell(w, r, said, report.Sequence)
			return
		}
	}
	w.WriteHeader(status)
	_, _ = w.Write(said)
}

// nextLie returns what is to be told, nil for the truth.
func (e *exchange) nextLie() *reportLie {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.lies) == 0 {
		return nil
	}
	e.lied++
	return &e.lies[(e.lied-1)%len(e.lies)]
}

// ask hands a report on. It does not end with the request: who has lost patience may
// be overtaken by what was asked.
func (e *exchange) ask(r *http.Request, at string, body []byte) (status int, said []byte, err error) {
	req, err := http.NewRequestWithContext(r.Context(), http.MethodPost, at, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	req.Header = r.Header.Clone()
	resp, err := client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	said, err = io.ReadAll(resp.Body)
	return resp.StatusCode, said, err
}

// take notes a report that was taken. One that comes again has to be the same.
func (e *exchange) take(r *usage.Report) {
	e.mu.Lock()
	defer e.mu.Unlock()
	key := fmt.Sprintf("%s %d", r.Instance, r.Sequence)
	if before := e.taken[key]; before != nil && !bytes.Equal(mustJSON(before), mustJSON(r)) {
		e.wrong = fmt.Errorf("report %s came as %s and as %s", key, mustJSON(before), mustJSON(r))
	}
	e.taken[key] = r
}

func (e *exchange) blame(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.wrong = errors.Join(e.wrong, err)
}

// reported returns how many requests of each application were reported.
func (e *exchange) reported() map[string]int {
	e.mu.Lock()
	defer e.mu.Unlock()
	sums := map[string]int{}
	for _, r := range e.taken {
		for _, row := range r.Usage {
			if row.Application != "" {
				sums[strings.TrimPrefix(row.Application, namespace+"/")] += int(row.Count)
			}
		}
	}
	return sums
}

// call sends a request with the key of an application, and counts it.
func (e *exchange) call(g *gateway, application string) (status int, p passed, err error) {
	req, err := http.NewRequest(http.MethodGet, g.host.url()+"/", nil)
	if err != nil {
		return 0, p, err
	}
	req.Host = g.domain()
	req.Header.Set("X-API-Key", application)
	p.sent = time.Since(e.began)
	resp, err := client.Do(req)
	if err != nil {
		return 0, p, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	p.answered = time.Since(e.began)
	switch resp.StatusCode {
	case http.StatusOK, http.StatusTooManyRequests:
		e.sent[application]++
	default:
		err = errors.Join(err, fmt.Errorf("gateway %s: status %d: %s", g.name, resp.StatusCode, body))
	}
	return resp.StatusCode, p, err
}

// round sends a request under each limit to each gateway. That under local limits has
// to pass.
func (e *exchange) round() error {
	status, _, err := e.call(e.local, "local-"+e.name)
	if err != nil || status != http.StatusOK {
		return errors.Join(err, fmt.Errorf("under local limits: status %d", status))
	}
	for i, g := range e.shared {
		for range 4 {
			status, p, err := e.call(g, "rate-"+e.name)
			if err != nil {
				return err
			}
			if p.gateway = i; status == http.StatusOK {
				e.rated = append(e.rated, p)
			}
		}
		status, _, err := e.call(g, "quota-"+e.name)
		if err != nil {
			return err
		}
		if status == http.StatusOK {
			e.quota++
		}
	}
	return e.exceeded()
}

// exceeded returns an error if more has passed than plans allow, in any time.
func (e *exchange) exceeded() error {
	if e.quota > sharedQuota {
		return fmt.Errorf("%d requests have passed of a quota of %d", e.quota, sharedQuota)
	}
	if len(e.rated) == 0 {
		return nil
	}
	// Only times that end now are new.
	last := e.rated[len(e.rated)-1]
	for i, first := range e.rated {
		n := 0
		for _, p := range e.rated[i:] {
			if p.sent >= first.sent {
				n++
			}
		}
		took := last.answered - first.sent
		if most := sharedRate * (1 + took.Seconds()); float64(n) > most {
			return fmt.Errorf("%d requests have passed in %s, at most %.1f may", n, took, most)
		}
	}
	return nil
}

// roundsUntil goes on with rounds until look returns nil.
func (e *exchange) roundsUntil(what string, look func() error) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var wrong error
	err := stack.Until(ctx, what, patience, func() error {
		if wrong = e.round(); wrong != nil {
			cancel()
			return wrong
		}
		time.Sleep(roundRest)
		return look()
	})
	if wrong != nil {
		return wrong
	}
	return err
}

const (
	roundRest = 200 * time.Millisecond
	// faultTime is how long faults last: some reports, and less than a share.
	faultTime = 4 * time.Second
)

// recovered waits until both gateways have let requests pass under the rate limit.
func (e *exchange) recovered() error {
	var seen [2]int
	from := len(e.rated)
	return e.roundsUntil("both gateways to have shares", func() error {
		for ; from < len(e.rated); from++ {
			seen[e.rated[from].gateway]++
		}
		if seen[0] < 2 || seen[1] < 2 {
			return fmt.Errorf("%v requests have passed, by gateway", seen)
		}
		return nil
	})
}

// broken goes on with rounds while the fault lasts.
func (e *exchange) broken() error {
	if err := e.fault.begin(e); err != nil {
		return err
	}
	begin := time.Now()
	err := e.roundsUntil("the fault to have its effect", func() error {
		if time.Since(begin) < faultTime {
			return errors.New("it has just begun")
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.lied < len(e.lies) {
			return fmt.Errorf("%d of %d lies were told", e.lied, len(e.lies))
		}
		return nil
	})
	return errors.Join(err, e.fault.end(e))
}

// story lets gateways have shares, breaks the exchange, and waits until it is as it
// was. A fault that needs no control plane of its own is there already when gateways
// begin.
func (e *exchange) story() error {
	for _, g := range []*gateway{e.local, e.shared[0], e.shared[1]} {
		err := stack.Until(context.Background(), "a table", patience, func() error {
			_, _, err := e.call(g, "local-"+e.name)
			return err
		})
		if err != nil {
			return err
		}
	}
	if !e.fault.alone {
		if err := e.broken(); err != nil {
			return fmt.Errorf("before there were shares: %w", err)
		}
	}
	if err := e.recovered(); err != nil {
		return fmt.Errorf("with the truth: %w", err)
	}
	if err := e.broken(); err != nil {
		return fmt.Errorf("with shares: %w", err)
	}
	if err := e.recovered(); err != nil {
		return fmt.Errorf("after it: %w", err)
	}
	err := e.roundsUntil("the quota to be used", func() error {
		if e.quota < sharedQuota-1 {
			return fmt.Errorf("%d requests have passed, want %d", e.quota, sharedQuota-1)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return errors.Join(e.counted(), e.wrong)
}

// counted waits until each request was reported, and counted, once.
func (e *exchange) counted() error {
	return stack.Until(context.Background(), "requests to be reported", patience, func() error {
		reported := e.reported()
		metrics, err := e.metrics()
		if err != nil {
			return err
		}
		for application, want := range e.sent {
			if got := reported[application]; got != want {
				return fmt.Errorf("%d requests of %s were reported, want %d", got, application, want)
			}
			if got := metrics[application]; got != want && !e.plane.again {
				return fmt.Errorf("%d requests of %s were counted, want %d", got, application, want)
			}
		}
		return nil
	})
}

var countedRequests = regexp.MustCompile(`(?m)^tollgate_requests_total{.*application="` + namespace + `/([^"]+)".*} (\d+)$`)

// metrics returns how many requests of each application the control plane has counted.
func (e *exchange) metrics() (map[string]int, error) {
	req, err := http.NewRequest(http.MethodGet, "http://"+e.plane.options.Address+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+e.plane.options.Token)
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %d, %w", resp.StatusCode, err)
	}
	sums := map[string]int{}
	for _, found := range countedRequests.FindAllSubmatch(text, -1) {
		n, err := strconv.Atoi(string(found[2]))
		if err != nil {
			return nil, err
		}
		sums[string(found[1])] += n
	}
	return sums, nil
}

// TestReports breaks the exchange of reports in every way. Requests under local limits
// do not notice. Of shared limits no more passes than plans allow, and all of it can be
// used when that is over. Every request is reported and counted once in the end.
func TestReports(t *testing.T) {
	h := startTraefik(t)
	redis, err := stack.StartRedis(t.Context(), t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = redis.Stop() })
	faults := reportFaults()
	var together []int
	for i, f := range faults {
		if !f.alone {
			together = append(together, i)
		}
	}
	store := func(n int) string { return fmt.Sprintf("redis://%s/%d", redis.Address, n) }
	common := newReportPlane(t, store(0), together)
	var all []*exchange
	var gateways []*gateway
	alone := 0
	for i, f := range faults {
		plane := common
		if f.alone {
			alone++
			plane = newReportPlane(t, store(alone), []int{i})
		}
		e := newExchange(t, h, i, f, plane)
		all = append(all, e)
		gateways = append(gateways, e.local, e.shared[0], e.shared[1])
	}
	if err := h.configure(gateways); err != nil {
		t.Fatal(err)
	}
	for i, err := range atOnce(len(all), func(i int) error { return all[i].story() }) {
		e := all[i]
		t.Run(e.fault.name, func(t *testing.T) {
			t.Logf("%d rounds; %d passed under the rate limit, %d under the quota", e.sent["local-"+e.name], len(e.rated), e.quota)
			if err != nil {
				t.Error(err)
				for name, last := range e.last {
					t.Logf("%s has told last\n%s", name, last)
				}
			}
		})
	}
}
