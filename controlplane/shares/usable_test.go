package shares

import (
	"fmt"
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

// use is what part of a limit was admitted, and what part of that which one counter for
// all gateways would have admitted of the same requests.
type use struct {
	ofLimit, ofCentral float64
	reports            float64 // of a gateway in a second
}

// rateUse is steady for a rate limit, on average of some seeds: where a token comes a
// second, one run says little.
func rateUse(t *testing.T, r Rate, total float64, random bool, seeds int) use {
	t.Helper()
	var sum use
	limit := float64(r.Limit) / r.Period.Seconds()
	for seed := range uint64(seeds) {
		w := newWorld(&schedule{seed: seed + 1, controlplanes: 2, storeSpeed: 1, speeds: []float64{1, 1, 1}, plans: [][]edit{{{plan: plan{rate: &r}}}}})
		w.run(3 * second)
		b := w.buckets[0]
		b.central = &central{rate: r, tokens: float64(r.Burst), last: w.now}
		for i, part := range []float64{.8, .1, .1} {
			w.ask(w.gateways[i], b, limit*total*part, random)
		}
		w.run(w.now + 3300*millisecond)
		if r.Period > time.Second {
			// Until the burst is used up.
			w.run(w.now + 3*int64(r.Period))
		}
		during := int64(max(10, min(60, 600/limit), 100/limit)) * second
		admitted, central, reports := b.admitted, b.central.admitted, int64(0)
		for _, g := range w.gateways {
			reports -= g.reports
		}
		w.run(w.now + during)
		if w.failure != "" {
			t.Error(w.failure)
		}
		for _, g := range w.gateways {
			reports += g.reports
		}
		took := float64(during) / 1e9 * float64(seeds)
		sum.ofLimit += float64(b.admitted-admitted) / limit / took
		sum.ofCentral += float64(b.admitted-admitted) / float64(b.central.admitted-central) / float64(seeds)
		sum.reports += float64(reports) / float64(len(w.gateways)) / took
	}
	return sum
}

// TestRateLimitsAreUsed checks the table of docs/limits.md, and with -v writes it: a row
// has the least of four demands, at even distances and at random.
func TestRateLimitsAreUsed(t *testing.T) {
	for _, test := range []struct {
		Rate
		// What part of the limit is admitted at least at even distances and at random,
		// when it is asked for once, and when more is asked for; and the same of what
		// one counter would admit, at random.
		even, evenMore, random, randomMore, central, centralMore float64
	}{
		{Rate{1000, 1000, time.Second}, .98, .98, .98, .97, .98, .97},
		{Rate{100, 100, time.Second}, .98, .98, .95, .95, .95, .95},
		{Rate{50, 50, time.Second}, .98, .98, .94, .98, .95, .98},
		{Rate{20, 20, time.Second}, .98, .98, .91, .98, .93, .98},
		{Rate{10, 10, time.Second}, .95, .98, .86, .97, .90, .97},
		{Rate{5, 5, time.Second}, .94, .97, .72, .87, .80, .87},
		{Rate{2, 2, time.Second}, .4, .55, .38, .5, .5, .6},
		{Rate{1, 1, time.Second}, .35, .55, .3, .4, .6, .65},
		{Rate{10, 30, time.Second}, .97, .97, .94, .97, .9, .9},
		{Rate{5, 10, time.Second}, .97, .97, .86, .97, .9, .97},
		{Rate{20, 5, time.Second}, .75, .68, .55, .58, .6, .58},
		{Rate{100, 100, time.Minute}, .98, .98, .9, .97, .95, .97},
		{Rate{60, 60, time.Minute}, .98, .98, .93, .97, .93, .97},
		{Rate{10, 10, time.Minute}, .98, .98, .88, .97, .95, .97},
	} {
		name := fmt.Sprintf("%d in %v, burst %d", test.Limit, test.Period, test.Burst)
		seeds := 5
		if test.Limit == 1000 {
			seeds = 1
		}
		var row string
		for _, random := range []bool{false, true} {
			least := use{1, 1, 0}
			for _, total := range []float64{1, 1.5, 2, 4} {
				got := rateUse(t, test.Rate, total, random, seeds)
				least = use{min(least.ofLimit, got.ofLimit), min(least.ofCentral, got.ofCentral), max(least.reports, got.reports)}
				row += fmt.Sprintf(" %.3f (%.3f)", got.ofLimit, got.ofCentral)
				want := use{ofLimit: test.evenMore}
				switch {
				case random && total > 1:
					want = use{ofLimit: test.randomMore, ofCentral: test.centralMore}
				case random:
					want = use{ofLimit: test.random, ofCentral: test.central}
				case total == 1:
					want = use{ofLimit: test.even}
				}
				if got.ofLimit < want.ofLimit || got.ofCentral < want.ofCentral {
					t.Errorf("%s, demand %g, at random %v: %.3f of it is used, want %.2f; %.3f of what one counter would admit, want %.2f",
						name, total, random, got.ofLimit, want.ofLimit, got.ofCentral, want.ofCentral)
				}
				// Who waits for tokens asks a few times a second, and no more often.
				if got.reports > 5.5 {
					t.Errorf("%s, demand %g, at random %v: %.1f reports a second of a gateway", name, total, random, got.reports)
				}
			}
			row += fmt.Sprintf(" | %.3f (%.3f), %.1f reports |", least.ofLimit, least.ofCentral, least.reports)
		}
		t.Logf("%s: %s", name, row)
	}
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
