package quota

import (
	"math/rand"
	"sync"
	"testing"
	"time"
)

const second = int64(time.Second)

// allowance returns an allowance with counters of its own.
func allowance(rate *RateLimit, quota *Quota) *Allowance {
	return NewAllowance(rate, &Counter{number: 1}, quota, &Counter{number: 2})
}

func rateOf(limit, burst, period int64) *RateLimit {
	return NewRateLimit(limit, burst, time.Duration(period))
}

func quotaOf(limit, period int64) *Quota {
	return NewQuota(limit, time.Duration(period))
}

// edited returns an allowance with the counters of a and other limits.
func edited(a *Allowance, rate *RateLimit, quota *Quota) *Allowance {
	return NewAllowance(rate, a.rate, quota, a.used)
}

func TestTakeTimelines(t *testing.T) {
	type step struct {
		at      int64
		refusal string
		rate    int64
		quota   int64
		retry   int64
	}
	for _, test := range []struct {
		name  string
		rate  *RateLimit
		quota *Quota
		steps []step
	}{
		{"a burst, then one token at a time", rateOf(2, 3, second), nil, []step{
			{at: 0, rate: 2}, {at: 0, rate: 1}, {at: 0, rate: 0},
			{at: 0, refusal: RateLimited, retry: second / 2},
			{at: second/2 - 1, refusal: RateLimited, retry: 1},
			{at: second / 2, rate: 0},
			{at: 10 * second, rate: 2},
		}},
		{"a limit that does not divide its period", rateOf(3, 1, second), nil, []step{
			{at: 0, rate: 0},
			{at: 333_333_333, refusal: RateLimited, retry: 1},
			{at: 333_333_334, rate: 0},
		}},
		{"a clock that steps back brings no token back", rateOf(1, 1, second), nil, []step{
			{at: 5 * second, rate: 0},
			{at: 0, refusal: RateLimited, retry: 6 * second},
			{at: 5*second + 1, refusal: RateLimited, retry: second - 1},
			{at: 6 * second, rate: 0},
		}},
		{"the largest rate limit", rateOf(1e9, 1e9, 3600*second), nil, []step{
			{at: 0, rate: 1e9 - 1},
			{at: 1 << 52, rate: 1e9 - 1},
		}},
		{"a quota gives back a slot at a time", nil, quotaOf(2, 64), []step{
			{at: 0, quota: 1}, {at: 10, quota: 0},
			{at: 10, refusal: QuotaExceeded, retry: 55},
			{at: 64, refusal: QuotaExceeded, retry: 1},
			{at: 65, quota: 0},
			{at: 74, refusal: QuotaExceeded, retry: 1},
			{at: 75, quota: 0},
		}},
		{"a quota whose clock steps back", nil, quotaOf(1, 64), []step{
			{at: 100, quota: 0},
			{at: 0, refusal: QuotaExceeded, retry: 165},
			{at: 164, refusal: QuotaExceeded, retry: 1},
			{at: 165, quota: 0},
		}},
		{"a quota of zero", nil, quotaOf(0, second), []step{
			{at: 0, refusal: QuotaExceeded, retry: second},
		}},
		{"the largest quota", nil, quotaOf(999_999_999_999_999, 9999*3600*second), []step{
			{at: 1 << 52, quota: 999_999_999_999_998},
		}},
		{"a refusal by quota spends no token", rateOf(1, 2, second), quotaOf(1, 10*second), []step{
			{at: 0, rate: 1, quota: 0},
			{at: 0, refusal: QuotaExceeded, rate: 1, quota: 0, retry: 10*second + 156_250_000},
		}},
		{"a refusal by rate spends no quota", rateOf(1, 1, second), quotaOf(9, second), []step{
			{at: 0, rate: 0, quota: 8},
			{at: 0, refusal: RateLimited, rate: 0, quota: 8, retry: second},
			{at: second, rate: 0, quota: 7},
		}},
		{"of two refusals the longer", rateOf(1, 1, second), quotaOf(1, 64*second), []step{
			{at: 0},
			{at: 0, refusal: QuotaExceeded, retry: 65 * second},
		}},
	} {
		a := allowance(test.rate, test.quota)
		for i, want := range test.steps {
			d := Take(a, want.at)
			got := step{want.at, d.Refusal, d.RateLeft, d.QuotaLeft, d.RetryAfter}
			if got != want {
				t.Errorf("%s, step %d: got %+v, want %+v", test.name, i, got, want)
			}
		}
	}
}

func TestReset(t *testing.T) {
	a := allowance(rateOf(10, 10, second), quotaOf(1000, 64*second))
	d := Take(a, 0)
	if got, want := d.RateReset, second/10; got != want {
		t.Errorf("rate limit: next token after %d, want %d", got, want)
	}
	if got, want := d.QuotaReset, 65*second; got != want {
		t.Errorf("quota: next room after %d, want %d", got, want)
	}
}

// admissions drives a with a clock that mostly goes on, sometimes jumps and
// sometimes steps back, and returns the latest time seen at each admission.
func admissions(t *testing.T, random *rand.Rand, a *Allowance, stride int64, steps int) []int64 {
	t.Helper()
	var now, latest int64
	var admitted []int64
	for i := 0; i < steps; i++ {
		switch random.Intn(20) {
		case 0:
			now -= random.Int63n(20 * stride)
		case 1:
			now += random.Int63n(40 * stride)
		default:
			now += random.Int63n(stride + 1)
		}
		if now > latest {
			latest = now
		}
		if Take(a, now).Refusal == "" {
			admitted = append(admitted, latest)
		}
	}
	if len(admitted) == 0 || len(admitted) == steps {
		t.Fatalf("%d of %d were admitted: this schedule shows nothing", len(admitted), steps)
	}
	return admitted
}

func TestRateLimitNeverExceedsBurstPlusRate(t *testing.T) {
	for seed := int64(0); seed < 15; seed++ {
		random := rand.New(rand.NewSource(seed))
		limit, burst, period := 1+random.Int63n(50), 1+random.Int63n(30), second*(1+random.Int63n(60))
		admitted := admissions(t, random, allowance(rateOf(limit, burst, period), nil), period/limit, 300)
		for i := range admitted {
			for j := i; j < len(admitted); j++ {
				// j-i+1 ≤ burst + limit × t ÷ period, in whole numbers.
				excess := int64(j-i+1) - burst
				if excess*period > limit*(admitted[j]-admitted[i]) {
					t.Fatalf("seed %d: limit %d, period %d, burst %d: %d requests from %d to %d",
						seed, limit, period, burst, j-i+1, admitted[i], admitted[j])
				}
			}
		}
	}
}

func TestRateLimitGivesAllThatItMay(t *testing.T) {
	// A reference that shares nothing with the code: tokens in parts of
	// 1/period, refilled by stepping the clock.
	const limit, burst, period = 5, 4, 35
	a := allowance(rateOf(limit, burst, period), nil)
	random := rand.New(rand.NewSource(1))
	parts, full := burst*period, burst*period
	for now := int64(0); now < 3000; now++ {
		if random.Intn(3) != 0 {
			want := parts >= period
			if got := Take(a, now).Refusal == ""; got != want {
				t.Fatalf("at %d with %d of %d parts: admitted %t, want %t", now, parts, full, got, want)
			}
			if want {
				parts -= period
			}
		}
		if parts += limit; parts > full {
			parts = full
		}
	}
}

func TestQuotaHoldsInAnyWindow(t *testing.T) {
	for seed := int64(0); seed < 15; seed++ {
		random := rand.New(rand.NewSource(seed))
		quota := quotaOf(1+random.Int63n(40), second*(1+random.Int63n(9999)))
		admitted := admissions(t, random, allowance(nil, quota), quota.Period/quota.Limit, 400)
		for i := int(quota.Limit); i < len(admitted); i++ {
			if spread := admitted[i] - admitted[i-int(quota.Limit)]; spread < quota.Period {
				t.Fatalf("seed %d, %+v: %d requests within %d", seed, *quota, quota.Limit+1, spread)
			}
		}
	}
}

func TestQuotaGivesBackInTime(t *testing.T) {
	for seed := int64(0); seed < 10; seed++ {
		random := rand.New(rand.NewSource(seed))
		quota := quotaOf(1+random.Int63n(20), second*(1+random.Int63n(100)))
		a := allowance(nil, quota)
		late := quota.Period / 50
		var now int64
		var admitted []int64
		for i := 0; i < 300; i++ {
			now += random.Int63n(2 * quota.Period / quota.Limit)
			d := Take(a, now)
			if d.Refusal == "" {
				admitted = append(admitted, now)
				continue
			}
			recent := 0
			for _, at := range admitted {
				if at > now-quota.Period-late {
					recent++
				}
			}
			if recent < int(quota.Limit) {
				t.Fatalf("seed %d, %+v: refused at %d with %d requests in the window and 2 %%", seed, *quota, now, recent)
			}
			if again := Take(a, now+d.RetryAfter-1); again.Refusal == "" {
				t.Fatalf("seed %d, %+v: admitted before Retry-After", seed, *quota)
			}
			now += d.RetryAfter
			if again := Take(a, now); again.Refusal != "" {
				t.Fatalf("seed %d, %+v: refused after Retry-After", seed, *quota)
			}
			admitted = append(admitted, now)
		}
	}
}

func TestConsumptionSurvivesEdits(t *testing.T) {
	a := allowance(nil, quotaOf(5, 3600*second))
	for i := 0; i < 5; i++ {
		Take(a, 0)
	}
	if d := Take(a, 0); d.Refusal != QuotaExceeded {
		t.Fatalf("sixth of five: got %+v, want a refusal", d)
	}
	a = edited(a, nil, quotaOf(500, 3600*second))
	if d := Take(a, 0); d.QuotaLeft != 494 {
		t.Errorf("quota raised to 500: %d left after 6 requests, want 494", d.QuotaLeft)
	}
	a = edited(a, nil, quotaOf(3, 3600*second))
	if d := Take(a, 0); d.Refusal != QuotaExceeded || d.QuotaLeft != 0 {
		t.Errorf("quota lowered to 3: got %+v, want a refusal", d)
	}

	a = allowance(rateOf(10, 10, second), nil)
	for i := 0; i < 7; i++ {
		Take(a, 0)
	}
	a = edited(a, rateOf(60, 60, 60*second), nil)
	if d := Take(a, 0); d.RateLeft != 52 {
		t.Errorf("rate limit raised to 60 a minute: %d left after 8 requests, want 52", d.RateLeft)
	}
	a = edited(a, rateOf(5, 5, 3600*second), nil)
	if d := Take(a, 0); d.Refusal != RateLimited || d.RetryAfter != 4*720*second {
		t.Errorf("rate limit lowered to 5 an hour with 8 spent: got %+v, want a refusal for 48 minutes", d)
	}
}

// A shorter period takes over at once: what was counted under the longer one
// leaves the window when the shorter has passed.
func TestShorterPeriodTakesOver(t *testing.T) {
	a := allowance(nil, quotaOf(1000, 720*3600*second))
	Take(a, 0)
	a = edited(a, nil, quotaOf(2, 64*second))
	if d := Take(a, second); d.Refusal != "" || d.QuotaLeft != 0 {
		t.Errorf("second of two: got %+v, want the last one", d)
	}
	if d := Take(a, 60*second); d.Refusal != QuotaExceeded || d.RetryAfter > 8*second {
		t.Errorf("third of two: got %+v, want a wait of seconds", d)
	}
	if d := Take(a, 68*second); d.Refusal != "" {
		t.Errorf("a period later: got %+v, want it admitted", d)
	}
}

func TestWindowIsBounded(t *testing.T) {
	random := rand.New(rand.NewSource(1))
	counter := &Counter{}
	var now, sum int64
	for i := 0; i < 20_000; i++ {
		quota := quotaOf(1<<40, second<<uint(random.Intn(20)))
		a := NewAllowance(nil, nil, quota, counter)
		now += random.Int63n(second)
		Take(a, now)
		if slots := len(counter.window.closed) + 1; slots > maxSlots {
			t.Fatalf("after %d requests: %d slots, want at most %d", i+1, slots, maxSlots)
		}
	}
	sum = counter.window.open
	for _, s := range counter.window.closed {
		sum += s.count
	}
	if sum != counter.window.total {
		t.Errorf("slots add up to %d, total says %d", sum, counter.window.total)
	}
}

func TestTakeFromManyGoroutines(t *testing.T) {
	// Two grants with the same two counters in opposite roles: only a fixed
	// order of locking keeps them from waiting for each other for ever.
	one, other := &Counter{number: 1}, &Counter{number: 2}
	limit, quota := rateOf(1, 100, 3600*second), quotaOf(100, 3600*second)
	grants := []*Allowance{
		NewAllowance(limit, one, quota, other),
		NewAllowance(limit, other, quota, one),
	}
	var wait sync.WaitGroup
	admitted := make([]int, 8)
	for g := range admitted {
		g := g
		wait.Add(1)
		go func() {
			defer wait.Done()
			for i := 0; i < 100; i++ {
				if Take(grants[g%2], 0).Refusal == "" {
					admitted[g]++
				}
			}
		}()
	}
	wait.Wait()
	total := 0
	for _, n := range admitted {
		total += n
	}
	if total < 100 || total > 200 {
		t.Errorf("got %d admitted, want 100 for each of two counters at most", total)
	}
	for _, c := range []*Counter{one, other} {
		if tokens := c.fullAt / limit.interval; c.window.total+tokens != int64(total) {
			t.Errorf("a counter lost requests: %d in its window, %d tokens, %d admitted", c.window.total, tokens, total)
		}
	}
}

func TestOneCounterForBothLimits(t *testing.T) {
	c := &Counter{number: 1}
	a := NewAllowance(rateOf(5, 5, second), c, quotaOf(9, second), c)
	d := Take(a, 0)
	if d.RateLeft != 4 || d.QuotaLeft != 8 {
		t.Errorf("got %+v, want 4 and 8 left", d)
	}
}

func TestStoreSharesCounters(t *testing.T) {
	s := NewStore(10)
	if first, second := s.Get("a", 0), s.Get("a", 0); first != second {
		t.Error("one bucket, two counters")
	}
	if s.Get("a", 0) == s.Get("b", 0) {
		t.Error("two buckets, one counter")
	}
}

func TestStoreDropsOnlyIdleCounters(t *testing.T) {
	s := NewStore(3)
	quota := quotaOf(5, 64*second)
	busy := s.Get("busy", 0)
	idle := s.Get("idle", 0)
	Take(NewAllowance(nil, nil, quota, busy), 0)
	s.Get("third", 0)
	if c := s.Get("fourth", second-1); c != nil {
		t.Fatal("a full store with nothing idle made room")
	}
	if c := s.Get("fourth", second); c == nil {
		t.Fatal("a full store with idle counters made no room")
	}
	if s.Get("busy", second) != busy {
		t.Error("a counter in use was dropped")
	}
	if d := Take(NewAllowance(nil, nil, quota, idle), second); d.Refusal != Dropped {
		t.Errorf("take from a dropped counter: got %+v, want Dropped", d)
	}
	rate := rateOf(1, 1, second)
	if d := Take(NewAllowance(rate, idle, nil, nil), second); d.Refusal != Dropped {
		t.Errorf("take from a dropped counter: got %+v, want Dropped", d)
	}
	// Its only request leaves the window after 65 seconds, not earlier.
	s.Get("fifth", 65*second-1)
	if s.Get("busy", 65*second-1) != busy {
		t.Error("a counter was dropped before it was idle")
	}
}

// Counters that are idle for a moment between two requests are not made anew for
// each, whatever else comes.
func TestStoreKeepsWhatComesAgain(t *testing.T) {
	s := NewStore(10_000)
	rate := rateOf(1_000_000, 1, second)
	first := s.Get("first", 0)
	for i := int64(1); i < 1000; i++ {
		Take(NewAllowance(rate, first, nil, nil), i*second/2)
		s.Get(string(rune('a'+i%26))+string(rune('A'+i/26)), i*second/2)
	}
	if s.Get("first", 500*second) != first {
		t.Error("a counter in use was dropped though there was room")
	}
}

func TestStoreStaysSmall(t *testing.T) {
	s := NewStore(1000)
	rate := rateOf(1, 1, second)
	for i := int64(0); i < 3000; i++ {
		now := i * keepIdle / 10
		c := s.Get(string(rune('a'+i%26))+string(rune('A'+i/26)), now)
		if c == nil {
			t.Fatalf("no room for bucket %d though most are idle", i)
		}
		Take(NewAllowance(rate, c, nil, nil), now)
	}
	// About ten have not been idle for as long as idle ones are kept.
	if n := s.Len(); n > 100 {
		t.Errorf("got %d counters, want idle ones dropped", n)
	}
}

func FuzzTake(f *testing.F) {
	f.Add(int64(10), int64(time.Second), int64(10), int64(1000), int64(time.Minute), []byte{1, 200, 3, 0, 0, 0, 255})
	f.Fuzz(func(t *testing.T, limit, period, burst, quotaLimit, quotaPeriod int64, strides []byte) {
		within := func(n, low, high int64) int64 { return low + int64(uint64(n)%uint64(high-low+1)) }
		limit, burst, quotaLimit = within(limit, 1, 1e9), within(burst, 1, 1e9), within(quotaLimit, 0, 999_999_999_999_999)
		rate := rateOf(limit, burst, within(period, second, 3600*second))
		a := allowance(rate, quotaOf(quotaLimit, within(quotaPeriod, second, 9999*3600*second)))
		var now int64
		for _, stride := range strides {
			now += (int64(stride) - 50) * second / 3
			d := Take(a, now)
			if d.RateLeft < 0 || d.RateLeft > burst || d.QuotaLeft < 0 || d.QuotaLeft > quotaLimit {
				t.Fatalf("%+v at %d: %+v", *a, now, d)
			}
			if (d.Refusal == "") != (d.RetryAfter == 0) || d.RateReset < 0 || d.QuotaReset < 0 {
				t.Fatalf("%+v at %d: %+v", *a, now, d)
			}
		}
	})
}

func BenchmarkTake(b *testing.B) {
	a := allowance(rateOf(1e6, 1e6, second), quotaOf(1e12, 3600*second))
	for i := 0; i < b.N; i++ {
		Take(a, int64(i))
	}
}

// TakeToken, and Take where it does nothing, decide as Take alone does.
func TestTakeTokenAgreesWithTake(t *testing.T) {
	for seed := int64(0); seed < 30; seed++ {
		random := rand.New(rand.NewSource(seed))
		limit := func() *RateLimit {
			return rateOf(1+random.Int63n(50), 1+random.Int63n(50), second*(1+random.Int63n(60)))
		}
		rate := limit()
		quick, plain := allowance(rate, nil), allowance(rate, nil)
		taken := 0
		var now int64
		for i := 0; i < 2000; i++ {
			now += random.Int63n(2 * rate.interval)
			if random.Intn(200) == 0 {
				rate = limit()
				quick, plain = edited(quick, rate, nil), edited(plain, rate, nil)
			}
			want := Take(plain, now)
			counter, interval, depth := Tokens(quick)
			tokens := TakeToken(counter, interval, depth, now)
			if tokens < 0 {
				if got := Take(quick, now); got != want {
					t.Fatalf("seed %d at %d: got %+v, want %+v", seed, now, got, want)
				}
				continue
			}
			taken++
			if want.Refusal != "" || tokens != want.RateLeft {
				t.Fatalf("seed %d at %d: %d tokens left, want %+v", seed, now, tokens, want)
			}
		}
		if taken < 100 {
			t.Errorf("seed %d: %d of 2000 taken: too few to tell", seed, taken)
		}
	}
}

func TestTakeTokenOfDroppedCounter(t *testing.T) {
	a := allowance(rateOf(1e9, 1e9, second), nil)
	Take(a, 0)
	drop(a.rate)
	counter, interval, depth := Tokens(a)
	for _, now := range []int64{0, second, 1 << 62} {
		if tokens := TakeToken(counter, interval, depth, now); tokens != -1 {
			t.Errorf("at %d: %d tokens left in a counter that was dropped, want -1", now, tokens)
		}
		if d := Take(a, now); d.Refusal != Dropped {
			t.Errorf("at %d: got %+v, want Dropped", now, d)
		}
	}
}

func TestTakeTokenFromManyGoroutines(t *testing.T) {
	counter, interval, depth := Tokens(allowance(rateOf(1, 100, 3600*second), nil))
	counter.interval = interval
	var wait sync.WaitGroup
	admitted := make([]int, 8)
	for g := range admitted {
		g := g
		wait.Add(1)
		go func() {
			defer wait.Done()
			for i := 0; i < 50; i++ {
				if TakeToken(counter, interval, depth, 0) >= 0 {
					admitted[g]++
				}
			}
		}()
	}
	wait.Wait()
	total := 0
	for _, n := range admitted {
		total += n
	}
	if total != 100 {
		t.Errorf("%d admitted, want 100", total)
	}
}
