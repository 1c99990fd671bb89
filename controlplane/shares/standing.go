package shares

import "time"

// Horizons are for how long a tenure's standing credit keeps its rank to itself, after
// the tenure has ended: those of a limit count by the shortest horizon that covers it.
var Horizons = [...]time.Duration{time.Minute, time.Hour, 24 * time.Hour, 32 * 24 * time.Hour, 417 * 24 * time.Hour}

// MaxRank is the highest rank that has a standing credit of anything.
const MaxRank = 512

// maxReserve is the most that a limit sets aside for all standing credits.
const maxReserve = 2 * MaxRank

// Standing is a standing credit: how many requests a gateway may let pass that it has
// no units for, so that the first ones that come to a bucket need not be refused. They
// count as debt until the control plane has granted as many units. Reserve is what the
// limit sets aside, and rank that of the gateway's tenure, 0 for none.
//
// The credits of any set of different ranks come to at most reserve.
func Standing(reserve, rank int64) int64 {
	if rank < 1 {
		return 0
	}
	// One for each of the first ranks; and of large reserves a half, by a series
	// whose sum is 1.
	each, rest := reserve, int64(0)
	if reserve >= 16 {
		each, rest = reserve-reserve/2, reserve/2
	}
	credit := rest / (rank * (rank + 1))
	if rank <= each {
		credit++
	}
	return credit
}

// Reserve is what a quota sets aside for standing credits.
func (plan Quota) Reserve() int64 {
	return min(maxReserve, max(0, plan.Limit)/32)
}

// Horizon is the place in Horizons by which a gateway's rank for a quota is found.
func (plan Quota) Horizon() int {
	for i, horizon := range Horizons {
		if plan.Period <= horizon {
			return i
		}
	}
	return len(Horizons) - 1
}

// Reserve is what a rate limit sets aside of its burst for standing credits.
func (plan Rate) Reserve() int64 {
	reserve, _ := plan.reserve()
	return reserve
}

// Horizon is the place in Horizons by which a gateway's rank for a rate limit is found.
func (plan Rate) Horizon() int {
	_, horizon := plan.reserve()
	for i := range Horizons {
		if Horizons[i] == horizon {
			return i
		}
	}
	return len(Horizons) - 1
}

// reserve returns what is set aside of a burst, at most a third, and the horizon. A
// rank comes back when its horizon is over, so in the long run the reserve costs
// reserve ÷ horizon of the rate: at most a 48th.
func (plan Rate) reserve() (reserve int64, horizon time.Duration) {
	limit := min(maxTokens, max(0, plan.Limit))
	most := min(maxReserve, min(maxTokens, max(1, plan.Burst))/3)
	for _, horizon = range Horizons {
		reserve = min(most, mulDiv(limit, int64(horizon), 48*int64(plan.Period)))
		if reserve == most {
			break
		}
	}
	return reserve, horizon
}
