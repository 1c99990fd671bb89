// Package stats reduces what was measured several times to what is told.
package stats

import (
	"math"
	"slices"
)

// Spread is the middle of some measurements and how far they lie apart.
type Spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
	// MAD is the median of the distances from the median.
	MAD float64 `json:"mad"`
}

// Of returns the spread of values, and the zero Spread of none.
func Of(values []float64) Spread {
	if len(values) == 0 {
		return Spread{}
	}
	s := Spread{Median: median(values), Min: slices.Min(values), Max: slices.Max(values)}
	distances := make([]float64, len(values))
	for i, v := range values {
		distances[i] = math.Abs(v - s.Median)
	}
	s.MAD = median(distances)
	return s
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// Ratios divides each value by the one of the same round. Rounds that one of
// them lacks are left out, and so is a division by nothing.
func Ratios(values, by []float64) []float64 {
	return pairs(values, by, func(a, b float64) (float64, bool) { return a / b, b != 0 })
}

// Differences takes from each value the one of the same round.
func Differences(values, from []float64) []float64 {
	return pairs(values, from, func(a, b float64) (float64, bool) { return a - b, true })
}

func pairs(a, b []float64, f func(a, b float64) (float64, bool)) []float64 {
	var results []float64
	for i := range min(len(a), len(b)) {
		if r, ok := f(a[i], b[i]); ok {
			results = append(results, r)
		}
	}
	return results
}

// Quantile returns the smallest value that at least the share q of all values
// does not exceed, and 0 of none. It sorts values.
func Quantile[T int64 | float64](values []T, q float64) T {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	// Without the tiny step back 0.99 of 100 values would be the 100th.
	rank := int(math.Ceil(q*float64(len(values)) - 1e-9))
	return values[min(max(rank, 1), len(values))-1]
}
