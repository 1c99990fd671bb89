// Package access compares two tables as a reviewer would: which application
// gains, loses or changes which API, and what becomes of its keys.
package access

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/tollgate-apim/tollgate/controlplane/finding"
	"github.com/tollgate-apim/tollgate/table"
)

// Kind says what becomes of an API or a key.
type Kind string

// What can become of an API or a key.
const (
	Gained  Kind = "gained"  // an API
	Lost    Kind = "lost"    // an API
	Changed Kind = "changed" // an API, or the title of a key

	Added     Kind = "added"     // a key
	Removed   Kind = "removed"   // a key
	Replaced  Kind = "replaced"  // a key, by another of the same title
	Suspended Kind = "suspended" // a key that was in force
	Resumed   Kind = "resumed"   // a key that was suspended

	Admitted Kind = "admitted" // a shared key, to an API
	Refused  Kind = "refused"  // a shared key, at an API
)

// Change is what becomes of an application. There is one only where something
// does.
type Change struct {
	Application string       `json:"application"`      // namespace/name
	Fields      []Difference `json:"fields,omitempty"` // of the application itself
	APIs        []APIChange  `json:"apis,omitempty"`
	Keys        []KeyChange  `json:"keys,omitempty"`
	Shared      []SharedKey  `json:"shared,omitempty"`
}

// APIChange is what becomes of an application's access to an API.
type APIChange struct {
	Kind   Kind   `json:"kind"`
	API    string `json:"api"`              // namespace/name
	Before *Grant `json:"before,omitempty"` // nil where the API is gained
	After  *Grant `json:"after,omitempty"`  // nil where the API is lost
	// Wider says that a change may allow something that was refused.
	Wider bool `json:"wider,omitempty"`
}

// Grant is what an application may do with an API, in words. Two grants that
// are equal allow the same.
type Grant struct {
	Subscription string `json:"subscription"`
	Plan         string `json:"plan"`
	Operations   string `json:"operations"`
	RateLimit    string `json:"rateLimit"`
	Quota        string `json:"quota"`
}

// Difference is a field in which two grants or applications differ.
type Difference struct {
	Field  string `json:"field"`
	Before string `json:"before"`
	After  string `json:"after"`
}

// Differences returns in which fields the two grants of a change differ.
func (c APIChange) Differences() []Difference {
	var out []Difference
	before, after := c.Before.fields(), c.After.fields()
	for i, f := range after {
		if before[i].After != f.After {
			out = append(out, Difference{f.Field, before[i].After, f.After})
		}
	}
	return out
}

func (g *Grant) fields() []Difference {
	return []Difference{
		{Field: "operations", After: g.Operations},
		{Field: "plan", After: g.Plan},
		{Field: "rate limit", After: g.RateLimit},
		{Field: "quota", After: g.Quota},
		{Field: "subscription", After: g.Subscription},
	}
}

// KeyChange is what becomes of a key. Its digest is not told.
type KeyChange struct {
	Kind  Kind   `json:"kind"`
	Title string `json:"title,omitempty"`
	// Before is the title that the key had, where Kind is Changed.
	Before string `json:"before,omitempty"`
	// Suspended is whether the key is so afterwards.
	Suspended bool `json:"suspended,omitempty"`
}

// Compare returns what becomes of applications from one table to the next, by
// name.
func Compare(before, after *table.Table) []Change {
	names := map[string]bool{}
	for name := range before.Applications {
		names[name] = true
	}
	for name := range after.Applications {
		names[name] = true
	}
	keysBefore, keysAfter, shared := keysOf(before), keysOf(after), sharedKeys(before, after)
	var changes []Change
	for _, name := range slices.Sorted(maps.Keys(names)) {
		c := Change{
			Application: name, Fields: fields(before, after, name), APIs: apis(before, after, name),
			Keys: keys(keysBefore[name], keysAfter[name]), Shared: shared[name],
		}
		if len(c.Fields)+len(c.APIs)+len(c.Keys)+len(c.Shared) > 0 {
			changes = append(changes, c)
		}
	}
	return changes
}

// fields compares what an application that stays says of itself.
func fields(before, after *table.Table, name string) []Difference {
	had, stood := before.Applications[name]
	has, stands := after.Applications[name]
	if !stood || !stands {
		return nil
	}
	var out []Difference
	if had.AppID != has.AppID {
		out = append(out, Difference{"appId", finding.Mask(had.AppID), finding.Mask(has.AppID)})
	}
	if had.Owner != has.Owner {
		out = append(out, Difference{"owner", finding.Mask(had.Owner), finding.Mask(has.Owner)})
	}
	return out
}

func apis(before, after *table.Table, application string) []APIChange {
	had, has := before.Applications[application].Grants, after.Applications[application].Grants
	names := map[string]bool{}
	for api := range had {
		names[api] = true
	}
	for api := range has {
		names[api] = true
	}
	var changes []APIChange
	for _, api := range slices.Sorted(maps.Keys(names)) {
		c := APIChange{Kind: Changed, API: api, Before: grant(before, api, had[api]), After: grant(after, api, has[api])}
		switch {
		case c.Before == nil:
			c.Kind = Gained
		case c.After == nil:
			c.Kind = Lost
		case *c.Before == *c.After:
			continue
		default:
			c.Wider = wider(before, after, api, had[api], has[api])
		}
		changes = append(changes, c)
	}
	return changes
}

// grant puts a subscription to an API into words. There is none for "".
func grant(t *table.Table, api, subscription string) *Grant {
	if subscription == "" {
		return nil
	}
	s := t.Subscriptions[subscription]
	p := t.Plans[s.Plan]
	g := &Grant{Subscription: subscription, Plan: s.Plan, Operations: operations(t.APIs[api], s.OperationFilter), RateLimit: "none", Quota: "none"}
	if l := p.RateLimit; l != nil {
		g.RateLimit = limit(l.Limit, l.Period, l.Bucket)
		if l.Burst > 0 && l.Burst != l.Limit {
			g.RateLimit += ", burst " + strconv.FormatInt(l.Burst, 10)
		}
	}
	if l := p.Quota; l != nil {
		g.Quota = limit(l.Limit, l.Period, l.Bucket)
	}
	return g
}

func limit(limit int64, period, bucket string) string {
	each := cmp.Or(bucket, table.BucketSubscription)
	if each == table.BucketApplicationAPI {
		each = "application and API"
	}
	return strconv.FormatInt(limit, 10) + " in " + period + " for each " + each
}

// operations puts a filter into words, with what its sets match: a filter that
// is the same may still allow something else.
func operations(api table.API, f *table.OperationFilter) string {
	if f == nil {
		return "all"
	}
	names := slices.Compact(slices.Sorted(slices.Values(f.Include)))
	var sets []string
	for _, name := range names {
		matchers := api.OperationSets[name]
		if len(matchers) == 0 {
			continue // it allows nothing here
		}
		var alternatives []string
		for _, m := range matchers {
			alternatives = append(alternatives, matcherWords(m))
		}
		sets = append(sets, plain(name)+" ("+strings.Join(alternatives, ", ")+")")
	}
	if len(sets) == 0 {
		return "none"
	}
	return strings.Join(sets, ", ")
}

// matcherWords puts a matcher into words. No two that match differently have the
// same.
func matcherWords(m table.Matcher) string {
	methods := "any method"
	if len(m.Methods) > 0 {
		var names []string
		for _, name := range m.Methods {
			names = append(names, plain(strings.ToUpper(name)))
		}
		slices.Sort(names)
		methods = strings.Join(slices.Compact(names), "|")
	}
	switch {
	case m.Path != "":
		return methods + " " + plain(m.Path)
	case m.PathPrefix != "":
		return methods + " " + plain(strings.TrimSuffix(m.PathPrefix, "/")) + "/…"
	case m.PathRegex != "":
		return methods + " ~ " + plain(m.PathRegex)
	}
	return methods
}

// plain puts text in quotes that could be taken for the words around it.
func plain(s string) string {
	if strings.ContainsAny(s, " \t\r\n,\"…") {
		return strconv.Quote(s)
	}
	return s
}

// heldKey is a key of an application.
type heldKey struct {
	title     string
	suspended bool
}

// keysOf returns the keys of each application by digest. One that an application
// holds twice is in force unless both are suspended.
func keysOf(t *table.Table) map[string]map[string]heldKey {
	out := make(map[string]map[string]heldKey, len(t.Applications))
	for digest, holders := range t.Keys {
		for _, h := range holders {
			if out[h.Application] == nil {
				out[h.Application] = map[string]heldKey{}
			}
			if other, ok := out[h.Application][digest]; !ok || other.suspended {
				out[h.Application][digest] = heldKey{finding.Mask(h.Title), h.Suspended}
			}
		}
	}
	return out
}

func keys(before, after map[string]heldKey) []KeyChange {
	var changes []KeyChange
	for digest, k := range after {
		old, ok := before[digest]
		switch {
		case !ok:
			changes = append(changes, KeyChange{Kind: Added, Title: k.title, Suspended: k.suspended})
			continue
		case k.suspended && !old.suspended:
			changes = append(changes, KeyChange{Kind: Suspended, Title: k.title, Suspended: true})
		case old.suspended && !k.suspended:
			changes = append(changes, KeyChange{Kind: Resumed, Title: k.title})
		}
		if k.title != old.title {
			changes = append(changes, KeyChange{Kind: Changed, Title: k.title, Before: old.title, Suspended: k.suspended})
		}
	}
	for digest, k := range before {
		if _, ok := after[digest]; !ok {
			changes = append(changes, KeyChange{Kind: Removed, Title: k.title, Suspended: k.suspended})
		}
	}
	// Never by digest, whose order would tell a little of it.
	slices.SortFunc(changes, func(a, b KeyChange) int {
		return cmp.Or(cmp.Compare(a.Title, b.Title), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Before, b.Before))
	})
	return replaced(changes)
}

// replaced makes one change of a key that is removed and one that is added under
// the same title.
func replaced(changes []KeyChange) []KeyChange {
	var out []KeyChange
	for _, c := range changes {
		added := slices.IndexFunc(out, func(o KeyChange) bool { return o.Kind == Added && o.Title == c.Title && c.Title != "" })
		if c.Kind == Removed && added >= 0 {
			out[added].Kind = Replaced
			continue
		}
		out = append(out, c)
	}
	return out
}
