package shares

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

var (
	seed      = flag.Uint64("seed", 20261121, "seed of the first of the generated schedules")
	schedules = flag.Int("schedules", 0, "how many schedules are simulated; 0 is 250, or 40 with the race detector")
)

// schedule is what happens in a world: by its seed, and by a list that can be made
// shorter.
type schedule struct {
	seed          uint64
	controlplanes int
	storeSpeed    float64
	speeds        []float64 // of gateways' clocks
	plans         [][]edit  // by bucket
	faults        []fault
	until         int64
}

// fault is something that begins at a time.
type fault struct {
	at   int64
	name string
	do   func(w *world)
}

// newSchedule draws a schedule.
func newSchedule(seed uint64) *schedule {
	random := rand.New(rand.NewPCG(seed, 1))
	s := &schedule{seed: seed, controlplanes: 1 + random.IntN(3), storeSpeed: 1, until: (30 + random.Int64N(40)) * second}
	drift := random.IntN(2) == 0
	speed := func() float64 {
		if drift {
			return 0.99 + 0.02*random.Float64()
		}
		return 1
	}
	s.storeSpeed = speed()
	for range 2 + random.IntN(4) {
		s.speeds = append(s.speeds, speed())
	}
	// In some all gateways want more than there is, all the time.
	busy := random.IntN(3) == 0
	for i := range 2 {
		edits := []edit{{plan: drawPlan(random, i, busy)}}
		for random.IntN(4) == 0 || busy && random.IntN(4) < 2 {
			edits = append(edits, edit{plan: drawPlan(random, i, busy), at: random.Int64N(s.until)})
		}
		slices.SortFunc(edits, func(a, b edit) int { return int(a.at - b.at) })
		s.plans = append(s.plans, edits)
	}
	long := random.IntN(10) == 0
	for i := range 4 + random.IntN(20) {
		s.faults = append(s.faults, drawFault(random, s, long && i == 0))
	}
	for i := range s.speeds {
		for j := range s.plans {
			if busy {
				s.faults = append(s.faults, drawDemand(random, s, i, j, 3))
				s.faults[len(s.faults)-1].at = 0
				continue
			}
			for range 1 + random.IntN(4) {
				s.faults = append(s.faults, drawDemand(random, s, i, j, pick(random, 0, 0.05, 0.3, 1, 3)))
			}
		}
	}
	slices.SortFunc(s.faults, func(a, b fault) int { return int(a.at - b.at) })
	return s
}

func pick[T any](random *rand.Rand, from ...T) T {
	return from[random.IntN(len(from))]
}

func drawPlan(random *rand.Rand, kind int, busy bool) plan {
	if kind == 0 {
		return plan{quota: &Quota{
			Limit:  pick[int64](random, 0, 1, 2, 5, 30, 100, 150, 250, 400),
			Period: pick(random, 2*time.Second, 10*time.Second, 20*time.Second, 45*time.Second),
		}}
	}
	limit := pick[int64](random, 1, 2, 5, 10, 20, 40)
	if busy {
		limit = pick[int64](random, 10, 20, 40)
	}
	return plan{rate: &Rate{
		Limit:  limit,
		Burst:  pick(random, 1, 2, limit, limit, 2*limit, 3*limit),
		Period: pick(random, time.Second, time.Second, 4*time.Second),
	}}
}

// drawDemand draws how many requests come to a gateway from some time on.
func drawDemand(random *rand.Rand, s *schedule, g, b int, factor float64) fault {
	p := s.plans[b][0]
	var usual float64
	if p.quota != nil {
		usual = float64(p.quota.Limit) / p.quota.Period.Seconds()
	} else {
		usual = float64(p.rate.Limit) / p.rate.Period.Seconds()
	}
	rate := min(15, max(0.3, usual)*factor)
	steady := random.IntN(2) == 0
	return fault{random.Int64N(s.until), fmt.Sprintf("gateway %d gets %.2f requests a second for bucket %d", g, rate, b), func(w *world) {
		w.ask(w.gateways[g], w.buckets[b], rate, !steady)
	}}
}

// drawFault draws something that goes wrong, and is mended after a while.
func drawFault(random *rand.Rand, s *schedule, long bool) fault {
	at, lasts := random.Int64N(s.until), random.Int64N(8*second)
	if random.IntN(4) == 0 {
		lasts = random.Int64N(25 * second)
	}
	g, c := random.IntN(len(s.speeds)), random.IntN(s.controlplanes)
	if long {
		at, lasts = random.Int64N(s.until/2), int64(TenureLife)+random.Int64N(30*second)
		s.until += lasts
	}
	name := func(format string, args ...any) string {
		return fmt.Sprintf(format, args...) + fmt.Sprintf(" for %.3f s", float64(lasts)/1e9)
	}
	kind := random.IntN(11)
	if long {
		kind = 3
	}
	switch kind {
	case 0, 1:
		return fault{at, name("gateway %d is killed", g), func(w *world) {
			w.gateways[g].crash()
			life := w.gateways[g].life
			w.after(lasts, func() {
				if w.gateways[g].life == life {
					w.gateways[g].start()
				}
			})
		}}
	case 2:
		return fault{at, name("control plane %d is killed", c), func(w *world) {
			w.controlplanes[c].up = false
			w.controlplanes[c].life++
			w.after(lasts, func() { w.controlplanes[c].up = true })
		}}
	case 3:
		return fault{at, name("gateway %d is cut off", g), func(w *world) {
			w.gateways[g].cut = true
			w.after(lasts, func() { w.gateways[g].cut = false })
		}}
	case 10:
		late := random.Int64N(int64(Life))
		lasts = (16 + random.Int64N(10)) * second
		return fault{at, name("answers to gateway %d take %.3f s, and after two seconds it is cut off", g, float64(late)/1e9), func(w *world) {
			w.gateways[g].late = late
			w.after(2*second, func() { w.gateways[g].late, w.gateways[g].cut = 0, true })
			w.after(2*second+lasts, func() { w.gateways[g].cut = false })
		}}
	case 4:
		return fault{at, name("the store is down"), func(w *world) {
			w.store.down = true
			w.after(lasts, func() { w.store.down = false })
		}}
	case 5:
		slow := random.Int64N(3 * second)
		return fault{at, name("the store takes %.3f s", float64(slow)/1e9), func(w *world) {
			w.store.slow = slow
			w.after(lasts, func() { w.store.slow = 0 })
		}}
	case 6:
		loss, twice, delays := random.Float64()*0.6, random.Float64()*0.6, random.Int64N(20*second)
		return fault{at, name("messages are lost (%.2f), come twice (%.2f), and late (%.1f s)", loss, twice, float64(delays)/1e9), func(w *world) {
			w.loss, w.twice, w.delays = loss, twice, delays
			w.after(lasts, w.usual)
		}}
	case 7, 8:
		mishap := random.Float64() * 0.5
		return fault{at, name("control planes die at a request (%.2f)", mishap), func(w *world) {
			w.mishap = mishap
			w.after(lasts, w.usual)
		}}
	}
	// Together no more than the margin bears.
	step := random.Int64N(second/5) - second/10
	return fault{at, fmt.Sprintf("the store's clock is set by %.3f s", float64(step)/1e9), func(w *world) {
		if w.store.stepped+max(step, -step) <= second/2 {
			w.store.clock()
			w.store.step += step
			w.store.stepped += max(step, -step)
		}
	}}
}

// usual is how things are when nothing in particular is wrong with them.
func (w *world) usual() {
	w.loss, w.twice, w.mishap, w.delays = 0.01, 0.05, 0.01, 0
	if w.healed {
		w.loss, w.twice, w.mishap = 0, 0, 0
	}
}

// run runs a schedule, with something broken on purpose or not, until something goes
// wrong or everything has happened.
func (s *schedule) run(broken string) *world {
	w := newWorld(s)
	w.broken = broken
	w.usual()
	for _, f := range s.faults {
		w.events.push(event{f.at, w.number, func() { f.do(w) }})
		w.number++
	}
	w.run(s.until)
	return w
}

// check runs a schedule, and then checks that all is well again.
func (s *schedule) check() *world {
	w := s.run("")
	w.recover()
	return w
}

// shorten takes out of a schedule what it fails without.
func (s *schedule) shorten() *schedule {
	for size := (len(s.faults) + 1) / 2; size > 0; size /= 2 {
		for at := 0; at < len(s.faults); {
			shorter := *s
			shorter.faults = slices.Delete(slices.Clone(s.faults), at, min(at+size, len(s.faults)))
			if shorter.check().failure != "" {
				s = &shorter
			} else {
				at += size
			}
		}
	}
	return s
}

// recover ends all faults, and checks that what the plans allow can be used: 95 % of it
// within three reports, whatever has happened before, and what one gateway leaves by
// another within two.
func (w *world) recover() {
	if w.failure != "" {
		return
	}
	w.healed = true
	w.usual()
	w.store.down, w.store.slow = false, 0
	for _, c := range w.controlplanes {
		c.up = true
	}
	for _, g := range w.gateways {
		g.cut, g.late = false, 0
		if !g.up {
			g.start()
		}
		for _, b := range w.buckets {
			w.ask(g, b, 0, false)
		}
	}
	quota, rate := Quota{600, 30 * time.Second}, Rate{100, 100, time.Second}
	w.buckets[0].edits = append(w.buckets[0].edits, edit{plan{quota: &quota}, w.now})
	w.buckets[1].edits = append(w.buckets[1].edits, edit{plan{rate: &rate}, w.now})
	// Shares end, and the window passes.
	w.run(w.now + 100*second)

	demand := func(parts ...float64) {
		for i, part := range parts[:min(len(parts), len(w.gateways))] {
			w.ask(w.gateways[i], w.buckets[0], 60*part, false)
			w.ask(w.gateways[i], w.buckets[1], 150*part, false)
		}
	}
	// A gateway's clock that is slow makes fewer tokens than the store's thinks.
	enough := 0.95 * w.slowest
	const reports = 1200 * millisecond // one, with jitter and the way there and back
	admitted := func(b *bucket, during int64) float64 {
		before := b.admitted
		w.run(w.now + during)
		return float64(b.admitted - before)
	}
	before := w.buckets[0].admitted
	demand(.8, .1, .1)
	w.run(w.now + 3*reports)
	if got := admitted(w.buckets[1], 5*second); got < 0.95*500 {
		w.fail("%g of 500 requests of a rate limit were admitted, after three reports", got)
	}
	// One that was idle gets what the busiest had.
	demand(0, .8, .1)
	w.run(w.now + 3*reports)
	if got := admitted(w.buckets[1], 5*second); got < enough*500 && len(w.gateways) > 1 {
		w.fail("%g of 500 requests of a rate limit were admitted, after it went to another gateway", got)
	}
	w.run(w.now + 5*second)
	if got := w.buckets[0].admitted - before; float64(got) < enough*600 {
		w.fail("%d of 600 requests of a quota were admitted", got)
	}
}

func TestSchedules(t *testing.T) {
	count := *schedules
	if count == 0 {
		count = usualSchedules
	}
	admitted := [2]int{}
	full := [2]int{}
	for i := range count {
		s := newSchedule(*seed + uint64(i))
		w := s.check()
		if w.failure != "" {
			short := s.shorten()
			t.Fatalf("%s\nshortened: %s\n%v\nagain: go test ./shares -run TestSchedules -schedules 1 -seed %d", w.failure, short.check().failure, short, s.seed)
		}
		for kind, b := range w.buckets {
			admitted[kind] += b.admitted
			if b.worst > 0.9 {
				full[kind]++
			}
		}
	}
	t.Logf("admitted %d, in so many schedules more than 90 %% of what may be: %d", admitted, full)
	for kind := range full {
		if full[kind] < count/10 {
			t.Errorf("%d of %d schedules came near to the limit of bucket %d: they show nothing", full[kind], count, kind)
		}
	}
}
