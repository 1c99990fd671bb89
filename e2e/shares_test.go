package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
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
	w := &sharedWorld{t: t, dir: t.TempDir()}
	var err error
	if w.upstream, err = stack.StartUpstream(""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.upstream.Stop)
	if err := os.Mkdir(w.manifests(), 0o750); err != nil {
		t.Fatal(err)
	}
	w.apply(sharedQuota, sharedRate)
	w.startPlane("")
	for i := range gateways {
		w.gateways = append(w.gateways, nil)
		w.startGateway(i, "")
	}
	return w
}

func (w *sharedWorld) manifests() string { return filepath.Join(w.dir, "manifests") }

// apply writes manifests with one plan that has a quota for a month, and one that has
// a rate limit for a second.
func (w *sharedWorld) apply(quota, rate int) {
	w.t.Helper()
	const ns = namespace("shares")
	all := strings.Join([]string{
		ns.api("api"),
		ns.plan("month", fmt.Sprintf("quota: {limit: %d, period: 720h}", quota)), ns.app("month", "month-key"), ns.sub("month", "month", list("month"), list("api")),
		ns.plan("second", fmt.Sprintf("rateLimit: {limit: %d, period: 1s}", rate)), ns.app("second", "second-key"), ns.sub("second", "second", list("second"), list("api")),
	}, "---\n")
	plane := &stack.ControlPlane{Manifests: w.manifests()}
	if err := plane.Apply("all.yaml", all); err != nil {
		w.t.Fatal(err)
	}
}

// startPlane starts the control plane, with what it remembers.
func (w *sharedWorld) startPlane(address string) {
	w.t.Helper()
	token := ""
	if w.plane != nil {
		token = w.plane.Token
	}
	w.plane = startPlane(w.t, stack.ControlPlaneOptions{
		Binary: tollgateBinary, Dir: w.dir, Manifests: w.manifests(), Address: address, Token: token,
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
// a gateway is killed, then the control plane, and both are started again. All together
// never admit more than the quota, and all can be used but what was killed.
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

	// Without a control plane, what gateways hold is good for a while. The next one
	// finds in the file what was lent and used, although this one was killed.
	if err := w.plane.Kill(); err != nil {
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

// settledBucket is a shared limit as the control plane's status tells of it.
type settledBucket struct {
	Kind, Bucket string
	Limit        int
	Used         float64
	Remaining    int
}

// sharedStatus is what the control plane's status tells of gateways and what they
// share.
type sharedStatus struct {
	Busiest  struct{ Buckets []settledBucket }
	Gateways []struct{ LastSeen time.Time }
}

func (w *sharedWorld) status() (status sharedStatus, err error) {
	w.t.Helper()
	g := &gateway{plane: w.plane}
	text, err := g.status(w.t)
	if err != nil {
		return status, err
	}
	return status, json.Unmarshal(text, &status)
}

// bucket returns how the control plane has last settled a plan's limit.
func (w *sharedWorld) bucket(plan string) (settledBucket, error) {
	w.t.Helper()
	status, err := w.status()
	if err != nil {
		return settledBucket{}, err
	}
	for _, b := range status.Busiest.Buckets {
		if b.Bucket == "subscription shares/"+plan {
			return b, nil
		}
	}
	return settledBucket{}, fmt.Errorf("the status has no bucket of %s: %+v", plan, status)
}

// awaitReports waits until each gateway has reported, so that it was answered anew, and
// has reported again, so that it acts on that answer.
func (w *sharedWorld) awaitReports() {
	w.t.Helper()
	for range 2 {
		from := time.Now()
		w.await("reports", func() error {
			status, err := w.status()
			if err != nil {
				return err
			}
			if n := len(status.Gateways); n != len(w.gateways) {
				return fmt.Errorf("the status has %d gateways", n)
			}
			for _, g := range status.Gateways {
				if !g.LastSeen.After(from) {
					return fmt.Errorf("a gateway has reported at %s, want after %s", g.LastSeen, from)
				}
			}
			return nil
		})
	}
}

// awaitKnown waits until both gateways decide by a limit.
func (w *sharedWorld) awaitKnown(plan, policy string) {
	w.t.Helper()
	for i := range w.gateways {
		w.await("the edit at a gateway", func() error {
			return mustContain(w.call(i, plan+"-key").header.Get("RateLimit-Policy"), policy)
		})
	}
}

// TestSharedQuotaEdited lowers a quota below what was used while gateways hold some of
// it, and raises it again. What they held may be used, and nothing else, until there
// is room; then all of the new quota can be.
func TestSharedQuotaEdited(t *testing.T) {
	const before, lower, higher = 400, 60, 300
	w := newSharedWorld(t, 2)
	w.apply(before, sharedRate)
	w.awaitKnown("month", fmt.Sprintf(`"quota";q=%d;`, before))
	passed := 0
	count := func(what string, done func(refusals int) bool, most int) {
		t.Helper()
		refusals := 0
		w.await(what, func() error {
			for i := range w.gateways {
				switch a := w.call(i, "month-key"); {
				case a.status == http.StatusOK:
					passed++
					refusals = 0
				case a.status != http.StatusTooManyRequests:
					t.Fatalf("got status %d:\n%s", a.status, a.body)
				case a.remaining("Retry-After") >= 3600:
					refusals++
				}
			}
			if passed > most {
				t.Fatalf("%s: %d requests have passed, %d may", what, passed, most)
			}
			if !done(refusals) {
				return fmt.Errorf("%d requests have passed, at most %d may", passed, most)
			}
			return nil
		})
	}
	usedUp := func(refusals int) bool { return refusals >= 2*len(w.gateways) }
	admitted := func(i int) {
		if w.call(i, "month-key").status == http.StatusOK {
			passed++
		}
	}
	count("a part of the quota", func(int) bool { return passed >= 100 }, before)

	// What is told of now has been used or lent.
	var lent int
	w.await("the quota to be settled", func() error {
		b, err := w.bucket("month")
		if lent = before - b.Remaining; err == nil && (b.Limit != before || lent < passed) {
			err = fmt.Errorf("got %+v after %d requests", b, passed)
		}
		return err
	})
	w.apply(lower, sharedRate)
	count("the quota to be lower", usedUp, lent)
	t.Logf("%d requests have passed, at most %d may", passed, lent)
	w.awaitKnown("month", fmt.Sprintf(`"quota";q=%d;`, lower))

	w.apply(higher, sharedRate)
	w.awaitKnown("month", fmt.Sprintf(`"quota";q=%d;`, higher))
	admitted(0)
	count("the quota to be higher", usedUp, higher)
	if passed < higher*9/10 {
		t.Errorf("%d requests have passed, want nearly %d", passed, higher)
	}
	t.Logf("%d requests have passed, at most %d may", passed, higher)
}

// TestSharedRateEdited lowers a rate limit while gateways hold parts of it, and raises
// it again: in no time more passes than the higher limit of the two allows, and than
// the lower one as soon as the parts that were given before have been handed back.
func TestSharedRateEdited(t *testing.T) {
	const before, lower, higher = 50, 20, 80
	w := newSharedWorld(t, 2)
	w.apply(sharedQuota, before)
	w.awaitKnown("second", fmt.Sprintf(`"rate";q=%d;`, before))

	began := time.Now()
	var mu sync.Mutex
	var all []passage
	// between returns what passed between two times, or after the first if to is 0.
	between := func(from, to time.Duration) []passage {
		mu.Lock()
		defer mu.Unlock()
		return slices.DeleteFunc(slices.Clone(all), func(p passage) bool { return p.sent < from || to > 0 && p.arrived > to })
	}
	within := func(limit int, passed []passage) {
		t.Helper()
		if b := breach(passed, func(d time.Duration) (float64, bool) { return float64(limit) * (1 + d.Seconds()), true }); b != "" {
			t.Errorf("%d a second: %s", limit, b)
		}
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(done)
	for i := range w.gateways {
		wg.Go(func() {
			ticker := time.NewTicker(time.Second / 80)
			defer ticker.Stop()
			for {
				select {
				case <-done:
					return
				case <-ticker.C:
				}
				p := passage{sent: time.Since(began), gateway: i}
				if w.call(i, "second-key").status == http.StatusOK {
					p.arrived = time.Since(began)
					mu.Lock()
					all = append(all, p)
					mu.Unlock()
				}
			}
		})
	}
	// fully waits until most of a limit can be used, for two seconds.
	fully := func(limit int, from time.Duration) {
		t.Helper()
		w.await(fmt.Sprintf("%d a second", limit), func() error {
			now := time.Since(began)
			n := len(between(max(from, now-2*time.Second), now))
			if want := 2 * limit * 8 / 10; n < want {
				return fmt.Errorf("%d requests have passed in two seconds, want %d", n, want)
			}
			return nil
		})
	}
	fully(before, 0)

	w.apply(sharedQuota, lower)
	w.awaitKnown("second", fmt.Sprintf(`"rate";q=%d;`, lower))
	w.await("the edit at the control plane", func() error {
		b, err := w.bucket("second")
		if err == nil && b.Limit != lower {
			err = fmt.Errorf("got %+v", b)
		}
		return err
	})
	w.awaitReports()
	handedBack := time.Since(began)
	t.Logf("%s: what is held fits %d a second", handedBack, lower)
	w.await("some of the time", func() error {
		if n := len(between(handedBack, 0)); n < 3*lower {
			return fmt.Errorf("%d requests have passed", n)
		}
		return nil
	})
	raised := time.Since(began)
	within(before, between(0, raised))
	within(lower, between(handedBack, raised))

	w.apply(sharedQuota, higher)
	fully(higher, raised)
	within(higher, between(handedBack, 0))
	t.Logf("%s: %d a second can be used", time.Since(began), higher)
}
