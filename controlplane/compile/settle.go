package compile

import (
	"cmp"
	"fmt"
	"slices"

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
		places := s.apis.selects(b.Spec.APISelector)
		places = append(places, s.namedAPIs(b, b.Spec.APIs)...)
		s.bundleOf[b.Name] = union(places)
	}
}

func (s *settler) namedAPIs(on reporter, refs []manifest.NameRef) []int {
	var places []int
	for i, ref := range refs {
		if place, ok := s.apis.byName[ref.Name]; ok {
			places = append(places, place)
			continue
		}
		s.dangling(on, fmt.Sprintf("spec.apis[%d].name", i), "API", ref.Name)
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
	// What barred subscriptions won. Nobody else may have it.
	withheld := map[pairing]bool{}
	for _, m := range ordered {
		apps, apis := s.applicationsOf(m), s.apisOf(m)
		sub := &Subscription{
			ManagedSubscription: m,
			Applications:        s.apps.at(apps),
			APIs:                s.apis.at(apis),
			Barred:              s.barred(m),
		}
		s.subscriptions = append(s.subscriptions, sub)
		s.checkFilter(sub)
		name, won := namespacedName(m), false
		for _, app := range apps {
			for _, api := range apis {
				if _, taken := grants[app][apiNames[api]]; taken || withheld[pairing{app, api}] {
					continue
				}
				if sub.Barred != "" {
					withheld[pairing{app, api}] = true
					continue
				}
				if grants[app] == nil {
					grants[app] = map[string]string{}
				}
				grants[app][apiNames[api]] = name
				won = true
			}
		}
		if won {
			s.table.Subscriptions[name] = subscription(m)
		}
	}
	return grants
}

// pairing is an application and an API, by their places.
type pairing struct{ app, api int }

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
	for i, ref := range m.Spec.ManagedApplications {
		at := fmt.Sprintf("spec.managedApplications[%d].name", i)
		place, ok := s.apps.byName[ref.Name]
		switch {
		case ok:
			places = append(places, place)
		case s.apps.disregarded[ref.Name]:
			s.warn(m, finding.Reference, at, fmt.Sprintf("names ManagedApplication %s/%s, which is disregarded", m.Namespace, ref.Name),
				"mend what its own finding says")
		default:
			s.dangling(m, at, "ManagedApplication", ref.Name)
		}
	}
	for i, ref := range m.Spec.Applications {
		if place, ok := s.apps.byAppID[ref.AppID]; ok {
			places = append(places, place)
			continue
		}
		s.fail(m, finding.Reference, fmt.Sprintf("spec.applications[%d].appId", i),
			fmt.Sprintf("names App ID %q, which no ManagedApplication of namespace %s has", ref.AppID, m.Namespace), "write it, or take the App ID out")
	}
	return union(places)
}

func (s *settler) apisOf(m *manifest.ManagedSubscription) []int {
	places := s.apis.selects(m.Spec.APISelector)
	places = append(places, s.namedAPIs(m, m.Spec.APIs)...)
	for i, ref := range m.Spec.APIBundles {
		bundle, ok := s.bundleOf[ref.Name]
		if !ok {
			s.dangling(m, fmt.Sprintf("spec.apiBundles[%d].name", i), "APIBundle", ref.Name)
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
		s.dangling(m, "spec.apiPlan.name", "APIPlan", m.Spec.APIPlan.Name)
		barred = NoPlan
	}
	return barred
}

// checkFilter reports sets that no API of the subscription has.
func (s *settler) checkFilter(sub *Subscription) {
	f := sub.Spec.OperationFilter
	if f == nil || len(sub.APIs) == 0 {
		return
	}
	for i, set := range f.Include {
		if !slices.ContainsFunc(sub.APIs, func(a *manifest.API) bool { return s.sets[a][set] }) {
			s.fail(sub, finding.OperationSet, fmt.Sprintf("spec.operationFilter.include[%d]", i),
				fmt.Sprintf("names operation set %q, which no API of the subscription has", set), "write the set, or take the name out")
		}
	}
}
