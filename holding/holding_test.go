package holding

import (
	"testing"
	"time"

	"github.com/tollgate-apim/tollgate/usage"
)

// step is what happens to a holding at a time, and what comes of it.
type step struct {
	at int64 // in milliseconds
	// ask sends requests, of which pass have to be let through with a standing credit.
	ask, pass, standing int64
	// report makes a report, which has to tell of these.
	report *usage.Entry
	// share answers the last one, which was sent at sentAt.
	share  *usage.Share
	sentAt int64
	urgent bool
	closed bool
}

const ms = second / 1000

func TestHolding(t *testing.T) {
	for _, test := range []struct {
		name  string
		steps []step
	}{
		{"units are spent, and end", []step{
			{at: 0, ask: 2, pass: 0, urgent: true},
			{at: 10, report: &usage.Entry{Wanted: 2, Over: 10 * ms, Spare: 1, Dropped: true}},
			{at: 20, share: &usage.Share{Granted: 10, Keep: 10, Lasts: 15 * second}, sentAt: 10},
			{at: 30, ask: 4, pass: 4},
			{at: 15_009, ask: 3, pass: 3},
			{at: 15_010, ask: 1, pass: 0, urgent: true},
			{at: 15_020, report: &usage.Entry{Granted: 10, Used: 10, Told: 0, Wanted: 8, Over: 15_010 * ms, Spare: 1, Dropped: true}},
			{at: 15_030, share: &usage.Share{Granted: 10, Lasts: 15 * second}, sentAt: 15_020},
			{at: 15_040, closed: true},
		}},
		{"an answer that is too late brings nothing", []step{
			{at: 0, ask: 1, pass: 0, urgent: true},
			{at: 0, report: &usage.Entry{Wanted: 1, Spare: 1, Dropped: true}},
			{at: 15_000, share: &usage.Share{Granted: 10, Keep: 10, Lasts: 15 * second}, sentAt: 0},
			{at: 15_000, ask: 1, pass: 0, urgent: true},
		}},
		{"the same grant again is no more", []step{
			{at: 0, report: &usage.Entry{Spare: 1, Dropped: true}},
			{at: 0, share: &usage.Share{Granted: 3, Keep: 3, Lasts: 15 * second}},
			{at: 1, ask: 3, pass: 3},
			{at: 1, share: &usage.Share{Granted: 3, Keep: 3, Lasts: 15 * second}},
			{at: 2, ask: 1, pass: 0, urgent: true},
		}},
		{"a refused request is not urgent where only time helps", []step{
			{at: 0, ask: 1, pass: 0, urgent: true},
			{at: 0, report: &usage.Entry{Wanted: 1, Spare: 1, Dropped: true}},
			{at: 1, ask: 1, pass: 0},
			{at: 2, share: &usage.Share{Lasts: 15 * second}},
			{at: 3, ask: 1, pass: 0},
			// As long as the plan has nothing left, that stays so.
			{at: 1000, report: &usage.Entry{Wanted: 2, Over: second, Spare: 1, Dropped: true}},
			{at: 1000, share: &usage.Share{Lasts: 15 * second}, sentAt: 1000},
			{at: 2000, report: &usage.Entry{Over: second, Spare: 1, Dropped: true}},
			{at: 2000, share: &usage.Share{Lasts: 15 * second}, sentAt: 2000},
			{at: 2100, ask: 1, pass: 0},
			{at: 3000, report: &usage.Entry{Wanted: 1, Over: second, Spare: 1, Dropped: true}},
			{at: 3000, share: &usage.Share{Lasts: 15 * second}, sentAt: 3000},
			{at: 4000, report: &usage.Entry{Over: second, Spare: 1, Dropped: true}},
			{at: 4000, share: &usage.Share{Lasts: 15 * second, Left: 5}, sentAt: 4000},
			{at: 4100, ask: 1, pass: 0, urgent: true},
		}},
		{"debt that is not granted is not urgent again", []step{
			{at: 0, ask: 1, pass: 1, standing: 1, urgent: true},
			{at: 0, report: &usage.Entry{Used: 1, Wanted: 1, Dropped: true}, standing: 1},
			{at: 1, share: &usage.Share{Lasts: 15 * second}},
			{at: 2, ask: 1, pass: 0, standing: 1},
		}},
		{"a part that stays as it is is not urgent again", []step{
			{at: 0, report: &usage.Entry{Spare: 1, Dropped: true}},
			{at: 0, share: &usage.Share{Lasts: 15 * second, Part: 1, Interval: 100 * ms, Capacity: 1, Fill: 1}},
			{at: 0, ask: 2, pass: 1, urgent: true},
			{at: 50, report: &usage.Entry{Wanted: 2, Over: 50 * ms, Spare: 1, Part: 1}},
			{at: 50, share: &usage.Share{Lasts: 15 * second, Part: 1, Interval: 100 * ms, Capacity: 1, Left: 3}, sentAt: 50},
			{at: 1000, ask: 1, pass: 1},
			{at: 1050, report: &usage.Entry{Wanted: 1, Over: second, Spare: 1, Part: 1}},
			{at: 1050, share: &usage.Share{Lasts: 15 * second, Part: 1, Interval: 100 * ms, Capacity: 1, Left: 3}, sentAt: 1050},
			{at: 1060, ask: 2, pass: 0},
		}},
		{"a standing credit is debt until it is granted", []step{
			{at: 0, ask: 5, pass: 3, standing: 3, urgent: true},
			{at: 0, report: &usage.Entry{Used: 3, Wanted: 5, Dropped: true}, standing: 3},
			{at: 1, ask: 1, pass: 0, standing: 3},
			{at: 2, share: &usage.Share{Granted: 8, Keep: 8, Lasts: 15 * second}},
			{at: 3, ask: 9, pass: 8, standing: 3, urgent: true},
		}},
		{"what is not to be kept is given back, all of it when idle", []step{
			{at: 0, report: &usage.Entry{Spare: 1, Dropped: true}},
			{at: 0, share: &usage.Share{Granted: 10, Keep: 10, Lasts: 15 * second}},
			{at: 100, ask: 1, pass: 1},
			{at: 1000, report: &usage.Entry{Granted: 10, Used: 1, Wanted: 1, Over: second, Spare: 1, Dropped: true}},
			{at: 1000, share: &usage.Share{Granted: 10, Keep: 4, Lasts: 15 * second}, sentAt: 1000},
			{at: 1100, ask: 1, pass: 1},
			{at: 2000, report: &usage.Entry{Granted: 10, Used: 6, Returned: 4, Told: 1, Wanted: 1, Over: second, Spare: 1, Dropped: true}},
			{at: 2000, share: &usage.Share{Granted: 10, Keep: 4, Lasts: 15 * second}, sentAt: 2000},
			{at: 3000, report: &usage.Entry{Granted: 10, Used: 9, Returned: 7, Told: 6, Over: second, Spare: 1, Dropped: true}},
			{at: 3000, share: &usage.Share{Granted: 10, Keep: 1, Lasts: 15 * second}, sentAt: 3000},
			{at: 3100, ask: 2, pass: 1, urgent: true},
		}},
		{"a part makes tokens, keeps them when it is exchanged, and is dropped when idle", []step{
			{at: 0, report: &usage.Entry{Spare: 1, Dropped: true}},
			{at: 0, share: &usage.Share{Lasts: 15 * second, Part: 1, Interval: 100 * ms, Capacity: 5, Fill: 3}},
			{at: 0, ask: 4, pass: 3, urgent: true},
			{at: 250, ask: 3, pass: 2, urgent: true},
			{at: 300, report: &usage.Entry{Wanted: 7, Over: 300 * ms, Spare: 1, Part: 1}},
			{at: 300, share: &usage.Share{Lasts: 15 * second, Part: 2, Interval: 10 * ms, Capacity: 2, Fill: 0}, sentAt: 300},
			{at: 300, ask: 2, pass: 1, urgent: true},
			{at: 1000, ask: 3, pass: 2, urgent: true},
			{at: 1300, report: &usage.Entry{Wanted: 5, Over: second, Spare: 1, Part: 2}},
			{at: 1300, share: &usage.Share{Lasts: 15 * second, Part: 2, Interval: 10 * ms, Capacity: 2}, sentAt: 1300},
			{at: 2300, report: &usage.Entry{Over: second, Spare: 1, Part: 2, Dropped: true, Tokens: 2}},
			{at: 2300, share: &usage.Share{Lasts: 15 * second, Part: 3}, sentAt: 2300},
			{at: 3300, report: &usage.Entry{Over: second, Spare: 1, Part: 3, Dropped: true}},
			{at: 3300, share: &usage.Share{Lasts: 15 * second, Part: 3}, sentAt: 3300},
			{at: 3301, closed: true},
			{at: 3301, ask: 1, pass: 0, urgent: true},
		}},
		{"a unit that is lent in advance is not used before it is there", []step{
			{at: 0, report: &usage.Entry{Spare: 1, Dropped: true}},
			{at: 0, share: &usage.Share{Granted: 2, Keep: 2, Lasts: 15 * second, After: 500 * ms}},
			{at: 1, ask: 3, pass: 1, urgent: true},
			{at: 499, ask: 1, pass: 0, urgent: true},
			{at: 500, ask: 2, pass: 1, urgent: true},
		}},
		{"nor does the standing credit come back before", []step{
			{at: 0, ask: 2, pass: 1, standing: 1, urgent: true},
			{at: 0, report: &usage.Entry{Used: 1, Wanted: 2, Dropped: true}, standing: 1},
			{at: 0, share: &usage.Share{Granted: 1, Keep: 1, Lasts: 15 * second, After: 500 * ms}},
			{at: 100, ask: 1, pass: 0, standing: 1},
			{at: 300, report: &usage.Entry{Granted: 1, Used: 1, Told: 1, Wanted: 1, Over: 300 * ms, Dropped: true}, standing: 1},
			{at: 300, share: &usage.Share{Granted: 1, Lasts: 15 * second}, sentAt: 300},
			{at: 499, ask: 1, pass: 0, standing: 1},
			{at: 500, ask: 2, pass: 1, standing: 1, urgent: true},
		}},
		{"what is used is told at once if that is wished, and no more often", []step{
			{at: 0, report: &usage.Entry{Spare: 1, Dropped: true}},
			{at: 0, share: &usage.Share{Granted: 3, Keep: 3, Lasts: 15 * second, Tell: 150 * ms}},
			{at: 149, ask: 1, pass: 1},
			{at: 150, ask: 1, pass: 1, urgent: true},
			{at: 160, report: &usage.Entry{Granted: 3, Used: 2, Wanted: 2, Over: 160 * ms, Spare: 1, Dropped: true}},
			{at: 170, share: &usage.Share{Granted: 4, Keep: 2, Lasts: 15 * second, Tell: 1}, sentAt: 160},
			{at: 259, ask: 1, pass: 1},
			{at: 260, ask: 2, pass: 1, urgent: true},
			{at: 270, report: &usage.Entry{Granted: 4, Used: 4, Told: 2, Wanted: 3, Over: 110 * ms, Spare: 1, Dropped: true}},
			{at: 280, share: &usage.Share{Granted: 4, Lasts: 15 * second, Reset: 300 * ms, Tell: 150 * ms}, sentAt: 270},
			{at: 579, ask: 1, pass: 0},
			{at: 580, ask: 1, pass: 0, urgent: true},
		}},
		{"an answer of another account is none", []step{
			{at: 0, report: &usage.Entry{Spare: 1, Dropped: true}},
			{at: 0, share: &usage.Share{Account: 6, Granted: 3, Keep: 3, Lasts: 15 * second}},
			{at: 1, ask: 1, pass: 0},
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := NewHolding(7, 0)
			for i := range test.steps {
				takeStep(t, h, i, test.steps[i])
			}
		})
	}
}

func takeStep(t *testing.T, h *Holding, i int, s step) {
	t.Helper()
	now := s.at * ms
	passed := int64(0)
	for n := int64(0); n < s.ask; n++ {
		if Room(h, s.standing, now) {
			Spend(h, now)
			passed++
		}
	}
	if passed != s.pass {
		t.Errorf("step %d: %d requests pass, want %d", i, passed, s.pass)
	}
	if s.report != nil {
		want := *s.report
		want.Account = 7
		if got := Report(h, s.standing, now); got != want {
			t.Errorf("step %d: got entry %+v, want %+v", i, got, want)
		}
	}
	if s.share != nil {
		share := *s.share
		if share.Account == 0 {
			share.Account = 7
		}
		Apply(h, &share, s.sentAt*ms, now)
	}
	if got := Urgent(h, now); s.ask > 0 && got != s.urgent {
		t.Errorf("step %d: urgent %t, want %t", i, got, s.urgent)
	}
	if s.closed && !Closed(h, 1, now) {
		t.Errorf("step %d: not closed: %+v", i, h)
	}
}

// TestStanding: the credits of all ranks come to no more than what is set aside.
func TestStanding(t *testing.T) {
	for reserve := int64(0); reserve <= maxReserve; reserve++ {
		sum := int64(0)
		for rank := int64(1); rank <= MaxRank; rank++ {
			sum += Standing(reserve, rank)
		}
		if sum > reserve {
			t.Fatalf("reserve %d: the credits come to %d", reserve, sum)
		}
	}
	if got := Standing(100, 0); got != 0 {
		t.Errorf("no rank: got %d, want 0", got)
	}
	if got := Standing(1, 1); got != 1 {
		t.Errorf("the first rank of a reserve of 1: got %d, want 1", got)
	}
}

func TestReserves(t *testing.T) {
	type reserved struct {
		reserve int64
		horizon int
	}
	ofQuota := func(limit int64, period time.Duration) reserved {
		reserve, horizon := QuotaReserve(limit, period)
		return reserved{reserve, horizon}
	}
	ofRate := func(limit, burst int64, period time.Duration) reserved {
		reserve, horizon := RateReserve(limit, burst, period)
		return reserved{reserve, horizon}
	}
	for _, test := range []struct {
		name      string
		got, want reserved
	}{
		{"a small quota", ofQuota(31, time.Hour), reserved{0, 1}},
		{"a quota", ofQuota(32, time.Second), reserved{1, 0}},
		{"a month's quota", ofQuota(1000, 720*time.Hour), reserved{31, 3}},
		{"a quota without bounds", ofQuota(1<<60, 9999*time.Hour), reserved{1024, 4}},
		{"no quota", ofQuota(0, time.Hour), reserved{0, 1}},
		{"a fast rate", ofRate(100, 100, time.Second), reserved{33, 0}},
		{"a slow rate", ofRate(10, 10, time.Hour), reserved{3, 2}},
		{"a small burst", ofRate(10, 2, time.Second), reserved{0, 0}},
		{"a rate beyond bounds", ofRate(1<<60, 1<<60, time.Second), reserved{1024, 0}},
	} {
		if test.got != test.want {
			t.Errorf("%s: got %+v, want %+v", test.name, test.got, test.want)
		}
	}
}
