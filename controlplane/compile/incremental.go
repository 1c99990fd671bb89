package compile

import (
	"iter"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/tollgate-apim/tollgate/controlplane/finding"
	"github.com/tollgate-apim/tollgate/controlplane/manifest"
	"github.com/tollgate-apim/tollgate/table"
)

// Incremental makes of objects what Compile makes of them, and keeps it up to
// date in time that grows with the edits. One goroutine uses it at a time.
//
// It asks the question of Compile the other way round. Compile goes through the
// subscriptions and sees which applications each of them wins. Here each
// application looks for the subscriptions that want it, so that one that was
// edited is settled alone, and one whose subscriptions were edited is too.
type Incremental struct {
	leavings
	table      *table.Table
	spaces     map[string]*space  // by namespace
	keyRemarks map[string]remarks // by digest
	scratch    *compiler          // to collect remarks in
	change     *Change            // being made; nil while there is no table before
	// stale are the digests whose rows are made anew, and which applications are
	// known to hold them beside those that their rows name.
	stale map[string][]*manifest.ManagedApplication
}

// NewIncremental returns the table of no objects.
func NewIncremental() *Incremental {
	leavings := leavings{leftOut: map[finding.Object]bool{}, lacking: map[finding.Object]int{}}
	return &Incremental{
		leavings: leavings,
		table: &table.Table{
			Plans: map[string]table.Plan{}, APIs: map[string]table.API{}, Subscriptions: map[string]table.Subscription{},
			Applications: map[string]table.Application{}, Keys: map[string][]table.Holder{},
		},
		spaces: map[string]*space{}, keyRemarks: map[string]remarks{},
		scratch: &compiler{leavings: leavings},
	}
}

// Table returns the table, all but its revision and its time of issue. The next
// Apply changes it.
func (c *Incremental) Table() *table.Table { return c.table }

// Apply takes in edits and returns what they change in the table, or nil the
// first time, when there was none before. It may change the order of edits.
func (c *Incremental) Apply(edits []manifest.Edit) *Change {
	c.stale = map[string][]*manifest.ManagedApplication{}
	slices.SortFunc(edits, func(a, b manifest.Edit) int { return strings.Compare(a.Ref.Namespace, b.Ref.Namespace) })
	for len(edits) > 0 {
		name, n := edits[0].Ref.Namespace, 1
		for n < len(edits) && edits[n].Ref.Namespace == name {
			n++
		}
		c.namespace(name, edits[:n])
		edits = edits[n:]
	}
	for digest, holders := range c.stale {
		c.key(digest, holders)
	}
	c.stale = nil
	change := c.change
	c.change = &Change{}
	return change
}

// Findings returns those between objects, as Compile does.
func (c *Incremental) Findings() []finding.Finding {
	var all remarks
	for _, s := range c.spaces {
		all = append(all, s.remarks()...)
	}
	for _, remarks := range c.keyRemarks {
		all = append(all, remarks...)
	}
	return all.tell(func(missing finding.Object) iter.Seq[string] {
		if s := c.spaces[missing.Namespace]; s != nil {
			return s.known(missing.Kind)
		}
		return func(func(string) bool) {}
	})
}

// round is what one Apply does to one namespace.
type round struct {
	*space
	c *Incremental
	// affected has the names of the applications that are settled anew, and whether
	// their keys are too. appIDs are those that edited ones had and have.
	affected, appIDs map[string]bool
	asked            map[*standing]bool // subscriptions that are looked at again
}

func (c *Incremental) namespace(name string, edits []manifest.Edit) {
	if c.spaces[name] == nil {
		c.spaces[name] = newSpace(name)
	}
	r := &round{space: c.spaces[name], c: c, affected: map[string]bool{}, appIDs: map[string]bool{}, asked: map[*standing]bool{}}
	kind := finding.Object{Kind: "ManagedApplication", Namespace: name}
	lacked := c.lacking[kind] > 0
	heads := r.settler == nil
	for _, e := range edits {
		c.leave(e)
		heads = r.putHead(e) || heads
		r.affect(e)
	}
	if lacked != (c.lacking[kind] > 0) {
		for _, m := range r.subscriptions {
			r.asked[m] = true
		}
	}
	if heads {
		r.settleHeads(edits)
	}
	replacements := r.replacements(edits, heads)
	r.affectReach(replacements)

	had := r.leaveTable()
	r.putRest(edits)
	for _, p := range replacements {
		r.replace(p)
	}
	r.enterTable(had)
	r.answer()
	if r.isEmpty() {
		delete(c.spaces, name)
	}
}

// leave notes whether an object is left out.
func (l leavings) leave(e manifest.Edit) {
	kind := kindOf(e.Ref)
	switch {
	case e.LeftOut && !e.WasLeftOut:
		l.leftOut[e.Ref] = true
		l.lacking[kind]++
	case !e.LeftOut && e.WasLeftOut:
		delete(l.leftOut, e.Ref)
		if l.lacking[kind]--; l.lacking[kind] == 0 {
			delete(l.lacking, kind)
		}
	}
}

// remarksOf returns the remarks that do makes.
func (c *Incremental) remarksOf(do func(*compiler)) remarks {
	c.scratch.remarks = nil
	do(c.scratch)
	return c.scratch.remarks
}

// putHead takes in an edit of what all subscriptions of the namespace may be
// about, and reports whether it is one.
func (s *space) putHead(e manifest.Edit) bool {
	switch e.Ref.Kind {
	case "API":
		put(s.apis, e)
	case "APIVersion":
		put(s.versions, e)
	case "APIBundle":
		put(s.bundles, e)
	case "APIPlan":
		put(s.plans, e)
	case "APICatalogItem":
		put(s.items, e)
	default:
		return false
	}
	return true
}

// put makes an object what it is after an edit.
func put[T manifest.Object](objects map[string]T, e manifest.Edit) {
	if after, ok := e.After.(T); ok {
		objects[e.Ref.Name] = after
	} else {
		delete(objects, e.Ref.Name)
	}
}

// settleHeads settles the APIs, plans and bundles of the namespace.
func (r *round) settleHeads(edits []manifest.Edit) {
	t := r.c.table
	for _, e := range edits {
		name := r.name + "/" + e.Ref.Name
		switch {
		case e.After != nil:
		case e.Ref.Kind == "API":
			r.c.noteAPIs(remove(t.APIs, name))
		case e.Ref.Kind == "APIPlan":
			r.c.notePlans(remove(t.Plans, name))
		}
	}
	r.headRemarks = r.c.remarksOf(func(scratch *compiler) {
		apis := byName(r.apis)
		sets := make(map[*manifest.API]map[string]bool, len(apis))
		names := make([]string, len(apis))
		for i, a := range apis {
			names[i] = namespacedName(a)
			var row table.API
			row, sets[a] = scratch.api(r.versions, a)
			r.c.noteAPIs(replace(t.APIs, names[i], row))
		}
		plans := make(map[string]bool, len(r.plans))
		for _, p := range r.plans {
			plans[p.Name] = true
			r.c.notePlans(replace(t.Plans, namespacedName(p), plan(p)))
		}
		r.settler = &settler{compiler: scratch, plans: plans, sets: sets, apis: newPool(apis)}
		r.apiNames = names
		r.settler.bundles(byName(r.bundles))
		r.settler.catalog(byName(r.items))
	})
}

// byName returns objects in the order of their names.
func byName[T any](objects map[string]T) []T {
	sorted := make([]T, 0, len(objects))
	for _, name := range slices.Sorted(maps.Keys(objects)) {
		sorted = append(sorted, objects[name])
	}
	return sorted
}

// replace makes row the one of a name, and reports whether it was another.
func replace[Row any](rows map[string]Row, name string, row Row) bool {
	if before, ok := rows[name]; ok && reflect.DeepEqual(before, row) {
		return false
	}
	rows[name] = row
	return true
}

// remove takes a row out, and reports whether there was one.
func remove[Row any](rows map[string]Row, name string) bool {
	_, ok := rows[name]
	delete(rows, name)
	return ok
}

func (c *Incremental) noteAPIs(changed bool) {
	if c.change != nil && changed {
		c.change.APIs = true
	}
}

func (c *Incremental) notePlans(changed bool) {
	if c.change != nil && changed {
		c.change.Plans = true
	}
}

// replacement is a subscription before and after an edit; nil where it is not
// there.
type replacement struct{ before, after *standing }

// replacements returns the subscriptions that other applications may want, or
// want in another order or for other APIs, than before the edits. Whatever else
// changed of subscriptions is changed already when it returns.
func (r *round) replacements(edits []manifest.Edit, heads bool) []replacement {
	var out []replacement
	edited := map[string]bool{}
	stand := func(name string, m *manifest.ManagedSubscription) {
		before, after := r.subscriptions[name], r.stand(m)
		if before == nil || !before.wantsTheSame(after) {
			out = append(out, replacement{before, after})
			return
		}
		before.ManagedSubscription, before.remarks = m, after.remarks
		r.asked[before] = true
	}
	for _, e := range edits {
		if e.Ref.Kind != "ManagedSubscription" {
			continue
		}
		edited[e.Ref.Name] = true
		if after, ok := e.After.(*manifest.ManagedSubscription); ok {
			stand(e.Ref.Name, after)
		} else if before := r.subscriptions[e.Ref.Name]; before != nil {
			out = append(out, replacement{before: before})
		}
	}
	if heads {
		for name, m := range r.subscriptions {
			if !edited[name] {
				stand(name, m.ManagedSubscription)
			}
		}
	}
	return out
}

// stand returns how a subscription stands before it is known which applications
// there are.
func (r *round) stand(m *manifest.ManagedSubscription) *standing {
	out := newStanding(m)
	out.remarks = r.c.remarksOf(func(*compiler) {
		places := r.settler.apisOf(m, m.Spec.APISelector, m.Spec.APIs, m.Spec.APIBundles)
		out.barred = r.settler.barred(m)
		r.settler.checkFilter(m, m.Spec.OperationFilter, r.settler.apis.at(places), "the subscription")
		out.apis = make([]string, len(places))
		for i, place := range places {
			out.apis[i] = r.apiNames[place]
		}
	})
	return out
}

// affect notes the applications that an edit of one of them is about, as far as
// they are in the table now.
func (r *round) affect(e manifest.Edit) {
	if e.Ref.Kind != "ManagedApplication" {
		return
	}
	r.affected[e.Ref.Name] = true
	for _, object := range []manifest.Object{e.Before, e.After} {
		a, ok := object.(*manifest.ManagedApplication)
		if !ok {
			continue
		}
		r.appIDs[a.Spec.AppID] = true
		if kept, ok := r.byAppID[a.Spec.AppID]; ok {
			r.affected[kept] = true
		}
	}
}

// affectReach notes the applications that subscriptions want.
func (r *round) affectReach(replacements []replacement) {
	const most = 8 // selectors to try on all applications
	var selecting []*standing
	for _, p := range replacements {
		for _, m := range []*standing{p.before, p.after} {
			if m == nil {
				continue
			}
			for _, ref := range m.Spec.ManagedApplications {
				r.reach(ref.Name)
			}
			for _, ref := range m.Spec.Applications {
				r.reach(r.byAppID[ref.AppID])
			}
			if m.Spec.ManagedApplicationSelector != nil {
				selecting = append(selecting, m)
			}
		}
	}
	if len(selecting) == 0 {
		return
	}
	for name, a := range r.applications {
		if len(selecting) > most || slices.ContainsFunc(selecting, func(m *standing) bool { return m.selects(a) }) {
			r.reach(name)
		}
	}
}

// reach notes that an application may win something else than before.
func (r *round) reach(name string) {
	if _, ok := r.affected[name]; !ok {
		r.affected[name] = false
	}
}

// leaveTable takes back what affected applications are part of, and returns which
// of them have a row.
func (r *round) leaveTable() map[string]bool {
	had := map[string]bool{}
	for name, keys := range r.affected {
		if !r.kept(name) {
			continue
		}
		a := r.applications[name]
		had[name] = true
		r.win(a, -1)
		if !keys {
			continue
		}
		for _, digest := range r.c.scratch.digests(a, r.secrets) {
			if _, ok := r.c.stale[digest]; !ok {
				r.c.stale[digest] = nil
			}
		}
	}
	return had
}

// putRest takes in the edits of applications and Secrets.
func (r *round) putRest(edits []manifest.Edit) {
	for _, e := range edits {
		switch e.Ref.Kind {
		case "Secret":
			put(r.secrets, e)
		case "ManagedApplication":
			if before, ok := e.Before.(*manifest.ManagedApplication); ok {
				r.dropAppID(before)
			}
			put(r.applications, e)
			if after, ok := e.After.(*manifest.ManagedApplication); ok {
				r.addAppID(after)
			}
		}
	}
	for appID := range r.appIDs {
		if kept, ok := r.byAppID[appID]; ok {
			r.affected[kept] = true
		}
	}
}

// replace puts a subscription in the place of another.
func (r *round) replace(p replacement) {
	if m := p.before; m != nil {
		r.seekers.edit(m, func(all []*standing) []*standing {
			return slices.DeleteFunc(all, func(other *standing) bool { return other == m })
		})
		delete(r.subscriptions, m.Name)
		delete(r.telling, m)
		delete(r.asked, m)
		if p.after == nil {
			r.c.setSubscription(m, false)
		}
	}
	if m := p.after; m != nil {
		r.seekers.edit(m, func(all []*standing) []*standing { return append(all, m) })
		r.subscriptions[m.Name] = m
		r.asked[m] = true
	}
}

// enterTable settles the affected applications, of which had have a row.
func (r *round) enterTable(had map[string]bool) {
	t := r.c.table
	for name, keys := range r.affected {
		if !r.kept(name) {
			delete(r.keyRemarks, name)
			if full := r.name + "/" + name; had[name] && remove(t.Applications, full) {
				r.c.noteApplication(full)
			}
			continue
		}
		a := r.applications[name]
		full := namespacedName(a)
		row := table.Application{AppID: a.Spec.AppID, Owner: a.Spec.Owner, Grants: r.win(a, 1)}
		if before, ok := t.Applications[full]; !ok || before.AppID != row.AppID || before.Owner != row.Owner || !maps.Equal(before.Grants, row.Grants) {
			t.Applications[full] = row
			r.c.noteApplication(full)
		}
		if keys {
			r.enterKeys(a, full)
		}
	}
}

// enterKeys enters the keys of an application, of that full name.
func (r *round) enterKeys(a *manifest.ManagedApplication, full string) {
	remarks := r.c.remarksOf(func(scratch *compiler) {
		for place, digest := range scratch.digests(a, r.secrets) {
			r.c.hold(digest, holder{a, place}, full)
		}
	})
	if len(remarks) > 0 {
		r.keyRemarks[a.Name] = remarks
	} else {
		delete(r.keyRemarks, a.Name)
	}
}

func (c *Incremental) noteApplication(name string) {
	if c.change != nil {
		c.change.Applications = append(c.change.Applications, name)
	}
}

// hold notes that an application, of that full name, holds a digest.
func (c *Incremental) hold(digest string, h holder, full string) {
	if digest == "" {
		return
	}
	_, known := c.table.Keys[digest]
	_, stale := c.stale[digest]
	if c.change == nil && !known && !stale {
		// The first of many: nothing is gained by coming back to each.
		c.table.Keys[digest] = []table.Holder{h.row(full)}
		return
	}
	c.stale[digest] = append(c.stale[digest], h.app)
}

// win gives an application what it wins, with a sign of 1, or takes it back, with
// -1. It returns the grants, by API, which nobody may change.
func (r *round) win(a *manifest.ManagedApplication, sign int) map[string]string {
	var grants map[string]string
	clear(r.taken)
	for _, w := range r.wanting(a) {
		r.asked[w.standing] = true
		if w.selected {
			w.standing.selected += sign
		}
		for _, api := range w.apis {
			if r.taken[api] {
				continue
			}
			r.taken[api] = true
			w.wins += sign
			if w.barred != "" {
				continue // and nobody else may have it
			}
			if grants == nil {
				grants = map[string]string{}
			}
			grants[api] = w.name
		}
	}
	return r.share(grants)
}

// answer looks again at subscriptions: whether they are in the table, and what is
// wrong with the applications that they name.
func (r *round) answer() {
	for name := range r.affected {
		for _, m := range r.byName[name] {
			r.asked[m] = true
		}
	}
	for appID := range r.appIDs {
		for _, m := range r.byID[appID] {
			r.asked[m] = true
		}
	}
	for m := range r.asked {
		m.appRemarks = r.c.remarksOf(func(scratch *compiler) { scratch.checkApplications(m.ManagedSubscription, m.selected, r.space) })
		if len(m.remarks)+len(m.appRemarks) > 0 {
			r.telling[m] = true
		} else {
			delete(r.telling, m)
		}
		r.c.setSubscription(m, m.wins > 0 && m.barred == "")
	}
}

// setSubscription puts a subscription into the table, or takes it out.
func (c *Incremental) setSubscription(m *standing, in bool) {
	changed := false
	if in {
		changed = replace(c.table.Subscriptions, m.name, subscription(m.ManagedSubscription))
	} else {
		changed = remove(c.table.Subscriptions, m.name)
	}
	if changed && c.change != nil {
		c.change.Subscriptions = append(c.change.Subscriptions, m.name)
	}
}

// key makes the rows of a digest anew. Who holds it is among those that the rows
// name and those that have been noted.
func (c *Incremental) key(digest string, noted []*manifest.ManagedApplication) {
	if digest == "" {
		return
	}
	before := c.table.Keys[digest]
	for _, row := range before {
		namespace, name, _ := strings.Cut(row.Application, "/")
		if s := c.spaces[namespace]; s != nil && s.kept(name) && !slices.Contains(noted, s.applications[name]) {
			noted = append(noted, s.applications[name])
		}
	}
	var holders []holder
	seen := map[*manifest.ManagedApplication]bool{}
	for _, a := range noted {
		if seen[a] {
			continue
		}
		seen[a] = true
		for place, d := range c.scratch.digests(a, c.spaces[a.Namespace].secrets) {
			if d == digest {
				holders = append(holders, holder{a, place})
			}
		}
	}
	var rows []table.Holder
	remarks := c.remarksOf(func(scratch *compiler) { rows = scratch.rows(holders) })
	if len(remarks) > 0 {
		c.keyRemarks[digest] = remarks
	} else {
		delete(c.keyRemarks, digest)
	}
	if slices.Equal(before, rows) {
		return
	}
	if len(rows) > 0 {
		c.table.Keys[digest] = rows
	} else {
		delete(c.table.Keys, digest)
	}
	if c.change != nil {
		c.change.Keys = append(c.change.Keys, digest)
	}
}
