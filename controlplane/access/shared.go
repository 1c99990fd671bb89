package access

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/tollgate-apim/tollgate/controlplane/finding"
	"github.com/tollgate-apim/tollgate/matcher"
	"github.com/tollgate-apim/tollgate/table"
)

// SharedKey is what becomes of a key at an API that several applications hold or
// held. It admits only to what all of them may do, so that what happens to one
// of them changes what the key of another is good for. It is told with the
// application that requests are accounted to, or were.
type SharedKey struct {
	Kind   Kind   `json:"kind"` // Admitted, Refused or Changed
	Title  string `json:"title,omitempty"`
	API    string `json:"api"`              // namespace/name
	Before *Reach `json:"before,omitempty"` // nil where the key is admitted
	After  *Reach `json:"after,omitempty"`  // nil where the key is refused
}

// Reach is what a shared key is good for at an API.
type Reach struct {
	// Application is what requests are accounted to.
	Application string `json:"application"`
	Operations  string `json:"operations"`
	title       string
	// holders are the applications for which the key is in force.
	holders string
}

// Differences returns in which fields a key that stays admitted changes.
func (k SharedKey) Differences() []Difference {
	var out []Difference
	if k.Before.Operations != k.After.Operations {
		out = append(out, Difference{"operations", k.Before.Operations, k.After.Operations})
	}
	if k.Before.Application != k.After.Application {
		out = append(out, Difference{"accounted to", k.Before.Application, k.After.Application})
	}
	return out
}

// sharedKeys returns what becomes of shared keys, by application.
func sharedKeys(before, after *table.Table) map[string][]SharedKey {
	out := map[string][]SharedKey{}
	old, now := newReacher(before), newReacher(after)
	for digest := range both(before.Keys, after.Keys) {
		if !isShared(before.Keys[digest]) && !isShared(after.Keys[digest]) {
			continue
		}
		for api := range both(old.apis(digest), now.apis(digest)) {
			k := SharedKey{Kind: Changed, API: api, Before: old.reach(api, digest), After: now.reach(api, digest)}
			told := k.After
			switch {
			case k.Before == nil && k.After == nil:
				continue
			case k.Before == nil:
				k.Kind = Admitted
			case k.After == nil:
				k.Kind, told = Refused, k.Before
			case k.Before.holders == k.After.holders || len(k.Differences()) == 0:
				continue // what becomes of the applications says it all
			}
			k.Title = told.title
			out[told.Application] = append(out[told.Application], k)
		}
	}
	for _, keys := range out {
		// Never by digest, whose order would tell a little of it.
		slices.SortFunc(keys, func(a, b SharedKey) int {
			return cmp.Or(cmp.Compare(a.API, b.API), cmp.Compare(a.Title, b.Title), cmp.Compare(a.Kind, b.Kind),
				cmp.Compare(a.words(), b.words()))
		})
	}
	return out
}

func (k SharedKey) words() string {
	var words string
	for _, r := range []*Reach{k.Before, k.After} {
		if r != nil {
			words += r.Application + " " + r.Operations
		}
		words += "\n"
	}
	return words
}

func both[V any](a, b map[string]V) map[string]bool {
	out := make(map[string]bool, len(a))
	for name := range a {
		out[name] = true
	}
	for name := range b {
		out[name] = true
	}
	return out
}

func isShared(holders []table.Holder) bool {
	for _, h := range holders {
		if h.Application != holders[0].Application {
			return true
		}
	}
	return false
}

// reacher tells what keys are good for, as a gateway decides it.
type reacher struct {
	table   *table.Table
	filters map[string]matcher.Filters // by API
}

func newReacher(t *table.Table) *reacher {
	return &reacher{t, map[string]matcher.Filters{}}
}

// apis returns the APIs that a holder of a key is granted.
func (r *reacher) apis(digest string) map[string]string {
	out := map[string]string{}
	for _, h := range r.table.Keys[digest] {
		maps.Copy(out, r.table.Applications[h.Application].Grants)
	}
	return out
}

// reach returns nil where the key is refused.
func (r *reacher) reach(api, digest string) *Reach {
	if r.filters[api] == nil {
		r.filters[api] = matcher.Filters{}
	}
	caller, _ := matcher.Resolve(r.table, api, digest, r.filters[api])
	if caller.Refusal != "" {
		return nil
	}
	out := &Reach{Application: caller.Grant.Application, title: finding.Mask(caller.KeyTitle)}
	var holders, filters []string
	for _, h := range r.table.Keys[digest] {
		if h.Suspended {
			continue
		}
		holders = append(holders, h.Application)
		subscription := r.table.Subscriptions[r.table.Applications[h.Application].Grants[api]]
		if words := operations(r.table.APIs[api], subscription.OperationFilter); subscription.OperationFilter != nil {
			filters = append(filters, words)
		}
	}
	slices.Sort(holders)
	slices.Sort(filters)
	out.holders = strings.Join(slices.Compact(holders), " ")
	out.Operations = cmp.Or(strings.Join(slices.Compact(filters), "; of these only "), "all")
	return out
}
