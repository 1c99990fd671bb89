package holding

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/tollgate-apim/tollgate/quota"
	"github.com/tollgate-apim/tollgate/usage"
)

// lender is a control plane of one rule: who wants something gets twice that, while
// there is any.
type lender struct {
	left    int64 // of each bucket, at first
	tenure  usage.Tenure
	buckets map[string]*lent
}

type lent struct {
	left    int64
	granted map[string]int64 // by gateway and account
}

func newLender(left int64) *lender {
	return &lender{
		left:    left,
		tenure:  usage.Tenure{Number: 1, Ranks: []int64{1, 1, 1, 1, 1}, Lasts: 300 * second, Gateways: 2},
		buckets: map[string]*lent{},
	}
}

// answer answers the report of a gateway.
func (l *lender) answer(gateway string, tenure int64, entries []usage.Entry) *usage.Answer {
	told := l.tenure
	a := &usage.Answer{Tenure: &told}
	if tenure != l.tenure.Number {
		return a
	}
	for _, e := range entries {
		b := l.buckets[e.Kind+e.Bucket]
		if b == nil {
			b = &lent{left: l.left, granted: map[string]int64{}}
			l.buckets[e.Kind+e.Bucket] = b
		}
		account := fmt.Sprint(gateway, " ", e.Account)
		more := 2*e.Wanted + e.Spare - (b.granted[account] - e.Used)
		if more < 0 {
			more = 0
		}
		if more > b.left {
			more = b.left
		}
		b.left -= more
		b.granted[account] += more
		a.Shares = append(a.Shares, usage.Share{
			Kind: e.Kind, Bucket: e.Bucket, Account: e.Account,
			Granted: b.granted[account], Keep: 2*e.Wanted + 1, Lasts: 15 * second, Left: b.left, Reset: 3600 * second,
		})
	}
	return a
}

// exchange has a gateway report.
func (l *lender) exchange(gateway string, s *Store, now int64) {
	tenure, entries := s.Report(now)
	s.Answer(l.answer(gateway, tenure, entries), now, now)
}

func newTestStore(max int, hurries *int) *Store {
	return NewStore(max, func() { *hurries++ })
}

// taken says what a decision was.
func taken(d quota.Decision) string {
	what := "ok"
	if d.Refusal != "" {
		what = fmt.Sprint(d.Refusal, " again in ", (d.RetryAfter+second-1)/second)
	}
	return fmt.Sprintf("%s, rate %d, quota %d", what, d.RateLeft, d.QuotaLeft)
}

func TestTake(t *testing.T) {
	hurries := 0
	s := newTestStore(10, &hurries)
	rate := s.Get(usage.KindRate, "a", Plan{Name: "apps/p"}, 0)
	units := s.Get(usage.KindQuota, "a", Plan{Name: "apps/p"}, 0)
	a := NewAllowance(s, rate, units)
	l := newLender(5)
	expect := func(now int64, want string) {
		t.Helper()
		if got := taken(Take(a, now)); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}

	expect(0, "quota_exceeded again in 1, rate 0, quota 0")
	l.exchange("g", s, 1) // is told the tenure
	if hurries != 3 {
		t.Errorf("%d reports asked for, want one for each holding and one for the tenure", hurries)
	}
	l.exchange("g", s, 2)
	expect(3, "ok, rate 2, quota 4")
	// The quota has room: a refused request leaves it.
	rate.granted = rate.used
	expect(3, "rate_limited again in 1, rate 0, quota 4")
	expect(3, "rate_limited again in 1, rate 0, quota 4")
	rate.granted += 10
	rate.shut = 0
	expect(3, "ok, rate 9, quota 3")
	expect(3, "ok, rate 8, quota 2")
	// The plan has two more, which are for the gateway that asks first.
	expect(3, "quota_exceeded again in 1, rate 8, quota 2")
	expect(3, "quota_exceeded again in 1, rate 8, quota 2")
	l.exchange("g", s, 4)
	expect(5, "ok, rate 2, quota 1")
	expect(5, "ok, rate 1, quota 0")
	expect(5, "quota_exceeded again in 1, rate 1, quota 0")
	l.exchange("g", s, 6)
	expect(7, "quota_exceeded again in 3600, rate 1, quota 0")
}

// TestTakeToken: what the usual way does not decide, Take does.
func TestTakeToken(t *testing.T) {
	hurries := 0
	s := newTestStore(10, &hurries)
	h := s.Get(usage.KindRate, "a", Plan{Name: "apps/p"}, 0)
	a := NewAllowance(s, h, nil)
	if got := TakeToken(h, 0); got >= 0 {
		t.Errorf("without a part: got %d", got)
	}
	s.Answer(&usage.Answer{Tenure: &usage.Tenure{Number: 1}}, 0, 0)
	Take(a, 0)
	s.Report(0)
	s.Answer(&usage.Answer{
		Tenure: &usage.Tenure{Number: 1},
		Shares: []usage.Share{{Kind: usage.KindRate, Bucket: "a", Account: h.Account, Lasts: 15 * second, Part: 1, Interval: ms, Capacity: 3, Fill: 3}},
	}, 0, 0)
	for _, want := range []int64{2, 1, 0, -1, -1} {
		if got := TakeToken(h, 0); got != want {
			t.Errorf("got %d left, want %d", got, want)
		}
	}
	if got, want := taken(Take(a, 0)), "rate_limited again in 1, rate 0, quota 0"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := taken(Take(a, 2*ms)), "ok, rate 1, quota 0"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := TakeToken(h, 15*second-1); got != 2 {
		t.Errorf("got %d left, want 2", got)
	}
	if got := TakeToken(h, 15*second); got >= 0 {
		t.Errorf("after the end: got %d", got)
	}
	if got, want := h.wanted, int64(6); got != want {
		t.Errorf("%d requests told, want %d", got, want)
	}
}

// TestTenures: a gateway that gets another tenure gives up all that it has.
func TestTenures(t *testing.T) {
	hurries := 0
	s := newTestStore(10, &hurries)
	h := s.Get(usage.KindQuota, "a", Plan{Name: "apps/p", Reserve: 4, Horizon: 1}, 0)
	a := NewAllowance(s, nil, h)
	l := newLender(100)
	l.exchange("g", s, 0)
	// Each of the first ranks may let one request pass at once.
	for _, want := range []string{"ok, rate 0, quota 0", "quota_exceeded again in 1, rate 0, quota 0"} {
		if got := taken(Take(a, 1)); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	l.exchange("g", s, 2)
	if got, want := taken(Take(a, 3)), "ok, rate 0, quota 98"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	before := h.Account
	l.tenure.Number = 2
	l.exchange("g", s, second)
	// What it was lent before is counted as spent, so that may be spent.
	if got, want := taken(Take(a, second)), "ok, rate 0, quota 97"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	tenure, entries := s.Report(second)
	if tenure != 2 || len(entries) != 1 || entries[0].Account <= before || entries[0].Granted != 0 || entries[0].Used != 0 {
		t.Errorf("got tenure %d, %+v, want another account, of nothing", tenure, entries)
	}
	if s.Gateways() != 2 {
		t.Errorf("got %d gateways, want 2", s.Gateways())
	}
}

// TestLeave: what was held of a tenure that was left is no more once there is another,
// and nothing is borrowed meanwhile.
func TestLeave(t *testing.T) {
	hurries := 0
	s := newTestStore(10, &hurries)
	a := NewAllowance(s, nil, s.Get(usage.KindQuota, "a", Plan{Name: "apps/p", Reserve: 4, Horizon: 1}, 0))
	l := newLender(100)
	l.exchange("g", s, 0)
	Take(a, 0)
	Take(a, 0)
	l.exchange("g", s, 1)
	before := a.quota.Account
	if got, want := taken(Take(a, 1)), "ok, rate 0, quota 98"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}

	s.Leave()
	if number, entries := s.Report(2); s.Active() || number != 0 || len(entries) != 0 {
		t.Errorf("a gateway without tenure tells %d, %+v", number, entries)
	}
	if s.Gateways() != 2 {
		t.Errorf("got %d gateways, want 2 as before", s.Gateways())
	}
	passed := 0
	for i := 0; i < 10; i++ {
		if Take(a, 2).Refusal == "" {
			passed++
		}
	}
	if passed != 3 {
		t.Errorf("%d requests pass, want the 3 for which it holds units", passed)
	}
	// As another instance it is in another tenure.
	l.tenure.Number = 2
	s.Answer(l.answer("h", 0, nil), 3, 3)
	number, entries := s.Report(4)
	if number != 2 || len(entries) != 1 || entries[0].Account <= before || entries[0].Granted != 0 || entries[0].Used != 0 {
		t.Errorf("got tenure %d, %+v, want another account, of nothing", number, entries)
	}
}

// TestRestless: a tenure that changes once is a matter of course, one that changes all
// the time is not.
func TestRestless(t *testing.T) {
	hurries := 0
	s := newTestStore(10, &hurries)
	tell := func(number, now int64) {
		s.Answer(&usage.Answer{Tenure: &usage.Tenure{Number: number}}, now, now)
	}
	tell(1, 0)
	tell(2, second)
	tell(2, 2*second)
	if s.Restless(2 * second) {
		t.Error("restless after a change")
	}
	tell(3, 11*second)
	if s.Restless(11 * second) {
		t.Error("restless after two changes with ten seconds between them")
	}
	tell(2, 12*second)
	if !s.Restless(12*second) || !s.Restless(22*second-1) || s.Restless(22*second) {
		t.Error("not restless for ten seconds after two changes")
	}
}

// TestTrim: holdings of nothing go, others stay.
func TestTrim(t *testing.T) {
	hurries := 0
	s := newTestStore(10, &hurries)
	l := newLender(100)
	l.exchange("g", s, 0)
	a := NewAllowance(s, nil, s.Get(usage.KindQuota, "a", Plan{Name: "apps/p"}, 0))
	for i := 0; i < 5; i++ {
		s.Get(usage.KindQuota, fmt.Sprint("never used ", i), Plan{Name: "apps/p"}, 0)
	}
	Take(a, 0)
	l.exchange("g", s, 1)
	s.Trim(2)
	if s.Len() != 1 {
		t.Errorf("%d holdings, want that which is in use", s.Len())
	}
	for now := 100 * second; s.Active() && now < 110*second; now += second {
		l.exchange("g", s, now)
	}
	if s.Trim(120 * second); s.Len() != 0 {
		t.Errorf("%d holdings, want 0", s.Len())
	}
}

// TestActive: reports tell of what is in use, as long as it is.
func TestActive(t *testing.T) {
	hurries := 0
	s := newTestStore(10, &hurries)
	l := newLender(100)
	h := s.Get(usage.KindQuota, "a", Plan{Name: "apps/p", Reserve: 4}, 0)
	other := s.Get(usage.KindQuota, "b", Plan{Name: "apps/p", Reserve: 4}, 0)
	l.exchange("g", s, 0)
	if s.Active() {
		t.Error("active before the first request")
	}
	Take(NewAllowance(s, nil, h), 0)
	for now := int64(0); s.Active() && now < 10*second; now += second {
		l.exchange("g", s, now)
	}
	if s.Active() {
		t.Error("still active after 10 s")
	}
	if l.buckets["quotaa"] == nil || l.buckets["quotab"] != nil || other == nil {
		t.Errorf("told of %v, want of a alone", l.buckets)
	}
}

// TestUnanswered: a report without an answer is no more than a pause.
func TestUnanswered(t *testing.T) {
	hurries := 0
	s := newTestStore(10, &hurries)
	l := newLender(100)
	h := s.Get(usage.KindQuota, "a", Plan{Name: "apps/p"}, 0)
	a := NewAllowance(s, nil, h)
	l.exchange("g", s, 0)
	Take(a, 0)
	s.Report(0)
	if s.Answer(nil, 0, 0) {
		t.Error("no answer says that limits are shared")
	}
	if s.Answer(&usage.Answer{}, 0, 0) {
		t.Error("an answer without tenure says that limits are shared")
	}
	before := hurries
	Take(a, 1)
	if hurries != before {
		t.Error("asks for a report at once again")
	}
	l.exchange("g", s, second)
	if d := Take(a, second); d.Refusal != "" {
		t.Errorf("got %s after the next answer", d.Refusal)
	}
}

// TestManyEntries: what does not fit into a report comes first in the next one.
func TestManyEntries(t *testing.T) {
	const many = 1500
	hurries := 0
	s := newTestStore(2*many, &hurries)
	l := newLender(5)
	l.exchange("g", s, 0)
	for i := 0; i < many; i++ {
		bucket := fmt.Sprint(strings.Repeat("b", 200), i)
		Take(NewAllowance(s, nil, s.Get(usage.KindQuota, bucket, Plan{Name: "apps/p"}, 0)), 0)
	}
	seen := map[string]int{}
	for now := int64(1); now <= 4; now++ {
		tenure, entries := s.Report(now)
		bytes := 0
		for _, e := range entries {
			seen[e.Bucket]++
			bytes += len(e.Bucket)
		}
		if bytes > mostBytes {
			t.Errorf("a report with %d bytes of names", bytes)
		}
		s.Answer(l.answer("g", tenure, entries), now, now)
	}
	if len(seen) != many {
		t.Errorf("told of %d buckets, want %d", len(seen), many)
	}
	for bucket, times := range seen {
		if times < 2 || times > 4 {
			t.Fatalf("told %d times of %s", times, bucket)
		}
	}
}

// TestFewerEntries: a report that may have few bytes has few entries, but one at least.
func TestFewerEntries(t *testing.T) {
	hurries := 0
	s := newTestStore(100, &hurries)
	l := newLender(5)
	l.exchange("g", s, 0)
	for i := 0; i < 30; i++ {
		Take(NewAllowance(s, nil, s.Get(usage.KindQuota, fmt.Sprint("bucket ", i), Plan{Name: "apps/p"}, 0)), 0)
	}
	for most, want := range map[int]int{0: 1, 3000: 9, 1 << 20: 30} {
		_, entries, left := s.ReportUpTo(most, 1)
		if s.Answer(nil, 1, 1); len(entries) != want || left != 30-want {
			t.Errorf("%d bytes: got %d entries and %d left, want %d of 30", most, len(entries), left, want)
		}
	}
}

// TestBounds: holdings of nothing make room, others do not.
func TestBounds(t *testing.T) {
	hurries := 0
	s := newTestStore(2, &hurries)
	l := newLender(5)
	plan := Plan{Name: "apps/p"}
	a := NewAllowance(s, nil, s.Get(usage.KindQuota, "a", plan, 0))
	Take(a, 0)
	b := s.Get(usage.KindQuota, "b", plan, 0)
	if s.Get(usage.KindQuota, "c", plan, 0) != nil {
		t.Error("there is room for a third one")
	}
	if s.Get(usage.KindQuota, "a", plan, 0) != a.quota {
		t.Error("a holding is not found again")
	}
	if s.Get(usage.KindQuota, "c", plan, 2*second) == nil {
		t.Error("there is no room in place of one that nobody used")
	}
	if d := Take(NewAllowance(s, nil, b), 3*second); d.Refusal != quota.Dropped {
		t.Errorf("a dropped holding: got %q, want %q", d.Refusal, quota.Dropped)
	}
	l.exchange("g", s, 4*second)
	if s.Len() != 2 {
		t.Errorf("%d holdings, want 2", s.Len())
	}
}

// TestConcurrently: several gateways, with requests and reports at the same time, never
// let more pass than the lender has.
func TestConcurrently(t *testing.T) {
	const gateways, callers, limit = 3, 4, 200
	l := newLender(limit)
	l.tenure.Ranks = nil
	var lending sync.Mutex
	var passed [2]int64
	var wg sync.WaitGroup
	for g := 0; g < gateways; g++ {
		name := fmt.Sprint(g)
		s := NewStore(10, func() {})
		var taking sync.WaitGroup
		for c := 0; c < callers; c++ {
			c := c
			taking.Add(1)
			go func() {
				defer taking.Done()
				for i := 0; i < 100; i++ {
					// Each in an order of its own.
					var rate, units *Holding
					if c%2 == 0 {
						rate = s.Get(usage.KindRate, "x", Plan{Name: "apps/p"}, 0)
						units = s.Get(usage.KindQuota, "x", Plan{Name: "apps/p"}, 0)
					} else {
						units = s.Get(usage.KindQuota, "x", Plan{Name: "apps/p"}, 0)
						rate = s.Get(usage.KindRate, "y", Plan{Name: "apps/p"}, 0)
					}
					if d := Take(NewAllowance(s, rate, units), 0); d.Refusal == "" {
						lending.Lock()
						passed[c%2]++
						lending.Unlock()
					}
				}
			}()
		}
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := 0; i < 50; i++ {
				tenure, entries := s.Report(0)
				lending.Lock()
				a := l.answer(name, tenure, entries)
				lending.Unlock()
				s.Answer(a, 0, 0)
			}
			taking.Wait()
		}()
	}
	wg.Wait()
	if passed[0] > limit || passed[1] > limit || passed[0]+passed[1] > limit {
		t.Errorf("%v requests have passed, at most %d by each limit", passed, limit)
	}
}

// TestHurriedReport: a report for the sake of one bucket leaves out those that were told
// of a moment ago, and the next usual one has them again.
func TestHurriedReport(t *testing.T) {
	hurries := 0
	s := newTestStore(10, &hurries)
	plan := Plan{Name: "apps/p"}
	slow := s.Get(usage.KindRate, "slow", plan, 0)
	other := s.Get(usage.KindRate, "other", plan, 0)
	share := usage.Share{Kind: usage.KindRate, Granted: 5, Keep: 5, Lasts: 15 * second}
	answer := func(now int64) (told string) {
		tenure, entries := s.Report(now)
		a := usage.Answer{Tenure: &usage.Tenure{Number: 1}}
		for _, e := range entries {
			told += " " + e.Bucket
			next := share
			next.Bucket = e.Bucket
			next.Account = e.Account
			if e.Bucket == "slow" {
				next.Tell = 150 * ms
			}
			a.Shares = append(a.Shares, next)
		}
		if tenure == 0 && told != "" {
			t.Errorf("without tenure it tells of%s", told)
		}
		s.Answer(&a, now, now)
		return told
	}
	answer(0)
	Take(NewAllowance(s, slow, nil), 0)
	Take(NewAllowance(s, other, nil), 0)
	for _, test := range []struct {
		at   int64
		want string
	}{
		{1, " slow other"},
		{200 * ms, " slow"},
		{400 * ms, " slow"},
		{600 * ms, " slow other"},
		{800 * ms, " slow"},
	} {
		before := hurries
		Take(NewAllowance(s, other, nil), test.at)
		if Take(NewAllowance(s, slow, nil), test.at); hurries == before && test.at > 1 {
			t.Errorf("after %d ms: no report is asked for", test.at/ms)
		}
		if got := answer(test.at); got != test.want {
			t.Errorf("after %d ms: tells of%s, want%s", test.at/ms, got, test.want)
		}
	}
}

// TestTakeInAdvance: requests are refused until a token is there that was lent before,
// without a word from anybody, and it is not left before that.
func TestTakeInAdvance(t *testing.T) {
	hurries := 0
	s := newTestStore(10, &hurries)
	h := s.Get(usage.KindRate, "a", Plan{Name: "apps/p"}, 0)
	a := NewAllowance(s, h, nil)
	s.Answer(&usage.Answer{Tenure: &usage.Tenure{Number: 1}}, 0, 0)
	Take(a, 0)
	s.Report(0)
	s.Answer(&usage.Answer{
		Tenure: &usage.Tenure{Number: 1},
		Shares: []usage.Share{{Kind: usage.KindRate, Bucket: "a", Account: h.Account, Granted: 1, Keep: 1, Lasts: 15 * second, Tell: 150 * ms, After: 700 * ms}},
	}, 0, 0)
	for _, test := range []struct {
		at   int64
		want string
	}{
		{1, "rate_limited again in 1, rate 0, quota 0"},
		{2, "rate_limited again in 1, rate 0, quota 0"},
		{700*ms - 1, "rate_limited again in 1, rate 0, quota 0"},
		{700 * ms, "ok, rate 0, quota 0"},
		{701 * ms, "rate_limited again in 1, rate 0, quota 0"},
	} {
		if got := taken(Take(a, test.at)); got != test.want {
			t.Errorf("after %d ns: got %s, want %s", test.at, got, test.want)
		}
	}
}
