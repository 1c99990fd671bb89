package stats

import (
	"math"
	"slices"
	"testing"
)

func TestOf(t *testing.T) {
	for _, test := range []struct {
		values []float64
		want   Spread
	}{
		{nil, Spread{}},
		{[]float64{3}, Spread{3, 3, 3, 0}},
		{[]float64{4, 1}, Spread{2.5, 1, 4, 1.5}},
		{[]float64{9, 1, 2}, Spread{2, 1, 9, 1}},
		{[]float64{1, 1, 100, 1, 1}, Spread{1, 1, 100, 0}},
		{[]float64{-2, 2, 6, 10}, Spread{4, -2, 10, 4}},
	} {
		values := slices.Clone(test.values)
		if got := Of(values); got != test.want {
			t.Errorf("%v: got %+v, want %+v", test.values, got, test.want)
		}
		if !slices.Equal(values, test.values) {
			t.Errorf("%v: was changed to %v", test.values, values)
		}
	}
}

func TestRatios(t *testing.T) {
	if got, want := Ratios([]float64{2, 9, 5}, []float64{1, 3, 0}), []float64{2, 3}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := Ratios([]float64{2}, nil); got != nil {
		t.Errorf("got %v, want none", got)
	}
}

func TestDifferences(t *testing.T) {
	if got, want := Differences([]float64{2, 9, 5}, []float64{1, 12}), []float64{1, -3}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestQuantile(t *testing.T) {
	hundred := make([]int64, 100)
	for i := range hundred {
		hundred[i] = int64(100 - i)
	}
	for _, test := range []struct {
		values []int64
		q      float64
		want   int64
	}{
		{nil, 0.5, 0},
		{[]int64{7}, 0, 7},
		{[]int64{7}, 1, 7},
		{[]int64{2, 1}, 0.5, 1},
		{[]int64{3, 1, 2}, 0.5, 2},
		{hundred, 0.99, 99},
		{hundred, 0.991, 100},
		{hundred, 0.5, 50},
		{hundred, 1, 100},
	} {
		if got := Quantile(slices.Clone(test.values), test.q); got != test.want {
			t.Errorf("%v of %v: got %d, want %d", test.q, test.values, got, test.want)
		}
	}
}

// Whatever the values, no quantile lies outside of them, and they grow with q.
func TestQuantileGrows(t *testing.T) {
	values := []float64{5, 1, 4, 4, 2}
	last := math.Inf(-1)
	for q := 0.0; q <= 1; q += 0.01 {
		got := Quantile(values, q)
		if got < last || !slices.Contains(values, got) {
			t.Fatalf("%v: got %v after %v", q, got, last)
		}
		last = got
	}
}
