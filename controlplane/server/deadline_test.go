package server_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tollgate-apim/tollgate/controlplane/store"
	"github.com/tollgate-apim/tollgate/table"
	"github.com/tollgate-apim/tollgate/usage"
)

// slow is a store that takes its time for everything.
type slow struct {
	store.Store
	takes time.Duration
}

func (s *slow) wait(ctx context.Context) error {
	timer := time.NewTimer(s.takes)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *slow) Get(ctx context.Context, keys ...string) ([]store.Value, time.Time, error) {
	if err := s.wait(ctx); err != nil {
		return nil, time.Time{}, err
	}
	return s.Store.Get(ctx, keys...)
}

func (s *slow) GetChanged(ctx context.Context, known ...store.Known) ([]store.Value, time.Time, error) {
	if err := s.wait(ctx); err != nil {
		return nil, time.Time{}, err
	}
	return s.Store.GetChanged(ctx, known...)
}

func (s *slow) Swap(ctx context.Context, changes ...store.Change) ([]int64, error) {
	if err := s.wait(ctx); err != nil {
		return nil, err
	}
	return s.Store.Swap(ctx, changes...)
}

// TestDeadline has many gateways report while the store is slow: whatever comes of it,
// they are answered before they give up.
func TestDeadline(t *testing.T) {
	for _, takes := range []time.Duration{
		0, 200 * time.Millisecond, 450 * time.Millisecond, 700 * time.Millisecond, time.Second, 1200 * time.Millisecond,
		1240 * time.Millisecond, 1400 * time.Millisecond, 2 * time.Second, time.Hour,
	} {
		t.Run(takes.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				kept := &slow{Store: store.NewMemory(nil)}
				s, _ := newSharing(t, kept)
				publishPlans(t, s, 1, map[string]table.Plan{"apps/p": {Quota: &table.Quota{Limit: 1000, Period: "1h"}}})
				kept.takes = takes
				answered := 0
				var mu sync.Mutex
				var all sync.WaitGroup
				for n := range 30 {
					all.Go(func() {
						time.Sleep(time.Duration(n) * 30 * time.Millisecond)
						data, err := json.Marshal(usage.Report{
							Instance: fmt.Sprintf("%032x", n), Sequence: 1, Sharing: true, Usage: []usage.Row{{API: "apps/api", Count: 1}},
						})
						if err != nil {
							t.Error(err)
							return
						}
						before := time.Now()
						res := post(s, string(data))
						if took := time.Since(before); took > 4*time.Second {
							t.Errorf("gateway %d was answered %d after %s", n, res.StatusCode, took)
						}
						mu.Lock()
						defer mu.Unlock()
						if res.StatusCode == http.StatusOK {
							answered++
						}
					})
				}
				all.Wait()
				// Reading and writing must fit into the time that a report has.
				if want := 2*takes < 2500*time.Millisecond; (answered == 30) != want {
					t.Errorf("%d of 30 reports were taken", answered)
				}
			})
		})
	}
}
