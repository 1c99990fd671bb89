package access

import (
	"cmp"
	"time"

	"github.com/tollgate-apim/tollgate/table"
)

// wider reports whether another subscription, or the same as it became, may
// allow what was refused at an API. Where it cannot tell it says so too.
func wider(before, after *table.Table, api, had, has string) bool {
	old, now := before.Subscriptions[had], after.Subscriptions[has]
	if now.OperationFilter == nil && old.OperationFilter != nil {
		return true
	}
	if now.OperationFilter != nil && old.OperationFilter != nil {
		known := map[string]bool{}
		for m := range matchers(before.APIs[api], old.OperationFilter) {
			known[m] = true
		}
		for m := range matchers(after.APIs[api], now.OperationFilter) {
			if !known[m] {
				return true
			}
		}
	}
	oldPlan, nowPlan := before.Plans[old.Plan], after.Plans[now.Plan]
	return raisedRate(oldPlan.RateLimit, nowPlan.RateLimit) || raisedQuota(oldPlan.Quota, nowPlan.Quota)
}

// matchers returns the words of all that a filter allows.
func matchers(api table.API, f *table.OperationFilter) map[string]bool {
	out := map[string]bool{}
	for _, name := range f.Include {
		for _, m := range api.OperationSets[name] {
			out[matcherWords(m)] = true
		}
	}
	return out
}

func raisedRate(old, now *table.RateLimit) bool {
	switch {
	case old == nil || old.Limit == 0:
		return false
	case now == nil || now.Limit == 0:
		return true
	}
	return raised(old.Limit, now.Limit, old.Period, now.Period, old.Bucket, now.Bucket) ||
		cmp.Or(now.Burst, now.Limit) > cmp.Or(old.Burst, old.Limit)
}

func raisedQuota(old, now *table.Quota) bool {
	switch {
	case old == nil:
		return false
	case now == nil:
		return true
	}
	return raised(old.Limit, now.Limit, old.Period, now.Period, old.Bucket, now.Bucket)
}

func raised(old, now int64, oldPeriod, nowPeriod, oldBucket, nowBucket string) bool {
	before, err1 := time.ParseDuration(oldPeriod)
	after, err2 := time.ParseDuration(nowPeriod)
	if err1 != nil || err2 != nil || cmp.Or(oldBucket, table.BucketSubscription) != cmp.Or(nowBucket, table.BucketSubscription) {
		return true
	}
	return now > old || now == old && after < before || float64(now)*float64(before) > float64(old)*float64(after)
}
