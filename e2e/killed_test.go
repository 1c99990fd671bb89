package e2e

import (
	"cmp"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tollgate-apim/tollgate/e2e/stack"
)

var (
	killSeed   = flag.Uint64("kill.seed", 20261122, "seed of what is killed while limits are shared, and when")
	killRounds = flag.Int("kill.rounds", 1, "how often each process is killed")
)

const killedHost = "killed.test"

// A killedPlan is a plan whose limits are checked while processes are killed.
type killedPlan struct {
	name string
	rate int // requests a second; also the burst
	// quota is for each quotaPeriod; 0 means none.
	quota int
	// demand is how many requests a second come, to all gateways together.
	demand int
}

const quotaPeriod = 10 * time.Second

// Of the second plan the quota is used up in some seconds, and then the rate at
// which it comes back is the limit.
var killedPlans = []killedPlan{
	{name: "rate", rate: 100, demand: 160},
	{name: "both", rate: 60, quota: 400, demand: 100},
}

// killedShares says how many tenths of the requests each gateway gets.
var killedShares = []int{8, 1, 1}

// passage is a request that a gateway has let pass: it did so after the request was
// sent, and before it arrived at the upstream. Both are times since the traffic began.
type passage struct {
	sent, arrived time.Duration
	gateway       int
}

// traffic sends requests to gateways, and is the upstream behind them. So what a
// gateway admitted counts also if it was killed before it could answer.
type traffic struct {
	t        *testing.T
	began    time.Time
	upstream *httptest.Server
	client   *http.Client

	mu     sync.Mutex
	passed map[string][]passage // by plan
	// odd counts answers that nothing explains.
	odd map[string]int
}

func newTraffic(t *testing.T) *traffic {
	tr := &traffic{
		t: t, began: time.Now(), passed: map[string][]passage{}, odd: map[string]int{},
		client: &http.Client{Timeout: patience, Transport: &http.Transport{MaxIdleConnsPerHost: 8}},
	}
	tr.upstream = httptest.NewServer(tr)
	t.Cleanup(func() {
		tr.upstream.CloseClientConnections()
		tr.upstream.Close()
	})
	return tr
}

// ServeHTTP notes a request that has passed. The request tells when it was sent.
func (tr *traffic) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	p := passage{arrived: time.Since(tr.began)}
	sent, err := strconv.ParseInt(r.Header.Get("X-Sent"), 10, 64)
	p.sent = time.Duration(sent)
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if err == nil {
		p.gateway, err = strconv.Atoi(r.Header.Get("X-Gateway"))
	}
	if err != nil {
		tr.odd[err.Error()]++
		return
	}
	plan := r.Header.Get("X-Plan")
	tr.passed[plan] = append(tr.passed[plan], p)
}

// passages returns what has passed of a plan until now.
func (tr *traffic) passages(plan string) []passage {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return slices.Clone(tr.passed[plan])
}

// begin sends each plan's requests to gateways at addresses, until the test ends or
// what it returns is called.
func (tr *traffic) begin(addresses []string) (end func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	for _, plan := range killedPlans {
		for gateway, tenths := range killedShares {
			wg.Go(func() {
				ticker := time.NewTicker(10 * time.Second / time.Duration(plan.demand*tenths))
				defer ticker.Stop()
				// An answer that takes its time does not hold up the next request.
				under := make(chan struct{}, 32)
				for {
					select {
					case <-done:
						return
					case <-ticker.C:
					}
					under <- struct{}{}
					wg.Go(func() {
						tr.send(gateway, addresses[gateway], plan.name)
						<-under
					})
				}
			})
		}
	}
	end = sync.OnceFunc(func() {
		close(done)
		wg.Wait()
	})
	tr.t.Cleanup(end)
	return end
}

func (tr *traffic) send(gateway int, address, plan string) {
	req, err := http.NewRequestWithContext(tr.t.Context(), http.MethodGet, "http://"+address+"/", nil)
	if err != nil {
		tr.note(err.Error())
		return
	}
	req.Host = killedHost
	req.Header = http.Header{
		"X-Api-Key": {plan + "-killed-key"}, "X-Plan": {plan}, "X-Gateway": {strconv.Itoa(gateway)},
		"X-Sent": {strconv.FormatInt(int64(time.Since(tr.began)), 10)},
	}
	resp, err := tr.client.Do(req)
	if err != nil {
		return // It was killed.
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body) // It may be cut off by a kill.
	switch resp.StatusCode {
	case http.StatusOK, http.StatusTooManyRequests:
	case http.StatusNotFound, http.StatusServiceUnavailable: // Traefik begins: it has no router yet, or no table.
	default:
		tr.note(fmt.Sprintf("status %d: %s", resp.StatusCode, body))
	}
}

func (tr *traffic) note(what string) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.odd[what]++
}

// breach looks for the time in which the most requests have passed beyond those that
// may, and tells of it: "" if there is none. within tells how many may in a time, and
// false for times that it says nothing of.
//
// A request counts only for a time in which it was sent and has arrived. So no breach
// is found where there was none, and what is counted falls short of the truth by no
// more than the requests that were on their way when the time began or ended.
func breach(passed []passage, within func(time.Duration) (float64, bool)) string {
	slices.SortFunc(passed, func(a, b passage) int { return cmp.Compare(a.arrived, b.arrived) })
	worst, excess := "", 0.0
	for _, first := range passed {
		begin, count := first.sent, 0
		for _, p := range passed {
			if p.sent < begin {
				continue
			}
			most, ok := within(p.arrived - begin)
			if !ok {
				break
			}
			count++
			if more := float64(count) - most; more > excess {
				worst = fmt.Sprintf("%d requests have passed from %s to %s, at most %.1f may", count, begin, p.arrived, most)
				excess = more
			}
		}
	}
	return worst
}

// breaches returns where a plan's limits were broken.
func (p killedPlan) breaches(passed []passage) []string {
	var found []string
	if b := breach(passed, func(d time.Duration) (float64, bool) {
		return float64(p.rate) * (1 + d.Seconds()), true
	}); b != "" {
		found = append(found, fmt.Sprintf("plan %s, %d a second: %s", p.name, p.rate, b))
	}
	if p.quota == 0 {
		return found
	}
	if b := breach(passed, func(d time.Duration) (float64, bool) { return float64(p.quota), d < quotaPeriod }); b != "" {
		found = append(found, fmt.Sprintf("plan %s, %d in %s: %s", p.name, p.quota, quotaPeriod, b))
	}
	return found
}

// TestBreach: what passed as a limit allows is no breach, and one request more is,
// unless nobody can tell when it passed.
func TestBreach(t *testing.T) {
	plan := killedPlan{name: "plan", rate: 10, quota: 25}
	var passed []passage
	add := func(n int, sent, arrived time.Duration) {
		for range n {
			passed = append(passed, passage{sent: sent, arrived: arrived})
		}
	}
	wants := func(n int) {
		t.Helper()
		if found := plan.breaches(slices.Clone(passed)); len(found) != n {
			t.Errorf("found %q, want %d", found, n)
		}
	}
	add(10, time.Second, time.Second)
	add(10, 2*time.Second, 2*time.Second)
	wants(0)
	add(1, time.Second/2, 2*time.Second) // It may have passed earlier.
	wants(0)
	add(1, time.Second+1, 2*time.Second)
	wants(1) // 11 in less than a second, after the first
	passed = nil
	add(10, 0, 0)
	add(10, 5*time.Second, 5*time.Second)
	add(5, 9*time.Second, 9*time.Second)
	add(10, 10*time.Second, 10*time.Second)
	wants(0)
	add(1, 9500*time.Millisecond, 9600*time.Millisecond)
	wants(1) // 26 of the quota; the burst is whole
}

// killedWorld is all that shares limits, and each of it can be killed.
type killedWorld struct {
	t         *testing.T
	dir       string
	manifests string
	token     string
	redis     *stack.Redis
	planes    [2]*stack.ControlPlane
	gateways  [3]*stack.Traefik
	dynamic   [3]stack.Dynamic
}

// folder returns a new folder for a process's files.
func (w *killedWorld) folder() string {
	w.t.Helper()
	dir, err := os.MkdirTemp(w.dir, "")
	if err != nil {
		w.t.Fatal(err)
	}
	return dir
}

func (w *killedWorld) startRedis(dir, address string) {
	w.t.Helper()
	server, err := stack.StartRedis(w.t.Context(), dir, address)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = server.Stop() })
	w.redis = server
}

func (w *killedWorld) startPlane(i int, address string) {
	w.t.Helper()
	w.planes[i] = startPlane(w.t, stack.ControlPlaneOptions{
		Binary: tollgateBinary, Dir: w.folder(), Manifests: w.manifests, Revision: "mtime", Address: address, Token: w.token,
		Args: list("--store", "redis://"+w.redis.Address+"/0"),
	})
}

func (w *killedWorld) startGateway(i int, address string) {
	w.t.Helper()
	traefik, err := stack.StartTraefik(w.t.Context(), stack.TraefikOptions{
		Binary: traefikBinary, Dir: w.folder(), Address: address, Dynamic: map[string]stack.Dynamic{killedHost: w.dynamic[i]},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = traefik.Stop() })
	w.gateways[i] = traefik
}

func (w *killedWorld) address(gateway int) string {
	return strings.TrimPrefix(w.gateways[gateway].URL, "http://")
}

func newKilledWorld(t *testing.T, upstream string) *killedWorld {
	t.Helper()
	const ns = namespace("killed")
	w := &killedWorld{t: t, dir: t.TempDir(), token: shared.plane.Token}
	w.manifests = filepath.Join(w.dir, "manifests")
	if err := os.Mkdir(w.manifests, 0o750); err != nil {
		t.Fatal(err)
	}
	all := list(ns.api("api"))
	for _, plan := range killedPlans {
		limits := fmt.Sprintf("rateLimit: {limit: %d, period: 1s}", plan.rate)
		if plan.quota > 0 {
			limits += fmt.Sprintf(", quota: {limit: %d, period: %s}", plan.quota, quotaPeriod)
		}
		all = append(all, ns.plan(plan.name, limits), ns.app(plan.name, plan.name+"-killed-key"),
			ns.sub(plan.name, plan.name, list(plan.name), list("api")))
	}
	text, err := stack.RenderManifests(strings.Join(all, "---\n"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(w.manifests, "all.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	w.startRedis(w.folder(), "")
	for i := range w.planes {
		w.startPlane(i, "")
	}
	g := &gateway{upstream: &stack.Upstream{URL: upstream}}
	for i := range w.gateways {
		// They begin with different control planes.
		endpoints := w.planes[i%2].URL + "," + w.planes[1-i%2].URL
		w.dynamic[i] = g.route(killedHost, byHeader(stack.Config{
			API:    "killed/api",
			Limits: "shared",
			Sync:   stack.Sync{Endpoint: endpoints, Token: w.token, Interval: syncInterval.String(), Wait: "0s"},
		}))
		w.startGateway(i, "")
	}
	return w
}

// victim is a process that is killed and started again.
type victim struct {
	name  string
	kill  func() error
	start func()
}

func (w *killedWorld) victims() []victim {
	victims := []victim{{
		"redis-server",
		func() error { return w.redis.Kill() },
		func() { w.startRedis(w.redis.Dir, w.redis.Address) },
	}}
	for i := range w.planes {
		victims = append(victims, victim{
			fmt.Sprintf("control plane %d", i),
			func() error { return w.planes[i].Kill() },
			func() { w.startPlane(i, strings.TrimPrefix(w.planes[i].URL, "http://")) },
		})
	}
	for i := range w.gateways {
		victims = append(victims, victim{
			fmt.Sprintf("gateway %d", i),
			func() error { return w.gateways[i].Kill() },
			func() { w.startGateway(i, w.address(i)) },
		})
	}
	return victims
}

// TestSharedLimitsWhileKilled sends more requests than plans allow to three gateways,
// eight to the first for one to each other, while gateways, control planes and their
// Redis are killed, one after another, and started again. All gateways together never
// admit more than the plans allow. When it is over, nearly all can be used.
func TestSharedLimitsWhileKilled(t *testing.T) {
	t.Logf("go test . -run %s -kill.seed %d -kill.rounds %d", t.Name(), *killSeed, *killRounds)
	random := rand.New(rand.NewPCG(*killSeed, 0))
	tr := newTraffic(t)
	w := newKilledWorld(t, tr.upstream.URL)
	end := tr.begin(list(w.address(0), w.address(1), w.address(2)))
	// goOn lets there be traffic, for a time that is drawn.
	goOn := func(least, most time.Duration) {
		time.Sleep(least + time.Duration(random.Int64N(int64(most-least))))
	}
	goOn(2*time.Second, 3*time.Second)
	for range *killRounds {
		victims := w.victims()
		random.Shuffle(len(victims), func(i, j int) { victims[i], victims[j] = victims[j], victims[i] })
		for _, victim := range victims {
			t.Logf("%s: %s is killed", time.Since(tr.began), victim.name)
			if err := victim.kill(); err != nil {
				t.Fatal(err)
			}
			goOn(0, 1500*time.Millisecond)
			victim.start()
			t.Logf("%s: it runs again", time.Since(tr.began))
			goOn(time.Second, 3*time.Second)
		}
	}
	tr.awaitUsable(killedPlans[0])
	end()

	for _, plan := range killedPlans {
		passed := tr.passages(plan.name)
		by := make([]int, len(killedShares))
		for _, p := range passed {
			by[p.gateway]++
		}
		t.Logf("plan %s: %d requests have passed, by gateway %v", plan.name, len(passed), by)
		if slices.Contains(by, 0) {
			t.Errorf("plan %s: nothing has passed a gateway: %v", plan.name, by)
		}
		for _, found := range plan.breaches(passed) {
			t.Error(found)
		}
	}
	for what, n := range tr.odd {
		t.Errorf("%d times: %s", n, what)
	}
	for _, gateway := range w.gateways {
		if line, found := gateway.Log.Find(0, "panic"); found {
			t.Errorf("something panicked in Traefik: %s", line)
		}
	}
	if t.Failed() {
		for i, plane := range w.planes {
			t.Logf("control plane %d says:\n%s", i, plane.Log.Tail(20))
		}
	}
}

// awaitUsable waits until nine tenths of a plan's rate have passed for some seconds,
// and nothing is known to be missing. What a gateway held that was killed comes back
// when its share has ended.
func (tr *traffic) awaitUsable(plan killedPlan) {
	tr.t.Helper()
	const span = 5 * time.Second
	undisturbed := time.Since(tr.began)
	err := stack.Until(tr.t.Context(), "the rate to be used", 3*patience, func() error {
		now := time.Since(tr.began)
		begin := now - span
		if begin < undisturbed {
			return fmt.Errorf("only %s have gone by", now-undisturbed)
		}
		n := 0
		for _, p := range tr.passages(plan.name) {
			if p.sent >= begin {
				n++
			}
		}
		if want := plan.rate * int(span/time.Second) * 9 / 10; n < want {
			return fmt.Errorf("%d requests have passed in %s, want %d", n, span, want)
		}
		return nil
	})
	if err != nil {
		tr.t.Error(err)
	}
	tr.t.Logf("usable %s after the last process was started", time.Since(tr.began)-undisturbed)
}
