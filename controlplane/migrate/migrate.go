// Package migrate writes anew what manifests say in kinds and fields that are no
// more: APIAccess and APIRateLimit as ManagedSubscription and APIPlan, and App IDs
// in subscriptions as ManagedApplications.
//
// Groups of users have no counterpart among manifests: who their applications are
// is left to be filled in, and until then nobody has access. What is written never
// allows more than Traefik Hub did by what it replaces.
package migrate

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/tollgate-apim/tollgate/controlplane/access"
	"github.com/tollgate-apim/tollgate/controlplane/compile"
	"github.com/tollgate-apim/tollgate/controlplane/finding"
	"github.com/tollgate-apim/tollgate/controlplane/manifest"
)

// Result is what replaces the objects of files.
type Result struct {
	// Files have something to be replaced, by path.
	Files []File
	// TODOs counts what is left to people.
	TODOs int
	// Notes tell what changes for applications that had access before.
	Notes []string
}

// File is what replaces objects of one file.
type File struct {
	Path string
	Text string // YAML documents
}

// Refusals returns the findings on account of which nothing should be migrated:
// what does not load may be a limit, whose loss would allow more, and so may what
// is of an unknown kind or version.
func Refusals(loaded *manifest.Loaded) []finding.Finding {
	return slices.DeleteFunc(slices.Clone(loaded.Findings), func(f finding.Finding) bool {
		if f.Rule == finding.UnknownKind && f.Object.Kind != "" {
			return false
		}
		switch f.Object.Kind {
		case "", "API", "APIBundle", "APIPlan", "ManagedApplication", "ManagedSubscription", "APIAccess", "APIRateLimit":
			return f.Severity != finding.Error
		}
		return true
	})
}

// Migrate writes anew what is deprecated among objects, of which Refusals had
// nothing to say.
func Migrate(objects *manifest.Objects) *Result {
	w := newWriter()
	for _, ns := range namespaces(objects) {
		m := &migration{writer: w, namespace: ns, objects: within(objects, ns), names: map[finding.Object]bool{}}
		m.run()
	}
	r := w.result()
	if len(r.Files) > 0 {
		r.Notes = changes(objects, r)
	}
	return r
}

// namespaces returns those that have something to be replaced, in order.
func namespaces(o *manifest.Objects) []string {
	seen := map[string]bool{}
	for _, a := range o.Accesses {
		seen[a.Namespace] = true
	}
	for _, r := range o.RateLimits {
		seen[r.Namespace] = true
	}
	for _, s := range o.Subscriptions {
		if len(s.Spec.Applications) > 0 {
			seen[s.Namespace] = true
		}
	}
	var names []string
	for name := range seen {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// within returns the objects of one namespace.
func within(o *manifest.Objects, namespace string) *manifest.Objects {
	return &manifest.Objects{
		APIs: of(o.APIs, namespace), Bundles: of(o.Bundles, namespace), Plans: of(o.Plans, namespace),
		Applications: of(o.Applications, namespace), Subscriptions: of(o.Subscriptions, namespace),
		Accesses: of(o.Accesses, namespace), RateLimits: of(o.RateLimits, namespace),
	}
}

func of[T metav1.Object](objects []T, namespace string) []T {
	var out []T
	for _, o := range objects {
		if o.GetNamespace() == namespace {
			out = append(out, o)
		}
	}
	return out
}

// migration is that of one namespace.
type migration struct {
	*writer
	namespace string
	objects   *manifest.Objects
	names     map[finding.Object]bool // given to new objects
	plans     map[string]string       // names of the new plans, by that of the APIRateLimit
	// chosen are the APIs of each access and limit, in order, and includes the
	// same to look them up.
	chosen   map[finding.Object][]string
	includes map[finding.Object]map[string]bool
	// audience are the groups that each is for, "" if it is for everyone.
	audience map[finding.Object]map[string]bool
}

func (m *migration) run() {
	m.chosen, m.includes = map[finding.Object][]string{}, map[finding.Object]map[string]bool{}
	m.audience = map[finding.Object]map[string]bool{}
	for _, a := range m.objects.Accesses {
		m.choose(a, m.selected(a.Spec.APISelector, a.Spec.APIs, a.Spec.APIBundles), a.Spec.Groups, a.Spec.Everyone)
	}
	for _, r := range m.objects.RateLimits {
		m.choose(r, m.selected(r.Spec.APISelector, r.Spec.APIs, nil), r.Spec.Groups, r.Spec.Everyone)
	}
	for _, s := range m.objects.Subscriptions {
		if len(s.Spec.Applications) > 0 {
			m.subscription(s)
		}
	}
	rights := m.rights()
	m.weigh(rights)
	m.limits(rights)
	for _, r := range rights {
		m.right(r, rights)
	}
	m.idle(rights)
}

// right is what one group of users, or everyone, may do with some APIs.
type right struct {
	group  string // empty for everyone
	apis   []string
	filter []string // operation sets; nil for all
	// plan is an APIPlan that there is. Without one, limit is what applies, if
	// anything does.
	plan  string
	limit *manifest.APIRateLimit
	// sources are the accesses that give it, by name.
	sources []*manifest.APIAccess
	weight  int64 // of the source that decided, if its weight did
	written int64 // what is written as weight
}

// rights returns what everyone may do, and each group by name.
func (m *migration) rights() []*right {
	groups := map[string]bool{"": true}
	for _, a := range m.objects.Accesses {
		for _, g := range a.Spec.Groups {
			groups[g] = true
		}
	}
	for _, r := range m.objects.RateLimits {
		for _, g := range r.Spec.Groups {
			groups[g] = true
		}
	}
	names := make([]string, 0, len(groups))
	for g := range groups {
		names = append(names, g)
	}
	slices.Sort(names)
	var out []*right
	for _, g := range names {
		out = append(out, m.rightsOf(g)...)
	}
	return out
}

// rightsOf returns the rights of a group. APIs for which they are the same make
// one right.
func (m *migration) rightsOf(group string) []*right {
	var out []*right
	byContent := map[string]*right{}
	for _, api := range m.apisOf(group) {
		r := m.rightTo(group, api)
		content := fmt.Sprintf("%q %t %s %s %d", r.filter, r.filter == nil, r.plan, limitName(r.limit), r.weight)
		if same := byContent[content]; same != nil {
			same.apis = append(same.apis, api)
			same.sources = union(same.sources, r.sources)
			continue
		}
		byContent[content] = r
		out = append(out, r)
	}
	return out
}

func limitName(r *manifest.APIRateLimit) string {
	if r == nil {
		return ""
	}
	return r.Name
}

func union(a, b []*manifest.APIAccess) []*manifest.APIAccess {
	out := append(slices.Clone(a), b...)
	slices.SortFunc(out, func(a, b *manifest.APIAccess) int { return cmp.Compare(a.Name, b.Name) })
	return slices.Compact(out)
}

// apisOf returns the APIs that a group needs a right of its own to: those that
// it has access to, and those that everyone has access to and it has a limit for.
func (m *migration) apisOf(group string) []string {
	var own []string
	everyones := map[string]bool{}
	for _, a := range m.objects.Accesses {
		if m.audience[a.Ref()][group] {
			own = append(own, m.chosen[a.Ref()]...)
		}
		if a.Spec.Everyone {
			for _, api := range m.chosen[a.Ref()] {
				everyones[api] = true
			}
		}
	}
	for _, r := range m.objects.RateLimits {
		if !m.audience[r.Ref()][group] {
			continue
		}
		for _, api := range m.chosen[r.Ref()] {
			if everyones[api] {
				own = append(own, api)
			}
		}
	}
	slices.Sort(own)
	return slices.Compact(own)
}

// choose notes what an access or a limit is about, and whom.
func (m *migration) choose(s source, apis, groups []string, everyone bool) {
	m.chosen[s.Ref()] = apis
	m.includes[s.Ref()] = set(apis)
	m.audience[s.Ref()] = set(groups)
	if everyone {
		m.audience[s.Ref()][""] = true
	}
}

func set(words []string) map[string]bool {
	out := make(map[string]bool, len(words)+1)
	for _, word := range words {
		out[word] = true
	}
	return out
}

// selected returns the names of the APIs that are selected, named and bundled,
// in order. Named ones need not be among the manifests.
func (m *migration) selected(selector *metav1.LabelSelector, names, bundles []manifest.NameRef) []string {
	var out []string
	for _, ref := range names {
		out = append(out, ref.Name)
	}
	s, err := metav1.LabelSelectorAsSelector(selector)
	for _, api := range m.objects.APIs {
		// An invalid selector is none: the loader lets no such object pass.
		if err == nil && s.Matches(labels.Set(api.Labels)) {
			out = append(out, api.Name)
		}
	}
	for _, ref := range bundles {
		for _, b := range m.objects.Bundles {
			if b.Name == ref.Name {
				out = append(out, m.selected(b.Spec.APISelector, b.Spec.APIs, nil)...)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// rightTo returns what a group may do with an API. Its members are part of
// everyone, so that what everyone may do counts too.
func (m *migration) rightTo(group, api string) *right {
	r := &right{group: group, apis: []string{api}}
	var covering []*manifest.APIAccess
	ranked := false
	for _, a := range m.objects.Accesses {
		if !a.Spec.Everyone && !m.audience[a.Ref()][group] || !m.includes[a.Ref()][api] {
			continue
		}
		covering = append(covering, a)
		ranked = ranked || a.Spec.Weight > 0 || a.Spec.APIPlan != nil
	}
	if ranked {
		// The later form, in which the heaviest decides alone.
		slices.SortStableFunc(covering, func(a, b *manifest.APIAccess) int { return cmp.Compare(b.Spec.Weight, a.Spec.Weight) })
		covering = covering[:1]
		r.weight = covering[0].Spec.Weight
		if plan := covering[0].Spec.APIPlan; plan != nil {
			r.plan = plan.Name
		}
	}
	r.sources, r.filter = covering, filterOf(covering)
	if r.plan == "" {
		r.limit = m.limitOf(group, api)
	}
	return r
}

// filterOf returns the operation sets that any of the accesses allows, or nil
// if one allows all.
func filterOf(accesses []*manifest.APIAccess) []string {
	sets := []string{}
	for _, a := range accesses {
		if a.Spec.OperationFilter == nil {
			return nil
		}
		sets = append(sets, a.Spec.OperationFilter.Include...)
	}
	slices.Sort(sets)
	return slices.Compact(sets)
}

// limitOf returns the limit of a group for an API: the strictest of its own or,
// where it has none, of everyone's.
func (m *migration) limitOf(group, api string) *manifest.APIRateLimit {
	var strictest *manifest.APIRateLimit
	for _, r := range m.objects.RateLimits {
		if !m.audience[r.Ref()][group] || !m.includes[r.Ref()][api] {
			continue
		}
		if strictest == nil || compareLimits(r, strictest) < 0 {
			strictest = r
		}
	}
	if strictest == nil && group != "" {
		return m.limitOf("", api)
	}
	return strictest
}

// weigh ranks the rights of groups: of the groups of one consumer the most
// generous decides, and each of them before everyone.
func (m *migration) weigh(rights []*right) {
	ranked := slices.DeleteFunc(slices.Clone(rights), func(r *right) bool { return r.group == "" })
	order := func(a, b *right) int {
		return cmp.Or(cmp.Compare(a.weight, b.weight), m.compareGenerosity(a, b))
	}
	slices.SortStableFunc(ranked, order)
	for i, r := range ranked {
		switch {
		case i == 0:
			r.written = 10
		case order(ranked[i-1], r) == 0:
			r.written = ranked[i-1].written
		default:
			r.written = ranked[i-1].written + 10
		}
	}
}

// changes tells which subscription serves whom in place of another one.
func changes(objects *manifest.Objects, r *Result) []string {
	after := *objects
	after.Plans, after.Subscriptions = slices.Clone(objects.Plans), slices.Clone(objects.Subscriptions)
	for _, f := range r.Files {
		written := manifest.Parse(f.Path, []byte(f.Text)).Objects
		after.Plans = append(after.Plans, written.Plans...)
		for _, s := range written.Subscriptions {
			// One that is written anew replaces itself.
			after.Subscriptions = slices.DeleteFunc(after.Subscriptions, func(old *manifest.ManagedSubscription) bool {
				return old.Namespace == s.Namespace && old.Name == s.Name
			})
			after.Subscriptions = append(after.Subscriptions, s)
		}
	}
	var out []string
	for _, app := range access.Compare(compile.Compile(objects).Table, compile.Compile(&after).Table) {
		for _, c := range app.APIs {
			if c.Kind == access.Changed && c.Before.Subscription != c.After.Subscription {
				out = append(out, fmt.Sprintf("ManagedApplication %s calls API %s by %s, where it was %s: %s",
					app.Application, c.API, c.After.Subscription, c.Before.Subscription, difference(c)))
			}
		}
	}
	return out
}

// difference says what another subscription changes.
func difference(c access.APIChange) string {
	var parts []string
	for _, d := range c.Differences() {
		if d.Field != "subscription" {
			parts = append(parts, fmt.Sprintf("%s %s → %s", d.Field, d.Before, d.After))
		}
	}
	if len(parts) == 0 {
		return "it allows the same"
	}
	return strings.Join(parts, "; ")
}

// joined joins names for people to read.
func joined(names []string) string { return strings.Join(names, ", ") }
