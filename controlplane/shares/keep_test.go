package shares

import (
	"testing"
	"time"
)

func TestKeepQuota(t *testing.T) {
	plan := Quota{Limit: 1000, Period: time.Hour}
	now := 1000 * second
	r := &QuotaRecord{}
	if got := r.Keep(plan, now); got != 0 {
		t.Errorf("a new one: got %v", got)
	}
	tenure := Tenure{Number: 1}
	entry := Entry{Account: 1, Over: second}
	if r.Settle(plan, tenure, entry, now); r.Keep(plan, now) != time.Duration(held) {
		t.Errorf("nothing is held: got %v", r.Keep(plan, now))
	}
	entry.Wanted = 10
	share := r.Settle(plan, tenure, entry, now)
	const slot = time.Hour/64 + 1
	if got, want := r.Keep(plan, now), time.Duration(held)+time.Hour+slot; got != want {
		t.Errorf("units are held: got %v, want %v", got, want)
	}
	entry.Wanted, entry.Granted, entry.Used = 0, share.Granted, share.Granted
	r.Settle(plan, tenure, entry, now)
	if got, want := r.Keep(plan, now), time.Hour+slot-1; got != want {
		t.Errorf("units are spent: got %v, want %v", got, want)
	}
	// A store whose clock was set back keeps it for longer.
	if got, want := r.Keep(plan, now-60*second), time.Hour+slot-1+time.Minute; got != want {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestKeepPlans looks whether a new record says the same as one that need not be kept any
// more.
func TestKeepPlans(t *testing.T) {
	tenures := []Tenure{{Number: 1, Ranks: [len(Horizons)]int64{1, 1, 1, 1, 1}}, {Number: 2}}
	ask := Entry{Account: 1, Wanted: 10_000, Over: second}
	for _, plan := range []Quota{{5, time.Second}, {100, time.Minute}, {10_000, 720 * time.Hour}} {
		r := &QuotaRecord{}
		now := 1000 * second
		for i := range int64(100) {
			e := ask
			e.Used, e.Told = i, i
			r.Settle(plan, tenures[i%2], e, now)
			now += second
		}
		now += int64(r.Keep(plan, now))
		if got, want := r.Settle(plan, tenures[0], ask, now), (&QuotaRecord{}).Settle(plan, tenures[0], ask, now); got != want {
			t.Errorf("%v: got %+v, want %+v", plan, got, want)
		}
	}
	for _, plan := range []Rate{{1, 1, time.Second}, {1, 30, time.Minute}, {1000, 5000, time.Second}, {100, 10, time.Second}} {
		r := &RateRecord{}
		now := 1000 * second
		larger := plan
		larger.Burst *= 3
		for i := range int64(100) {
			p := plan
			if i < 50 {
				p = larger
			}
			r.Settle(p, tenures[i%2], ask, now)
			now += second
		}
		now += int64(r.Keep(now))
		if got, want := r.Settle(plan, tenures[0], ask, now), (&RateRecord{}).Settle(plan, tenures[0], ask, now); got != want {
			t.Errorf("%v: got %+v, want %+v", plan, got, want)
		}
	}
}
