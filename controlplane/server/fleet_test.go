package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/tollgate-apim/tollgate/controlplane/ledger"
	"github.com/tollgate-apim/tollgate/controlplane/store"
	"github.com/tollgate-apim/tollgate/usage"
)

// TestFleet has a thousand gateways start at once: each has its report taken, and a
// tenure.
func TestFleet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, l := newSharing(t, store.NewMemory(nil))
		const fleet = 1000
		var all sync.WaitGroup
		for n := range fleet {
			all.Go(func() {
				data, err := json.Marshal(usage.Report{Instance: fmt.Sprintf("%032x", n), Sequence: 1, Sharing: true})
				if err != nil {
					t.Error(err)
					return
				}
				res := post(s, string(data))
				answer, err := usage.DecodeAnswer([]byte(body(t, res)), 1)
				if err != nil || res.StatusCode != http.StatusOK || answer.Tenure == nil {
					t.Errorf("gateway %d: got %d, %+v, %v", n, res.StatusCode, answer, err)
				}
			})
		}
		all.Wait()
		if got := l.Reports(); got != (ledger.Reports{Accepted: fleet}) {
			t.Errorf("got %+v", got)
		}
	})
}

// TestInventedGateways has somebody report as one gateway after the other.
func TestInventedGateways(t *testing.T) {
	s, l := newCounting(store.NewMemory(nil))
	for n := 1; ; n++ {
		_, err := l.Take(t.Context(), &usage.Report{Instance: fmt.Sprintf("%032x", n), Sequence: 1})
		if err != nil {
			break
		}
		if n > 100_000 {
			t.Fatal("there is no end of it")
		}
	}
	res := post(s, reportBody(1, 1))
	if res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") != "30" {
		t.Errorf("got %d, Retry-After %q", res.StatusCode, res.Header.Get("Retry-After"))
	}
}
