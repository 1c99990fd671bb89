package faults

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/tollgate-apim/tollgate/e2e/stack"
)

// patience is how long anything may take that happens by itself. It is far more
// than it takes: a gateway asks again at the latest after the pause that
// docs/sync.md names, which after seconds of failures is seconds.
const patience = 120 * time.Second

// gateway is a middleware with sync settings of its own, and what is known of the
// table that it decides by. One goroutine at a time may use it.
type gateway struct {
	name string
	sync stack.Sync
	host host
	// limits is how it counts; empty is the default.
	limits string
	// served returns the newest version that it can have, by its name.
	served func(name string) int
	// versionOf returns the version of a number.
	versionOf func(n int) version
	// mayBeStale says that its table may be older than it may be.
	mayBeStale func() bool

	// rest is the time between two probes.
	rest time.Duration

	// decided says that there is a table in force: version lo, or a newer one.
	decided bool
	lo      int
	// starting says that nothing was answered since the host was started.
	starting bool
	probed   int
}

func newGateway(h host, name string, sync stack.Sync, served func(name string) int) *gateway {
	return &gateway{
		name: name, sync: sync, host: h, served: served, rest: restMany,
		versionOf:  func(n int) version { return version{number: n} },
		mayBeStale: func() bool { return false },
	}
}

// config is its configuration.
func (g *gateway) config() stack.Config {
	return stack.Config{API: api, Limits: g.limits, Sync: g.sync, KeySource: &stack.KeySource{Header: "X-API-Key"}}
}

// domain is the host name of its requests.
func (g *gateway) domain() string { return g.name + ".test" }

// reply is what a gateway answers to a request.
type reply struct {
	status int
	// plan is what the upstream was told, if the request got there.
	plan string
	body string
}

var client = &http.Client{Timeout: patience, Transport: &http.Transport{MaxIdleConnsPerHost: 100}}

// send sends a request with a key.
func (g *gateway) send(k int) (reply, error) {
	req, err := http.NewRequest(http.MethodGet, g.host.url()+"/", nil)
	if err != nil {
		return reply{}, err
	}
	req.Host = g.domain()
	req.Header.Set("X-API-Key", keyOf(k))
	resp, err := client.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return reply{}, err
	}
	return reply{resp.StatusCode, resp.Header.Get(planHeader), string(body)}, nil
}

// planHeader is where the upstream of all gateways repeats which plan it was told.
const planHeader = "X-Plan-Seen"

// upstream is behind all gateways.
var upstream = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	w.Header().Set(planHeader, r.Header.Get("X-Api-Plan"))
})

// errStarting says that the gateway does not answer yet.
var errStarting = errors.New("the host does not answer yet")

// probe sends requests with several keys and returns an error if one of them is
// answered as no table allows that may be in force.
func (g *gateway) probe() error {
	g.probed++
	for _, k := range []int{always, 1 + g.probed%(keys-2), 1 + (g.probed+1)%(keys-2), never} {
		if err := g.try(k); err != nil {
			return err
		}
	}
	return nil
}

// try sends one request and judges the answer.
func (g *gateway) try(k int) error {
	got, err := g.send(k)
	if g.starting && (err != nil || got.status == http.StatusNotFound && got.plan == "") {
		return errStarting
	}
	g.starting = false
	if err != nil {
		return fmt.Errorf("gateway %s: %w", g.name, err)
	}
	if err := g.judge(k, got); err != nil {
		return fmt.Errorf("gateway %s, %s, status %d, plan %q: %w; its answer:\n%s", g.name, keyOf(k), got.status, got.plan, err, got.body)
	}
	return nil
}

// judge returns an error unless some version that may be in force gives that
// answer. The oldest that does is what is known then.
func (g *gateway) judge(k int, got reply) error {
	if got.status == http.StatusServiceUnavailable && strings.Contains(got.body, "table_unavailable") {
		if g.decided && !g.mayBeStale() {
			return fmt.Errorf("there is no table, and was version %d", g.lo)
		}
		return nil
	}
	lowest, highest := 1, g.served(g.name)
	if g.decided {
		lowest, highest = g.lo, max(g.lo, highest)
	}
	for n := lowest; n <= highest; n++ {
		v := g.versionOf(n)
		if v.answers(k, got) {
			g.decided, g.lo = true, n
			return nil
		}
	}
	if !g.decided && highest == 0 {
		return errors.New("this was decided without a table")
	}
	return fmt.Errorf("no version from %d to %d answers so", lowest, highest)
}

// answers says whether a request with a key is answered so by a version.
func (v version) answers(k int, got reply) bool {
	switch v.fate(k) {
	case admitted:
		return got.status == http.StatusOK && got.plan == namespace+"/"+v.plan()
	case notGranted:
		return got.status == http.StatusForbidden && strings.Contains(got.body, "subscription_missing")
	default:
		return got.status == http.StatusUnauthorized && strings.Contains(got.body, "key_invalid")
	}
}

// until waits, and probes all the while. It gives up at once if a request is
// answered wrongly.
func (g *gateway) until(what string, look func() error) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var wrong error
	err := stack.Until(ctx, what, patience, func() error {
		err := g.probe()
		if errors.Is(err, errStarting) {
			return err
		}
		if err != nil {
			wrong = err
			cancel()
			return err
		}
		time.Sleep(g.rest)
		return look()
	})
	if wrong != nil {
		return fmt.Errorf("%w\nit said\n%s", wrong, g.said())
	}
	if err != nil {
		return fmt.Errorf("gateway %s: %w; it said\n%s", g.name, err, g.said())
	}
	return nil
}

// said returns what the gateway said of its sync endpoints.
func (g *gateway) said() string {
	var lines []string
	for _, line := range g.host.log().Since(0) {
		if strings.Contains(line, "/"+g.name+":") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n")
}

// How long a gateway is left alone between two probes: processor time is for all.
const (
	rest     = 250 * time.Millisecond
	restMany = time.Second // where there are hundreds of gateways
)

// untilAt waits until a version is in force.
func (g *gateway) untilAt(n int) error {
	return g.until("version "+strconv.Itoa(n), func() error {
		if g.decided && g.lo == n {
			return nil
		}
		return fmt.Errorf("decided: %t, by version %d", g.decided, g.lo)
	})
}
