package compile

import (
	"cmp"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tollgate-apim/tollgate/controlplane/finding"
	"github.com/tollgate-apim/tollgate/controlplane/manifest"
	"github.com/tollgate-apim/tollgate/table"
)

// settler settles which subscription of one namespace serves which application
// and API.
type settler struct {
	*compiler
	plans    map[string]bool
	sets     map[*manifest.API]map[string]bool // names of operation sets
	apps     *consumers
	apis     *pool[*manifest.API]
	bundleOf map[string][]int // the APIs of each bundle
}

func (s *settler) bundles(bundles []*manifest.APIBundle) {
	s.bundleOf = make(map[string][]int, len(bundles))
	for _, b := range bundles {
		places := append(s.selectedAPIs(b, b.Spec.APISelector), s.namedAPIs(b, b.Spec.APIs)...)
		s.bundleOf[b.Name] = union(places)
	}
}

// selectedAPIs returns the places of the APIs that a selector of an object
// selects.
func (s *settler) selectedAPIs(on reporter, selector *metav1.LabelSelector) []int {
	places := s.apis.selects(selector)
	s.checkSelector(on, "spec.apiSelector", "API", selector, len(places))
	return places
}

// checkSelector reports a selector that selects nothing: unless an object that it
// may have selected is left out, which has a finding of its own.
func (c *compiler) checkSelector(on reporter, path, kind string, selector *metav1.LabelSelector, selected int) {
	namespace := on.Ref().Namespace
	if selector != nil && selected == 0 && c.lacking[finding.Object{Kind: kind, Namespace: namespace}] == 0 {
		c.warn(on, finding.Selector, path, fmt.Sprintf("selects no %s of namespace %s", kind, namespace), "label those that are meant, or take the selector out")
	}
}

func (s *settler) namedAPIs(on reporter, refs []manifest.NameRef) []int {
	var places []int
	for i, ref := range refs {
		if place, ok := s.apis.byName[ref.Name]; ok {
			places = append(places, place)
			continue
		}
		s.missing(on, fmt.Sprintf("spec.apis[%d].name", i), "API", ref.Name)
	}
	return places
}

// settle returns the grants of each application: by API, the subscription.
func (s *settler) settle(subscriptions []*manifest.ManagedSubscription) []map[string]string {
	ordered := slices.Clone(subscriptions)
	slices.SortFunc(ordered, func(a, b *manifest.ManagedSubscription) int {
		return cmp.Or(cmp.Compare(b.Spec.Weight, a.Spec.Weight), cmp.Compare(a.Name, b.Name))
	})
	apiNames := make([]string, len(s.apis.objects))
	for i, a := range s.apis.objects {
		apiNames[i] = namespacedName(a)
	}
	grants := make([]map[string]string, len(s.apps.objects))
	winners := map[pairing]*Subscription{}
	for _, m := range ordered {
		apps, apis := s.applicationsOf(m), s.apisOf(m, m.Spec.APISelector, m.Spec.APIs, m.Spec.APIBundles)
		sub := &Subscription{
			ManagedSubscription: m,
			Applications:        s.apps.at(apps),
			APIs:                s.apis.at(apis),
			Barred:              s.barred(m),
		}
		s.subscriptions = append(s.subscriptions, sub)
		s.checkFilter(sub, sub.Spec.OperationFilter, sub.APIs, "the subscription")
		name := namespacedName(m)
		for _, p := range s.win(sub, pairings(apps, apis), winners) {
			if sub.Barred != "" {
				continue // and nobody else may have it
			}
			if grants[p.app] == nil {
				grants[p.app] = map[string]string{}
			}
			grants[p.app][apiNames[p.api]] = name
		}
		if sub.Wins > 0 && sub.Barred == "" {
			s.table.Subscriptions[name] = subscription(m)
		}
	}
	return grants
}

// win gives sub the pairs that nobody has won before it, and returns them.
func (s *settler) win(sub *Subscription, pairs iter.Seq[pairing], winners map[pairing]*Subscription) []pairing {
	var won []pairing
	lostTo := map[*Subscription]bool{}
	for p := range pairs {
		winner := winners[p]
		switch {
		case winner == nil:
			winners[p] = sub
			won = append(won, p)
		case !lostTo[winner]:
			lostTo[winner] = true
			sub.Losses = append(sub.Losses, Loss{winner, s.apps.objects[p.app], s.apis.objects[p.api]})
		}
	}
	sub.Wins = len(won)
	return won
}

// pairing is an application and an API, by their places.
type pairing struct{ app, api int }

func pairings(apps, apis []int) iter.Seq[pairing] {
	return func(yield func(pairing) bool) {
		for _, app := range apps {
			for _, api := range apis {
				if !yield(pairing{app, api}) {
					return
				}
			}
		}
	}
}

func subscription(m *manifest.ManagedSubscription) table.Subscription {
	out := table.Subscription{Plan: m.Namespace + "/" + m.Spec.APIPlan.Name}
	if f := m.Spec.OperationFilter; f != nil {
		// An empty list must stay one on the wire: it allows nothing.
		out.OperationFilter = &table.OperationFilter{Include: append([]string{}, f.Include...)}
	}
	return out
}

func (s *settler) applicationsOf(m *manifest.ManagedSubscription) []int {
	places := s.apps.selects(m.Spec.ManagedApplicationSelector)
	s.checkApplications(m, len(places), s.apps)
	for _, ref := range m.Spec.ManagedApplications {
		if place, ok := s.apps.byName[ref.Name]; ok {
			places = append(places, place)
		}
	}
	for _, ref := range m.Spec.Applications {
		if place, ok := s.apps.byAppID[ref.AppID]; ok {
			places = append(places, place)
		}
	}
	return union(places)
}

// consumerBook knows the applications of a namespace by their names.
type consumerBook interface {
	// kept reports whether the application of a name counts, disregarded whether
	// it exists and does not.
	kept(name string) bool
	disregarded(name string) bool
	// withAppID returns the name of the application that counts for an App ID, or
	// "".
	withAppID(appID string) string
}

// checkApplications reports what is wrong with the applications that m names,
// and with its selector, which selects so many of them.
func (c *compiler) checkApplications(m *manifest.ManagedSubscription, selected int, book consumerBook) {
	c.checkSelector(m, "spec.managedApplicationSelector", "ManagedApplication", m.Spec.ManagedApplicationSelector, selected)
	for i, ref := range m.Spec.ManagedApplications {
		at := fmt.Sprintf("spec.managedApplications[%d].name", i)
		switch {
		case book.kept(ref.Name):
		case book.disregarded(ref.Name):
			c.warn(m, finding.Reference, at, fmt.Sprintf("names ManagedApplication %s/%s, which is disregarded", m.Namespace, ref.Name),
				"mend what its own finding says")
		default:
			c.missing(m, at, "ManagedApplication", ref.Name)
		}
	}
	var names []string
	for i, ref := range m.Spec.Applications {
		if name := book.withAppID(ref.AppID); name != "" {
			names = append(names, name)
			continue
		}
		c.fail(m, finding.Reference, fmt.Sprintf("spec.applications[%d].appId", i),
			fmt.Sprintf("names App ID %q, which no ManagedApplication of namespace %s has", ref.AppID, m.Namespace), "write it, or take the App ID out")
	}
	if len(m.Spec.Applications) > 0 {
		fix := "name ManagedApplications under managedApplications instead"
		if len(names) > 0 {
			fix = "write \"managedApplications: [{name: " + strings.Join(names, "}, {name: ") + "}]\" instead"
		}
		c.warn(m, finding.Deprecated, "spec.applications", "is deprecated", fix)
	}
}

// apisOf returns the places of the APIs that an object selects, names and has
// bundles of.
func (s *settler) apisOf(on reporter, selector *metav1.LabelSelector, names, bundles []manifest.NameRef) []int {
	places := append(s.selectedAPIs(on, selector), s.namedAPIs(on, names)...)
	for i, ref := range bundles {
		bundle, ok := s.bundleOf[ref.Name]
		if !ok {
			s.missing(on, fmt.Sprintf("spec.apiBundles[%d].name", i), "APIBundle", ref.Name)
			continue
		}
		places = append(places, bundle...)
	}
	return union(places)
}

// barred says, and reports, why m grants nothing.
func (s *settler) barred(m *manifest.ManagedSubscription) Barred {
	barred := Barred("")
	if m.Spec.Claims != "" {
		s.fail(m, finding.ClaimsUnsupported, "spec.claims", "needs a token with claims, which an API key is not, so the subscription grants nothing",
			"take the claims out, and name the applications instead")
		barred = HasClaims
	}
	if !s.plans[m.Spec.APIPlan.Name] {
		s.missing(m, "spec.apiPlan.name", "APIPlan", m.Spec.APIPlan.Name)
		barred = NoPlan
	}
	return barred
}

// checkFilter reports sets that none of an object's APIs has.
func (s *settler) checkFilter(on reporter, f *manifest.OperationFilter, apis []*manifest.API, what string) {
	if f == nil || len(apis) == 0 {
		return
	}
	for i, set := range f.Include {
		if !slices.ContainsFunc(apis, func(a *manifest.API) bool { return s.sets[a][set] }) {
			s.remarks = append(s.remarks, remark{
				on: on, rule: finding.OperationSet, severity: finding.Error, path: fmt.Sprintf("spec.operationFilter.include[%d]", i),
				problem: fmt.Sprintf("names operation set %q, which no API of %s has", set, what), allowed: s.setsOf(apis), fix: "write the set, or take the name out",
			})
		}
	}
}

// setsOf lists operation sets that a filter could name, but not very many.
func (s *settler) setsOf(apis []*manifest.API) string {
	const most = 10
	sets := map[string]bool{}
	for _, a := range apis {
		if len(sets) > most {
			break
		}
		maps.Copy(sets, s.sets[a])
	}
	names := slices.Sorted(maps.Keys(sets))
	if len(names) > most {
		names = append(names[:most], "…")
	}
	return strings.Join(names, ", ")
}

// catalog checks what is offered in portals. It changes nothing: being found is
// not being allowed to call.
func (s *settler) catalog(items []*manifest.APICatalogItem) {
	for _, item := range items {
		apis := s.apisOf(item, item.Spec.APISelector, item.Spec.APIs, item.Spec.APIBundles)
		s.checkFilter(item, item.Spec.OperationFilter, s.apis.at(apis), "the item")
		if plan := item.Spec.APIPlan; plan != nil && !s.plans[plan.Name] {
			s.missing(item, "spec.apiPlan.name", "APIPlan", plan.Name)
		}
	}
}
