package compile_test

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tollgate-apim/tollgate/controlplane/compile"
	"github.com/tollgate-apim/tollgate/controlplane/finding"
	"github.com/tollgate-apim/tollgate/controlplane/key"
	"github.com/tollgate-apim/tollgate/controlplane/manifest"
	"github.com/tollgate-apim/tollgate/table"
)

var seed = flag.Uint64("seed", 20261121, "seed of the generated edits")

// TestIncremental edits files at random, and checks after each edit that reading
// what changed and compiling it gives what reading and compiling everything does.
func TestIncremental(t *testing.T) {
	const worlds, edits = 4, 80
	for n := range uint64(worlds) {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			e := newEditor(t, rand.New(rand.NewPCG(*seed, n)))
			for step := range edits {
				e.edit()
				if e.Float64() < 0.1 {
					e.cache.Read(t.Context(), e.files()) // and kept out
					continue
				}
				if problem := e.compare(); problem != "" {
					t.Fatalf("seed %d, world %d, edit %d (%s):\n%s", *seed, n, step, strings.Join(e.done, "; "), problem)
				}
				e.done = nil
			}
			if e.tables < edits/8 || e.found < edits {
				t.Errorf("there were %d different tables and %d findings: too few to see a difference", e.tables, e.found)
			}
		})
	}
}

// TestIncrementalOfMany does the same where most applications are not affected,
// and where many subscriptions are at once.
func TestIncrementalOfMany(t *testing.T) {
	const plan = "apiVersion: hub.traefik.io/v1alpha1\nkind: APIPlan\nmetadata: {name: p}\nspec: {title: Plan}\n"
	e := newEditor(t, rand.New(rand.NewPCG(*seed, 0)))
	e.texts["many.yaml"] = strings.Split(strings.Replace(string(manyManifests(60)), plan, "", 1), "---\n")
	e.texts["plan.yaml"] = []string{plan}
	e.write("many.yaml")
	e.write("plan.yaml")
	for step := range 24 {
		if problem := e.compare(); problem != "" {
			t.Fatalf("seed %d, edit %d: %s", *seed, step, problem)
		}
		documents := e.texts["many.yaml"]
		at := e.IntN(len(documents))
		switch step % 6 {
		case 0:
			documents = slices.Delete(documents, at, at+1)
		case 1:
			documents = slices.Insert(documents, at, e.document())
		case 2:
			documents[at] = "# moves what is below\n" + documents[at]
		case 3:
			documents[at] = strings.NewReplacer("title: key", "title: key, suspended: true", "{name: p}", "{name: q}", "owner: me", "owner: you").Replace(documents[at])
		case 4:
			e.texts["plan.yaml"] = []string{"# nothing\n"}
		case 5:
			e.texts["plan.yaml"] = []string{plan}
		}
		e.texts["many.yaml"] = documents
		e.write("many.yaml")
		e.write("plan.yaml")
	}
}

// editor edits manifests, and reads them both ways.
type editor struct {
	*rand.Rand
	t        *testing.T
	dir      string
	texts    map[string][]string // the documents of each file
	versions map[string]int64    // how often it was written
	done     []string            // since the last comparison

	cache       *manifest.Cache
	incremental *compile.Incremental
	before      table.Table       // as of the last comparison
	good        *manifest.Objects // what it was made of
	tables      int
	found       int
}

func newEditor(t *testing.T, random *rand.Rand) *editor {
	return &editor{
		Rand: random, t: t, dir: t.TempDir(), texts: map[string][]string{}, versions: map[string]int64{},
		cache: manifest.NewCache(), incremental: compile.NewIncremental(),
	}
}

func (e *editor) write(name string) {
	e.t.Helper()
	e.versions[name]++
	path := filepath.Join(e.dir, name)
	documents, ok := e.texts[name]
	if !ok {
		if err := os.Remove(path); err != nil {
			e.t.Fatal(err)
		}
		return
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		e.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.Join(documents, "---\n")), 0o600); err != nil {
		e.t.Fatal(err)
	}
}

// files lists the files. Each has a time of its own for each version, long ago,
// so that it is not read again unless it was written.
func (e *editor) files() []manifest.File {
	var files []manifest.File
	for _, name := range slices.Sorted(maps.Keys(e.texts)) {
		files = append(files, manifest.File{Path: filepath.Join(e.dir, name), Modified: time.Unix(e.versions[name], 0)})
	}
	return files
}

// compare reads the files both ways and returns how the results differ.
func (e *editor) compare() string {
	e.t.Helper()
	loaded := manifest.Load(e.t.Context(), e.files())
	want := loaded.Findings
	restored := map[finding.Object]bool{}
	if e.good != nil {
		want = restore(loaded.Objects, e.good, want, restored)
	}
	result := compile.Compile(loaded.Objects)
	e.good = loaded.Objects

	e.cache.Read(e.t.Context(), e.files())
	change := e.incremental.Apply(e.cache.Edits())
	told := e.cache.Told()
	if diff := differ(want, told.Findings); diff != "" {
		return "findings of files (-all +changed):\n" + diff
	}
	if diff := differ(loaded.Broken, told.Broken); diff != "" {
		return "what is broken (-all +changed):\n" + diff
	}
	// What stays in force as it was may have moved before it is gone.
	place := func(findings []finding.Finding) []finding.Finding {
		for i, f := range findings {
			if restored[f.Object] {
				findings[i].Line, findings[i].Column = 0, 0
			}
		}
		return finding.Sort(findings)
	}
	if diff := differ(place(result.Findings), place(e.incremental.Findings())); diff != "" {
		return "findings between objects (-all +changed):\n" + diff
	}
	after := e.incremental.Table()
	if diff := differ(result.Table, after); diff != "" {
		return "table (-all +changed):\n" + diff
	}
	if e.before.Keys != nil {
		want := compile.Diff(&e.before, after)
		for _, names := range [][]string{want.Subscriptions, want.Applications, want.Keys, change.Subscriptions, change.Applications, change.Keys} {
			slices.Sort(names)
		}
		if diff := differ(want, change); diff != "" {
			return "what changed in the table (-all +changed):\n" + diff
		}
		if !change.Empty() {
			e.tables++
		}
	} else if change != nil {
		return "the first change is one of something"
	}
	e.before = table.Table{
		Plans: maps.Clone(after.Plans), APIs: maps.Clone(after.APIs), Subscriptions: maps.Clone(after.Subscriptions),
		Applications: maps.Clone(after.Applications), Keys: maps.Clone(after.Keys),
	}
	e.found += len(told.Findings) + len(result.Findings)
	return ""
}

// differ is cmp.Diff, which takes its time even where there is nothing to tell.
func differ(want, got any) string {
	if reflect.DeepEqual(want, got) {
		return ""
	}
	return cmp.Diff(want, got)
}

// edit changes one to three files.
func (e *editor) edit() {
	for range 1 + e.IntN(3) {
		name := fmt.Sprintf("%c.yaml", 'a'+e.IntN(4))
		if e.Float64() < 0.15 {
			name = "sub/" + name
		}
		if e.Float64() < 0.02 {
			name = "kustomization.yaml"
		}
		documents := e.texts[name]
		what := e.IntN(10)
		switch {
		case what < 4 || len(documents) == 0:
			documents = slices.Insert(documents, e.IntN(len(documents)+1), e.document())
		case what == 4:
			documents = nil
		case what == 5:
			from, to := e.IntN(len(documents)), e.IntN(len(documents))
			documents[from], documents[to] = documents[to], documents[from]
		case what == 6:
			at := e.IntN(len(documents))
			documents[at] = "# another line\n" + documents[at]
		case what == 7:
			documents = append(documents, documents[e.IntN(len(documents))])
		default:
			at := e.IntN(len(documents))
			documents = slices.Delete(documents, at, at+1)
		}
		e.done = append(e.done, fmt.Sprintf("%s now has %d documents, by %d", name, len(documents), what))
		if e.texts[name] = documents; len(documents) == 0 && e.versions[name] > 0 {
			delete(e.texts, name)
			if _, err := os.Stat(filepath.Join(e.dir, name)); err != nil {
				continue
			}
		}
		e.write(name)
	}
}

func (e *editor) one(of ...string) string { return of[e.IntN(len(of))] }

// some joins up to three items of which item makes each.
func (e *editor) some(item func() string) string {
	var items []string
	for range e.IntN(4) {
		items = append(items, item())
	}
	return "[" + strings.Join(items, ", ") + "]"
}

func (e *editor) labels() string {
	return e.one("", ", labels: {tier: free}", ", labels: {tier: paid, team: a}", ", labels: {team: b}")
}

func (e *editor) selector() string {
	return e.one("{}", "{matchLabels: {tier: free}}", "{matchLabels: {tier: paid, team: a}}", "{matchLabels: {tier: none}}",
		"{matchExpressions: [{key: team, operator: Exists}]}", "{matchExpressions: [{key: tier, operator: In, values: [free, paid]}]}",
		"{matchExpressions: [{key: team, operator: NotIn, values: [a]}]}", "{matchExpressions: [{key: team, operator: DoesNotExist}]}")
}

func (e *editor) digest() string { return key.Digest(e.one("1", "2", "3", "4", "5")) }

func (e *editor) keys() string {
	return e.some(func() string {
		return e.one(
			fmt.Sprintf("{value: %s, title: %s}", e.digest(), e.one("x", "y")),
			fmt.Sprintf("{value: %s, suspended: %s}", e.digest(), e.one("true", "false")),
			fmt.Sprintf("{secretName: s%d, title: z}", e.IntN(4)),
			fmt.Sprintf("{secretName: s%d}", e.IntN(4)),
			"{value: plain}",
		)
	})
}

// refs names things, one of which is hardly ever there.
func (e *editor) refs(names ...string) string {
	return e.some(func() string { return "{name: " + e.one(append(names, "gone", names[0]+"x")...) + "}" })
}

// optional is a field that is sometimes there.
func (e *editor) optional(name, value string) string {
	if e.Float64() < 0.5 {
		return ""
	}
	return ", " + name + ": " + value
}

// document returns one of any kind, which is sometimes spoilt.
func (e *editor) document() string {
	namespace := e.one("one", "two")
	meta := func(names ...string) string {
		return fmt.Sprintf("{name: %s, namespace: %s%s}", e.one(names...), namespace, e.labels())
	}
	object := func(kind, meta, spec string) string {
		return fmt.Sprintf("apiVersion: hub.traefik.io/v1alpha1\nkind: %s\nmetadata: %s\nspec: {%s}\n", kind, meta, spec)
	}
	filter := func() string {
		return e.optional("operationFilter", "{include: "+e.some(func() string { return e.one("read", "write", "none") })+"}")
	}
	var text string
	switch e.IntN(12) {
	case 0, 1:
		text = object("API", meta("api", "spi", "ipa"), "title: x"+
			e.optional("openApiSpec", "{operationSets: [{name: "+e.one("read", "write")+", matchers: [{path: "+e.one("/a", "/b")+"}]}]}")+
			e.optional("versions", e.refs("v1", "v2")))
	case 2:
		text = object("APIVersion", meta("v1", "v2"), "release: v1.0.0"+e.optional("openApiSpec", "{operationSets: [{name: write, matchers: [{path: /}]}]}"))
	case 3:
		text = object("APIBundle", meta("bundle", "elbund"), "title: x"+e.optional("apis", e.refs("api", "spi", "ipa"))+e.optional("apiSelector", e.selector()))
	case 4:
		text = object("APIPlan", meta("plan", "nalp"), "title: "+e.one("x", "y")+e.optional("rateLimit", "{limit: 1}"))
	case 5:
		text = object("APICatalogItem", meta("item"), "everyone: true"+e.optional("apis", e.refs("api", "spi"))+e.optional("apiSelector", e.selector())+filter())
	case 6, 7, 8:
		text = object("ManagedApplication", meta("app", "ppa", "pap", "apa", "paa"), "appId: "+e.one("i", "j", "k")+", owner: "+e.one("me", "you")+", apiKeys: "+e.keys())
	case 9:
		text = fmt.Sprintf("apiVersion: v1\nkind: Secret\nmetadata: {name: s%d, namespace: %s}\ntype: %s\nstringData: {key: %s}\n",
			e.IntN(4), namespace, e.one("Opaque", "Opaque", "Other"), e.one(e.digest(), e.digest(), "plain", `""`))
	default:
		text = object("ManagedSubscription", meta("sub", "bus", "usb", "ubs"), "apiPlan: {name: "+e.one("plan", "plan", "nalp", "gone")+"}"+
			e.optional("managedApplications", e.refs("app", "ppa", "pap", "apa", "paa"))+e.optional("managedApplicationSelector", e.selector())+
			e.optional("applications", e.some(func() string { return "{appId: " + e.one("i", "j", "k", "l") + "}" }))+
			e.optional("apis", e.refs("api", "spi", "ipa"))+e.optional("apiSelector", e.selector())+e.optional("apiBundles", e.refs("bundle", "elbund"))+
			e.optional("weight", e.one("1", "2"))+filter()+e.one("", "", "", ", claims: x"))
	}
	switch e.IntN(20) {
	case 0:
		text += "spoilt: true\n"
	case 1:
		text = strings.Replace(text, "kind: Managed", "kind: Mnaged", 1)
	case 2:
		text = "kind: [}\n"
	case 3:
		text = "spec: {nobody: knows}\n"
	case 4:
		text = strings.Replace(text, "name: ", "nam: ", 1)
	}
	return text
}

// restore puts back, as last has them, those objects that an error took out and
// whose absence could admit more. It notes them, and returns the findings with a
// word about it.
func restore(o, last *manifest.Objects, findings []finding.Finding, restored map[finding.Object]bool) []finding.Finding {
	o.Bundles = restoreKind(o.Bundles, last.Bundles, o.LeftOut, restored)
	o.Applications = restoreKind(o.Applications, last.Applications, o.LeftOut, restored)
	o.Secrets = restoreKind(o.Secrets, last.Secrets, o.LeftOut, restored)
	o.Subscriptions = restoreKind(o.Subscriptions, last.Subscriptions, o.LeftOut, restored)
	for i, f := range findings {
		if f.Severity == finding.Error && restored[f.Object] {
			findings[i].Problem += "; the last good version of the object stays in force"
		}
	}
	return finding.Sort(findings)
}

func restoreKind[T manifest.Object](objects, last []T, leftOut, restored map[finding.Object]bool) []T {
	for _, object := range last {
		ref := object.Ref()
		if leftOut[ref] && !slices.ContainsFunc(objects, func(other T) bool { return other.Ref() == ref }) {
			delete(leftOut, ref)
			restored[ref] = true
			objects = append(objects, object)
		}
	}
	slices.SortFunc(objects, func(a, b T) int {
		return strings.Compare(a.GetNamespace()+"/"+a.GetName(), b.GetNamespace()+"/"+b.GetName())
	})
	return objects
}
