package shares

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"time"
)

// largest returns an account with the longest numbers that there are.
func largest(tenure int64) account {
	p := part{maxTotal, 2 * second, maxTokens, maxTokens, maxRate, maxTokens}
	return account{maxTotal - MaxAccounts + tenure, maxTotal, maxTotal, maxTotal, maxTotal, maxTime, maxRate, 1, maxReserve, p}
}

func TestRecordsAreBounded(t *testing.T) {
	q := &QuotaRecord{at: maxTime}
	for i := range int64(maxSlots) {
		q.slots = append(q.slots, slot{maxTime - maxSlots + i, 1e12})
	}
	r := &RateRecord{at: maxTime, tokens: mostMissing, rate: maxRate, capacity: maxRate}
	for i := range int64(MaxAccounts) {
		q.accounts = append(q.accounts, largest(i))
		r.accounts = append(r.accounts, largest(i))
	}
	g := &Registry{at: maxTime, last: maxTotal}
	for range MaxTenures {
		g.alive = append(g.alive, tenure{Instance{1<<32 - 1, 1<<32 - 1, 1<<32 - 1, 1<<32 - 1}, maxTotal, [len(Horizons)]int64{512, 512, 512, 512, 512}, maxTime})
	}
	for range MaxRank * len(Horizons) {
		g.past = append(g.past, pastRank{4, 512, math.MaxInt64})
	}
	for name, data := range map[string][]byte{"quota": q.Encode(), "rate": r.Encode(), "registry": g.Encode()} {
		t.Logf("%s: %d bytes", name, len(data))
		if len(data) > MaxBytes {
			t.Errorf("%s: %d bytes, want at most %d", name, len(data), MaxBytes)
		}
	}
	if _, err := DecodeQuota(q.Encode()); err != nil {
		t.Error(err)
	}
	if _, err := DecodeRate(r.Encode()); err != nil {
		t.Error(err)
	}
	if _, err := DecodeRegistry(g.Encode()); err != nil {
		t.Error(err)
	}
}

func TestThousandGateways(t *testing.T) {
	q, r := &QuotaRecord{}, &RateRecord{}
	quota, rate := Quota{1_000_000, time.Hour}, Rate{10_000, 10_000, time.Second}
	refused := 0
	for i := range int64(MaxAccounts + 50) {
		e := Entry{Account: 1, Wanted: 10, Over: second}
		if s := q.Settle(quota, Tenure{Number: i + 1}, e, second); s.Account == 0 {
			refused++
		} else if s.Granted == 0 {
			t.Fatalf("gateway %d got nothing of a quota", i)
		}
		r.Settle(rate, Tenure{Number: i + 1}, e, second)
	}
	if refused != 50 || len(q.accounts) != MaxAccounts || len(r.accounts) != MaxAccounts {
		t.Errorf("%d refused, %d and %d accounts; want 50 and %d", refused, len(q.accounts), len(r.accounts), MaxAccounts)
	}
	// They come in when others have gone.
	if s := q.Settle(quota, Tenure{Number: 5000}, Entry{Account: 1, Wanted: 1, Over: second}, second+held); s.Account == 0 {
		t.Error("no room though all shares have ended")
	}
}

func TestDecodeTellsWhatIsWrong(t *testing.T) {
	q := &QuotaRecord{}
	q.Settle(Quota{100, time.Minute}, Tenure{Number: 3}, Entry{Account: 1, Used: 1, Wanted: 5, Over: second}, 7*second)
	good := string(q.Encode())
	if _, err := DecodeQuota([]byte(good)); err != nil {
		t.Fatal(err)
	}
	if !json.Valid([]byte(good)) {
		t.Errorf("%s is no JSON", good)
	}
	for _, test := range []struct{ data, want string }{
		{"[", "not an array of integers"},
		{"{}", "not an array of integers"},
		{"[]", "byte 1: not an array of integers"},
		{good[:len(good)-1], "not an array of integers"},
		{good + "]", "not an array of integers"},
		{strings.Replace(good, "[1,1,", "[2,1,", 1), "byte 1: 2, must be from 1 to 1"},
		{strings.Replace(good, "[1,1,", "[1,2,", 1), "byte 3: 2, must be from 1 to 1"},
		{strings.Replace(good, "[1,1,7", "[1,1,-7", 1), "byte 5: -7000000000, must be from 0"},
		{strings.Replace(good, "[1,1,7", "[1,1,07", 1), "byte 5: not an array of integers"},
		{strings.Replace(good, "[1,1,7", "[1,1, 7", 1), "byte 5: not an array of integers"},
		{strings.Replace(good, "]", ",1]", 1), "not an array of integers"},
		{"[1,1,0,129,]", "129, must be from 0 to 128"},
		{"[1,1,0,128,0]", "not an array of integers"},
		{"[1,1,0,0,1001,0]", "1001, must be from 0 to 1000"},
		{"[" + strings.Repeat("1,", MaxBytes) + "1]", "must be at most"},
	} {
		if _, err := DecodeQuota([]byte(test.data)); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%.80s: got %v, want %q", test.data, err, test.want)
		}
	}
	if _, err := DecodeRate([]byte(good)); err == nil {
		t.Error("the record of a quota was taken for that of a rate limit")
	}
}

// TestHighestNumbers has gateways that tell the highest numbers that there are: what is
// stored of them can be read again.
func TestHighestNumbers(t *testing.T) {
	for _, dropped := range []bool{false, true} {
		e := Entry{
			Account: maxTotal, Granted: maxTotal, Used: maxTotal, Returned: maxTotal, Told: maxTotal,
			Wanted: maxTotal, Over: second, Spare: maxTotal, Part: maxTotal, Dropped: dropped, Tokens: maxTotal,
		}
		r, q := &RateRecord{}, &QuotaRecord{}
		for now := range int64(4) {
			for _, entry := range []Entry{e, {Account: now + 1, Part: e.Part, Wanted: 100, Over: second, Dropped: dropped}} {
				r.Settle(Rate{Limit: 1000, Burst: 1000, Period: time.Second}, Tenure{Number: 1}, entry, now*second)
				q.Settle(Quota{Limit: 1000, Period: time.Minute}, Tenure{Number: 1}, entry, now*second)
				if _, err := DecodeRate(r.Encode()); err != nil {
					t.Error(err)
				}
				if _, err := DecodeQuota(q.Encode()); err != nil {
					t.Error(err)
				}
			}
		}
	}
}

// Whatever a record holds that was accepted, what is settled by it stays in bounds.
func FuzzSettle(f *testing.F) {
	f.Add([]byte(nil), byte(0), int64(1), int64(5), int64(3), int64(2), int64(0), int64(8), int64(1), true, int64(time.Second))
	q := &QuotaRecord{}
	q.Settle(Quota{100, time.Minute}, Tenure{Number: 3}, Entry{Account: 1, Used: 1, Wanted: 5, Over: second}, 7*second)
	f.Add(q.Encode(), byte(0), int64(1), int64(5), int64(3), int64(2), int64(0), int64(8), int64(1), true, 9*second)
	r := &RateRecord{}
	r.Settle(Rate{100, 100, time.Second}, Tenure{Number: 3}, Entry{Account: 1, Used: 1, Wanted: 50, Over: second}, 7*second)
	f.Add(r.Encode(), byte(1), int64(1), int64(5), int64(3), int64(2), int64(0), int64(8), int64(1), false, 9*second)
	g := &Registry{}
	_, _, err := g.Register(Instance{1, 2, 3, 4}, second)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(g.Encode(), byte(2), int64(1), int64(5), int64(3), int64(2), int64(0), int64(8), int64(1), false, 9*second)
	f.Fuzz(func(t *testing.T, data []byte, kind byte, number, granted, used, returned, told, wanted, part int64, dropped bool, now int64) {
		now = min(max(0, now), maxTime/2)
		entry := Entry{Account: number, Granted: granted, Used: used, Returned: returned, Told: told, Wanted: wanted, Over: used, Spare: part, Part: part, Dropped: dropped, Tokens: told}
		tenure := Tenure{Number: min(maxTotal, max(1, number)), Ranks: [len(Horizons)]int64{1, 1, 1, 1, 1}}
		var again []byte
		var share Share
		switch kind % 3 {
		case 0:
			r, err := DecodeQuota(data)
			if err != nil {
				return
			}
			if len(data) > 0 && !bytes.Equal(r.Encode(), data) {
				t.Fatalf("%s was read, and is written as %s", data, r.Encode())
			}
			quota := Quota{Limit: 1000, Period: time.Minute}
			share = r.Settle(quota, tenure, entry, now)
			if share.Left < 0 || share.Reset < 0 || r.Consumed(quota, now) < 0 {
				t.Fatalf("%+v", share)
			}
			again = r.Encode()
			_, err = DecodeQuota(again)
			if err != nil {
				t.Fatalf("%s cannot be read again: %v", again, err)
			}
		case 1:
			r, err := DecodeRate(data)
			if err != nil {
				return
			}
			if len(data) > 0 && !bytes.Equal(r.Encode(), data) {
				t.Fatalf("%s was read, and is written as %s", data, r.Encode())
			}
			share = r.Settle(Rate{Limit: 1000, Burst: 1000, Period: time.Second}, tenure, entry, now)
			if share.Interval < 0 || share.Capacity < 0 || share.Fill < 0 || share.Capacity > 1000 || share.Fill > share.Capacity {
				t.Fatalf("%+v", share)
			}
			again = r.Encode()
			_, err = DecodeRate(again)
			if err != nil {
				t.Fatalf("%s cannot be read again: %v", again, err)
			}
		case 2:
			r, err := DecodeRegistry(data)
			if err != nil {
				return
			}
			if _, _, err := r.Register(Instance{uint32(number), 1, 1, 1}, now); err != nil {
				return
			}
			again = r.Encode()
			_, err = DecodeRegistry(again)
			if err != nil {
				t.Fatalf("%s cannot be read again: %v", again, err)
			}
		}
		if share.Keep < 0 || share.Granted < 0 {
			t.Fatalf("%+v", share)
		}
	})
}

func TestStandingCreditsNeverExceedTheReserve(t *testing.T) {
	for reserve := range int64(maxReserve + 1) {
		sum := int64(0)
		for rank := int64(0); rank <= MaxRank; rank++ {
			sum += Standing(reserve, rank)
		}
		if sum > reserve {
			t.Fatalf("reserve %d: the credits of all ranks come to %d", reserve, sum)
		}
	}
	for _, test := range []struct{ reserve, rank, want int64 }{
		{0, 1, 0}, {1, 1, 1}, {1, 2, 0}, {3, 3, 1}, {31, 1, 8}, {31, 16, 1}, {31, 17, 0}, {1024, 1, 257}, {1024, 512, 1}, {1024, 0, 0},
	} {
		if got := Standing(test.reserve, test.rank); got != test.want {
			t.Errorf("reserve %d, rank %d: got %d, want %d", test.reserve, test.rank, got, test.want)
		}
	}
}

func TestReserveOfRateLimits(t *testing.T) {
	for _, plan := range []Rate{
		{1, 1, time.Second}, {10, 10, time.Second}, {10, 10, time.Hour}, {1, 1000, time.Hour}, {1e9, 1e9, time.Second}, {100, 3, time.Minute}, {1000, 100_000, time.Hour},
	} {
		reserve, horizon := plan.reserve()
		if reserve > max(1, plan.Burst)/3 || horizon != Horizons[plan.Horizon()] {
			t.Errorf("%+v: reserve %d, horizon %v", plan, reserve, horizon)
		}
		rate := float64(plan.Limit) / plan.Period.Seconds()
		if cost := float64(reserve) / horizon.Seconds(); cost > rate/48 {
			t.Errorf("%+v: the reserve costs %g of %g tokens a second", plan, cost, rate)
		}
		tokens, capacity := plan.pool()
		if float64(tokens)+float64(reserve)/horizon.Seconds()*1e9 > rate*1e9+1 || capacity+reserve*nano > plan.Burst*nano {
			t.Errorf("%+v: the pool has %d and %d", plan, tokens, capacity)
		}
	}
}

func TestRegister(t *testing.T) {
	r := &Registry{}
	register := func(i uint32, now int64) Tenure {
		t.Helper()
		tenure, changed, err := r.Register(Instance{i}, now)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := DecodeRegistry(r.Encode()); err != nil || !bytes.Equal(r.Encode(), again.Encode()) {
			t.Fatalf("%s was read as %+v, %v", r.Encode(), again, err)
		}
		if !changed && tenure.Lasts <= int64(renewal) {
			t.Errorf("a tenure that lasts %v was not extended", time.Duration(tenure.Lasts))
		}
		return tenure
	}
	first, other := register(1, second), register(2, second)
	if other.Number <= first.Number || first.Ranks[0] != 1 || other.Ranks[4] != 2 {
		t.Errorf("got %+v and %+v", first, other)
	}
	if again := register(1, 2*second); again.Number != first.Number || again.Lasts != int64(TenureLife)-second {
		t.Errorf("got %+v", again)
	}
	if again := register(1, 62*second); again.Number != first.Number || again.Lasts != int64(TenureLife) {
		t.Errorf("got %+v", again)
	}
	// The second has ended, and its rank is still its own where the horizon is long.
	later := second + int64(TenureLife) + margin(TenureLife)
	register(1, later-60*second)
	if third := register(3, later); third.Ranks[0] != 3 || third.Ranks[1] != 3 {
		t.Errorf("got %+v", third)
	}
	if fourth := register(4, later+int64(time.Minute)); fourth.Ranks[0] != 2 || fourth.Ranks[1] != 4 {
		t.Errorf("got %+v", fourth)
	}
	// It is another tenure when it comes back.
	last := register(2, later+61*second)
	if last.Number <= other.Number {
		t.Errorf("got %+v", last)
	}
	// Nor does a number come again when the store has lost the registry.
	r = &Registry{}
	if lost := register(2, later+62*second); lost.Number <= last.Number {
		t.Errorf("got %+v after %+v", lost, last)
	}
}

func TestRegistryIsFull(t *testing.T) {
	r := &Registry{}
	for i := range MaxTenures {
		tenure, _, err := r.Register(Instance{uint32(i)}, second)
		if err != nil {
			t.Fatal(err)
		}
		if want := int64(i + 1); want <= MaxRank && tenure.Ranks[2] != want || want > MaxRank && tenure.Ranks[2] != 0 {
			t.Fatalf("tenure %d has rank %d", want, tenure.Ranks[2])
		}
	}
	if _, _, err := r.Register(Instance{1, 1}, second); !errors.Is(err, ErrFull) {
		t.Errorf("got %v, want ErrFull", err)
	}
	if _, _, err := r.Register(Instance{1, 1}, second+int64(TenureLife)+margin(TenureLife)); err != nil {
		t.Errorf("got %v after all have ended", err)
	}
}

func TestLevel(t *testing.T) {
	for _, test := range []struct {
		pool  int64
		needs []int64
		want  int64
	}{
		{10, []int64{3, 4}, math.MaxInt64},
		{10, []int64{3, 4, 0, 3}, math.MaxInt64},
		{10, []int64{16, 2, 2}, 6},
		{10, []int64{16, 16, 2}, 4},
		{9, []int64{16, 16, 2}, 4},
		{1, []int64{2, 2, 2}, 1},
		{0, []int64{2}, 0},
		{-5, []int64{2}, 0},
		{5, []int64{3, 3}, 3},
		{8, []int64{math.MaxInt64, math.MaxInt64}, 4},
	} {
		got := level(test.pool, test.needs)
		if got != test.want {
			t.Errorf("%d among %d: got %d, want %d", test.pool, test.needs, got, test.want)
		}
	}
}

func BenchmarkSettle(b *testing.B) {
	for _, gateways := range []int{3, 500} {
		for _, kind := range []string{"quota", "rate"} {
			b.Run(kind+"/"+map[int]string{3: "3", 500: "500"}[gateways]+" gateways", func(b *testing.B) {
				benchmark(b, kind, gateways)
			})
		}
	}
}

// benchmark settles reports of gateways with 100 buckets each, as a control plane does
// that shares the store with others: each record is read, settled and written.
func benchmark(b *testing.B, kind string, gateways int) {
	b.Helper()
	const buckets = 100
	records := make([][]byte, buckets)
	quota, rate := Quota{100_000_000, time.Hour}, Rate{100_000, 100_000, time.Second}
	granted := make([]int64, gateways*buckets)
	now := second
	settle := func(i int) {
		g, bucket := i/buckets%gateways, i%buckets
		at := &granted[g*buckets+bucket]
		now += second / int64(gateways*buckets)
		e := Entry{Account: 1, Granted: *at, Used: *at, Told: *at, Wanted: 50, Over: second}
		if kind == "quota" {
			r, err := DecodeQuota(records[bucket])
			if err != nil {
				b.Fatal(err)
			}
			*at = r.Settle(quota, Tenure{Number: int64(g + 1)}, e, now).Granted
			records[bucket] = r.Encode()
			return
		}
		r, err := DecodeRate(records[bucket])
		if err != nil {
			b.Fatal(err)
		}
		*at = r.Settle(rate, Tenure{Number: int64(g + 1)}, e, now).Granted
		records[bucket] = r.Encode()
	}
	for i := range 2 * gateways * buckets {
		settle(i)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		settle(i)
		i++
	}
	b.ReportMetric(float64(len(records[0])), "bytes/record")
}

// A record that was kept for as long as Keep says is no other than a new one.
func TestKeep(t *testing.T) {
	quota, rate := Quota{100, time.Minute}, Rate{100, 100, time.Second}
	q, r := &QuotaRecord{}, &RateRecord{}
	tenure := Tenure{Number: 1}
	e := Entry{Account: 1, Wanted: 20, Over: second}
	now := 1000 * second
	granted := q.Settle(quota, tenure, e, now).Granted
	if granted == 0 || r.Settle(rate, tenure, e, now).Part == 0 {
		t.Fatal("nothing was granted")
	}
	if kept := q.Keep(quota, now); kept <= time.Minute+Life || kept > time.Minute+2*Life {
		t.Errorf("a quota is kept for %v", kept)
	}
	if kept := r.Keep(now); kept <= Life || kept > 2*Life {
		t.Errorf("a rate limit is kept for %v", kept)
	}
	end := now + int64(q.Keep(quota, now))
	if got := q.Consumed(quota, end-second); got != granted {
		t.Errorf("%d are consumed before the end, want %d", got, granted)
	}
	if got := q.Consumed(quota, end); got != 0 {
		t.Errorf("%d are consumed at the end", got)
	}
	end = now + int64(r.Keep(now))
	if r.advance(end); r.tokens != r.capacity {
		t.Errorf("%d of %d tokens at the end", r.tokens, r.capacity)
	}
}

// An edit that lowers a limit by as much as can be overflows nothing.
func TestLargeEdit(t *testing.T) {
	r := &RateRecord{}
	now := 1000 * second
	for i := range int64(20) {
		r.Settle(Rate{maxTokens, maxTokens, time.Second}, Tenure{Number: i + 1}, Entry{Account: 1, Wanted: maxTokens, Over: second, Part: i}, now)
	}
	for range 100 {
		now += second / 10
		s := r.Settle(Rate{1, 1, time.Hour}, Tenure{Number: 1}, Entry{Account: 1, Wanted: 1, Over: second}, now)
		if s.Left > 0 || r.tokens > 0 || r.tokens < mostMissing {
			t.Fatalf("%+v with %d nanotokens", s, r.tokens)
		}
		if _, err := DecodeRate(r.Encode()); err != nil {
			t.Fatal(err)
		}
	}
}
