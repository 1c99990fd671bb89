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
	kill  func() error
	start func()
}

const redisServer = "redis-server"

func planeName(i int) string   { return fmt.Sprintf("control plane %d", i) }
func gatewayName(i int) string { return fmt.Sprintf("gateway %d", i) }

// victims returns all processes by name.
func (w *killedWorld) victims() map[string]victim {
	victims := map[string]victim{redisServer: {
		func() error { return w.redis.Kill() },
		func() { w.startRedis(w.redis.Dir, w.redis.Address) },
	}}
	for i := range w.planes {
		victims[planeName(i)] = victim{
			func() error { return w.planes[i].Kill() },
			func() { w.startPlane(i, strings.TrimPrefix(w.planes[i].URL, "http://")) },
		}
	}
	for i := range w.gateways {
		victims[gatewayName(i)] = victim{
			func() error { return w.gateways[i].Kill() },
			func() { w.startGateway(i, w.address(i)) },
		}
	}
	return victims
}

// A wave kills processes while others are dead, and starts them again in another
// order.
type wave struct {
	killed, started []blow
	// calm is how long all of them run before the next wave.
	calm time.Duration
}

// blow is a process that is killed or started, and how long nothing else happens
// afterwards.
type blow struct {
	name string
	rest time.Duration
}

func (w wave) String() string {
	text := ""
	for _, of := range []struct {
		done  string
		blows []blow
	}{{"kill", w.killed}, {"start", w.started}} {
		for _, b := range of.blows {
			text += fmt.Sprintf("%s %s, wait %s; ", of.done, b.name, b.rest.Round(time.Millisecond))
		}
	}
	return text + fmt.Sprintf("wait %s", w.calm.Round(time.Millisecond))
}

// drawWaves returns waves of which each kills a gateway, Redis and a control plane, or
// both control planes. In the end all have been killed.
func drawWaves(random *rand.Rand) []wave {
	upTo := func(most time.Duration) time.Duration { return time.Duration(random.Int64N(int64(most))) }
	var waves []wave
	both, first := random.IntN(3), random.IntN(2)
	for i, gateway := range random.Perm(3) {
		dead := list(redisServer, gatewayName(gateway), planeName((first+i)%2))
		if i == both {
			dead = append(dead, planeName((first+i+1)%2))
		}
		w := wave{calm: time.Second + upTo(1500*time.Millisecond)}
		for _, at := range random.Perm(len(dead)) {
			w.killed = append(w.killed, blow{dead[at], upTo(400 * time.Millisecond)})
		}
		for _, at := range random.Perm(len(dead)) {
			w.started = append(w.started, blow{dead[at], upTo(600 * time.Millisecond)})
		}
		waves = append(waves, w)
	}
	return waves
}

// TestWaves: in each wave a gateway, a control plane and Redis are dead at once, and
// start again; all processes have their turn.
func TestWaves(t *testing.T) {
	for seed := range uint64(100) {
		all := map[string]bool{}
		for _, w := range drawWaves(rand.New(rand.NewPCG(seed, 0))) {
			dead := map[string]bool{}
			for _, b := range w.killed {
				dead[b.name], all[b.name] = true, true
			}
			planes, gateways := 0, 0
			for i := range 3 {
				if dead[gatewayName(i)] {
					gateways++
				}
				if dead[planeName(i)] {
					planes++
				}
			}
			if !dead[redisServer] || planes == 0 || gateways == 0 || len(dead) != len(w.killed) {
				t.Errorf("seed %d: %s", seed, w)
			}
			for _, b := range w.started {
				delete(dead, b.name)
			}
			if len(dead) > 0 || len(w.started) != len(w.killed) {
				t.Errorf("seed %d: %v is not started: %s", seed, dead, w)
			}
		}
		if len(all) != 6 {
			t.Errorf("seed %d: only %v are killed", seed, all)
		}
	}
}

// TestSharedLimitsWhileKilled sends more requests than plans allow to three gateways,
// eight to the first for one to each other, while gateways, control planes and their
// Redis are killed, several at once, and started again. All gateways together never
// admit more than the plans allow. When it is over, nearly all can be used.
func TestSharedLimitsWhileKilled(t *testing.T) {
	random := rand.New(rand.NewPCG(*killSeed, 0))
	tr := newTraffic(t)
	w := newKilledWorld(t, tr.upstream.URL)
	end := tr.begin(list(w.address(0), w.address(1), w.address(2)))
	time.Sleep(2 * time.Second)
	victims := w.victims()
	for round := range *killRounds {
		for i, wave := range drawWaves(random) {
			t.Logf("%s: round %d, wave %d: %s", time.Since(tr.began), round+1, i+1, wave)
			for _, b := range wave.killed {
				if err := victims[b.name].kill(); err != nil {
					t.Fatal(err)
				}
				time.Sleep(b.rest)
			}
			for _, b := range wave.started {
				victims[b.name].start()
				t.Logf("%s: %s runs again", time.Since(tr.began), b.name)
				time.Sleep(b.rest)
			}
			time.Sleep(wave.calm)
		}
	}
	tr.awaitUsable(killedPlans)
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
		t.Logf("to repeat it: go test . -run %s -kill.seed %d -kill.rounds %d", t.Name(), *killSeed, *killRounds)
		for i, plane := range w.planes {
			t.Logf("control plane %d says:\n%s", i, plane.Log.Tail(20))
		}
	}
}

// usable returns of how many requests in which time a plan without disturbance makes
// use: of a rate nine tenths, and of a quota, which is used up in between and comes
// back late, four fifths.
func (p killedPlan) usable() (n int, span time.Duration) {
	if p.quota > 0 {
		return p.quota * 8 / 10, quotaPeriod
	}
	span = 5 * time.Second
	return p.rate * int(span/time.Second) * 9 / 10, span
}

// awaitUsable waits until for some time all plans can be used, and nothing is known to
// be missing. What a gateway held that was killed comes back when its share has ended,
// or has left the window of the quota.
func (tr *traffic) awaitUsable(plans []killedPlan) {
	tr.t.Helper()
	undisturbed := time.Since(tr.began)
	for _, plan := range plans {
		want, span := plan.usable()
		err := stack.Until(tr.t.Context(), "plan "+plan.name+" to be used", 3*patience, func() error {
			n, now := 0, time.Since(tr.began)
			passed := slices.DeleteFunc(tr.passages(plan.name), func(p passage) bool { return p.sent < undisturbed })
			for _, first := range passed {
				if first.sent+span > now {
					continue
				}
				inSpan := 0
				for _, p := range passed {
					if p.sent >= first.sent && p.arrived <= first.sent+span {
						inSpan++
					}
				}
				n = max(n, inSpan)
			}
			if n < want {
				return fmt.Errorf("%d requests have passed in %s, want %d", n, span, want)
			}
			return nil
		})
		if err != nil {
			tr.t.Error(err)
		}
		tr.t.Logf("plan %s is usable %s after the last process was started", plan.name, time.Since(tr.began)-undisturbed)
	}
}
