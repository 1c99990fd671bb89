// Package compile settles what objects mean together and makes the table of it:
// who holds a key, and which subscription lets an application call an API.
//
// References never leave a namespace, so each namespace is settled alone; only
// keys meet across namespaces. The same objects always give the same result.
package compile

import (
	"cmp"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/tollgate-apim/tollgate/controlplane/finding"
	"github.com/tollgate-apim/tollgate/controlplane/manifest"
	"github.com/tollgate-apim/tollgate/table"
)

// Result is a table and how it came about.
type Result struct {
	// Table has all but its revision and its time of issue.
	Table *table.Table
	// Findings are those between objects; the loader's are not repeated.
	Findings []finding.Finding
	// Subscriptions are all candidates, by namespace and in the order of
	// precedence. The first that selects both an application and an API wins the
	// pair, even if it is barred: there is no falling through.
	Subscriptions []*Subscription
}

// Subscription is a candidate, its references resolved.
type Subscription struct {
	*manifest.ManagedSubscription
	Applications []*manifest.ManagedApplication // by name
	APIs         []*manifest.API                // by name
	// Barred says why what it wins is not granted; empty where it is.
	Barred Barred
	// Wins counts the pairs of an application and an API that it wins, barred or
	// not. Losses has, for each subscription that wins some before it, the first.
	Wins   int
	Losses []Loss
}

// Loss is a pair that a subscription asks for and another one wins.
type Loss struct {
	To          *Subscription
	Application *manifest.ManagedApplication
	API         *manifest.API
}

// Barred is a reason why a subscription grants nothing.
type Barred string

// The reasons.
const (
	NoPlan    Barred = "its plan does not exist"
	HasClaims Barred = "it has claims, which API keys cannot meet"
)

// Compile makes a table of objects.
func Compile(objects *manifest.Objects) *Result {
	c := &compiler{
		leavings: leavings{leftOut: objects.LeftOut, lacking: map[finding.Object]int{}},
		table: &table.Table{
			Plans:         make(map[string]table.Plan, len(objects.Plans)),
			APIs:          make(map[string]table.API, len(objects.APIs)),
			Subscriptions: make(map[string]table.Subscription, len(objects.Subscriptions)),
			Applications:  make(map[string]table.Application, len(objects.Applications)),
			Keys:          make(map[string][]table.Holder, len(objects.Applications)),
		},
		held:  make(map[string][]holder, len(objects.Applications)),
		known: map[finding.Object]iter.Seq[string]{},
	}
	for o := range objects.LeftOut {
		c.lacking[kindOf(o)]++
	}
	for _, ns := range byNamespace(objects) {
		c.namespace(ns)
	}
	c.keys()
	findings := c.tell(func(missing finding.Object) iter.Seq[string] { return c.known[kindOf(missing)] })
	return &Result{Table: c.table, Findings: findings, Subscriptions: c.subscriptions}
}

type compiler struct {
	leavings
	remarks
	table         *table.Table
	subscriptions []*Subscription
	held          map[string][]holder                 // by digest
	known         map[finding.Object]iter.Seq[string] // names of each kind that can be referred to, by namespace
}

// leavings are the objects that findings leave out.
type leavings struct {
	leftOut map[finding.Object]bool
	lacking map[finding.Object]int // how many of each kind, by namespace
}

// kindOf returns the object without its name.
func kindOf(o finding.Object) finding.Object {
	return finding.Object{Kind: o.Kind, Namespace: o.Namespace}
}

// missing reports a reference of an object to another one that is not there.
func (c *compiler) missing(on reporter, path, kind, name string) {
	ref := finding.Object{Kind: kind, Namespace: on.Ref().Namespace, Name: name}
	c.dangling(on, path, ref, c.leftOut[ref])
}

// namespace is the objects of one namespace, each kind by name.
type namespace struct {
	name          string
	apis          []*manifest.API
	versions      map[string]*manifest.APIVersion
	bundles       []*manifest.APIBundle
	plans         []*manifest.APIPlan
	applications  []*manifest.ManagedApplication
	secrets       map[string]*manifest.Secret
	subscriptions []*manifest.ManagedSubscription
	catalogItems  []*manifest.APICatalogItem
}

// byNamespace returns the namespaces in alphabetical order.
func byNamespace(o *manifest.Objects) []*namespace {
	spaces := map[string]*namespace{}
	in := func(name string) *namespace {
		ns := spaces[name]
		if ns == nil {
			ns = &namespace{name: name, versions: map[string]*manifest.APIVersion{}, secrets: map[string]*manifest.Secret{}}
			spaces[name] = ns
		}
		return ns
	}
	for _, a := range o.APIs {
		ns := in(a.Namespace)
		ns.apis = append(ns.apis, a)
	}
	for _, v := range o.Versions {
		in(v.Namespace).versions[v.Name] = v
	}
	for _, b := range o.Bundles {
		ns := in(b.Namespace)
		ns.bundles = append(ns.bundles, b)
	}
	for _, p := range o.Plans {
		ns := in(p.Namespace)
		ns.plans = append(ns.plans, p)
	}
	for _, a := range o.Applications {
		ns := in(a.Namespace)
		ns.applications = append(ns.applications, a)
	}
	for _, s := range o.Secrets {
		in(s.Namespace).secrets[s.Name] = s
	}
	for _, s := range o.Subscriptions {
		ns := in(s.Namespace)
		ns.subscriptions = append(ns.subscriptions, s)
	}
	for _, i := range o.CatalogItems {
		ns := in(i.Namespace)
		ns.catalogItems = append(ns.catalogItems, i)
	}
	names := make([]string, 0, len(spaces))
	for name := range spaces {
		names = append(names, name)
	}
	slices.Sort(names)
	sorted := make([]*namespace, len(names))
	for i, name := range names {
		sorted[i] = spaces[name]
	}
	return sorted
}

// namespacedName is how the table names an object.
func namespacedName(o reporter) string {
	ref := o.Ref()
	return ref.Namespace + "/" + ref.Name
}

func (c *compiler) namespace(ns *namespace) {
	sets := make(map[*manifest.API]map[string]bool, len(ns.apis))
	for _, a := range ns.apis {
		c.table.APIs[namespacedName(a)], sets[a] = c.api(ns.versions, a)
	}
	plans := make(map[string]bool, len(ns.plans))
	for _, p := range ns.plans {
		c.table.Plans[namespacedName(p)] = plan(p)
		plans[p.Name] = true
	}
	apps := c.consumers(ns.applications)
	s := settler{compiler: c, plans: plans, sets: sets, apps: apps, apis: newPool(ns.apis)}
	s.bundles(ns.bundles)
	grants := s.settle(ns.subscriptions)
	s.catalog(ns.catalogItems)
	for i, a := range apps.objects {
		c.table.Applications[namespacedName(a)] = table.Application{AppID: a.Spec.AppID, Owner: a.Spec.Owner, Grants: grants[i]}
		for place, digest := range c.digests(a, ns.secrets) {
			if digest != "" {
				c.held[digest] = append(c.held[digest], holder{a, place})
			}
		}
	}
	for kind, names := range map[string]iter.Seq[string]{
		"API": maps.Keys(s.apis.byName), "APIVersion": maps.Keys(ns.versions), "APIBundle": maps.Keys(s.bundleOf),
		"APIPlan": maps.Keys(plans), "ManagedApplication": maps.Keys(apps.byName),
	} {
		c.known[finding.Object{Kind: kind, Namespace: ns.name}] = names
	}
}

// api returns an API's operation sets, those of its versions included, and
// their names.
func (c *compiler) api(versions map[string]*manifest.APIVersion, a *manifest.API) (table.API, map[string]bool) {
	specs := []*manifest.OpenAPISpec{a.Spec.OpenAPISpec}
	for i, ref := range a.Spec.Versions {
		v := versions[ref.Name]
		if v == nil {
			c.missing(a, fmt.Sprintf("spec.versions[%d].name", i), "APIVersion", ref.Name)
			continue
		}
		specs = append(specs, v.Spec.OpenAPISpec)
	}
	var out table.API
	names := map[string]bool{}
	for _, spec := range specs {
		if spec == nil {
			continue
		}
		for _, set := range spec.OperationSets {
			if out.OperationSets == nil {
				out.OperationSets = map[string][]table.Matcher{}
			}
			names[set.Name] = true
			for _, m := range set.Matchers {
				out.OperationSets[set.Name] = append(out.OperationSets[set.Name], matcher(m))
			}
		}
	}
	return out, names
}

func matcher(m manifest.Matcher) table.Matcher {
	var methods []string
	for _, method := range m.Methods {
		methods = append(methods, strings.ToUpper(method))
	}
	return table.Matcher{Methods: methods, Path: m.Path, PathPrefix: m.PathPrefix, PathRegex: m.PathRegex}
}

// plan returns an APIPlan's limits. A rate limit of 0 is none; a quota of 0
// denies everything.
func plan(p *manifest.APIPlan) table.Plan {
	out := table.Plan{Title: p.Spec.Title}
	if l := p.Spec.RateLimit; l != nil && *l.Limit > 0 {
		burst, _ := p.Burst() // the loader has checked it
		out.RateLimit = &table.RateLimit{Limit: *l.Limit, Period: l.Period, Burst: burst, Bucket: bucket(l)}
	}
	if l := p.Spec.Quota; l != nil {
		out.Quota = &table.Quota{Limit: *l.Limit, Period: l.Period, Bucket: bucket(l)}
	}
	return out
}

func bucket(l *manifest.Limit) string { return cmp.Or(l.Bucket, table.BucketSubscription) }

// consumers returns the applications that count: of several with one App ID,
// only the one whose name comes first. They come by name.
func (c *compiler) consumers(all []*manifest.ManagedApplication) *consumers {
	out := &consumers{byAppID: make(map[string]int, len(all)), others: map[string]bool{}}
	var kept []*manifest.ManagedApplication
	for _, a := range all {
		if i, ok := out.byAppID[a.Spec.AppID]; ok {
			out.others[a.Name] = true
			c.rival(a, kept[i])
			continue
		}
		out.byAppID[a.Spec.AppID] = len(kept)
		kept = append(kept, a)
	}
	out.pool = newPool(kept)
	return out
}

// rival reports an application whose App ID another one of the namespace has.
func (r *remarks) rival(a, kept *manifest.ManagedApplication) {
	r.warn(a, finding.Duplicate, "spec.appId",
		fmt.Sprintf("is also the App ID of %s, which comes first by name and is kept; this application and its keys are disregarded", kept.Ref()),
		"give each application an App ID of its own")
}

// consumers are the applications of a namespace that count.
type consumers struct {
	*pool[*manifest.ManagedApplication]
	byAppID map[string]int
	others  map[string]bool // by name: those that do not count
}

func (c *consumers) kept(name string) bool        { _, ok := c.byName[name]; return ok }
func (c *consumers) disregarded(name string) bool { return c.others[name] }

func (c *consumers) withAppID(appID string) string {
	if place, ok := c.byAppID[appID]; ok {
		return c.objects[place].Name
	}
	return ""
}
