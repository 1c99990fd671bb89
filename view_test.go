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
	return newView(rows, "apps/api", &source{counters: quota.NewStore(10), reported: map[string]bool{}})
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
	if len(v.resolved) != 1 || len(v.recalled) != 0 {
		t.Errorf("the view keeps %d and %d callers, want ann alone", len(v.resolved), len(v.recalled))
	}
}

func TestCallersAreForgotten(t *testing.T) {
	v := testView()
	name := sha256.Sum256([]byte("Bearer ann"))
	ann := resolve(v, hashing.Digest("ann"))
	keep(v, ann, name)
	if v.recalled[name] != ann {
		t.Fatal("ann is not recalled by her header")
	}
	forget(v, ann)
	if len(v.resolved)+len(v.recalled) != 0 {
		t.Errorf("the view still keeps %d and %d callers", len(v.resolved), len(v.recalled))
	}
	keep(v, ann, name)
	if len(v.recalled) != 0 {
		t.Error("a caller that was forgotten came back")
	}
	if again := resolve(v, hashing.Digest("ann")); again == nil || again == ann {
		t.Error("ann was not resolved anew")
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
