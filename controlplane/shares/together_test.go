package shares

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"
)

// teller is a gateway that is not quite right in what it tells.
type teller struct {
	tenure                                Tenure
	account, granted, used, returned, old int64
	part                                  int64
}

func (g *teller) entry(random *rand.Rand, most int64) Entry {
	switch random.IntN(30) {
	case 0:
		g.account++
		g.granted, g.used, g.returned, g.old = 0, 0, 0, 0
	case 1:
		g.used += random.Int64N(3)
	}
	if left := g.granted - g.used; left > 0 {
		g.used += random.Int64N(left + 1)
		g.returned = min(g.used, g.returned+random.Int64N(2))
	}
	e := Entry{
		Account: g.account, Granted: g.granted, Used: g.used, Returned: g.returned, Told: g.old,
		Wanted: random.Int64N(most), Over: second, Spare: random.Int64N(2), Part: g.part,
	}
	if random.IntN(20) == 0 {
		e.Dropped, e.Tokens = true, random.Int64N(5)
	}
	return e
}

func (g *teller) take(s Share, random *rand.Rand) {
	if s.Account == g.account && random.IntN(10) > 0 {
		g.granted, g.part, g.old = max(g.granted, s.Granted), s.Part, g.used
	}
}

// TestTogether settles entries of many gateways together, by a record that is kept and by
// one that is read anew each time: both say the same, and what is reckoned on the way is
// what all accounts come to.
func TestTogether(t *testing.T) {
	limits := []int64{1, 20, 1000, 100_000, maxTokens}
	for seed := range uint64(100) {
		random := rand.New(rand.NewPCG(seed, 3))
		limit := func() (Quota, Rate) {
			n := limits[random.IntN(len(limits))]
			return Quota{n, 20 * time.Second}, Rate{n, 1 + random.Int64N(2*n), time.Second}
		}
		quota, rate := limit()
		quotaGateways, rateGateways := make([]teller, 1+random.IntN(20)), make([]teller, 20)
		for i := range quotaGateways {
			quotaGateways[i].tenure = Tenure{Number: int64(i + 1), Ranks: [len(Horizons)]int64{int64(i), 1, 1, 1, 1}}
		}
		for i := range rateGateways {
			rateGateways[i].tenure = Tenure{Number: int64(i + 1)}
		}
		q, r := &QuotaRecord{}, &RateRecord{}
		for now := 1000 * second; now < 1100*second; now += random.Int64N(3 * second) {
			if random.IntN(20) == 0 {
				quota, rate = limit()
			}
			if random.IntN(10) == 0 {
				now += int64(Life)
			}
			again, err := DecodeQuota(q.Encode())
			if err != nil {
				t.Fatal(err)
			}
			together(t, seed, quotaGateways, random, quota.Limit, func(g *teller, e Entry) {
				q.Take(quota, g.tenure, e, now)
				again.Take(quota, g.tenure, e, now)
			}, func(g *teller, e Entry) (Share, Share) {
				return q.Give(quota, g.tenure, e), again.Give(quota, g.tenure, e)
			})
			if !bytes.Equal(q.Encode(), again.Encode()) {
				t.Fatalf("seed %d: kept %s, read anew %s", seed, q.Encode(), again.Encode())
			}
			checkQuota(t, seed, q)
			other, err := DecodeRate(r.Encode())
			if err != nil {
				t.Fatal(err)
			}
			together(t, seed, rateGateways, random, rate.Limit, func(g *teller, e Entry) {
				r.Take(rate, g.tenure, e, now)
				other.Take(rate, g.tenure, e, now)
			}, func(g *teller, e Entry) (Share, Share) {
				return r.Give(rate, g.tenure, e), other.Give(rate, g.tenure, e)
			})
			if !bytes.Equal(r.Encode(), other.Encode()) {
				t.Fatalf("seed %d: kept %s, read anew %s", seed, r.Encode(), other.Encode())
			}
			checkRate(t, seed, r)
		}
	}
}

// together has some gateways tell something, and then all of these answered.
func together(t *testing.T, seed uint64, gateways []teller, random *rand.Rand, limit int64, take func(*teller, Entry), give func(*teller, Entry) (Share, Share)) {
	t.Helper()
	entries := map[int]Entry{}
	places := random.Perm(len(gateways))[:1+random.IntN(len(gateways))]
	for _, place := range places {
		entries[place] = gateways[place].entry(random, 2*limit/int64(len(gateways))+2)
		take(&gateways[place], entries[place])
	}
	for _, place := range places {
		share, same := give(&gateways[place], entries[place])
		if share != same {
			t.Fatalf("seed %d: kept %+v, read anew %+v", seed, share, same)
		}
		gateways[place].take(share, random)
	}
}

func checkQuota(t *testing.T, seed uint64, r *QuotaRecord) {
	t.Helper()
	var lent, owed, needs int64
	for i := range r.accounts {
		a := &r.accounts[i]
		lent += max(0, a.balance())
		owed += max(-a.credit, a.balance())
		needs += r.division.needs.each[i]
	}
	if d := &r.division; !d.good || d.lent != lent || d.owed != owed || d.needs.sum != needs {
		t.Fatalf("seed %d: got %+v, want %d lent, %d owed, %d needed", seed, d, lent, owed, needs)
	}
}

func checkRate(t *testing.T, seed uint64, r *RateRecord) {
	t.Helper()
	var lent, single int64
	for i := range r.accounts {
		lent += r.accounts[i].tokens()
		single += r.division.single.each[i]
	}
	rate, capacity := r.free()
	if d := &r.division; !d.good || d.rate != rate || d.capacity != capacity || d.lent != lent || d.single.sum != single {
		t.Fatalf("seed %d: got %+v, want rate %d, capacity %d, %d lent, %d needed", seed, d, rate, capacity, lent, single)
	}
	if r.tokens > capacity {
		t.Fatalf("seed %d: %d tokens, and room for %d", seed, r.tokens, capacity)
	}
}

// TestTogetherIsFair lends what there is to all who ask at once: none gets what another
// has to go without, whoever is answered first.
func TestTogetherIsFair(t *testing.T) {
	q := &QuotaRecord{}
	plan := Quota{Limit: 30, Period: time.Hour}
	var entries []Entry
	for i := range int64(10) {
		entries = append(entries, Entry{Account: 1, Wanted: 10, Over: second})
		q.Take(plan, Tenure{Number: i + 1}, entries[i], second)
	}
	for i := range int64(10) {
		if got := q.Give(plan, Tenure{Number: i + 1}, entries[i]); got.Granted != 3 {
			t.Errorf("gateway %d: got %+v, want 3 units", i, got)
		}
	}
}

// BenchmarkRound settles what a round has of one bucket: 50 entries, of 500 gateways.
func BenchmarkRound(b *testing.B) {
	const gateways, each = 500, 50
	plan := Rate{10_000, 10_000, time.Second}
	tellers := make([]teller, gateways)
	for i := range tellers {
		tellers[i] = teller{tenure: Tenure{Number: int64(i + 1)}, account: 1}
	}
	r := &RateRecord{}
	now, next := 1000*second, 0
	round := func() {
		now += second / (gateways / each)
		part := tellers[next : next+each]
		next = (next + each) % gateways
		for i := range part {
			g := &part[i]
			r.Take(plan, g.tenure, Entry{Account: 1, Granted: g.granted, Used: g.granted, Wanted: 3, Over: second, Part: g.part}, now)
		}
		for i := range part {
			g := &part[i]
			s := r.Give(plan, g.tenure, Entry{Account: 1})
			g.granted, g.part = s.Granted, s.Part
		}
	}
	for range 3 * gateways / each {
		round()
	}
	b.ReportAllocs()
	bytes := 0
	for b.Loop() {
		round()
		bytes = len(r.Encode())
	}
	b.ReportMetric(float64(bytes), "bytes/record")
}
