package sharing

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/tollgate-apim/tollgate/controlplane/store"
	"github.com/tollgate-apim/tollgate/controlplane/store/redistest"
	"github.com/tollgate-apim/tollgate/holding"
	"github.com/tollgate-apim/tollgate/table"
	"github.com/tollgate-apim/tollgate/usage"
)

var (
	seed      = flag.Uint64("seed", 0, "run the schedule of one seed alone")
	schedules = flag.Uint64("schedules", usualSchedules, "how many schedules are run")
)

const (
	tick = 10 * time.Millisecond
	// trouble is for how long everything may fail, and calm how long it is waited
	// afterwards until all is settled: longer than shares last.
	trouble = 40 * time.Second
	calm    = 40 * time.Second
)

// TestSchedules lets gateways, with the code that they have, share limits by reports to
// two control planes, while anything may fail: reports and answers are lost, come twice
// and late, gateways are killed, the store is not there or does not say what it has
// done. No request may pass that the plan does not allow. In the end nearly all that it
// allows must pass.
func TestSchedules(t *testing.T) {
	first, last := uint64(1), *schedules
	if *seed != 0 {
		first, last = *seed, *seed
	}
	for n := first; n <= last; n++ {
		c := &clock{start}
		newWorld(t, n, c, store.NewMemory(c.now), store.NewMemory(c.now)).run()
	}
}

// TestSchedulesTogether is TestSchedules with rounds of several reports.
func TestSchedulesTogether(t *testing.T) {
	first, last := uint64(1), *schedules/2
	if *seed != 0 {
		first, last = *seed, *seed
	}
	for n := first; n <= last; n++ {
		c := &clock{start}
		w := newWorld(t, n, c, store.NewMemory(c.now), store.NewMemory(c.now))
		w.together = true
		w.run()
	}
}

// TestUsable has three gateways with a steady demand of which one has most: after three
// reports they use nearly all of a rate limit, and in the end of a quota.
func TestUsable(t *testing.T) {
	c := &clock{start}
	w := newWorld(t, 1, c, store.NewMemory(c.now), nil)
	w.healed = true
	w.buckets[2].row.Quota = &table.Quota{Limit: 5000, Period: "1h"}
	w.buckets[2].period = time.Hour
	plans := map[string]table.Plan{"apps/fast": w.buckets[0].row, "apps/quota": w.buckets[2].row}
	for _, s := range w.sharings {
		s.UsePlans(plans)
	}
	for i, part := range []float64{.8, .1, .1} {
		w.gateways[i].demand[0], w.gateways[i].demand[2] = 150*part, 100*part
	}
	w.runFor(3300 * time.Millisecond)
	before := w.admitted()
	w.runFor(10 * time.Second)
	if got := w.admitted()[0] - before[0]; got < 950 {
		t.Errorf("after three reports %d of 1000 requests pass", got)
	}
	if got := w.admitted()[2] - before[2]; got < 950 {
		t.Errorf("after three reports %d requests pass of 1000 that the quota has room for", got)
	}
	w.runFor(time.Minute)
	if got := w.admitted()[2]; got < 4750 {
		t.Errorf("%d requests pass in all, of a quota of 5000", got)
	}
}

// timed is a store in which it is the time of a test.
type timed struct {
	store.Store
	clock *clock
}

func (s timed) Get(ctx context.Context, keys ...string) ([]store.Value, time.Time, error) {
	values, _, err := s.Store.Get(ctx, keys...)
	return values, s.clock.Time, err
}

func (s timed) GetChanged(ctx context.Context, known ...store.Known) ([]store.Value, time.Time, error) {
	values, _, err := s.Store.GetChanged(ctx, known...)
	return values, s.clock.Time, err
}

// TestSchedulesOnRedis has each control plane use a Redis by its own connections.
func TestSchedulesOnRedis(t *testing.T) {
	address := "redis://" + redistest.Start(t).Address
	for n := range uint64(usualSchedules/20 + 1) {
		if *seed != 0 {
			n = *seed
		}
		c := &clock{start}
		var stores []store.Store
		for range 2 {
			s := openStore(t, fmt.Sprintf("%s?prefix=schedule%d", address, n))
			stores = append(stores, timed{s, c})
		}
		newWorld(t, n, c, stores...).run()
	}
}

// openStore returns the store at an address, which is closed when the test ends.
func openStore(t testing.TB, address string) store.Store {
	t.Helper()
	a, err := store.ParseAddress(address)
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(a, store.Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// world is what happens in a schedule.
type world struct {
	t        *testing.T
	seed     uint64
	random   *rand.Rand
	clock    *clock
	sharings []*Sharing
	gateways []*gateway
	buckets  []*testBucket
	late     []late
	together bool         // some reports wait for a round with others
	waiting  [2][]waiting // for the next round of each control plane
	lives    int
	healed   bool
}

// waiting is a report that is settled with others.
type waiting struct {
	data  []byte
	reply func(answer []byte)
}

// late is what happens at a time.
type late struct {
	at time.Time
	do func()
}

// testBucket is a limit and what has passed.
type testBucket struct {
	name, plan string
	row        table.Plan
	period     time.Duration

	admitted int
	log      []time.Time // of a quota: what is in the window
	level    float64     // of a rate limit: what is missing in its bucket
	last     time.Time
}

// gateway is one Traefik.
type gateway struct {
	w        *world
	life     int
	holdings *holding.Store
	instance string
	sequence int64
	report   []byte // that has no answer
	sentAt   time.Time
	tries    int
	next     time.Time
	hurry    bool
	demand   []float64 // requests a second for each bucket
	due      []float64
}

// newWorld returns a world whose control planes use stores: the same, where there is
// but one memory.
func newWorld(t *testing.T, seed uint64, c *clock, stores ...store.Store) *world {
	w := &world{t: t, seed: seed, random: rand.New(rand.NewPCG(seed, 7)), clock: c}
	if _, ok := stores[0].(*store.Memory); ok {
		stores[1] = stores[0]
	}
	w.buckets = []*testBucket{
		{name: "fast", plan: "apps/fast", row: table.Plan{RateLimit: &table.RateLimit{Limit: 100, Period: "1s"}}, period: time.Second},
		{name: "slow", plan: "apps/slow", row: table.Plan{RateLimit: &table.RateLimit{Limit: 60, Period: "1m", Burst: 12}}, period: time.Minute},
		{name: "quota", plan: "apps/quota", row: table.Plan{Quota: &table.Quota{Limit: 600, Period: "20s"}}, period: 20 * time.Second},
		{name: "small", plan: "apps/small", row: table.Plan{Quota: &table.Quota{Limit: 7, Period: "5s"}}, period: 5 * time.Second},
	}
	plans := map[string]table.Plan{}
	for _, b := range w.buckets {
		plans[b.plan] = b.row
	}
	for _, s := range stores {
		f := &faulty{Store: s}
		f.get = func() error { return w.fails(40) }
		f.swap = func() error { return w.fails(20) }
		f.after = func() error { return w.fails(20) }
		f.between = func() {
			if w.chance(10) && !w.healed {
				// Another control plane is faster.
				w.deliver(w.gateways[w.random.IntN(len(w.gateways))], w.sharings[w.random.IntN(len(w.sharings))])
			}
		}
		sharing := New(Options{Store: f, Log: slog.New(slog.DiscardHandler), Now: c.now})
		sharing.pause = func(context.Context, time.Duration) {}
		sharing.UsePlans(plans)
		w.sharings = append(w.sharings, sharing)
	}
	for range 3 {
		w.gateways = append(w.gateways, w.newGateway())
	}
	return w
}

func (w *world) newGateway() *gateway {
	g := &gateway{w: w, demand: make([]float64, len(w.buckets)), due: make([]float64, len(w.buckets))}
	g.begin()
	return g
}

// begin starts another life of a gateway.
func (g *gateway) begin() {
	w := g.w
	w.lives++
	g.life, g.sequence, g.report = w.lives, 0, nil
	g.instance = instance(int(w.seed)<<16 | w.lives)
	g.holdings = holding.NewStore(100, func() { g.hurry = true })
	g.next = w.clock.Time
}

// chance is true once in n times.
func (w *world) chance(n int) bool { return w.random.IntN(n) == 0 }

func (w *world) fails(n int) error {
	if !w.healed && w.chance(n) {
		return errAway
	}
	return nil
}

func (w *world) run() {
	w.t.Helper()
	for w.clock.Before(start.Add(trouble)) {
		if w.chance(100) { // once a second
			g := w.gateways[w.random.IntN(3)]
			for i := range g.demand {
				g.demand[i] = []float64{0, 0, 1, 10, 100, 300}[w.random.IntN(6)]
			}
		}
		if w.chance(1000) {
			w.gateways[w.random.IntN(3)].begin()
		}
		w.step()
	}
	w.healed = true
	total := []float64{150, 1.5, 45, 2.1}
	for i, part := range []float64{.8, .1, .1} {
		for b := range w.buckets {
			w.gateways[i].demand[b] = part * total[b]
		}
	}
	w.runFor(calm)
	minutes := 1
	if w.together {
		minutes = 3 // What a minute comes to varies more between so many schedules.
	}
	// Less than 95 % of those of which a second makes much: where there is a request a
	// second for three gateways, and in short windows.
	before := w.admitted()
	w.runFor(time.Duration(minutes) * time.Minute)
	after := w.admitted()
	for i, least := range []int{5700, 20, 1440, 40} {
		if got := (after[i] - before[i]) / minutes; got < least {
			w.t.Fatalf("seed %d: %s: in the end %d requests pass in a minute, want at least %d", w.seed, w.buckets[i].name, got, least)
		}
	}
}

func (w *world) runFor(d time.Duration) {
	for end := w.clock.Add(d); w.clock.Before(end); {
		w.step()
	}
}

func (w *world) admitted() []int {
	counts := make([]int, len(w.buckets))
	for i, b := range w.buckets {
		counts[i] = b.admitted
	}
	return counts
}

// step lets a tick pass.
func (w *world) step() {
	w.clock.pass(tick)
	due := w.late[:0:0]
	waiting := w.late
	w.late = nil
	for _, l := range waiting {
		if l.at.After(w.clock.Time) {
			w.late = append(w.late, l)
		} else {
			due = append(due, l)
		}
	}
	for _, l := range due {
		l.do()
	}
	if w.clock.UnixMilli()%200 == 0 {
		for i := range w.waiting {
			w.round(i)
		}
	}
	for _, g := range w.gateways {
		g.step()
	}
}

func (g *gateway) now() int64 { return g.w.clock.Sub(start).Nanoseconds() }

func (g *gateway) step() {
	for i, b := range g.w.buckets {
		for g.due[i] += g.demand[i] * tick.Seconds(); g.due[i] >= 1; g.due[i]-- {
			g.request(b)
		}
	}
	switch now := g.w.clock.Time; {
	case g.report != nil && now.Sub(g.sentAt) >= 1500*time.Millisecond:
		if g.tries++; g.tries > 3 {
			g.report = nil
			g.holdings.Answer(nil, 0, g.now())
			return
		}
		g.send()
	case g.report == nil && (!now.Before(g.next) || g.hurry && now.Sub(g.sentAt) >= 100*time.Millisecond):
		g.tell()
	}
}

// request is one of a client's.
func (g *gateway) request(b *testBucket) {
	var a *holding.Allowance
	plan := holding.Plan{Name: b.plan}
	if r := b.row.RateLimit; r != nil {
		burst := max(r.Burst, 1)
		if r.Burst == 0 {
			burst = r.Limit
		}
		plan.Reserve, plan.Horizon = holding.RateReserve(r.Limit, burst, b.period)
		a = holding.NewAllowance(g.holdings, g.holdings.Get(usage.KindRate, b.name, plan, g.now()), nil)
	} else {
		plan.Reserve, plan.Horizon = holding.QuotaReserve(b.row.Quota.Limit, b.period)
		a = holding.NewAllowance(g.holdings, nil, g.holdings.Get(usage.KindQuota, b.name, plan, g.now()))
	}
	if d := holding.Take(a, g.now()); d.Refusal == "" {
		b.admit(g.w)
	}
}

// admit logs a request that has passed, and fails if it may not have passed.
func (b *testBucket) admit(w *world) {
	w.t.Helper()
	b.admitted++
	now := w.clock.Time
	if q := b.row.Quota; q != nil {
		b.log = append(b.log, now)
		for now.Sub(b.log[0]) >= b.period {
			b.log = b.log[1:]
		}
		if int64(len(b.log)) > q.Limit {
			w.t.Fatalf("seed %d: %s after %s: %d requests in %s, where the plan allows %d", w.seed, b.name, now.Sub(start), len(b.log), b.period, q.Limit)
		}
		return
	}
	r := b.row.RateLimit
	burst := float64(max(r.Burst, 1))
	if r.Burst == 0 {
		burst = float64(r.Limit)
	}
	b.level = max(0, b.level-now.Sub(b.last).Seconds()*float64(r.Limit)/b.period.Seconds()) + 1
	b.last = now
	if b.level > burst+1e-6 {
		w.t.Fatalf("seed %d: %s after %s: %.3f requests more than the rate, where the burst is %g", w.seed, b.name, now.Sub(start), b.level, burst)
	}
}

// tell makes a report and sends it.
func (g *gateway) tell() {
	g.sequence++
	g.hurry = false
	tenure, entries := g.holdings.Report(g.now())
	data, err := json.Marshal(usage.Report{Instance: g.instance, Sequence: g.sequence, Sharing: true, Tenure: tenure, Entries: entries})
	if err != nil {
		g.w.t.Fatal(err)
	}
	g.report, g.tries = data, 1
	g.send()
}

// send sends the report to one of the control planes. It may be lost, come twice, and
// much later once more; the answer may be lost, or late.
func (g *gateway) send() {
	w := g.w
	g.sentAt = w.clock.Time
	g.next = g.sentAt.Add(900*time.Millisecond + time.Duration(w.random.IntN(200))*time.Millisecond)
	place := w.random.IntN(len(w.sharings))
	s := w.sharings[place]
	data, life, sentAt := g.report, g.life, g.sentAt
	if w.fails(10) != nil {
		w.later(w.random.IntN(20_000), func() { w.settle(s, data) })
		return
	}
	reply := func(answer []byte) {
		if w.fails(10) != nil {
			return
		}
		wait := 10 + w.random.IntN(20)
		if w.fails(10) != nil {
			wait = w.random.IntN(3000)
		}
		w.later(wait, func() {
			if g.life == life && string(g.report) == string(data) {
				g.take(answer, sentAt)
			}
		})
	}
	if w.together && !w.healed && w.chance(2) {
		w.waiting[place] = append(w.waiting[place], waiting{data, reply})
		return
	}
	reply(w.settle(s, data))
}

// round has a control plane settle the reports that wait there.
func (w *world) round(place int) {
	s, reports := w.sharings[place], w.waiting[place]
	w.waiting[place] = nil
	var jobs []*job
	for _, r := range reports {
		jobs = append(jobs, w.job(r.data))
	}
	s.leading = true
	s.round(w.t.Context(), jobs)
	s.leading = false
	for i, r := range reports {
		r.reply(w.answer(jobs[i]))
	}
	w.checkKept(s)
}

// job returns that of a report.
func (w *world) job(data []byte) *job {
	j := &job{}
	var err error
	if j.report, err = usage.Decode(data); err != nil {
		w.t.Fatal(err)
	}
	if err := parseInstance(j.report.Instance, &j.instance); err != nil {
		w.t.Fatal(err)
	}
	return j
}

func (w *world) answer(j *job) []byte {
	answer, err := json.Marshal(usage.Answer{Sequence: j.report.Sequence, Next: 1, Tenure: j.told, Shares: j.shares})
	if err != nil {
		w.t.Fatal(err)
	}
	return answer
}

// checkKept looks whether what a control plane keeps of a version is what the store has.
func (w *world) checkKept(s *Sharing) {
	f, ok := s.store.(*faulty)
	if !ok {
		return
	}
	for key, element := range s.kept.by {
		values, _, err := f.Store.Get(w.t.Context(), key)
		if err != nil {
			w.t.Fatal(err)
		}
		r := keptOf(element)
		if r.version != values[0].Version {
			continue
		}
		data := r.record.encode()
		if string(data) != string(values[0].Data) {
			w.t.Fatalf("seed %d: %s is kept as %s, and stored as %s", w.seed, key, data, values[0].Data)
		}
	}
}

// later does something so many milliseconds later.
func (w *world) later(milliseconds int, do func()) {
	w.late = append(w.late, late{w.clock.Add(time.Duration(milliseconds) * time.Millisecond), do})
}

// deliver has a gateway's open report arrive somewhere besides, of which the answer is
// lost.
func (w *world) deliver(g *gateway, s *Sharing) {
	if g.report != nil && !s.leading {
		w.settle(s, g.report)
	}
}

// settle is what a control plane does with a report: it returns the answer.
func (w *world) settle(s *Sharing, data []byte) []byte {
	r, err := usage.Decode(data)
	if err != nil {
		w.t.Fatal(err)
	}
	if s.leading {
		// It is already in the midst of another: this one is lost.
		return nil
	}
	tenure, shares, _ := s.Settle(w.t.Context(), r)
	return w.answer(&job{report: r, told: tenure, shares: shares})
}

// take takes in the answer to the report that was sent at a time.
func (g *gateway) take(data []byte, sentAt time.Time) {
	if data == nil {
		return
	}
	answer, err := usage.DecodeAnswer(data, g.sequence)
	if err != nil {
		g.w.t.Fatal(err)
	}
	g.report = nil
	g.holdings.Answer(answer, sentAt.Sub(start).Nanoseconds(), g.now())
}
