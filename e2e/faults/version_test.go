package faults

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tollgate-apim/tollgate/e2e/stack"
	"github.com/tollgate-apim/tollgate/table"
)

// version is what one edit of the manifests makes of the table. The first is 1.
// Every version has a plan of its own, which upstreams are told: so each admitted
// request tells which version admitted it.
type version struct {
	number int
	// nobody leaves all applications out.
	nobody bool
}

// The keys of all versions. Key 0 is admitted by all of them but those with
// nobody, and the last by none.
const (
	keys      = 6
	always    = 0
	never     = keys - 1
	api       = "faults/api"
	namespace = "faults"
)

func keyOf(k int) string { return fmt.Sprintf("key-%d", k) }

// fate is what becomes of requests with a key.
type fate int

const (
	admitted fate = iota
	unknown
	suspended
	notGranted
	fates
)

// fate returns what this version does to a key.
func (v version) fate(k int) fate {
	switch {
	case v.nobody || k == never:
		return unknown
	case k == always:
		return admitted
	}
	return fate(rand.New(rand.NewPCG(uint64(v.number), uint64(k))).IntN(int(fates)))
}

// plan is the name of this version's plan.
func (v version) plan() string { return fmt.Sprintf("v%d", v.number) }

// evil is what no version says: lies do.
const evil = "evil"

var planOfVersion = regexp.MustCompile(`"` + namespace + `/v(\d+)"`)

// versionIn returns the number of the version that a document is of, be it a
// table or an index, and 0 if it is of none.
func versionIn(document []byte) int {
	found := planOfVersion.FindSubmatch(document)
	if found == nil {
		return 0
	}
	n, _ := strconv.Atoi(string(found[1]))
	return n
}

// manifests returns this version as manifests.
func (v version) manifests() (string, error) {
	object := func(kind, name, spec string) string {
		return fmt.Sprintf("apiVersion: hub.traefik.io/v1alpha1\nkind: %s\nmetadata: {name: %s, namespace: %s}\nspec: %s\n", kind, name, namespace, spec)
	}
	objects := []string{object("API", "api", "{title: An API}"), object("APIPlan", v.plan(), "{title: A plan}")}
	var granted []string
	for k := range keys {
		f := v.fate(k)
		if f == unknown {
			continue
		}
		name := fmt.Sprintf("app-%d", k)
		objects = append(objects, object("ManagedApplication", name, fmt.Sprintf(
			`{appId: %s, owner: o, apiKeys: [{value: "{{digest %q}}", suspended: %t}]}`, name, keyOf(k), f == suspended)))
		if f != notGranted {
			granted = append(granted, "{name: "+name+"}")
		}
	}
	if len(granted) > 0 {
		objects = append(objects, object("ManagedSubscription", "sub", fmt.Sprintf(
			"{apiPlan: {name: %s}, managedApplications: [%s], apis: [{name: api}]}", v.plan(), strings.Join(granted, ", "))))
	}
	return stack.RenderManifests(strings.Join(objects, "---\n"))
}

// table returns this version as a table.
func (v version) table(revision int64) *table.Table {
	return newTable(revision, v.plan(), v.fate)
}

// evilTable returns a table that refuses what a version admits, and admits what
// that refuses.
func (v version) evilTable(revision int64) *table.Table {
	return newTable(revision, evil, func(k int) fate {
		if v.fate(k) == admitted {
			return suspended
		}
		return admitted
	})
}

func newTable(revision int64, plan string, of func(k int) fate) *table.Table {
	plan = namespace + "/" + plan
	sub := namespace + "/sub"
	t := &table.Table{
		Revision:      revision,
		IssuedAt:      time.Date(2026, 11, 21, 17, 0, 0, 0, time.UTC),
		Plans:         map[string]table.Plan{plan: {Title: "A plan"}},
		APIs:          map[string]table.API{api: {}},
		Subscriptions: map[string]table.Subscription{sub: {Plan: plan}},
		Applications:  map[string]table.Application{},
		Keys:          map[string][]table.Holder{},
	}
	for k := range keys {
		f := of(k)
		if f == unknown {
			continue
		}
		name := fmt.Sprintf("%s/app-%d", namespace, k)
		app := table.Application{AppID: name, Grants: map[string]string{api: sub}}
		if f == notGranted {
			app.Grants = nil
		}
		t.Applications[name] = app
		t.Keys[stack.Digest(keyOf(k))] = []table.Holder{{Application: name, Suspended: f == suspended}}
	}
	return t
}

// document is a table as an endpoint serves it, and the parts that go with it.
type document struct {
	body  []byte
	parts map[string][]byte // by sum
}

// encode returns a table as one document, or in so many parts unless that is 0.
func encode(t *table.Table, parts int) document {
	if parts == 0 {
		return document{body: mustJSON(t)}
	}
	index, texts := table.Split(t, parts)
	d := document{body: mustJSON(index), parts: map[string][]byte{}}
	for i, text := range texts {
		d.parts[index.Parts[i]] = text
	}
	return d
}

func mustJSON(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return data
}

// TestVersions looks at what the tests stand on: versions that follow one another
// differ in what they admit, and each key has each fate some time.
func TestVersions(t *testing.T) {
	seen := map[[2]int]bool{}
	for n := 1; n <= 100; n++ {
		v, next := version{number: n}, version{number: n + 1}
		differ := false
		for k := range keys {
			seen[[2]int{k, int(v.fate(k))}] = true
			differ = differ || v.fate(k) != next.fate(k)
		}
		if !differ && n < 10 {
			t.Errorf("versions %d and %d are the same", n, n+1)
		}
		if got := versionIn(encode(v.table(1), 0).body); got != n {
			t.Errorf("the table of version %d is taken for one of %d", n, got)
		}
		if got := versionIn(encode(v.table(1), 4).body); got != n {
			t.Errorf("the index of version %d is taken for one of %d", n, got)
		}
	}
	if want := 2 + (keys-2)*int(fates); len(seen) != want {
		t.Errorf("there are %d pairs of a key and what becomes of it, want %d", len(seen), want)
	}
	if got := versionIn(encode(version{number: 1}.evilTable(1), 0).body); got != 0 {
		t.Errorf("a lie is taken for version %d", got)
	}
}
