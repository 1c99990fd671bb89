package holding

import (
	"encoding/json"
	"math/rand"
	"testing"

	"github.com/tollgate-apim/tollgate/usage"
)

// TestWildShares: whatever a valid answer says, a gateway can go on reckoning with it,
// tells clients no nonsense, and its reports are valid. A panic here would leave a bucket
// locked, and each request for it waiting.
func TestWildShares(t *testing.T) {
	const seed = 1
	draws := rand.New(rand.NewSource(seed))
	draw := func(numbers ...int64) int64 { return numbers[draws.Intn(len(numbers))] }
	wild := func(kind string, e *usage.Entry, part int64) usage.Share {
		return usage.Share{
			Kind: kind, Bucket: "b", Account: e.Account,
			Granted: draw(0, 1, e.Granted+2, 1<<52-1, 1<<53-1), Keep: draw(0, 1, 1<<40, 1<<61-1), Lasts: draw(0, 15*second, 3600*second, 1<<61-1),
			Part:     draw(0, 1, part),
			Interval: draw(0, 1, 1000, second/4, 3600*second, 1<<31, 1<<61-1),
			Capacity: draw(0, 1, 20, 1_000_000_000, 1<<34, 1<<53-1), Fill: draw(0, 1, 20, 1_000_000_000, 1<<53-1),
			Left: draw(0, 7, 1<<61-1), Reset: draw(0, 1, second, 1<<63-1),
			Tell: draw(0, 1, second/5, 3600*second, 1<<62), After: draw(0, 1, second, 3600*second, 1<<62),
		}
	}
	valid := 0
	for i := 0; i < 300; i++ {
		s := NewStore(10, func() {})
		now := 5 * second
		plan := Plan{Name: "apps/p", Reserve: 10}
		rate := s.Get(usage.KindRate, "b", plan, now)
		both := NewAllowance(s, rate, s.Get(usage.KindQuota, "b", plan, now))
		answer := usage.Answer{Tenure: &usage.Tenure{Number: 1, Ranks: []int64{1}, Lasts: 3600 * second}}
		s.Answer(&answer, now, now)
		for turn := int64(2); turn < 8; turn++ {
			now += draw(second/10, second, 20*second)
			Take(both, now)
			tenure, entries := s.Report(now)
			report := usage.Report{Instance: "0123456789abcdef0123456789abcdef", Sequence: 1, Tenure: tenure, Entries: entries}
			data, err := json.Marshal(report)
			if err == nil {
				_, err = usage.Decode(data)
			}
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			answer.Shares = nil
			for e := range entries {
				share := wild(entries[e].Kind, &entries[e], turn)
				data, _ := json.Marshal(usage.Answer{Sequence: 1, Next: 1, Shares: []usage.Share{share}})
				if _, err := usage.DecodeAnswer(data, 1); err == nil {
					answer.Shares = append(answer.Shares, share)
				}
			}
			valid += len(answer.Shares)
			s.Answer(&answer, now, now)
			for try := int64(1); try < 4; try++ {
				d := Take(both, now+try)
				if d.RateLeft < 0 || d.RateReset < 0 || d.QuotaLeft < 0 || d.QuotaReset < 0 || d.RetryAfter < 0 {
					t.Fatalf("seed %d: got %+v after %+v", seed, d, answer.Shares)
				}
				TakeToken(rate, now+try)
			}
		}
	}
	if valid < 300 {
		t.Errorf("only %d shares were valid, so this test shows little", valid)
	}
}
