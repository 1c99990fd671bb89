package shares

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/tollgate-apim/tollgate/holding"
	"github.com/tollgate-apim/tollgate/usage"
)

// The simulation: gateways, control planes and a store in virtual time. Everything
// that may go wrong between them does, by a schedule and by chance, and each request
// that a gateway lets pass is checked against the plan.

const millisecond = int64(time.Millisecond)

// event is what happens at a time of the world's.
type event struct {
	at, number int64
	do         func()
}

// queue is a heap of events, the earliest on top.
type queue []event

func (q queue) before(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].number < q[j].number
}

func (q *queue) push(e event) {
	*q = append(*q, e)
	for i := len(*q) - 1; i > 0 && q.before(i, (i-1)/2); i = (i - 1) / 2 {
		(*q)[i], (*q)[(i-1)/2] = (*q)[(i-1)/2], (*q)[i]
	}
}

func (q *queue) pop() event {
	old := *q
	top := old[0]
	last := len(old) - 1
	old[0] = old[last]
	old[last] = event{}
	*q = old[:last]
	for i := 0; ; {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < last; child++ {
			if q.before(child, least) {
				least = child
			}
		}
		if least == i {
			return top
		}
		(*q)[i], (*q)[least] = (*q)[least], (*q)[i]
		i = least
	}
}

// plan is one of both kinds.
type plan struct {
	quota *Quota
	rate  *Rate
}

func (p plan) String() string {
	if p.quota != nil {
		return fmt.Sprintf("quota %d in %v", p.quota.Limit, p.quota.Period)
	}
	return fmt.Sprintf("%d in %v, burst %d", p.rate.Limit, p.rate.Period, p.rate.Burst)
}

func (p plan) standing(ranks [len(Horizons)]int64) int64 {
	if p.quota != nil {
		return Standing(p.quota.Reserve(), ranks[p.quota.Horizon()])
	}
	return Standing(p.rate.Reserve(), ranks[p.rate.Horizon()])
}

// edit is a version of a bucket's plan.
type edit struct {
	plan
	at int64 // when it is made
}

// bucket is one limit, with the log of what was admitted.
type bucket struct {
	name  string
	edits []edit

	admitted int
	log      []int64 // of a quota: by the store's clock, what is in the window
	level    float64 // of a rate limit: what would be missing in its bucket
	last     int64
	worst    float64 // the largest part of its limit that was used

	central *central // nil if it is not asked
}

// central is one counter with a rate limit for all gateways, to compare with.
type central struct {
	rate     Rate
	tokens   float64
	last     int64
	admitted int
}

// take asks it for a token.
func (c *central) take(now int64) {
	made := float64(c.rate.Limit) / c.rate.Period.Seconds() * float64(now-c.last) / 1e9
	c.tokens = min(float64(c.rate.Burst), c.tokens+made)
	c.last = now
	if c.tokens >= 1 {
		c.tokens--
		c.admitted++
	}
}

// planAt returns the plan as somebody sees it who hears of edits late.
func (b *bucket) planAt(now, lag int64) plan {
	p := b.edits[0].plan
	for _, e := range b.edits[1:] {
		if e.at+lag <= now {
			p = e.plan
		}
	}
	return p
}

// admit logs a request that has passed and checks rule (a).
func (b *bucket) admit(w *world, by *gateway) {
	b.admitted++
	by.admitted[b.name]++
	now := w.store.clock()
	// After an edit the old limit may count as long as shares of it live.
	from := w.now - 2*held
	if b.edits[0].quota != nil {
		limit, period := int64(0), time.Duration(math.MaxInt64)
		for i, e := range b.edits {
			if e.at > w.now {
				break
			}
			period = min(period, e.quota.Period)
			if i+1 == len(b.edits) || b.edits[i+1].at > from-int64(e.quota.Period) {
				limit = max(limit, e.quota.Limit)
			}
		}
		b.log = append(b.log, now)
		left := 0
		for b.log[left] <= now-int64(period) {
			left++
		}
		b.log = b.log[left:]
		b.worst = max(b.worst, float64(len(b.log))/float64(limit))
		if int64(len(b.log)) > limit {
			w.fail("%s: %d requests in %v, where the plan allows %d", b.name, len(b.log), period, limit)
		}
		return
	}
	var burst, rate float64
	for i, e := range b.edits {
		if e.at > w.now {
			break
		}
		burst = max(burst, float64(e.rate.Burst))
		if i+1 == len(b.edits) || b.edits[i+1].at > from {
			rate = max(rate, float64(e.rate.Limit)/e.rate.Period.Seconds())
		}
	}
	// A gateway's clock that is fast makes more tokens than the store's thinks.
	b.level = max(0, b.level-rate*w.fastest*float64(now-b.last)/1e9) + 1
	b.last = now
	burst += rate * w.fastest * float64(w.store.stepped) / 1e9
	b.worst = max(b.worst, b.level/burst)
	if b.level > burst+1e-6 {
		w.fail("%s: %.6f requests more than the rate, where the burst is %g", b.name, b.level, burst)
	}
}

// stored is a value of the store.
type stored struct {
	data    []byte
	version int64
}

// store is one with compare-and-set, whose clock is not the world's.
type store struct {
	w       *world
	values  map[string]stored
	speed   float64
	step    int64 // what its clock was set forward, or back
	stepped int64 // the sum of all steps, whatever way
	latest  int64 // the latest time that its clock has shown
	down    bool
	slow    int64
}

// clock returns the store's time, as far as it has ever gone.
func (s *store) clock() int64 {
	s.latest = max(s.latest, s.raw())
	return s.latest
}

func (s *store) raw() int64 {
	return int64(1000*1e9 + float64(s.w.now)*s.speed + float64(s.step))
}

func (s *store) get(keys []string) []stored {
	values := make([]stored, len(keys))
	for i, key := range keys {
		values[i] = s.values[key]
	}
	return values
}

func (s *store) swap(key string, version int64, data []byte) bool {
	if s.values[key].version != version && !s.w.breaks("blind writes") {
		return false
	}
	s.values[key] = stored{data, s.values[key].version + 1}
	return true
}

// report is what a gateway sends.
type report struct {
	instance Instance
	number   int64
	tenure   int64
	entries  []entryOf
}

type entryOf struct {
	bucket *bucket
	entry  Entry
}

type answer struct {
	tenure Tenure
	shares []shareOf
}

type shareOf struct {
	bucket *bucket
	share  Share
}

// gateway is one Traefik.
type gateway struct {
	w        *world
	place    int
	life     int // how often it was started
	up       bool
	speed    float64
	lag      int64
	cut      bool  // from the control planes
	late     int64 // answers to it are
	admitted map[string]int
	asked    map[string]int
	demand   map[string]*demand

	instance    Instance
	tenure      Tenure
	tenureUntil int64
	accounts    int64
	holdings    map[*bucket]*holding.Holding

	reports  int64
	pending  *report
	attempt  int
	attempts int
	lastSent int64
	wake     int64 // numbers timers: only the last counts
	hurried  bool  // the next report is wanted soon
	patience int   // after how many attempts it gives a report up
}

// demand is how many requests come to a gateway for a bucket.
type demand struct {
	rate   float64 // a second
	random bool    // else at equal distances
	number int
}

func (g *gateway) clock() int64 {
	return int64(float64(g.w.now) * g.speed)
}

func (g *gateway) start() {
	g.life++
	g.up = true
	w := g.w
	g.instance = Instance{uint32(g.place), uint32(g.life), w.random.Uint32(), 0}
	g.tenure, g.tenureUntil, g.accounts = Tenure{}, 0, 0
	g.holdings = map[*bucket]*holding.Holding{}
	g.pending, g.hurried = nil, false
	g.patience = 1 + w.random.IntN(20)
	g.send()
}

func (g *gateway) crash() {
	g.up = false
	g.life++
}

// later runs do unless the gateway has been killed until then.
func (g *gateway) later(after int64, do func()) {
	life := g.life
	g.w.after(after, func() {
		if g.up && g.life == life {
			do()
		}
	})
}

func (g *gateway) standing(b *bucket) int64 {
	if g.clock() >= g.tenureUntil {
		return 0
	}
	return b.planAt(g.w.now, g.lag).standing(g.tenure.Ranks)
}

// request is one of a client's.
func (g *gateway) request(b *bucket) {
	g.asked[b.name]++
	if b.central != nil {
		b.central.take(g.w.now)
	}
	if !g.up || g.tenure.Number == 0 {
		return
	}
	h := g.holdings[b]
	now := g.clock()
	if h == nil {
		g.accounts++
		h = holding.NewHolding(g.accounts, now)
		g.holdings[b] = h
	}
	if holding.Room(h, g.standing(b), now) {
		holding.Spend(h, now)
		b.admit(g.w, g)
	}
	g.hurry(h)
}

// hurry has a report sent soon if a holding needs one.
func (g *gateway) hurry(h *holding.Holding) {
	if g.hurried || !holding.Urgent(h, g.clock()) {
		return
	}
	g.hurried = true
	if g.pending == nil {
		g.hasten()
	}
}

// hasten sends a report soon.
func (g *gateway) hasten() {
	g.wake++
	wake := g.wake
	g.later(max(0, g.lastSent+50*millisecond-g.w.now), func() {
		if g.wake == wake && g.pending == nil {
			g.send()
		}
	})
}

// send sends a new report.
func (g *gateway) send() {
	now := g.clock()
	g.reports++
	r := &report{instance: g.instance, number: g.reports, tenure: g.tenure.Number}
	for _, b := range g.w.buckets {
		h := g.holdings[b]
		switch {
		case h == nil || g.tenure.Number == 0:
		case holding.Closed(h, g.standing(b), now):
			delete(g.holdings, b)
		case g.hurried && !holding.Due(h, now):
		default:
			r.entries = append(r.entries, entryOf{b, entry(holding.Report(h, g.standing(b), now))})
		}
	}
	g.pending = r
	g.hurried = false
	g.attempts = 0
	g.lastSent = g.w.now
	g.try()
}

// try sends the pending report, again if there is no answer.
func (g *gateway) try() {
	w := g.w
	r := g.pending
	g.attempt++
	g.attempts++
	attempt, sentAt, life := g.attempt, g.clock(), g.life
	if w.breaks("a share lasts from its answer") {
		sentAt = math.MinInt64
	}
	c := w.controlplanes[w.random.IntN(len(w.controlplanes))]
	w.message(g, func() {
		c.take(r, func(a answer) {
			late := g.late
			w.message(g, func() {
				w.after(late, func() {
					if g.up && g.life == life && g.pending == r {
						g.take(a, sentAt)
					}
				})
			})
		})
	})
	g.later(1500*millisecond, func() {
		if g.pending != r || g.attempt != attempt {
			return
		}
		if g.attempts < g.patience {
			g.try()
			return
		}
		g.pending = nil
		g.send()
	})
}

// take takes an answer in.
func (g *gateway) take(a answer, sentAt int64) {
	now := g.clock()
	if sentAt == math.MinInt64 {
		sentAt = now
	}
	g.pending, g.hurried = nil, false
	if a.tenure.Number != g.tenure.Number {
		g.holdings = map[*bucket]*holding.Holding{}
		g.tenureUntil = 0
	}
	g.tenure = a.tenure
	g.tenureUntil = max(g.tenureUntil, sentAt+a.tenure.Lasts)
	for _, s := range a.shares {
		if h := g.holdings[s.bucket]; h != nil {
			if g.w.breaks("a gateway takes more than it was granted") {
				s.share.Granted += min(1, s.share.Granted)
			}
			if g.w.breaks("a token is used before it is there") {
				s.share.After = 0
			}
			holding.Apply(h, wire(s.share), sentAt, now)
			g.hurry(h)
		}
	}
	if g.hurried {
		g.hasten()
		return
	}
	g.wake++
	wake := g.wake
	wait := second + g.w.random.Int64N(second/5) - second/10
	g.later(max(0, g.lastSent+wait-g.w.now), func() {
		if g.wake == wake && g.pending == nil {
			g.send()
		}
	})
}

// entry and wire are what crosses the network, on this side of it.
func entry(e usage.Entry) Entry {
	return Entry{
		Account: e.Account, Granted: e.Granted, Used: e.Used, Returned: e.Returned, Told: e.Told,
		Wanted: e.Wanted, Over: e.Over, Spare: e.Spare, Part: e.Part, Dropped: e.Dropped, Tokens: e.Tokens,
	}
}

func wire(s Share) *usage.Share {
	return &usage.Share{
		Account: s.Account, Granted: s.Granted, Keep: s.Keep, Lasts: s.Lasts,
		Part: s.Part, Interval: s.Interval, Capacity: s.Capacity, Fill: s.Fill, Left: s.Left, Reset: s.Reset,
		Tell: s.Tell, After: s.After,
	}
}

// controlplane answers reports.
type controlplane struct {
	w    *world
	life int
	up   bool
	lag  int64
}

// then goes on after the store has worked, unless something dies before.
func (c *controlplane) then(do func()) {
	w := c.w
	life := c.life
	if w.chance(w.mishap) {
		return
	}
	w.after(w.delay(2*millisecond)+w.store.slow, func() {
		if c.up && c.life == life && !w.store.down {
			do()
		}
	})
}

// take answers a report: Get, Settle, Swap, and again where another was faster.
func (c *controlplane) take(r *report, reply func(answer)) {
	if c.up {
		c.then(func() { c.register(r, reply) })
	}
}

const registryKey = "registry"

func (c *controlplane) register(r *report, reply func(answer)) {
	s := c.w.store
	value := s.get([]string{registryKey})[0]
	registry, err := DecodeRegistry(value.data)
	if err != nil {
		c.w.fail("%v", err)
		return
	}
	if c.w.breaks("ranks are free at once") {
		registry.past = nil
		registry.alive = slices.DeleteFunc(registry.alive, func(t tenure) bool {
			return t.instance[0] == r.instance[0] && t.instance != r.instance
		})
	}
	tenure, changed, err := registry.Register(r.instance, s.raw())
	if err != nil {
		c.w.fail("%v", err)
		return
	}
	settle := func() {
		if tenure.Number != r.tenure {
			reply(answer{tenure: tenure})
			return
		}
		c.settle(tenure, r, r.entries, nil, reply)
	}
	if !changed {
		settle()
		return
	}
	c.then(func() {
		if s.swap(registryKey, value.version, registry.Encode()) {
			c.then(settle)
		} else {
			c.then(func() { c.register(r, reply) })
		}
	})
}

// settle settles what entries are left to settle.
func (c *controlplane) settle(tenure Tenure, r *report, left []entryOf, done []shareOf, reply func(answer)) {
	if len(left) == 0 {
		reply(answer{tenure, done})
		return
	}
	s := c.w.store
	keys := make([]string, len(left))
	for i, e := range left {
		keys[i] = e.bucket.name
	}
	type change struct {
		data  []byte
		share Share
	}
	values, now := s.get(keys), s.raw()
	changes := make([]change, len(left))
	for i, e := range left {
		data, share, err := c.w.settle(values[i].data, e.bucket.planAt(c.w.now, c.lag), tenure, e.entry, now)
		if err != nil {
			c.w.fail("%s: %v", e.bucket.name, err)
			return
		}
		changes[i] = change{data, share}
	}
	c.then(func() {
		var again []entryOf
		for i, e := range left {
			if s.swap(keys[i], values[i].version, changes[i].data) {
				done = append(done, shareOf{e.bucket, changes[i].share})
			} else {
				again = append(again, e)
			}
		}
		c.then(func() { c.settle(tenure, r, again, done, reply) })
	})
}

// world is one run of a schedule.
type world struct {
	now    int64
	number int64
	events queue
	random *rand.Rand

	store         *store
	buckets       []*bucket
	gateways      []*gateway
	controlplanes []*controlplane

	loss, twice, mishap float64
	delays              int64
	healed              bool
	fastest, slowest    float64 // of the gateways' clocks, by the store's
	broken              string  // what is broken on purpose
	failure             string
}

func (w *world) breaks(name string) bool {
	return w.broken == name
}

func (w *world) fail(format string, args ...any) {
	if w.failure == "" {
		w.failure = fmt.Sprintf("%.3f s: ", float64(w.now)/1e9) + fmt.Sprintf(format, args...)
	}
}

func (w *world) chance(p float64) bool {
	return p > 0 && w.random.Float64() < p
}

func (w *world) after(delay int64, do func()) {
	w.number++
	w.events.push(event{w.now + delay, w.number, do})
}

func (w *world) run(until int64) {
	for w.failure == "" && len(w.events) > 0 && w.events[0].at <= until {
		e := w.events.pop()
		w.now = e.at
		e.do()
	}
	w.now = until
}

func (w *world) delay(usual int64) int64 {
	return usual/2 + w.random.Int64N(usual)
}

// message delivers one between a gateway and a control plane, or loses it, or delivers
// it twice, or late.
func (w *world) message(g *gateway, deliver func()) {
	copies := 1
	if w.chance(w.twice) {
		copies = 2
	}
	for range copies {
		if g.cut || w.chance(w.loss) {
			continue
		}
		delay := w.delay(10 * millisecond)
		if w.delays > 0 && w.chance(0.1) {
			delay += w.random.Int64N(w.delays)
		}
		w.after(delay, deliver)
	}
}

// ask makes requests come to a gateway.
func (w *world) ask(g *gateway, b *bucket, rate float64, random bool) {
	d := g.demand[b.name]
	if d == nil {
		d = &demand{}
		g.demand[b.name] = d
	}
	d.rate, d.random = rate, random
	d.number++
	number := d.number
	if rate > 0 {
		w.after(int64(w.random.Float64()*1e9/rate), func() { w.next(g, b, d, number) })
	}
}

func (w *world) next(g *gateway, b *bucket, d *demand, number int) {
	if d.number != number {
		return
	}
	g.request(b)
	wait := 1e9 / d.rate
	if d.random {
		wait *= w.random.ExpFloat64()
	}
	w.after(int64(wait), func() { w.next(g, b, d, number) })
}

// settle is what a control plane does with a record, broken if need be.
func (w *world) settle(data []byte, p plan, tenure Tenure, e Entry, now int64) ([]byte, Share, error) {
	if p.quota != nil {
		r, err := DecodeQuota(data)
		if err != nil {
			return nil, Share{}, err
		}
		quota := *p.quota
		w.spoilAccounts(r.accounts, tenure.Number, &e)
		w.spoilQuota(r, &quota, now)
		share := r.Settle(quota, tenure, e, now)
		w.spoilLife(r.accounts, now)
		return r.Encode(), share, nil
	}
	r, err := DecodeRate(data)
	if err != nil {
		return nil, Share{}, err
	}
	rate := *p.rate
	w.spoilAccounts(r.accounts, tenure.Number, &e)
	w.spoilRate(r, &rate)
	share := r.Settle(rate, tenure, e, now)
	w.spoilLife(r.accounts, now)
	return r.Encode(), share, nil
}

// newWorld returns the world of a schedule, in which nothing has happened yet.
func newWorld(s *schedule) *world {
	w := &world{random: rand.New(rand.NewPCG(s.seed, 2))}
	w.store = &store{w: w, values: map[string]stored{}, speed: s.storeSpeed}
	w.fastest, w.slowest = 1, 1
	for i := range s.controlplanes {
		c := &controlplane{w: w, up: true}
		if i > 0 {
			c.lag = w.random.Int64N(3 * second)
		}
		w.controlplanes = append(w.controlplanes, c)
	}
	for i, edits := range s.plans {
		w.buckets = append(w.buckets, &bucket{name: fmt.Sprintf("bucket %d", i), edits: edits})
	}
	for i, speed := range s.speeds {
		g := &gateway{w: w, place: i, speed: speed, lag: w.random.Int64N(3 * second), admitted: map[string]int{}, asked: map[string]int{}, demand: map[string]*demand{}}
		w.fastest, w.slowest = max(w.fastest, speed/s.storeSpeed), min(w.slowest, speed/s.storeSpeed)
		w.gateways = append(w.gateways, g)
		w.after(w.random.Int64N(second), g.start)
	}
	return w
}

// describe says what a schedule is, for whoever has to find out why it fails.
func (s *schedule) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d: %d gateways (clocks %.4f), %d control planes, store's clock %.4f\n", s.seed, len(s.speeds), s.speeds, s.controlplanes, s.storeSpeed)
	for i, edits := range s.plans {
		fmt.Fprintf(&b, "  bucket %d:", i)
		for _, e := range edits {
			fmt.Fprintf(&b, " from %.3f s %v;", float64(e.at)/1e9, e.plan)
		}
		b.WriteByte('\n')
	}
	for _, f := range s.faults {
		fmt.Fprintf(&b, "  %.3f s: %s\n", float64(f.at)/1e9, f.name)
	}
	return b.String()
}
