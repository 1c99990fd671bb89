package sharing

import (
	"strings"
	"sync"

	"github.com/tollgate-apim/tollgate/controlplane/compile"
	"github.com/tollgate-apim/tollgate/table"
)

// rows are those of the table in force that buckets are named after. A bucket's name
// says which rows it comes from, so that no list of buckets is kept: a table of a
// million applications may have many millions of them. Any number of goroutines may
// use it.
type rows struct {
	mu sync.RWMutex
	// plans are those of subscriptions, and grants those of applications: the
	// subscription for each API. There are no grants while no limit counts by
	// application.
	plans  map[string]string
	grants map[string]map[string]string
}

// use makes the rows those of t. They are looked at one by one if they may all have
// changed, and else only those that have.
func (r *rows) use(t *table.Table, change *compile.Change, byApplication bool) {
	plans, grants := r.plans, r.grants // Nobody else changes them.
	if !byApplication {
		grants = nil
	}
	var changed compile.Change
	if change != nil && plans != nil {
		changed = *change
	} else {
		plans, grants = make(map[string]string, len(t.Subscriptions)), nil
		for name, row := range t.Subscriptions {
			plans[name] = row.Plan
		}
	}
	if byApplication && grants == nil {
		grants = make(map[string]map[string]string, len(t.Applications))
		for name, row := range t.Applications {
			grants[name] = row.Grants
		}
		changed.Applications = nil
	}

	r.mu.Lock()
	defer r.mu.Unlock()
	r.plans, r.grants = plans, grants
	for _, name := range changed.Subscriptions {
		if row, ok := t.Subscriptions[name]; ok {
			plans[name] = row.Plan
		} else {
			delete(plans, name)
		}
	}
	if grants == nil {
		return
	}
	for _, name := range changed.Applications {
		if row, ok := t.Applications[name]; ok {
			grants[name] = row.Grants
		} else {
			delete(grants, name)
		}
	}
}

// have reports whether requests under a plan that counts by subscriptions or by
// applications can count in a bucket. Names of buckets are those that package matcher
// gives them; names of objects have no spaces.
func (r *rows) have(bucket, plan, by string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if by == table.BucketSubscription {
		subscription, ok := strings.CutPrefix(bucket, "subscription ")
		return ok && r.underLocked(subscription, plan)
	}
	caller, ok := strings.CutPrefix(bucket, "application ")
	if !ok {
		return false
	}
	if caller, ok = strings.CutSuffix(caller, " plan "+plan); !ok {
		return false
	}
	if by == table.BucketApplicationAPI {
		application, api, ok := strings.Cut(caller, " api ")
		if !ok {
			return false
		}
		subscription, ok := r.grants[application][api]
		return ok && r.underLocked(subscription, plan)
	}
	for _, subscription := range r.grants[caller] {
		if r.underLocked(subscription, plan) {
			return true
		}
	}
	return false
}

// underLocked reports whether a subscription has a plan.
func (r *rows) underLocked(subscription, plan string) bool {
	its, ok := r.plans[subscription]
	return ok && its == plan
}
