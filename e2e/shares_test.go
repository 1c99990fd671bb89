package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tollgate-apim/tollgate/e2e/stack"
)

// sharedWorld is a control plane, and gateways that share its limits.
type sharedWorld struct {
	t        *testing.T
	dir      string
	plane    *stack.ControlPlane
	upstream *stack.Upstream
	gateways []*stack.Traefik
}

const (
	sharesHost = "shares.test"
	// sharedQuota and sharedRate are limits that the gateways share.
	sharedQuota = 50
	sharedRate  = 20
)

func newSharedWorld(t *testing.T, gateways int) *sharedWorld {
	t.Helper()
	const ns = namespace("shares")
	w := &sharedWorld{t: t, dir: t.TempDir()}
	var err error
	if w.upstream, err = stack.StartUpstream(""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.upstream.Stop)
	manifests := filepath.Join(w.dir, "manifests")
	if err := os.Mkdir(manifests, 0o750); err != nil {
		t.Fatal(err)
	}
	all := strings.Join([]string{
		ns.api("api"),
		ns.plan("month", fmt.Sprintf("quota: {limit: %d, period: 720h}", sharedQuota)), ns.app("month", "month-key"), ns.sub("month", "month", list("month"), list("api")),
		ns.plan("second", fmt.Sprintf("rateLimit: {limit: %d, period: 1s}", sharedRate)), ns.app("second", "second-key"), ns.sub("second", "second", list("second"), list("api")),
	}, "---\n")
	if all, err = stack.RenderManifests(all); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(manifests, "all.yaml"), []byte(all), 0o600); err != nil {
		t.Fatal(err)
	}
	w.startPlane("")
	for i := range gateways {
		w.gateways = append(w.gateways, nil)
		w.startGateway(i, "")
	}
	return w
}

// startPlane starts the control plane, with what it remembers.
func (w *sharedWorld) startPlane(address string) {
	w.t.Helper()
	token := ""
	if w.plane != nil {
		token = w.plane.Token
	}
	w.plane = startPlane(w.t, stack.ControlPlaneOptions{
		Binary: tollgateBinary, Dir: w.dir, Manifests: filepath.Join(w.dir, "manifests"), Address: address, Token: token,
		Args: []string{"--state", filepath.Join(w.dir, "state")},
	})
}

// startGateway starts a gateway, and returns when it has a table.
func (w *sharedWorld) startGateway(i int, address string) {
	w.t.Helper()
	dir, err := os.MkdirTemp(w.dir, "gateway-")
	if err != nil {
		w.t.Fatal(err)
	}
	config := byHeader(stack.Config{
		API:    "shares/api",
		Limits: "shared",
		Sync:   stack.Sync{Endpoint: w.plane.URL, Token: w.plane.Token, Interval: syncInterval.String(), Wait: "0s"},
	})
	g := &gateway{upstream: w.upstream}
	g.traefik, err = stack.StartTraefik(w.t.Context(), stack.TraefikOptions{
		Binary: traefikBinary, Dir: dir, Address: address,
		Dynamic: map[string]stack.Dynamic{sharesHost: g.route(sharesHost, config)},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.gateways[i] = g.traefik
	w.t.Cleanup(func() { _ = g.traefik.Stop() })
	w.await("a table", func() error { return wantStatus(g.send(w.t, sharesHost, "GET /"), http.StatusUnauthorized) })
}

func (w *sharedWorld) await(what string, look func() error) {
	w.t.Helper()
	if err := stack.Until(w.t.Context(), what, patience, look); err != nil {
		w.t.Fatal(err)
	}
}

// call sends a request to a gateway.
func (w *sharedWorld) call(i int, key string) answer {
	w.t.Helper()
	return sendTo(w.t, strings.TrimPrefix(w.gateways[i].URL, "http://"), sharesHost, "GET /", apiKeyHeader+key)
}

// TestSharedQuota sends requests to two gateways, to one more than to the other, while
// a gateway is killed, the control plane ended, and both are started again. All together never
// admit more than the quota, and all can be used but what was killed.
func TestSharedQuota(t *testing.T) {
	w := newSharedWorld(t, 2)
	passed := 0
	try := func(i int) bool {
		t.Helper()
		a := w.call(i, "month-key")
		if a.status == http.StatusOK {
			passed++
			if passed > sharedQuota {
				t.Fatalf("%d requests have passed, %d may", passed, sharedQuota)
			}
			return true
		}
		if a.status != http.StatusTooManyRequests {
			t.Fatalf("got status %d:\n%s", a.status, a.body)
		}
		if n := a.remaining("Retry-After"); n < 1 {
			t.Errorf("Retry-After is %q", a.header.Get("Retry-After"))
		}
		return false
	}
	// use sends requests, eight to the first gateway for one to the second, until so
	// many have passed.
	use := func(what string, until int) {
		t.Helper()
		n := 0
		w.await(what, func() error {
			for passed < until && n%9 < 8 && try(0) {
				n++
			}
			if passed < until && n%9 == 8 && try(1) {
				n++
			}
			if passed < until {
				return fmt.Errorf("%d requests have passed, %d are wanted", passed, until)
			}
			return nil
		})
	}
	use("most of the quota", 30)

	// A gateway that is killed takes with it what it held: at most a half of the rest.
	if err := w.gateways[1].Kill(); err != nil {
		t.Fatal(err)
	}
	w.startGateway(1, strings.TrimPrefix(w.gateways[1].URL, "http://"))
	use("more of it", 34)

	// Without a control plane, what gateways hold is good for a while. That control
	// plane remembers what was used, as it was asked to end: one that is killed has not
	// written the last second to its file.
	if err := w.plane.Stop(); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		try(0)
		try(1)
	}
	w.startPlane(strings.TrimPrefix(w.plane.URL, "http://"))
	use("still more of it", 37)

	// In the end nothing is left.
	w.await("the end", func() error {
		for _, i := range []int{0, 1} {
			for try(i) {
				continue
			}
		}
		for _, i := range []int{0, 1} {
			if a := w.call(i, "month-key"); a.status != http.StatusTooManyRequests || a.remaining("Retry-After") < 3600 {
				if a.status == http.StatusOK {
					passed++
				}
				return fmt.Errorf("got status %d, Retry-After %q", a.status, a.header.Get("Retry-After"))
			}
		}
		return nil
	})
	if passed > sharedQuota {
		t.Errorf("%d requests have passed, %d may", passed, sharedQuota)
	}
	t.Logf("%d of %d requests have passed", passed, sharedQuota)
}

// TestSharedRateLimit sends requests to both gateways at once: what passes in any time
// is no more than the burst and what is made in that time.
func TestSharedRateLimit(t *testing.T) {
	w := newSharedWorld(t, 2)
	w.await("a first request", func() error { return wantStatus(w.call(0, "second-key"), http.StatusOK) })
	w.await("another gateway's", func() error { return wantStatus(w.call(1, "second-key"), http.StatusOK) })

	var passed [2]atomic.Int64
	var wg sync.WaitGroup
	began := time.Now()
	for i := range w.gateways {
		wg.Go(func() {
			for time.Since(began) < 6*time.Second {
				if w.call(i, "second-key").status == http.StatusOK {
					passed[i].Add(1)
				}
				if i == 1 {
					time.Sleep(40 * time.Millisecond) // about as many as the plan has
				}
			}
		})
	}
	wg.Wait()
	took := time.Since(began)
	all := passed[0].Load() + passed[1].Load()
	most := sharedRate + int64(took.Seconds()*sharedRate) + 1
	if all > most {
		t.Errorf("%d requests have passed in %s, at most %d may", all, took, most)
	}
	if passed[0].Load() < 2 || passed[1].Load() < 2 {
		t.Errorf("%d requests have passed at one gateway and %d at the other", passed[0].Load(), passed[1].Load())
	}
	t.Logf("%d and %d of %d requests have passed", passed[0].Load(), passed[1].Load(), most)
}
