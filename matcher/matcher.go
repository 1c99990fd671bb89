// Package matcher decides who is calling and whether they may: from a key to the
// applications that hold it, from an application to the subscription that grants
// it an API, from a request to the operations that the subscription allows. It
// knows the table and nothing of HTTP, limits or time.
package matcher

import (
	"regexp"

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
}

// Caller is what a key may do at one API. It is never changed, so any number of
// goroutines may use it.
type Caller struct {
	API string // namespace/name
	// Refusal is why the key admits to nothing at this API, or empty.
	Refusal string
	// Application is the one that requests are accounted to, and KeyTitle the
	// title of the key there. If it lacks a subscription, that is why they are
	// refused. They are empty if the key is not valid.
	Application, KeyTitle string
	// Grant is what the application may do. It is set where Refusal is empty.
	Grant *Grant
	// Filtered says that requests have to pass Allows too.
	Filtered bool
	filters  []*operations
	usual    *regexp.Regexp // of the only filter, or nil
}

// Filters keeps the operation filters of an API that were made ready, by
// subscription: a subscription may have a million callers, and each filter
// hundreds of expressions to compile. Filters are of one table and one API. They
// may not be used by several goroutines at once.
type Filters map[string]*operations

// Resolve finds out who calls an API with the key of a digest. A key that several
// applications hold admits only to what all of them may do, suspended keys
// aside; the requests are then accounted to the first by App ID. The problems
// that it returns tell of rows that point at nothing, which refuse.
func Resolve(t *table.Table, api, digest string, filters Filters) (*Caller, []string) {
	caller := &Caller{API: api}
	var problems []string
	active := false
	for _, holder := range table.Holders(t, digest) {
		if holder.Suspended {
			continue
		}
		active = true
		grant, problem := newGrant(t, api, holder.Application, filters)
		if problem != "" {
			problems = append(problems, problem)
		}
		if grant == nil {
			return &Caller{API: api, Refusal: SubscriptionMissing, Application: holder.Application, KeyTitle: holder.Title}, problems
		}
		if grant.operations != nil {
			caller.Filtered = true
			caller.filters = append(caller.filters, grant.operations)
			caller.usual = nil
			if len(caller.filters) == 1 {
				caller.usual = grant.operations.usual
			}
		}
		if caller.Grant == nil || before(grant, caller.Grant) {
			caller.Grant, caller.Application, caller.KeyTitle = grant, holder.Application, holder.Title
		}
	}
	if !active {
		return &Caller{API: api, Refusal: KeyInvalid}, nil
	}
	return caller, problems
}

// before orders the holders of a shared key: by App ID, then by name.
func before(a, b *Grant) bool {
	if a.AppID != b.AppID {
		return a.AppID < b.AppID
	}
	return a.Application < b.Application
}

// Allows reports whether the subscriptions of a caller include an operation.
// Path is the decoded path of the request, rawPath its encoded form where that
// is not the usual one (url.URL.RawPath).
func Allows(c *Caller, method, path, rawPath string) bool {
	if c.usual != nil && rawPath == "" && len(path) <= maxUsualPath && !unusualPath.MatchString(path) && c.usual.MatchString(path+" "+method) {
		return true
	}
	return allAllow(c, method, path, rawPath)
}

// allAllow is Allows in any case.
func allAllow(c *Caller, method, path, rawPath string) bool {
	for _, filter := range c.filters {
		if !allows(filter, method, path, rawPath) {
			return false
		}
	}
	return true
}

// newGrant resolves the grant of an application for an API. Without one it
// returns nil, and a problem if that is because a row points at nothing.
func newGrant(t *table.Table, api, name string, filters Filters) (grant *Grant, problem string) {
	problem = ""
	application, ok := table.FindApplication(t, name)
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
	subscription, ok := table.FindSubscription(t, subscriptionName)
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
		if ready := filters[subscriptionName]; ready != nil {
			g.operations = ready
			return g, ""
		}
		operations, unknown := newOperations(apiRow, filter.Include)
		g.operations = operations
		filters[subscriptionName] = operations
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
