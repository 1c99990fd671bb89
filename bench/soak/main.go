// Soak runs one real Traefik with the plugin for long: requests all the time, a
// dynamic reload each second, tables that change, a control plane that is killed
// now and then. It tells whether memory and goroutines stay flat, and whether each
// request was decided right. `make soak` runs it for half an hour.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/tollgate-apim/tollgate/bench/proc"
	"github.com/tollgate-apim/tollgate/bench/record"
	"github.com/tollgate-apim/tollgate/e2e/stack"
)

func main() {
	record.Main("soak", func(ctx context.Context, args []string) error {
		flags := flag.NewFlagSet("soak", flag.ContinueOnError)
		duration := flags.Duration("duration", 30*time.Minute, "how long to run")
		out := flags.String("out", "", "file for the results; empty for none")
		if err := flags.Parse(args); err != nil {
			return err
		}
		return run(ctx, *duration, *out)
	})
}

// Sample is what Traefik has at one time.
type Sample struct {
	Second     int     `json:"second"`
	ResidentMB float64 `json:"residentMB"`
	HeapMB     float64 `json:"heapMB"` // after a collection
	Goroutines int     `json:"goroutines"`
}

// Results are what a soak found.
type Results struct {
	Date     string  `json:"date"`
	Minutes  float64 `json:"minutes"`
	Requests int64   `json:"requests"`
	// Reloads, Tables and Kills count what happened to the gateway: dynamic
	// reloads, edits of the manifests and control planes that were killed.
	Reloads int64    `json:"reloads"`
	Tables  int64    `json:"tables"`
	Kills   int64    `json:"kills"`
	Samples []Sample `json:"samples"`
	// Second and Last are the medians of the second and the last third.
	Second Sample `json:"secondThird"`
	Last   Sample `json:"lastThird"`
}

// Times of what goes on. The control plane is away for a while each time.
const (
	reloadEvery = time.Second
	editEvery   = 5 * time.Second
	killEvery   = 67 * time.Second
	away        = 4 * time.Second
	sampleEvery = 10 * time.Second
)

// soak is all that runs.
type soak struct {
	*Results
	dir, address string
	binary       string // of the control plane
	plane        *stack.ControlPlane
	traefik      *stack.Traefik
	upstream     *stack.Upstream
	requests     atomic.Int64
}

func run(ctx context.Context, duration time.Duration, out string) (err error) {
	s := &soak{Results: &Results{Date: time.Now().UTC().Format(time.DateOnly)}}
	defer func() { err = errors.Join(err, s.stop()) }()
	if err := s.start(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan struct{})
	go func() {
		defer close(done)
		cancel(s.request(ctx))
	}()
	if err := s.drive(ctx, duration); err != nil {
		return errors.Join(err, context.Cause(ctx))
	}
	cancel(nil)
	<-done
	s.Minutes, s.Requests = duration.Minutes(), s.requests.Load()
	verdict := s.judge()
	if out != "" {
		if err := record.Save(out, s.Results); err != nil {
			return err
		}
	}
	return verdict
}

func (s *soak) start(ctx context.Context) (err error) {
	if s.dir, err = os.MkdirTemp("", "tollgate-soak-"); err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(s.dir, "manifests"), 0o755); err != nil {
		return err
	}
	if s.binary, err = stack.BuildTollgate(ctx); err != nil {
		return err
	}
	traefik, err := stack.FindTraefik(ctx, func(format string, args ...any) { fmt.Printf(format+"\n", args...) })
	if err != nil {
		return err
	}
	if s.address, err = stack.FreeAddress(); err != nil {
		return err
	}
	if s.upstream, err = stack.StartUpstream(""); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(s.dir, "manifests", "soak.yaml"), []byte(manifests(0)), 0o644); err != nil {
		return err
	}
	if err := s.startPlane(ctx); err != nil {
		return err
	}
	s.traefik, err = stack.StartTraefik(ctx, stack.TraefikOptions{
		Binary: traefik, Dir: s.dir, Dynamic: map[string]stack.Dynamic{"soak": s.dynamic(0)},
		Static: func(static map[string]any) {
			delete(static, "accessLog")
			static["log"] = map[string]any{"level": "ERROR"}
		},
	})
	if err != nil {
		return err
	}
	return stack.Until(ctx, "the table", time.Minute, func() error { return s.send(ctx, "key-0", http.StatusOK) })
}

func (s *soak) startPlane(ctx context.Context) error {
	var err error
	s.plane, err = stack.StartControlPlane(ctx, stack.ControlPlaneOptions{
		Binary: s.binary, Dir: s.dir, Manifests: filepath.Join(s.dir, "manifests"), Address: s.address, Token: "soak",
	})
	return err
}

func (s *soak) stop() error {
	var err error
	if s.traefik != nil {
		err = s.traefik.Stop()
	}
	if s.plane != nil {
		err = errors.Join(err, s.plane.Stop())
	}
	if s.upstream != nil {
		s.upstream.Stop()
	}
	return errors.Join(err, os.RemoveAll(s.dir))
}

// applications is how many applications always hold a key; one more comes and
// goes with each edit.
const applications = 500

// manifests returns what the n-th edit leaves.
func manifests(n int64) string {
	const head = `apiVersion: hub.traefik.io/v1alpha1
kind: API
metadata: {name: api, namespace: soak}
---
apiVersion: hub.traefik.io/v1alpha1
kind: APIPlan
metadata: {name: plan, namespace: soak}
spec: {title: Soak, rateLimit: {limit: 100000, period: 1s}, quota: {limit: 100000000, period: 24h}}
---
apiVersion: hub.traefik.io/v1alpha1
kind: ManagedSubscription
metadata: {name: sub, namespace: soak}
spec: {apiPlan: {name: plan}, apis: [{name: api}], managedApplicationSelector: {}}
`
	text := head
	for i := range applications {
		text += application(fmt.Sprintf("key-%d", i))
	}
	return text + application(fmt.Sprintf("passing-%d", n))
}

func application(key string) string {
	return fmt.Sprintf(`---
apiVersion: hub.traefik.io/v1alpha1
kind: ManagedApplication
metadata: {name: %s, namespace: soak}
spec: {appId: %[1]s, owner: soak, apiKeys: [{title: only, value: "%s"}]}
`, key, stack.Digest(key))
}

// dynamic returns the n-th dynamic configuration. Each differs, so that Traefik
// makes all middlewares anew.
func (s *soak) dynamic(n int64) stack.Dynamic {
	routers := map[string]stack.Router{}
	for name, rule := range map[string]string{
		"soak":                         "PathPrefix(`/`)",
		fmt.Sprintf("passing-%d", n%7): fmt.Sprintf("PathPrefix(`/passing-%d`)", n),
	} {
		routers[name] = stack.Router{EntryPoints: []string{stack.Web}, Rule: rule, Middlewares: []string{"soak"}, Service: "soak"}
	}
	return stack.Dynamic{HTTP: stack.HTTP{
		Routers: routers,
		Middlewares: map[string]stack.Middleware{"soak": stack.Tollgate(stack.Config{
			API: "soak/api",
			Sync: stack.Sync{
				Endpoint: "http://" + s.address, Token: "soak", Interval: "1s", CacheFile: filepath.Join(s.dir, "table"),
			},
		})},
		Services: map[string]stack.Service{"soak": stack.UpstreamService(s.upstream.URL)},
	}}
}

// request sends requests until ctx ends: keys that are always valid, one that
// never is, and none. It fails if one is decided wrong.
func (s *soak) request(ctx context.Context) error {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		key, status := fmt.Sprintf("key-%d", n%applications), http.StatusOK
		switch n % 10 {
		case 8:
			key, status = fmt.Sprintf("unknown-%d", n), http.StatusUnauthorized
		case 9:
			key, status = "", http.StatusUnauthorized
		}
		if err := s.send(ctx, key, status); err != nil && ctx.Err() == nil {
			return fmt.Errorf("request %d: %w", n, err)
		}
		s.requests.Add(1)
	}
}

func (s *soak) send(ctx context.Context, key string, status int) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.traefik.URL+"/", nil)
	if err != nil {
		return err
	}
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != status {
		return fmt.Errorf("key %q: got status %d, want %d", key, resp.StatusCode, status)
	}
	return nil
}

// drive reloads, edits, kills and samples for a time.
func (s *soak) drive(ctx context.Context, duration time.Duration) error {
	begin := time.Now()
	deadline := time.NewTimer(duration)
	defer deadline.Stop()
	var tickers [4]*time.Ticker
	for i, every := range []time.Duration{reloadEvery, editEvery, killEvery, sampleEvery} {
		tickers[i] = time.NewTicker(every)
		defer tickers[i].Stop()
	}
	var back <-chan time.Time // of a control plane that was killed
	for {
		var err error
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-deadline.C:
			return nil
		case <-tickers[0].C:
			s.Reloads++
			err = s.traefik.Configure("soak", s.dynamic(s.Reloads))
		case <-tickers[1].C:
			s.Tables++
			err = s.plane.Apply("soak.yaml", manifests(s.Tables))
		case <-tickers[2].C:
			s.Kills++
			_ = s.plane.Kill() // It says that it was killed.
			back = time.After(away)
		case <-back:
			back, err = nil, s.startPlane(ctx)
		case <-tickers[3].C:
			err = s.sample(ctx, time.Since(begin))
		}
		if err != nil {
			return err
		}
	}
}

// sample notes what Traefik has now.
func (s *soak) sample(ctx context.Context, at time.Duration) error {
	now := Sample{Second: int(at.Seconds())}
	memory, err := s.traefik.Memory(ctx, true)
	if err != nil {
		return err
	}
	if now.Goroutines, err = s.traefik.Goroutines(ctx); err != nil {
		return err
	}
	resident, _, err := proc.Resident(s.traefik.PID())
	if err != nil {
		return err
	}
	now.HeapMB, now.ResidentMB = float64(memory.HeapAlloc)/(1<<20), float64(resident)/(1<<20)
	s.Samples = append(s.Samples, now)
	fmt.Printf("%5d s  %6.1f MB resident  %6.1f MB heap  %4d goroutines  %8d requests  %5d reloads  %4d tables  %3d kills\n",
		now.Second, now.ResidentMB, now.HeapMB, now.Goroutines, s.requests.Load(), s.Reloads, s.Tables, s.Kills)
	return nil
}

// What the last third may have more than the second one: what a run of requests,
// a reload under way or the collector's mood make. A leak of a kilobyte with each
// reload, or of one goroutine with each kill, is more.
const (
	moreHeapMB     = 2
	moreResident   = 1.1
	moreGoroutines = 5
)

// judge says whether memory and goroutines were flat.
func (s *soak) judge() error {
	third := len(s.Samples) / 3
	if third < 3 {
		return errors.New("too short to tell whether anything grows")
	}
	s.Second, s.Last = median(s.Samples[third:2*third]), median(s.Samples[len(s.Samples)-third:])
	fmt.Printf("second third: %.1f MB resident, %.1f MB heap, %d goroutines\n", s.Second.ResidentMB, s.Second.HeapMB, s.Second.Goroutines)
	fmt.Printf("last third:   %.1f MB resident, %.1f MB heap, %d goroutines\n", s.Last.ResidentMB, s.Last.HeapMB, s.Last.Goroutines)
	var grown []error
	if s.Last.HeapMB > s.Second.HeapMB+moreHeapMB {
		grown = append(grown, errors.New("the heap grows"))
	}
	if s.Last.ResidentMB > s.Second.ResidentMB*moreResident {
		grown = append(grown, errors.New("resident memory grows"))
	}
	if s.Last.Goroutines > s.Second.Goroutines+moreGoroutines {
		grown = append(grown, errors.New("the number of goroutines grows"))
	}
	return errors.Join(grown...)
}

// median returns the median of each number.
func median(samples []Sample) Sample {
	var resident, heap []float64
	var goroutines []int
	for _, s := range samples {
		resident, heap, goroutines = append(resident, s.ResidentMB), append(heap, s.HeapMB), append(goroutines, s.Goroutines)
	}
	slices.Sort(resident)
	slices.Sort(heap)
	slices.Sort(goroutines)
	middle := len(samples) / 2
	return Sample{Second: samples[middle].Second, ResidentMB: resident[middle], HeapMB: heap[middle], Goroutines: goroutines[middle]}
}
