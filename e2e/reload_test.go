package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/tollgate-apim/tollgate/e2e/stack"
)

const (
	reloads = 20
	clients = 4
	// One goroutine left by each reload would be many more.
	goroutineSlack = reloads / 4
)

// TestReloads reloads the dynamic configuration again and again under load: no
// request is refused by mistake or lost, counters go on, one feed goes on asking
// at its pace, and no goroutine is left behind.
func TestReloads(t *testing.T) {
	const ns = namespace("reloads")
	const limit = 1_000_000
	// Idle connections to the upstream are no leak. There are more of them or fewer, as
	// requests come together, so they end at once.
	g := newGateway(t, stack.TraefikOptions{Static: func(static map[string]any) {
		static["serversTransport"] = map[string]any{"forwardingTimeouts": map[string]any{"idleConnTimeout": "100ms"}}
	}})
	g.apply(t, "reloads",
		ns.api("api"), ns.plan("plan", fmt.Sprintf("rateLimit: {limit: %d, period: 1h}, quota: {limit: %d, period: 24h}", limit, limit)),
		ns.app("app", "reloads-key"), ns.sub("sub", "plan", list("app"), list("api")),
	)
	g.protect(t, "reloads.test", byHeader(g.config("reloads/api")))
	g.protect(t, "second.reloads.test", byHeader(g.config("reloads/api")))
	held := ownSync(t, g.plane.URL)
	up(t, held)
	waiting := byHeader(g.config("reloads/api"))
	waiting.Sync.Endpoint, waiting.Sync.Wait = held.URL, "30s"
	g.protect(t, "waiting.reloads.test", waiting)
	call := func(header ...string) answer {
		return g.send(t, "reloads.test", "GET /", append(header, apiKeyHeader+"reloads-key")...)
	}
	// What only the first reload makes is no leak.
	first := time.Now()
	warm := g.startLoad(t, "reloads.test", "reloads-key")
	g.reload(t, 0)
	warmed := warm.stop()
	// Neither are connections for reports.
	g.await(t, "reports", func() error {
		if a, b := g.sync.Reports(), held.Reports(); a < 2 || b < 2 {
			return fmt.Errorf("there were %d and %d", a, b)
		}
		return nil
	})
	before := g.settledGoroutines(t)
	polls := len(g.sync.Polls())
	begin := time.Now()

	late := make(chan answer, 1)
	go func() { late <- call("X-Hold: reloads") }()
	load := g.startLoad(t, "reloads.test", "reloads-key")
	for i := 1; i <= reloads; i++ {
		g.reload(t, i)
	}
	counted := load.stop()
	g.upstream.Release("reloads")
	admitted(t, <-late)
	elapsed := time.Since(begin)

	t.Run("no request is refused or lost", func(t *testing.T) {
		for problem, n := range counted.problems {
			t.Errorf("%d times: %s", n, problem)
		}
		if counted.admitted < 10*reloads {
			t.Errorf("only %d requests were sent during %d reloads", counted.admitted, reloads)
		}
		t.Logf("%d requests in %s, during %d reloads", counted.admitted, elapsed, reloads)
	})
	t.Run("counters go on", func(t *testing.T) {
		a := call()
		admitted(t, a)
		used := warmed.admitted + counted.admitted + 2 // the held one, and this one
		if got, want := a.remaining("X-Quota-Remaining"), limit-used; got != want {
			t.Errorf("X-Quota-Remaining is %d after %d requests, want %d", got, used, want)
		}
		// The rate limit gives some back as time passes.
		back := int(time.Since(first).Seconds()*limit/3600) + 1
		if got := a.remaining("X-Ratelimit-Remaining"); got < limit-used || got > limit-used+back {
			t.Errorf("X-Ratelimit-Remaining is %d after %d requests, want %d to %d", got, used, limit-used, limit-used+back)
		}
	})
	t.Run("one feed asks at its pace", func(t *testing.T) {
		during := g.sync.Polls()[polls:]
		// Jitter takes a tenth of the interval away at most.
		if most := int(elapsed/(syncInterval*9/10)) + 2; len(during) > most {
			t.Errorf("there were %d polls in %s, want %d at most", len(during), elapsed, most)
		}
		checkPace(t, during, 0)
	})
	t.Run("a request that waits goes on waiting", func(t *testing.T) {
		// One for the table, and one for each half minute since.
		if n := len(held.Polls()); n > 2+int(time.Since(first)/(20*time.Second)) {
			t.Errorf("the endpoint that holds requests got %d", n)
		}
	})
	t.Run("no goroutine is left", func(t *testing.T) {
		var after int
		err := stack.Until(t.Context(), "goroutines to end", patience, func() error {
			if after = g.settledGoroutines(t); after > before+goroutineSlack {
				return fmt.Errorf("there are %d after %d reloads, and were %d", after, reloads, before)
			}
			return nil
		})
		if err != nil {
			stacks, _ := g.traefik.Stacks(t.Context())
			t.Errorf("%v\n%s", err, stacks)
		}
		t.Logf("%d goroutines before, %d after", before, after)
	})
}

// reload changes the configuration for the i-th time, and waits until Traefik
// serves it. Every change makes Traefik build all its middlewares anew; every
// third also changes the configuration of one of ours.
func (g *gateway) reload(t *testing.T, i int) {
	t.Helper()
	marker := fmt.Sprintf("reload-%d.test", i)
	d := stack.Dynamic{HTTP: stack.HTTP{
		Routers:  map[string]stack.Router{"marker": {EntryPoints: []string{stack.Web}, Rule: "Host(`" + marker + "`)", Service: "marker"}},
		Services: map[string]stack.Service{"marker": stack.UpstreamService(g.upstream.URL)},
	}}
	if i%3 == 0 {
		config := byHeader(g.config("reloads/api"))
		config.IdentityHeaders = map[string]string{"appId": fmt.Sprintf("X-App-%d", i)}
		if err := g.traefik.Configure("second.reloads.test", g.route("second.reloads.test", config)); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.traefik.Configure("marker", d); err != nil {
		t.Fatal(err)
	}
	g.await(t, "the reload", func() error { return wantStatus(g.send(t, marker, "GET /"), 200) })
}

// settledGoroutines returns Traefik's number of goroutines at a moment when no
// client is connected.
func (g *gateway) settledGoroutines(t *testing.T) int {
	t.Helper()
	lowest := 0
	for i := range 10 {
		n, err := g.traefik.Goroutines(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 || n < lowest {
			lowest = n
		}
		time.Sleep(pauseBetweenLooks)
	}
	return lowest
}

const pauseBetweenLooks = 50 * time.Millisecond

// load is clients that call one after another until they are stopped.
type load struct {
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu      sync.Mutex
	counted counted
}

type counted struct {
	admitted int
	problems map[string]int
}

func (g *gateway) startLoad(t *testing.T, host, key string) *load {
	t.Helper()
	l := &load{counted: counted{problems: map[string]int{}}}
	ctx, cancel := context.WithCancel(t.Context())
	l.cancel = cancel
	for range clients {
		l.done.Add(1)
		go func() {
			defer l.done.Done()
			l.client(ctx, g.traefik.URL, host, key)
		}()
	}
	return l
}

// client calls over one connection, and checks that the quota only shrinks.
func (l *load) client(ctx context.Context, url, host, key string) {
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: patience}
	last := -1
	for ctx.Err() == nil {
		left, err := callOnce(client, url, host, key)
		if err == nil && last >= 0 && left >= last {
			err = fmt.Errorf("the quota went from %d to %d", last, left)
		}
		last = left
		l.count(err)
	}
}

func (l *load) count(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.counted.problems[err.Error()]++
		return
	}
	l.counted.admitted++
}

// stop ends the clients after the call that each is in, and returns what they
// counted.
func (l *load) stop() counted {
	l.cancel()
	l.done.Wait()
	return l.counted
}

// callOnce does not end with the load: each call that begins is counted.
func callOnce(client *http.Client, url, host, key string) (left int, err error) {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url+"/load", nil)
	if err != nil {
		return 0, err
	}
	req.Host = host
	req.Header.Set("X-Api-Key", key)
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("status %d: %s", resp.StatusCode, body)
	}
	return strconv.Atoi(resp.Header.Get("X-Quota-Remaining"))
}
