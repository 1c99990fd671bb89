package ledger

import (
	"errors"
	"strings"
	"testing"

	"github.com/tollgate-apim/tollgate/controlplane/store"
	"github.com/tollgate-apim/tollgate/controlplane/store/storetest"
)

// TestForeign has something foreign in the place of a gateway's record: its reports are
// not taken, and those of others are, also where all are looked at together.
func TestForeign(t *testing.T) {
	c, log := &clock{start}, &strings.Builder{}
	f := &faulty{Store: store.NewMemory(c.now)}
	over := &storetest.Foreign{Store: f}
	l := newLedger(over, c, log)
	// Three reports are in doubt, all of which were taken.
	for n := range 3 {
		failing := 2 // all attempts, and what is read afterwards
		f.after = func() error { return errors.New("no answer") }
		f.get = func() error {
			if failing--; failing < 1 {
				return errors.New("no answer")
			}
			return nil
		}
		if _, err := l.Take(t.Context(), report(n, 1, 10)); !errors.Is(err, ErrStore) {
			t.Fatalf("got %v, want ErrStore", err)
		}
	}
	f.after, f.get = nil, nil
	over.Keys = map[string]bool{recordKey(instance(1)): true}
	for range 3 {
		c.Time = c.Add(wellAfter)
		l.tend(t.Context())
	}
	if got := total(l); got != 20 {
		t.Errorf("counted %d requests, want those of two gateways", got)
	}
	for range 3 {
		if _, err := l.Take(t.Context(), report(1, 2, 1)); !errors.Is(err, ErrStore) || !strings.Contains(err.Error(), recordKey(instance(1))) {
			t.Errorf("got %v, want an error that names the key", err)
		}
	}
	mustTake(t, l, report(0, 2, 1))
	if h := l.Health(); h.Failure != "" {
		t.Errorf("the store is not well: %s", h.Failure)
	}
	if got := strings.Count(log.String(), "something else has written"); got != 1 {
		t.Errorf("logged %d times: %s", got, log)
	}
	over.Keys = nil
	mustTake(t, l, report(1, 2, 1))
	if got := total(l); got != 32 {
		t.Errorf("counted %d requests, want all", got)
	}
	if !strings.Contains(log.String(), "can be taken again") {
		t.Errorf("logged %s", log)
	}
}
