package shares

import (
	"testing"
	"time"
)

// TestAskInBursts has a gateway in need report often, and tell of several requests at
// once or of none. It keeps its part: one that is given and taken in turn makes no
// token, and while both gateways had parts nobody was left to give it any.
func TestAskInBursts(t *testing.T) {
	plan := Rate{Limit: 60, Burst: 60, Period: time.Second}
	var r RateRecord
	now := second
	settle := func(tenure int64, e Entry) Share {
		e.Account = 1
		return r.Settle(plan, Tenure{Number: tenure}, e, now)
	}
	parts := [2]int64{}
	for n := range int64(200) {
		now += second / 20
		if n%20 == 0 {
			parts[1] = settle(2, Entry{Wanted: 80, Over: second, Part: parts[1]}).Part
		}
		s := settle(1, Entry{Wanted: n % 4 / 3 * 16, Over: second / 20, Part: parts[0]})
		if parts[0] = s.Part; n > 50 && s.Interval == 0 {
			t.Fatalf("report %d is answered with %+v, want a part", n, s)
		}
	}
	for range 2 {
		now += second / 2
		if s := settle(1, Entry{Over: second / 2, Part: parts[0]}); s.Interval != 0 {
			t.Errorf("without requests for long: got %+v, want no part", s)
		}
	}
}
