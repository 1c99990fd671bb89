// Package matcher decides who is calling and whether they may: from a key to the
// applications that hold it, from an application to the subscription that grants
// it an API, from a request to the operations that the subscription allows. It
// knows the table and nothing of HTTP, limits or time.
package matcher

import (
	"sync"

	"github.com/tollgate-apim/tollgate/table"
)

// Why a request is refused.
const (
	KeyInvalid          = "key_invalid"
	SubscriptionMissing = "subscription_missing"
	OperationForbidden  = "operation_forbidden"
)

// Grant is the right of one application to call one API, resolved from the rows
// of a table.
type Grant struct {
	API, Application, Subscription, Plan string // namespace/name

	AppID string
	// RateLimit and Quota are nil where the plan has none that limits anything.
	RateLimit *table.RateLimit
	Quota     *table.Quota
	// RateBucket and QuotaBucket name the counters of the two limits.
	RateBucket, QuotaBucket string

	// operations is nil where all operations are allowed.
	operations *operations

	// Prepared is what the caller's prepare function made of this grant.
	Prepared interface{}
}

// View is a table as seen by the gateway of one API. Grants are resolved when
// they are first used, because a table may hold a million of them, and kept.
// Any number of goroutines may use a view.
type View struct {
	Table *table.Table

	api     string
	prepare func(*Grant)
	report  func(line string)

	mu     sync.Mutex
	grants map[string]*Grant // by application; nil for none
}

// NewView returns a view of t for an API. It calls prepare once with each grant
// before that grant is used, and report with each row that points at nothing.
// Both are called with the view locked.
func NewView(t *table.Table, api string, prepare func(*Grant), report func(line string)) *View {
	return &View{Table: t, api: api, prepare: prepare, report: report, grants: map[string]*Grant{}}
}

// Decision says who is calling, or why they may not.
type Decision struct {
	// Refusal is empty for an admitted request.
	Refusal string
	// Grant is what the request is accounted to, and KeyTitle the title of the
	// key there. They are set for admitted requests.
	Grant    *Grant
	KeyTitle string
}

// Decide decides on a request with the key of the given digest. A key that
// several applications hold admits only what all of them may do, suspended keys
// aside; the request is then accounted to the first by App ID. Path is the
// decoded path of the request, rawPath its encoded form where that is not the
// usual one (url.URL.RawPath).
func Decide(v *View, digest, method, path, rawPath string) Decision {
	var d Decision
	refusal := KeyInvalid
	holders := v.Table.Keys[digest]
	for i := range holders {
		holder := &holders[i]
		if holder.Suspended {
			continue
		}
		grant := grantOf(v, holder.Application)
		if grant == nil {
			d.Refusal = SubscriptionMissing
			return d
		}
		if grant.operations != nil && !allows(grant.operations, method, path, rawPath) {
			refusal = OperationForbidden
			continue
		}
		if refusal != OperationForbidden {
			refusal = ""
		}
		if d.Grant == nil || before(grant, d.Grant) {
			d.Grant = grant
			d.KeyTitle = holder.Title
		}
	}
	d.Refusal = refusal
	return d
}

// before orders the holders of a shared key: by App ID, then by name.
func before(a, b *Grant) bool {
	if a.AppID != b.AppID {
		return a.AppID < b.AppID
	}
	return a.Application < b.Application
}

// grantOf returns the grant of an application for the view's API, or nil.
func grantOf(v *View, application string) *Grant {
	v.mu.Lock()
	grant, known := v.grants[application]
	v.mu.Unlock()
	if known {
		return grant
	}
	return resolve(v, application)
}

// resolve finds out the grant of an application and keeps it in the view. Every
// reference is followed: a row that points at nothing grants nothing.
func resolve(v *View, application string) *Grant {
	v.mu.Lock()
	defer v.mu.Unlock()
	if grant, known := v.grants[application]; known {
		return grant
	}
	grant, problem := newGrant(v.Table, v.api, application)
	if problem != "" {
		v.report(problem)
	}
	if grant != nil {
		v.prepare(grant)
	}
	v.grants[application] = grant
	return grant
}

// newGrant resolves the grant of an application for an API. Without one it
// returns nil, and a problem if that is because a row points at nothing.
func newGrant(t *table.Table, api, name string) (grant *Grant, problem string) {
	application, ok := t.Applications[name]
	if !ok {
		return nil, "a key names application " + name + ", which the table does not have"
	}
	subscriptionName, ok := application.Grants[api]
	if !ok {
		return nil, ""
	}
	apiRow, ok := t.APIs[api]
	if !ok {
		return nil, "application " + name + " is granted API " + api + ", which the table does not have"
	}
	subscription, ok := t.Subscriptions[subscriptionName]
	if !ok {
		return nil, "application " + name + " is granted API " + api + " by subscription " + subscriptionName + ", which the table does not have"
	}
	plan, ok := t.Plans[subscription.Plan]
	if !ok {
		return nil, "subscription " + subscriptionName + " names plan " + subscription.Plan + ", which the table does not have"
	}

	g := &Grant{
		API:          api,
		Application:  name,
		AppID:        application.AppID,
		Subscription: subscriptionName,
		Plan:         subscription.Plan,
		Quota:        plan.Quota,
	}
	if plan.RateLimit != nil && plan.RateLimit.Limit > 0 {
		g.RateLimit = plan.RateLimit
		g.RateBucket = bucket(g, plan.RateLimit.Bucket)
	}
	if plan.Quota != nil {
		g.QuotaBucket = bucket(g, plan.Quota.Bucket)
	}
	if filter := subscription.OperationFilter; filter != nil {
		operations, unknown := newOperations(apiRow, filter.Include)
		g.operations = operations
		if unknown != "" {
			problem = "subscription " + subscriptionName + " allows operation set " + unknown + ", which API " + api + " does not have"
		}
	}
	return g, problem
}

// bucket names the counter that requests of g share. An application's buckets
// name the plan, so that two plans never fight over one counter; no bucket names
// a limit or a period, so that consumption survives their edits.
func bucket(g *Grant, kind string) string {
	switch kind {
	case table.BucketApplication:
		return "application " + g.Application + " plan " + g.Plan
	case table.BucketApplicationAPI:
		return "application " + g.Application + " api " + g.API + " plan " + g.Plan
	}
	return "subscription " + g.Subscription
}
