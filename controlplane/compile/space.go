package compile

import (
	"cmp"
	"iter"
	"maps"
	"reflect"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"

	"github.com/tollgate-apim/tollgate/controlplane/manifest"
)

// space is a namespace as an Incremental has settled it.
type space struct {
	name string

	// The objects, by name.
	apis          map[string]*manifest.API
	versions      map[string]*manifest.APIVersion
	bundles       map[string]*manifest.APIBundle
	plans         map[string]*manifest.APIPlan
	items         map[string]*manifest.APICatalogItem
	applications  map[string]*manifest.ManagedApplication
	secrets       map[string]*manifest.Secret
	subscriptions map[string]*standing

	// byAppID has the name of the application that counts, and rivals those of
	// all where there are several, the one that counts first.
	byAppID map[string]string
	rivals  map[string][]string

	seekers
	settler  *settler // of APIs, plans and bundles; nil before the first round
	apiNames []string // by place, as in the table

	headRemarks remarks            // about what the settler has settled
	telling     map[*standing]bool // subscriptions about which there are remarks
	keyRemarks  map[string]remarks // about the keys of an application, by its name

	taken   map[string]bool // room for win
	granted [256]map[string]string
}

func newSpace(name string) *space {
	return &space{
		name: name,
		apis: map[string]*manifest.API{}, versions: map[string]*manifest.APIVersion{}, bundles: map[string]*manifest.APIBundle{},
		plans: map[string]*manifest.APIPlan{}, items: map[string]*manifest.APICatalogItem{},
		applications: map[string]*manifest.ManagedApplication{}, secrets: map[string]*manifest.Secret{}, subscriptions: map[string]*standing{},
		byAppID: map[string]string{}, rivals: map[string][]string{},
		seekers: seekers{byName: map[string][]*standing{}, byID: map[string][]*standing{}, byLabel: map[label][]*standing{}, byKey: map[string][]*standing{}},
		telling: map[*standing]bool{}, keyRemarks: map[string]remarks{}, taken: map[string]bool{},
	}
}

func (s *space) isEmpty() bool {
	return len(s.apis)+len(s.versions)+len(s.bundles)+len(s.plans)+len(s.items)+
		len(s.applications)+len(s.secrets)+len(s.subscriptions) == 0
}

// remarks returns those about all objects of the namespace, but for keys that
// meet.
func (s *space) remarks() remarks {
	all := slices.Clone(s.headRemarks)
	for m := range s.telling {
		all = append(append(all, m.remarks...), m.appRemarks...)
	}
	for _, remarks := range s.keyRemarks {
		all = append(all, remarks...)
	}
	for _, names := range s.rivals {
		for _, name := range names[1:] {
			all.rival(s.applications[name], s.applications[names[0]])
		}
	}
	return all
}

// known returns the names of a kind that a reference may have.
func (s *space) known(kind string) iter.Seq[string] {
	switch kind {
	case "API":
		return maps.Keys(s.apis)
	case "APIVersion":
		return maps.Keys(s.versions)
	case "APIBundle":
		return maps.Keys(s.bundles)
	case "APIPlan":
		return maps.Keys(s.plans)
	}
	return maps.Values(s.byAppID)
}

func (s *space) kept(name string) bool {
	a := s.applications[name]
	return a != nil && s.byAppID[a.Spec.AppID] == name
}

func (s *space) disregarded(name string) bool  { return s.applications[name] != nil && !s.kept(name) }
func (s *space) withAppID(appID string) string { return s.byAppID[appID] }

// addAppID enters an application under its App ID.
func (s *space) addAppID(a *manifest.ManagedApplication) {
	appID := a.Spec.AppID
	kept, ok := s.byAppID[appID]
	if !ok {
		s.byAppID[appID] = a.Name
		return
	}
	names := s.rivals[appID]
	if names == nil {
		names = []string{kept}
	}
	names = append(names, a.Name)
	slices.Sort(names)
	s.rivals[appID], s.byAppID[appID] = names, names[0]
}

// dropAppID takes it out again.
func (s *space) dropAppID(a *manifest.ManagedApplication) {
	appID := a.Spec.AppID
	names := slices.DeleteFunc(s.rivals[appID], func(name string) bool { return name == a.Name })
	if len(names) == 0 {
		delete(s.byAppID, appID)
		return
	}
	s.rivals[appID], s.byAppID[appID] = names, names[0]
	if len(names) == 1 {
		delete(s.rivals, appID)
	}
}

// share returns a map that says the same as grants, if possible one that other
// applications have.
func (s *space) share(grants map[string]string) map[string]string {
	if grants == nil {
		return nil
	}
	hash := 0
	for api, subscription := range grants {
		for _, b := range []byte(api + subscription) {
			hash += int(b)
		}
	}
	slot := &s.granted[hash%len(s.granted)]
	if !maps.Equal(*slot, grants) {
		*slot = grants
	}
	return *slot
}

// standing is a subscription, and what becomes of it.
type standing struct {
	*manifest.ManagedSubscription
	name     string // as in the table
	selector labels.Selector
	apis     []string // as in the table, in order
	barred   Barred

	selected int // applications that count, by the selector
	wins     int // pairs of an application and an API

	remarks, appRemarks remarks // appRemarks are about applications
}

func newStanding(m *manifest.ManagedSubscription) *standing {
	selector, err := metav1.LabelSelectorAsSelector(m.Spec.ManagedApplicationSelector)
	if err != nil {
		selector = labels.Nothing() // the loader lets none pass
	}
	return &standing{ManagedSubscription: m, name: namespacedName(m), selector: selector}
}

// wantsTheSame reports whether two versions of a subscription want the same
// applications and APIs, with the same precedence and success.
func (m *standing) wantsTheSame(other *standing) bool {
	a, b := m.Spec, other.Spec
	return a.Weight == b.Weight && m.barred == other.barred && slices.Equal(m.apis, other.apis) &&
		slices.Equal(a.ManagedApplications, b.ManagedApplications) && slices.Equal(a.Applications, b.Applications) &&
		reflect.DeepEqual(a.ManagedApplicationSelector, b.ManagedApplicationSelector)
}

func (m *standing) selects(a *manifest.ManagedApplication) bool {
	return m.selector.Matches(labels.Set(a.Labels))
}

// seekers finds the subscriptions that want an application: by its name, by its
// App ID, and by one requirement of their selectors that the application must
// meet.
type seekers struct {
	byName, byID map[string][]*standing
	byLabel      map[label][]*standing
	byKey        map[string][]*standing
	others       []*standing // whose selectors must be tried

	found []wanting // room for the result of wanting
}

// wanting is a subscription that wants an application, by its selector or not.
type wanting struct {
	*standing
	selected bool
}

// edit changes the lists in which a subscription belongs.
func (s *seekers) edit(m *standing, change func([]*standing) []*standing) {
	for _, ref := range m.Spec.ManagedApplications {
		edit(s.byName, ref.Name, change)
	}
	for _, ref := range m.Spec.Applications {
		edit(s.byID, ref.AppID, change)
	}
	requirements, selectable := m.selector.Requirements()
	if !selectable {
		return
	}
	for _, r := range requirements {
		switch r.Operator() {
		case selection.In, selection.Equals, selection.DoubleEquals:
			for value := range r.Values() {
				edit(s.byLabel, label{r.Key(), value}, change)
			}
			return
		case selection.Exists:
			edit(s.byKey, r.Key(), change)
			return
		}
	}
	s.others = change(s.others)
}

func edit[Key comparable](lists map[Key][]*standing, key Key, change func([]*standing) []*standing) {
	if lists[key] = change(lists[key]); len(lists[key]) == 0 {
		delete(lists, key)
	}
}

// wanting returns the subscriptions that want an application, in the order of
// precedence. The result is good until the next call.
func (s *seekers) wanting(a *manifest.ManagedApplication) []wanting {
	found := s.found[:0]
	for _, m := range s.byName[a.Name] {
		found = append(found, wanting{m, false})
	}
	for _, m := range s.byID[a.Spec.AppID] {
		found = append(found, wanting{m, false})
	}
	try := func(candidates []*standing) {
		for _, m := range candidates {
			if m.selects(a) {
				found = append(found, wanting{m, true})
			}
		}
	}
	for key, value := range a.Labels {
		try(s.byLabel[label{key, value}])
		try(s.byKey[key])
	}
	try(s.others)
	s.found = found
	slices.SortFunc(found, func(a, b wanting) int {
		return cmp.Or(cmp.Compare(b.Spec.Weight, a.Spec.Weight), cmp.Compare(a.Name, b.Name))
	})
	out := found[:0]
	for _, w := range found {
		if n := len(out); n > 0 && out[n-1].standing == w.standing {
			out[n-1].selected = out[n-1].selected || w.selected
			continue
		}
		out = append(out, w)
	}
	return out
}
