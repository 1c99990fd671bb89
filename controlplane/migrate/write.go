package migrate

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"math/big"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"go.yaml.in/yaml/v3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tollgate-apim/tollgate/controlplane/finding"
	"github.com/tollgate-apim/tollgate/controlplane/manifest"
	"github.com/tollgate-apim/tollgate/table"
)

// rate is how many requests a limit lets through in a nanosecond.
func rate(r *manifest.APIRateLimit) *big.Rat {
	period, err := time.ParseDuration(r.Spec.Period)
	if err != nil || period <= 0 {
		period = time.Second // the loader lets no such object pass
	}
	return big.NewRat(*r.Spec.Limit, int64(period))
}

// compareLimits orders limits from the strictest to the most generous. Of two
// with the same rate the one with the smaller bursts is the stricter.
func compareLimits(a, b *manifest.APIRateLimit) int {
	return cmp.Or(rate(a).Cmp(rate(b)), cmp.Compare(*a.Spec.Limit, *b.Spec.Limit))
}

// compareGenerosity orders rights by what they let through.
func (m *migration) compareGenerosity(a, b *right) int {
	switch {
	case a.limit != nil && b.limit != nil:
		return compareLimits(a.limit, b.limit)
	case a.limit != nil:
		return -1
	case b.limit != nil:
		return 1
	}
	return 0
}

// writer collects documents by the file of what they replace.
type writer struct {
	files map[string]*bytes.Buffer
	todos int
}

func newWriter() *writer { return &writer{files: map[string]*bytes.Buffer{}} }

func (w *writer) result() *Result {
	r := &Result{TODOs: w.todos}
	for path, text := range w.files {
		r.Files = append(r.Files, File{path, text.String()})
	}
	slices.SortFunc(r.Files, func(a, b File) int { return cmp.Compare(a.Path, b.Path) })
	return r
}

// source is an object that knows where it stands.
type source interface {
	Position() (file string, line int)
	Ref() finding.Object
}

// place names an object and where it stands.
func place(s source) string {
	file, line := s.Position()
	return fmt.Sprintf("%s (%s:%d)", s.Ref(), file, line)
}

// document writes an object, or none, with comments before it, to the file of what
// it replaces.
func (w *writer) document(replaces source, comments []string, object any) {
	file, _ := replaces.Position()
	b := w.files[file]
	if b == nil {
		b = &bytes.Buffer{}
		w.files[file] = b
		fmt.Fprintf(b, "# Written by \"tollgate migrate\" in place of what is deprecated in %s.\n", oneLine(file))
		fmt.Fprint(b, "# Do what each TODO says, and take out what is replaced.\n")
	}
	b.WriteString("---\n")
	for _, c := range comments {
		if strings.HasPrefix(c, "TODO") {
			w.todos++
		}
		b.WriteString("# " + oneLine(c) + "\n")
	}
	if object != nil {
		b.Write(encode(object))
	}
}

// oneLine keeps text from ending its comment.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Zl, r) || unicode.Is(unicode.Zp, r) || r == '\uFEFF' {
			return ' '
		}
		return r
	}, s)
}

func encode(object any) []byte {
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	// It is made of strings, numbers and lists alone, so that it cannot fail.
	if err := e.Encode(object); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// The objects as they are written.
type (
	document struct {
		APIVersion string   `yaml:"apiVersion"`
		Kind       string   `yaml:"kind"`
		Metadata   metadata `yaml:"metadata"`
		Spec       any      `yaml:"spec"`
	}
	metadata struct {
		Name        string            `yaml:"name"`
		Namespace   string            `yaml:"namespace"`
		Labels      map[string]string `yaml:"labels,omitempty"`
		Annotations map[string]string `yaml:"annotations,omitempty"`
	}
	planSpec struct {
		Title       string `yaml:"title"`
		Description string `yaml:"description,omitempty"`
		RateLimit   *limit `yaml:"rateLimit,omitempty"`
	}
	limit struct {
		Limit  int64  `yaml:"limit"`
		Period string `yaml:"period"`
		Bucket string `yaml:"bucket"`
	}
	subscriptionSpec struct {
		APIPlan                    nameRef    `yaml:"apiPlan"`
		Weight                     int64      `yaml:"weight,omitempty"`
		Claims                     string     `yaml:"claims,omitempty"`
		ManagedApplications        *[]nameRef `yaml:"managedApplications,omitempty"`
		ManagedApplicationSelector *selector  `yaml:"managedApplicationSelector,omitempty"`
		Applications               []appID    `yaml:"applications,omitempty"`
		APIs                       []nameRef  `yaml:"apis,omitempty"`
		APISelector                *selector  `yaml:"apiSelector,omitempty"`
		APIBundles                 []nameRef  `yaml:"apiBundles,omitempty"`
		OperationFilter            *filter    `yaml:"operationFilter,omitempty"`
	}
	nameRef struct {
		Name string `yaml:"name"`
	}
	appID struct {
		AppID string `yaml:"appId"`
	}
	filter struct {
		Include []string `yaml:"include"`
	}
	selector struct {
		MatchLabels      map[string]string `yaml:"matchLabels,omitempty"`
		MatchExpressions []requirement     `yaml:"matchExpressions,omitempty"`
	}
	requirement struct {
		Key      string   `yaml:"key"`
		Operator string   `yaml:"operator"`
		Values   []string `yaml:"values,omitempty"`
	}
)

func newDocument(kind, namespace, name string, spec any) document {
	return document{manifest.Group + "/" + manifest.Version, kind, metadata{Name: name, Namespace: namespace}, spec}
}

func newSelector(s *metav1.LabelSelector) *selector {
	if s == nil {
		return nil
	}
	out := &selector{MatchLabels: s.MatchLabels}
	for _, r := range s.MatchExpressions {
		out.MatchExpressions = append(out.MatchExpressions, requirement{r.Key, string(r.Operator), r.Values})
	}
	return out
}

func newNameRefs(refs []manifest.NameRef) []nameRef {
	var out []nameRef
	for _, r := range refs {
		out = append(out, nameRef(r))
	}
	return out
}

func newFilter(include []string) *filter {
	if include == nil {
		return nil
	}
	return &filter{append([]string{}, include...)}
}

// maxItems is how many a list may have.
const maxItems = 100

// name gives a new object a name of its own.
func (m *migration) name(kind, base string) string {
	const longest = 240 // of 253, with room for a number
	base = strings.TrimRight(base[:min(len(base), longest)], "-.")
	name := base
	for i := 2; m.taken(kind, name); i++ {
		name = fmt.Sprintf("%s-%d", base, i)
	}
	m.names[finding.Object{Kind: kind, Name: name}] = true
	return name
}

func (m *migration) taken(kind, name string) bool {
	if m.names[finding.Object{Kind: kind, Name: name}] {
		return true
	}
	if kind == "APIPlan" {
		return slices.ContainsFunc(m.objects.Plans, func(p *manifest.APIPlan) bool { return p.Name == name })
	}
	return slices.ContainsFunc(m.objects.Subscriptions, func(s *manifest.ManagedSubscription) bool { return s.Name == name })
}

var notInNames = regexp.MustCompile(`[^a-z0-9]+`)

// inName returns what of a group's name can be part of an object's.
func inName(group string) string {
	s := strings.Trim(notInNames.ReplaceAllString(strings.ToLower(group), "-"), "-")
	s = strings.Trim(s[:min(len(s), 40)], "-")
	return cmp.Or(s, "group")
}

// limits writes an APIPlan for each limit that decides something.
func (m *migration) limits(rights []*right) {
	m.plans = map[string]string{}
	for _, r := range m.objects.RateLimits {
		if *r.Spec.Limit == 0 || !slices.ContainsFunc(rights, func(right *right) bool { return right.limit == r }) {
			continue
		}
		m.plans[r.Name] = m.name("APIPlan", r.Name)
		m.document(r, []string{"In place of " + place(r) + "."},
			newDocument("APIPlan", m.namespace, m.plans[r.Name], planSpec{
				Title: r.Name,
				// A consumer had the limit for each API.
				RateLimit: &limit{*r.Spec.Limit, r.Spec.Period, table.BucketApplicationAPI},
			}))
	}
}

// planOf returns the name of the plan of a right, which is written if need be.
func (m *migration) planOf(r *right) string {
	if r.plan != "" {
		return r.plan
	}
	if r.limit != nil {
		return m.plans[r.limit.Name]
	}
	if m.plans[""] == "" {
		m.plans[""] = m.name("APIPlan", "unlimited")
		m.document(r.sources[0], []string{"For those who had no APIRateLimit."},
			newDocument("APIPlan", m.namespace, m.plans[""], planSpec{Title: "Unlimited"}))
	}
	return m.plans[""]
}

// right writes a ManagedSubscription.
func (m *migration) right(r *right, rights []*right) {
	first := r.sources[0]
	who := "everyone"
	if r.group != "" {
		who = fmt.Sprintf("group %q", r.group)
	}
	var places []string
	for _, s := range r.sources {
		places = append(places, place(s))
	}
	comments := []string{"In place of " + joined(places) + ", for " + who + "."}
	if r.limit != nil && *r.limit.Spec.Limit == 0 {
		m.document(first, append(comments,
			"TODO: nothing is written, because "+place(r.limit)+" has limit 0 and an APIPlan means no limit by that.",
			"APIs: "+joined(r.apis)+"."), nil)
		return
	}
	plan := m.planOf(r)
	if r.plan != "" && len(m.limitsOf(r)) > 0 {
		comments = append(comments, "TODO: the plan decides alone; these limits do not come with it: "+joined(m.limitsOf(r))+".")
	}
	base := first.Name
	if r.group != "" && (len(first.Spec.Groups) > 1 || first.Spec.Everyone) {
		base = base[:min(len(base), 180)] + "-" + inName(r.group)
	}
	spec := subscriptionSpec{APIPlan: nameRef{plan}, Weight: r.written, OperationFilter: newFilter(r.filter)}
	comments = append(comments, m.selectAPIs(r, &spec)...)
	if len(spec.APIs) > maxItems || len(r.filter) > maxItems {
		m.document(first, append(comments, fmt.Sprintf("TODO: nothing is written, because its %d APIs or %d operation sets are more than the %d of a list.",
			len(spec.APIs), len(r.filter), maxItems)), nil)
		return
	}
	comments = append(comments, m.selectApplications(r, rights, &spec)...)
	m.document(first, comments, newDocument("ManagedSubscription", m.namespace, m.name("ManagedSubscription", base), spec))
}

// limitsOf returns the limits that would apply to a right without its plan.
func (m *migration) limitsOf(r *right) []string {
	var out []string
	for _, api := range r.apis {
		if l := m.limitOf(r.group, api); l != nil {
			out = append(out, place(l))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// selectAPIs names the APIs of a right: as its only source does where that has
// no other APIs, else one by one.
func (m *migration) selectAPIs(r *right, spec *subscriptionSpec) (comments []string) {
	s := r.sources[0]
	if len(r.sources) == 1 && slices.Equal(r.apis, m.chosen[s.Ref()]) {
		spec.APIs, spec.APISelector, spec.APIBundles = newNameRefs(s.Spec.APIs), newSelector(s.Spec.APISelector), newNameRefs(s.Spec.APIBundles)
		return nil
	}
	for _, name := range r.apis {
		spec.APIs = append(spec.APIs, nameRef{name})
	}
	for _, s := range r.sources {
		if s.Spec.APISelector != nil || len(s.Spec.APIBundles) > 0 {
			return []string{"The APIs are those that were selected when this was written: not all of them had the same limit and operations."}
		}
	}
	return nil
}

// selectApplications says whose applications a right is for.
func (m *migration) selectApplications(r *right, rights []*right, spec *subscriptionSpec) (comments []string) {
	if r.group == "" {
		spec.ManagedApplicationSelector = &selector{}
		comments = []string{"The selector selects every ManagedApplication of the namespace."}
		if groups := m.stricter(r, rights); len(groups) > 0 {
			comments = append(comments, "TODO: applications of these groups had stricter limits, which they only have once they are named for them: "+joined(groups)+".")
		}
		return comments
	}
	spec.ManagedApplications = &[]nameRef{}
	return []string{
		fmt.Sprintf("TODO: name the ManagedApplications of group %q under managedApplications. Groups are not known", r.group),
		"here, so that until then nobody has access. Or label them, and write a managedApplicationSelector.",
		"An application of several groups gets the heaviest of their subscriptions, and no operations of the others.",
	}
}

// stricter returns the groups that have a stricter limit than everyone for any of
// the APIs of everyone's right.
func (m *migration) stricter(everyones *right, rights []*right) []string {
	var out []string
	for _, r := range rights {
		shared := slices.ContainsFunc(r.apis, func(api string) bool { return slices.Contains(everyones.apis, api) })
		if r.group != "" && shared && m.compareGenerosity(r, everyones) < 0 {
			out = append(out, fmt.Sprintf("%q", r.group))
		}
	}
	return slices.Compact(out)
}

// idle says what had no effect and is not written.
func (m *migration) idle(rights []*right) {
	for _, a := range m.objects.Accesses {
		switch {
		case !a.Spec.Everyone && len(a.Spec.Groups) == 0:
			m.document(a, []string{"In place of " + place(a) + ": nothing, as it was for nobody."}, nil)
		case len(m.chosen[a.Ref()]) == 0:
			m.document(a, []string{"TODO: in place of " + place(a) + " nothing is written, because none of its APIs is among the manifests.",
				"Migrate it together with them."}, nil)
		case !slices.ContainsFunc(rights, func(r *right) bool { return slices.Contains(r.sources, a) }):
			m.document(a, []string{"In place of " + place(a) + ": nothing, as heavier ones decide for all of its APIs."}, nil)
		}
	}
	for _, l := range m.objects.RateLimits {
		if !slices.ContainsFunc(rights, func(r *right) bool { return r.limit == l }) {
			m.document(l, []string{"In place of " + place(l) + ": nothing, as its groups have no APIAccess to its APIs, or a stricter limit."}, nil)
		}
	}
}

// subscription writes one anew that names App IDs.
func (m *migration) subscription(s *manifest.ManagedSubscription) {
	names := newNameRefs(s.Spec.ManagedApplications)
	var unknown []appID
	var ids []string
	for _, a := range s.Spec.Applications {
		// Of several with one App ID, the first by name counts. They come by name.
		i := slices.IndexFunc(m.objects.Applications, func(app *manifest.ManagedApplication) bool { return app.Spec.AppID == a.AppID })
		if i < 0 {
			unknown, ids = append(unknown, appID(a)), append(ids, fmt.Sprintf("%q", a.AppID))
			continue
		}
		if ref := (nameRef{m.objects.Applications[i].Name}); !slices.Contains(names, ref) {
			names = append(names, ref)
		}
	}
	comments := []string{"In place of " + place(s) + "."}
	if len(unknown) > 0 {
		comments = append(comments, "TODO: no ManagedApplication of the namespace has the App ID "+joined(ids)+". Write it, or take the App ID out.")
	}
	if len(unknown) == len(s.Spec.Applications) {
		m.document(s, append(comments, "The subscription stays as it is."), nil)
		return
	}
	d := newDocument("ManagedSubscription", s.Namespace, s.Name, subscriptionSpec{
		APIPlan: nameRef(s.Spec.APIPlan), Weight: s.Spec.Weight, Claims: s.Spec.Claims,
		ManagedApplications: &names, ManagedApplicationSelector: newSelector(s.Spec.ManagedApplicationSelector), Applications: unknown,
		APIs: newNameRefs(s.Spec.APIs), APISelector: newSelector(s.Spec.APISelector), APIBundles: newNameRefs(s.Spec.APIBundles),
		OperationFilter: filterAsWritten(s.Spec.OperationFilter),
	})
	d.Metadata.Labels, d.Metadata.Annotations = s.Labels, maps.Clone(s.Annotations)
	delete(d.Metadata.Annotations, "kubectl.kubernetes.io/last-applied-configuration") // it would not be any more
	m.document(s, comments, d)
}

func filterAsWritten(f *manifest.OperationFilter) *filter {
	if f == nil {
		return nil
	}
	return newFilter(append([]string{}, f.Include...))
}
