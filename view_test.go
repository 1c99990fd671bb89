package tollgate

import (
	"crypto/sha256"
	"fmt"
	"sync"
	"testing"

	"github.com/tollgate-apim/tollgate/hashing"
	"github.com/tollgate-apim/tollgate/quota"
	"github.com/tollgate-apim/tollgate/table"
)

// testView returns a view in which the applications ann and bob hold the keys of
// their names.
func testView() *view {
	rows := &table.Table{
		Plans:         map[string]table.Plan{"apps/plan": {RateLimit: &table.RateLimit{Limit: 5, Period: "1s"}}},
		APIs:          map[string]table.API{"apps/api": {}},
		Subscriptions: map[string]table.Subscription{"apps/sub": {Plan: "apps/plan"}},
		Applications:  map[string]table.Application{},
		Keys:          map[string][]table.Holder{},
	}
	for _, name := range []string{"ann", "bob"} {
		rows.Applications["apps/"+name] = table.Application{AppID: name, Grants: map[string]string{"apps/api": "apps/sub"}}
		rows.Keys[hashing.Digest(name)] = []table.Holder{{Application: "apps/" + name}}
	}
	return newView(rows, viewed{api: "apps/api"}, &source{counters: quota.NewStore(10), reported: map[string]bool{}})
}

func TestCallersAreResolvedOnce(t *testing.T) {
	v := testView()
	ann := resolve(v, hashing.Digest("ann"))
	var wait sync.WaitGroup
	for i := 0; i < 8; i++ {
		wait.Add(1)
		go func() {
			defer wait.Done()
			for j := 0; j < 20; j++ {
				if resolve(v, hashing.Digest("ann")) != ann {
					t.Error("one key, two callers")
				}
				if resolve(v, hashing.Digest(fmt.Sprint("unknown ", j))) != nil {
					t.Error("an unknown key has a caller")
				}
			}
		}()
	}
	wait.Wait()
	if len(v.resolved) != 1 {
		t.Errorf("the view keeps %d callers, want ann alone", len(v.resolved))
	}
}

func TestCallersAreRenewed(t *testing.T) {
	v, held := testView(), &heldView{}
	enforce(held, v)
	name := sha256.Sum256([]byte("Bearer ann"))
	ann := resolve(v, hashing.Digest("ann"))
	keep(held, v, ann, name)
	if held.recalled[name] != ann {
		t.Fatal("ann is not recalled by her header")
	}
	again := renew(held, v.source, ann)
	if again == ann || again.allowance == ann.allowance {
		t.Error("ann's counters were not fetched anew")
	}
	if len(held.recalled) != 0 || len(v.resolved) != 0 {
		t.Error("the first ann is still recalled, or kept")
	}
	keep(held, v, again, name)
	if renew(held, v.source, ann); held.recalled[name] != again {
		t.Error("renewing the first ann again takes the second one away")
	}
}

// What was found by one table is not recalled under the next.
func TestCallersAreOfTheTableInForce(t *testing.T) {
	old, held := testView(), &heldView{}
	enforce(held, old)
	name := sha256.Sum256([]byte("Bearer ann"))
	ann := resolve(old, hashing.Digest("ann"))
	keep(held, old, ann, name)
	enforce(held, testView())
	if len(held.recalled) != 0 {
		t.Error("ann is recalled under the next table")
	}
	keep(held, old, ann, name)
	if len(held.recalled) != 0 {
		t.Error("a request under the old table has ann recalled under the next")
	}
}

// A request that is decided anew is charged to whom its upstream is told of, be
// it another's key by now.
func TestCallersAreRenewedUnderTheirTable(t *testing.T) {
	old, next, held := testView(), testView(), &heldView{}
	enforce(held, old)
	ann := resolve(old, hashing.Digest("ann"))
	keep(held, old, ann, sha256.Sum256([]byte("Bearer ann")))
	next.table.Keys[ann.digest] = next.table.Keys[hashing.Digest("bob")]
	enforce(held, next)
	if again := renew(held, old.source, ann); again.appID[0] != "ann" {
		t.Errorf("ann's request is continued as %s's", again.appID)
	}
	if now := resolve(next, ann.digest); now.appID[0] != "bob" {
		t.Errorf("the next request is %s's, want bob's", now.appID)
	}
}

// A view keeps a bounded number of callers, and starts over when it is full.
func TestCallersAreBounded(t *testing.T) {
	v := testView()
	for i := 0; i < maxCallers; i++ {
		v.resolved[string([]byte{byte(i), byte(i >> 8)})] = &caller{}
	}
	ann := resolve(v, hashing.Digest("ann"))
	if ann == nil || len(v.resolved) != 1 {
		t.Errorf("got %v from a full view, which keeps %d callers, want the new one alone", ann, len(v.resolved))
	}
}

func TestRecalledCallersAreBounded(t *testing.T) {
	v, held := testView(), &heldView{}
	enforce(held, v)
	ann := resolve(v, hashing.Digest("ann"))
	for i := 0; i < maxCallers; i++ {
		held.recalled[[sha256.Size]byte{byte(i), byte(i >> 8)}] = &caller{}
	}
	keep(held, v, ann, sha256.Sum256([]byte("Bearer ann")))
	if len(held.recalled) != 1 {
		t.Errorf("%d callers are recalled, want ann alone", len(held.recalled))
	}
}
