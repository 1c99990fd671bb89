package explain

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tollgate-apim/tollgate/matcher"
	"github.com/tollgate-apim/tollgate/table"
)

// Operations are what a subscription's filter makes of the request.
type Operations struct {
	// All says that there is no filter.
	All     bool `json:"all,omitempty"`
	Allowed bool `json:"allowed"`
	// Sets are the operation sets of the filter, in its order.
	Sets []Set `json:"sets,omitempty"`
	// Why says what a refusal comes from.
	Why string `json:"why,omitempty"`
}

// Set is an operation set.
type Set struct {
	Name string `json:"name"`
	// Missing says that the API has no such set, so that it allows nothing.
	Missing  bool    `json:"missing,omitempty"`
	Matchers []Tried `json:"matchers,omitempty"`
}

// Tried is a matcher and what it makes of the request.
type Tried struct {
	table.Matcher
	// Matches says that it matches all readings of the path, with the method.
	Matches bool `json:"matches"`
	// Why says what does not match.
	Why string `json:"why,omitempty"`
}

// operations explains the filter of a caller who holds the key for one
// application.
func (x *explainer) operations(c *matcher.Caller) *Operations {
	out := &Operations{Allowed: !c.Filtered || matcher.Allows(c, x.out.Method, x.out.Path, x.out.RawPath)}
	filter := x.Table.Subscriptions[c.Grant.Subscription].OperationFilter
	if filter == nil {
		out.All = true
		return out
	}
	api := x.Table.APIs[x.out.API]
	missed := slices.Clone(x.out.Readings)
	for _, name := range filter.Include {
		matchers, ok := api.OperationSets[name]
		set := Set{Name: name, Missing: !ok}
		for _, m := range matchers {
			set.Matchers = append(set.Matchers, x.tried(m))
			missed = slices.DeleteFunc(missed, func(r string) bool { return matcher.Matches(m, x.out.Method, r) })
		}
		out.Sets = append(out.Sets, set)
	}
	if !out.Allowed {
		out.Why = x.whyForbidden(c.Grant.Subscription, filter, missed)
	}
	return out
}

// whyForbidden says what a filter lacks. Missed are the readings that nothing in
// it matches.
func (x *explainer) whyForbidden(subscription string, filter *table.OperationFilter, missed []string) string {
	if len(filter.Include) == 0 {
		return "the operation filter of " + subscription + " is empty, so that it allows nothing"
	}
	sets := "no operation set of " + subscription + " (" + some(filter.Include) + ") "
	switch {
	case len(x.out.Readings) == 0:
		return sets + "matches any path, and the path is too odd for less"
	case len(x.out.Readings) == 1:
		return sets + "matches " + x.out.Method + " " + show(x.out.Path)
	}
	for i := range missed {
		missed[i] = show(missed[i])
	}
	return fmt.Sprintf("%smatches %s %s in all ways in which servers read it: not as %s", sets, x.out.Method, show(x.out.Path), some(missed))
}

// tried tries one matcher.
func (x *explainer) tried(m table.Matcher) Tried {
	out := Tried{Matcher: m}
	method := x.out.Method
	if len(x.out.Readings) == 0 {
		if out.Matches = matcher.MatchesAnyPath(m, method); !out.Matches {
			out.Why = "does not match any path"
		}
		return out
	}
	// What it would be without its methods tells which half does not match.
	path := m
	path.Methods = nil
	var missed []string
	out.Matches = true
	for _, r := range x.out.Readings {
		out.Matches = out.Matches && matcher.Matches(m, method, r)
		if !matcher.Matches(path, method, r) {
			missed = append(missed, show(r))
		}
	}
	if out.Matches {
		return out
	}
	var halves []string
	if len(m.Methods) > 0 && !slices.ContainsFunc(m.Methods, func(s string) bool { return strings.EqualFold(s, method) }) {
		halves = append(halves, "the method differs")
	}
	switch {
	case len(missed) == len(x.out.Readings):
		halves = append(halves, "the path differs")
	case len(missed) > 0:
		halves = append(halves, "the path differs when read as "+some(missed))
	}
	out.Why = strings.Join(halves, " and ")
	return out
}
