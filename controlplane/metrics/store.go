package metrics

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tollgate-apim/tollgate/controlplane/store"
)

// What became of an operation of the store.
const (
	resultOK       = "ok"
	resultConflict = "conflict" // somebody else was first with a change
	resultCanceled = "canceled" // who had asked for it did not wait
	resultError    = "error"
)

// The operations of the store.
const (
	operationGet  = "get"
	operationSwap = "swap"
)

type storeMetrics struct {
	operations *prometheus.CounterVec
	durations  *prometheus.HistogramVec
}

func newStoreMetrics() storeMetrics {
	m := storeMetrics{
		operations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tollgate_store_operations_total",
			Help: "What the store was asked for, by what became of it.",
		}, []string{"operation", "result"}),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "tollgate_store_operation_duration_seconds",
			Help:    "How long the store took for what it was asked for.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
		}, []string{"operation"}),
	}
	// What has not happened yet is 0, rather than missing.
	for operation, results := range map[string][]string{
		operationGet:  {resultOK, resultCanceled, resultError},
		operationSwap: {resultOK, resultConflict, resultCanceled, resultError},
	} {
		m.durations.WithLabelValues(operation)
		for _, result := range results {
			m.operations.WithLabelValues(operation, result)
		}
	}
	return m
}

// Store returns s, with its operations counted and timed.
func (m *Metrics) Store(s store.Store) store.Store { return measured{s, m.store} }

type measured struct {
	store.Store
	metrics storeMetrics
}

// Get is that of the store.
func (m measured) Get(ctx context.Context, keys ...string) ([]store.Value, time.Time, error) {
	start := time.Now()
	values, now, err := m.Store.Get(ctx, keys...)
	m.metrics.count(operationGet, start, resultOf(err, nil))
	return values, now, err
}

// GetChanged is that of the store, and counts as a get.
func (m measured) GetChanged(ctx context.Context, known ...store.Known) ([]store.Value, time.Time, error) {
	start := time.Now()
	values, now, err := m.Store.GetChanged(ctx, known...)
	m.metrics.count(operationGet, start, resultOf(err, nil))
	return values, now, err
}

// Swap is that of the store.
func (m measured) Swap(ctx context.Context, changes ...store.Change) ([]int64, error) {
	start := time.Now()
	made, err := m.Store.Swap(ctx, changes...)
	m.metrics.count(operationSwap, start, resultOf(err, made))
	return made, err
}

func (m storeMetrics) count(operation string, start time.Time, result string) {
	m.durations.WithLabelValues(operation).Observe(time.Since(start).Seconds())
	m.operations.WithLabelValues(operation, result).Inc()
}

func resultOf(err error, made []int64) string {
	switch {
	case errors.Is(err, context.Canceled):
		return resultCanceled
	case err != nil:
		return resultError
	}
	for _, version := range made {
		if version == 0 {
			return resultConflict
		}
	}
	return resultOK
}
