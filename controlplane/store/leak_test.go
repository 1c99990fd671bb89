package store_test

import (
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/tollgate-apim/tollgate/controlplane/store"
	"github.com/tollgate-apim/tollgate/controlplane/store/redistest"
)

func TestEnds(t *testing.T) {
	server := redistest.Start(t)
	sentinel := redistest.StartSentinel(t, "limits", server)
	ends(t, "redis://"+server.Address)
	ends(t, "redis-sentinel://"+sentinel.Address+"/limits")
	ends(t, "redis://"+redistest.FreeAddress(t)+"?timeout=100ms") // nothing listens there
}

// ends checks that nothing of the store at an address runs on after Close.
func ends(t *testing.T, address string) {
	t.Helper()
	s := open(t, address, store.Options{})
	for range 5 {
		_, _, _ = s.Get(t.Context(), "key") //nolint:dogsled // Whatever it answers.
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	buffer := make([]byte, 1<<20)
	for begin := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		left := string(buffer[:runtime.Stack(buffer, true)])
		if !strings.Contains(left, "redis/go-redis") {
			return
		}
		if time.Since(begin) > patience {
			t.Fatalf("after %s these run on:\n%s", address, left)
		}
	}
}
