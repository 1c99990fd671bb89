package sharing

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tollgate-apim/tollgate/controlplane/store"
	"github.com/tollgate-apim/tollgate/feed"
	"github.com/tollgate-apim/tollgate/holding"
	"github.com/tollgate-apim/tollgate/reporter"
	"github.com/tollgate-apim/tollgate/table"
	"github.com/tollgate-apim/tollgate/usage"
)

// liedTo is a gateway with the code that it has for reports and shares, in a bubble of
// synctest. Some of what it is answered is changed on the way.
type liedTo struct {
	t        *testing.T
	sharing  *Sharing
	random   *rand.Rand
	began    time.Time
	holdings *holding.Store
	reporter *reporter.Reporter
	limit    *holding.Allowance
	slowly   bool  // go reports and answers
	sentAt   int64 // the last report
	last     int64 // the sequence of the last that was taken

	mu    sync.Mutex
	asked int64 // requests since the last report
	told  string
	lies  []answerLie // in turn; none for the truth
	lied  int
}

// answerLie changes an answer. It returns false for one that does not arrive.
type answerLie func(a *usage.Answer) bool

// ofShares changes the shares of an answer.
func ofShares(change func(s *usage.Share)) answerLie {
	return func(a *usage.Answer) bool {
		for i := range a.Shares {
			change(&a.Shares[i])
		}
		return true
	}
}

// Answers that are of no use to the gateway, though valid.
var answerLies = []answerLie{
	func(a *usage.Answer) bool { a.Shares = nil; return true },
	func(a *usage.Answer) bool { a.Tenure, a.Shares = nil, nil; return true },
	func(a *usage.Answer) bool { a.Shares = append(a.Shares, a.Shares...); return true },
	ofShares(func(s *usage.Share) { s.Bucket += "-else"; s.Granted += 1000; s.Lasts = int64(time.Minute) }),
	ofShares(func(s *usage.Share) { s.Kind = "else"; s.Granted += 1000; s.Lasts = int64(time.Minute) }),
	ofShares(func(s *usage.Share) { s.Account += 1000; s.Granted += 1000; s.Lasts = int64(time.Minute) }),
	func(*usage.Answer) bool { return false },
}

func newLiedTo(t *testing.T, s *Sharing, n int, random *rand.Rand, in askedIn) *liedTo {
	g := &liedTo{t: t, sharing: s, slowly: in.slowly, random: rand.New(rand.NewPCG(random.Uint64(), 0)), began: time.Now()}
	g.holdings = holding.NewStore(10, func() {
		if g.holdings.Restless(g.now()) {
			g.reporter.HurryAfter(time.Second)
			return
		}
		g.reporter.Hurry()
	})
	plan := holding.Plan{Name: "apps/plan"}
	plan.Reserve, plan.Horizon = holding.RateReserve(in.limit.Limit, max(in.limit.Limit, in.limit.Burst), time.Second)
	g.limit = holding.NewAllowance(g.holdings, g.holdings.Get(usage.KindRate, "b", plan, g.now()), nil)
	g.reporter = reporter.New(reporter.Config{
		Instance: func() string { return instance(n) },
		Collect: func(add func(usage.Row), _ bool) {
			g.mu.Lock()
			defer g.mu.Unlock()
			if g.asked > 0 {
				add(usage.Row{API: "apps/api", Count: g.asked})
			}
			g.asked = 0
		},
		State:    func() (int64, time.Duration) { return 1, 0 },
		Sharing:  func() bool { return true },
		Active:   g.holdings.Active,
		Entries:  func(bytes int) (int64, []usage.Entry, int) { return g.holdings.ReportUpTo(bytes, g.now()) },
		Answered: func(a *usage.Answer) { g.holdings.Answer(a, g.sentAt, g.now()) },
		Post:     g.post,
		Endpoint: func() string { return "" },
		Report:   func(string, bool) {},
		Timing:   reporter.Timing{Draw: g.random.Float64},
	})
	g.reporter.Wake()
	return g
}

func (g *liedTo) now() int64 { return int64(time.Since(g.began)) }

// post is what becomes of a report.
func (g *liedTo) post(body []byte, _ bool) feed.Reply {
	g.sentAt = g.now()
	g.wait()
	r, err := usage.Decode(body)
	if err != nil {
		g.t.Error(err)
		return feed.Reply{Err: err}
	}
	if r.Sequence <= g.last {
		return feed.Reply{Status: http.StatusConflict, Body: fmt.Appendf(nil, `{"sequence": %d}`, g.last), Err: errors.New("status 409")}
	}
	g.last = r.Sequence
	a := &usage.Answer{Sequence: r.Sequence, Next: 1}
	if a.Tenure, a.Shares, err = g.sharing.Settle(g.t.Context(), r); err != nil {
		g.t.Error(err)
	}
	said, err := json.Marshal(a)
	if err != nil {
		g.t.Error(err)
	}
	g.mu.Lock()
	g.told = fmt.Sprintf("%s told\n%s\nanswered\n%s", time.Since(g.began), body, said)
	arrives := true
	if len(g.lies) > 0 {
		arrives = g.lies[g.lied%len(g.lies)](a)
		g.lied++
	}
	g.mu.Unlock()
	g.wait()
	if !arrives {
		return feed.Reply{Err: errors.New("no answer")}
	}
	said, err = json.Marshal(a)
	return feed.Reply{Status: http.StatusOK, Body: said, Err: err}
}

func (g *liedTo) wait() {
	most := 20 * time.Millisecond
	if g.slowly {
		most = 400 * time.Millisecond
	}
	time.Sleep(1 + time.Duration(g.random.Int64N(int64(most))))
}

// request reports whether a request passes.
func (g *liedTo) request() bool {
	g.mu.Lock()
	g.asked++
	g.mu.Unlock()
	return holding.Take(g.limit, g.now()).Refusal == ""
}

// askedIn is how two gateways are asked in turn: so many requests each, with up to
// a latency after each, and a rest after both. Slowly go their reports and answers.
type askedIn struct {
	limit         table.RateLimit
	burst         int
	latency, rest time.Duration
	slowly        bool
}

// liars is a control plane and two gateways that are asked in a way.
type liars struct {
	askedIn
	random   *rand.Rand
	gateways [2]*liedTo
}

// newLiars returns them, after some gateways that only have standing credit.
func newLiars(t *testing.T, random *rand.Rand, in askedIn) *liars {
	s := New(Options{Store: store.NewMemory(nil), Log: slog.New(slog.DiscardHandler)})
	s.UsePlans(map[string]table.Plan{"apps/plan": {RateLimit: &in.limit}})
	for n := range random.IntN(20) {
		begin(t, s, 100+n)
	}
	w := &liars{askedIn: in, random: random}
	for i := range w.gateways {
		w.gateways[i] = newLiedTo(t, s, i+1, random, in)
	}
	return w
}

// end waits until nothing goes on any more.
func (w *liars) end() {
	var all sync.WaitGroup
	for _, g := range w.gateways {
		all.Add(1)
		g.reporter.Sleep(all.Done)
	}
	all.Wait()
}

// round returns how many requests pass of those that each gateway is asked.
func (w *liars) round() (passed [2]int) {
	for i, g := range w.gateways {
		for range w.burst {
			if g.request() {
				passed[i]++
			}
			time.Sleep(1 + time.Duration(w.random.Int64N(int64(w.latency))))
		}
	}
	time.Sleep(w.rest)
	return passed
}

func (w *liars) runFor(d time.Duration) (sum [2]int) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		passed := w.round()
		sum[0] += passed[0]
		sum[1] += passed[1]
	}
	return sum
}

// tell has both gateways told lies in turn; nil for the truth.
func (w *liars) tell(lies []answerLie) {
	for _, g := range w.gateways {
		g.mu.Lock()
		g.lies, g.lied = lies, 0
		g.mu.Unlock()
	}
}

// TestLies tells gateways answers of which they have nothing, or none. That done, both
// have something of the limit before long.
func TestLies(t *testing.T) {
	for seed := range *schedules * 2 {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			w := newLiars(t, random, askedIn{
				limit: liedLimits[random.IntN(len(liedLimits))], burst: []int{1, 4, 12}[random.IntN(3)],
				latency: time.Duration(1 + random.IntN(40)*int(time.Millisecond)),
				rest:    []time.Duration{20, 100, 200, 500}[random.IntN(4)] * time.Millisecond,
				slowly:  random.IntN(4) == 0,
			})
			defer w.end()
			for range 2 {
				lies := answerLies[:6]
				if random.IntN(2) == 0 {
					lies = nil
					for range 1 + random.IntN(8) {
						lies = append(lies, answerLies[random.IntN(len(answerLies))])
					}
				}
				w.tell(lies)
				w.runFor(4*time.Second + time.Duration(random.Int64N(4*second)))
				w.tell(nil)
				// The longest time that reports wait after failures, and what it takes to divide anew.
				from, seen := time.Now(), [2]int{}
				for seen[0] < 2 || seen[1] < 2 {
					passed := w.round()
					seen[0] += passed[0]
					seen[1] += passed[1]
					if time.Since(from) > 35*time.Second {
						t.Fatalf("seed %d: %+v: %v requests have passed with the truth\nfirst: %s\nsecond: %s", seed, w.askedIn, seen, w.gateways[0].told, w.gateways[1].told)
					}
				}
			}
		})
	}
}

var liedLimits = []table.RateLimit{
	{Limit: 12, Period: "1s"},
	{Limit: 12, Period: "1s", Burst: 150},
	{Limit: 60, Period: "1s"},
}

// TestBursts asks two gateways so that most reports of one that is in need, which come
// quickly, tell of no request, or of several at once. It wants something all the same,
// and gets as good as its half.
func TestBursts(t *testing.T) {
	for seed := range uint64(100) {
		synctest.Test(t, func(t *testing.T) {
			w := newLiars(t, rand.New(rand.NewPCG(seed, 1)), askedIn{
				limit: table.RateLimit{Limit: 60, Period: "1s"}, burst: 4, latency: 1, rest: 100 * time.Millisecond,
			})
			defer w.end()
			w.runFor(10 * time.Second)
			if passed := w.runFor(10 * time.Second); min(passed[0], passed[1]) < 250 {
				t.Errorf("seed %d: of 300 each, %v requests pass\nfirst: %s\nsecond: %s", seed, passed, w.gateways[0].told, w.gateways[1].told)
			}
		})
	}
}
