package store_test

import (
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/tollgate-apim/tollgate/controlplane/store"
	"github.com/tollgate-apim/tollgate/controlplane/store/redistest"
)

// TestEnds checks that nothing of a store runs on after Close.
func TestEnds(t *testing.T) {
	nodes := redistest.StartCluster(t, 0)
	master := redistest.Start(t)
	sentinel := redistest.StartSentinel(t, "limits", master)
	for _, address := range []string{
		"redis://" + master.Address,
		"redis-sentinel://" + sentinel.Address + "/limits",
		"redis-cluster://" + addresses(nodes),
		"redis://" + redistest.FreeAddress(t) + "?timeout=100ms", // nothing listens there
	} {
		s := open(t, address, store.Options{})
		for range 10 {
			_, _, _ = s.Get(t.Context(), "key") //nolint:dogsled // Whatever it answers.
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		// What this test's own helpers have to do with a server has ended by now.
		left := ""
		for begin := time.Now(); ; time.Sleep(10 * time.Millisecond) {
			buffer := make([]byte, 1<<20)
			left = string(buffer[:runtime.Stack(buffer, true)])
			if !strings.Contains(left, "redis/go-redis") {
				break
			}
			if time.Since(begin) > patience {
				t.Fatalf("after %s these run on:\n%s", address, left)
			}
		}
	}
}
