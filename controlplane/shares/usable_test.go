package shares

import (
	"testing"
	"time"
)

// steady returns what part of a limit is admitted during some time, after three
// reports of three gateways whose demand is skewed 8:1:1 and in all `total` times what
// the limit allows.
func steady(t *testing.T, p plan, total float64, random bool, during int64) float64 {
	t.Helper()
	w := newWorld(&schedule{seed: 1, controlplanes: 2, storeSpeed: 1, speeds: []float64{1, 1, 1}, plans: [][]edit{{{plan: p}}}})
	w.run(3 * second)
	b := w.buckets[0]
	var limit float64
	if p.rate != nil {
		limit = float64(p.rate.Limit) / p.rate.Period.Seconds()
	} else {
		limit = float64(p.quota.Limit) / p.quota.Period.Seconds()
	}
	for i, part := range []float64{.8, .1, .1} {
		w.ask(w.gateways[i], b, limit*total*part, random)
	}
	if p.rate != nil {
		w.run(w.now + 3300*millisecond)
	}
	before := b.admitted
	w.run(w.now + during)
	if w.failure != "" {
		t.Error(w.failure)
	}
	return float64(b.admitted-before) / (limit * float64(during) / 1e9)
}

// What docs/limits.md says of the use of limits.
func TestSteadyDemandIsServed(t *testing.T) {
	for _, test := range []struct {
		limit, burst int64
		random       bool
		total        float64
		want         float64
	}{
		{20, 20, false, 2, 0.80},
		{50, 50, false, 1, 0.95},
		{50, 50, false, 2, 0.95},
		{50, 50, false, 4, 0.95},
		{100, 100, false, 1, 0.95},
		{100, 100, false, 1.5, 0.95},
		{100, 100, true, 1, 0.95},
		{100, 100, true, 1.5, 0.95},
		{100, 100, true, 4, 0.95},
		{1000, 1000, false, 1, 0.95},
		{1000, 1000, true, 1.5, 0.95},
		{10, 30, false, 1.5, 0.95},
		{10, 10, false, 1, 0.90},
		{5, 5, false, 1.5, 0.50},
		{2, 2, false, 1.5, 0.35},
		{1, 1, false, 1.5, 0.30},
	} {
		p := plan{rate: &Rate{Limit: test.limit, Burst: test.burst, Period: time.Second}}
		got := steady(t, p, test.total, test.random, 30*second)
		if got < test.want {
			t.Errorf("%v, demand %g, at random %v: %.3f of it is used, want %.2f", p, test.total, test.random, got, test.want)
		}
	}
	for _, test := range []struct {
		limit  int64
		period time.Duration
		want   float64
	}{
		{5, time.Hour, 0.999},
		{30, time.Hour, 0.999},
		{1000, time.Hour, 0.968},
		{100_000, time.Hour, 0.98},
	} {
		p := plan{quota: &Quota{Limit: test.limit, Period: test.period}}
		// Twice the limit is asked for in a minute.
		minutes := test.period.Minutes()
		got := steady(t, p, 2*minutes, false, int64(time.Minute)) / minutes
		if got < test.want {
			t.Errorf("%v: %.3f of it is used, want %.3f", p, got, test.want)
		}
	}
}

// The first requests that come to a new gateway pass, though it has no units yet.
func TestFirstRequestPasses(t *testing.T) {
	for _, p := range []plan{
		{quota: &Quota{96, time.Hour}},
		{quota: &Quota{10_000, 750 * time.Hour}},
		{rate: &Rate{10, 10, time.Second}},
		{rate: &Rate{1000, 1000, time.Hour}},
	} {
		w := newWorld(&schedule{seed: 1, controlplanes: 1, storeSpeed: 1, speeds: []float64{1, 1, 1}, plans: [][]edit{{{plan: p}}}})
		w.run(3 * second)
		for i, g := range w.gateways {
			g.request(w.buckets[0])
			if w.buckets[0].admitted != i+1 {
				t.Errorf("%v: the first request to gateway %d was refused", p, i)
			}
		}
	}
}

// A client that asks now and then is never refused for lack of a share.
func TestRareRequestsPass(t *testing.T) {
	for _, p := range []plan{
		{quota: &Quota{1000, time.Hour}},
		{rate: &Rate{10, 10, time.Second}},
		{rate: &Rate{60, 60, time.Minute}},
	} {
		w := newWorld(&schedule{seed: 1, controlplanes: 2, storeSpeed: 1, speeds: []float64{1, 1, 1}, plans: [][]edit{{{plan: p}}}})
		w.run(3 * second)
		for i := range 30 {
			w.gateways[i%3].request(w.buckets[0])
			w.run(w.now + 7*second)
			if w.buckets[0].admitted != i+1 {
				t.Fatalf("%v: request %d was refused", p, i)
			}
		}
	}
	// Without standing credit a gateway holds a spare unit for a minute.
	p := plan{rate: &Rate{1, 1, time.Second}}
	w := newWorld(&schedule{seed: 1, controlplanes: 2, storeSpeed: 1, speeds: []float64{1, 1}, plans: [][]edit{{{plan: p}}}})
	w.run(3 * second)
	w.gateways[0].request(w.buckets[0])
	for i := range 10 {
		w.run(w.now + 7*second)
		w.gateways[0].request(w.buckets[0])
		if w.buckets[0].admitted != i+1 {
			t.Fatalf("%v: request %d was refused", p, i)
		}
	}
}
