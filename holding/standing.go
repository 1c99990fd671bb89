package holding

import (
	"math"
	"math/bits"
	"time"
)

// Horizons are for how long a tenure's standing credit keeps its rank to itself, after
// the tenure has ended: those of a limit count by the shortest horizon that covers it.
var Horizons = [...]time.Duration{time.Minute, time.Hour, 24 * time.Hour, 32 * 24 * time.Hour, 417 * 24 * time.Hour}

// MaxRank is the highest rank that has a standing credit of anything.
const MaxRank = 512

// maxReserve is the most that a limit sets aside for all standing credits, and
// maxTokens the most that a rate limit is reckoned with.
const (
	maxReserve = 2 * MaxRank
	maxTokens  = 1_000_000_000
)

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
	each := reserve
	rest := int64(0)
	if reserve >= 16 {
		rest = reserve / 2
		each = reserve - rest
	}
	credit := rest / (rank * (rank + 1))
	if rank <= each {
		credit++
	}
	return credit
}

// QuotaReserve returns what a quota sets aside for standing credits, and the place in
// Horizons by which a gateway's rank for it is found.
func QuotaReserve(limit int64, period time.Duration) (reserve int64, horizon int) {
	reserve = limit / 32
	if reserve < 0 {
		reserve = 0
	}
	if reserve > maxReserve {
		reserve = maxReserve
	}
	for i := range Horizons {
		if period <= Horizons[i] {
			return reserve, i
		}
	}
	return reserve, len(Horizons) - 1
}

// RateReserve returns what a rate limit sets aside of its burst for standing credits,
// at most a third, and the place in Horizons by which a gateway's rank for it is found.
// A rank comes back when its horizon is over, so in the long run the reserve costs
// reserve ÷ horizon of the rate: at most a 48th.
func RateReserve(limit, burst int64, period time.Duration) (reserve int64, horizon int) {
	if limit < 0 {
		limit = 0
	}
	if limit > maxTokens {
		limit = maxTokens
	}
	if burst < 1 {
		burst = 1
	}
	if burst > maxTokens {
		burst = maxTokens
	}
	most := burst / 3
	if most > maxReserve {
		most = maxReserve
	}
	reserve = 0
	for i := range Horizons {
		reserve = mulDiv(limit, int64(Horizons[i]), 48*int64(period))
		if reserve >= most {
			return most, i
		}
	}
	return reserve, len(Horizons) - 1
}

// mulDiv returns a × b ÷ c, rounded down, or the largest number if it is larger. None
// may be negative, and c not 0.
func mulDiv(a, b, c int64) int64 {
	hi, lo := bits.Mul64(uint64(a), uint64(b))
	if hi >= uint64(c) {
		return math.MaxInt64
	}
	quotient, _ := bits.Div64(hi, lo, uint64(c))
	if quotient > math.MaxInt64 {
		return math.MaxInt64
	}
	return int64(quotient)
}
