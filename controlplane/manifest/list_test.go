package manifest_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tollgate-apim/tollgate/controlplane/manifest"
)

// TestLists reads lists in all the forms in which Kubernetes gives them.
func TestLists(t *testing.T) {
	const typed = `{apiVersion: hub.traefik.io/v1alpha1, kind: API, metadata: {name: %s}}`
	for _, test := range []struct {
		name, text string
		want       []string
		findings   int
	}{
		{"of any kinds", "apiVersion: v1\nkind: List\nitems: [" + fmt.Sprintf(typed, "a") + ", " + fmt.Sprintf(typed, "b") + "]", []string{"API default/a", "API default/b"}, 0},
		{"in JSON", `{"apiVersion": "v1", "kind": "List", "items": [{"apiVersion": "hub.traefik.io/v1alpha1", "kind": "API", "metadata": {"name": "a"}}]}`, []string{"API default/a"}, 0},
		{"of one kind", "apiVersion: hub.traefik.io/v1alpha1\nkind: APIList\nmetadata: {resourceVersion: \"1\"}\nitems: [{metadata: {name: a, namespace: apps}}, " + fmt.Sprintf(typed, "b") + "]",
			[]string{"API apps/a", "API default/b"}, 0},
		{"of Secrets", "apiVersion: v1\nkind: SecretList\nitems: [{metadata: {name: s}, type: Opaque}]", []string{"Secret default/s"}, 0},
		{"of other kinds", "apiVersion: v1\nkind: ConfigMapList\nitems: [{metadata: {name: c}}]", nil, 0},
		{"of a kind that nobody knows", "apiVersion: hub.traefik.io/v1alpha1\nkind: APIIList\nitems: [{metadata: {name: a}}]", nil, 1},
		{"empty", "apiVersion: hub.traefik.io/v1alpha1\nkind: APIPlanList\nitems: []", nil, 0},
		{"without items", "apiVersion: hub.traefik.io/v1alpha1\nkind: APIPlanList", nil, 0},
		{"without items, and with a spec", "apiVersion: hub.traefik.io/v1alpha1\nkind: ManagedSubscriptionList\nmetadata: {name: a}\nspec: {weight: 2}", nil, 1},
		{"of what is no object", "apiVersion: hub.traefik.io/v1alpha1\nkind: APIList\nitems: [a, [b], null]", nil, 2},
		{"in a list", "apiVersion: v1\nkind: List\nitems: [{apiVersion: v1, kind: List, items: [" + fmt.Sprintf(typed, "a") + "]}]", nil, 1},
		{"in a list of one kind", "apiVersion: hub.traefik.io/v1alpha1\nkind: APIList\nitems: [{apiVersion: v1, kind: List, items: [" + fmt.Sprintf(typed, "a") + "]}]", nil, 1},
		{"with one bad item", "apiVersion: v1\nkind: List\nitems: [" + fmt.Sprintf(typed, "A") + ", " + fmt.Sprintf(typed, "b") + "]", []string{"API default/b"}, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			name := "f.yaml"
			if test.text[0] == '{' {
				name = "f.json"
			}
			loaded := manifest.Parse(name, []byte(test.text))
			if diff := cmp.Diff(test.want, names(loaded.Objects)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if len(loaded.Findings) != test.findings {
				t.Errorf("got %v, want %d findings", loaded.Findings, test.findings)
			}
		})
	}
}

func TestNotWhole(t *testing.T) {
	for n, want := range []string{"", "1 file cannot be read whole", "2 files cannot be read whole"} {
		l := &manifest.Told{Broken: map[string][]string{}}
		for i := range n {
			l.Broken[string(rune('a'+i))] = []string{manifest.WholeFile}
		}
		got := ""
		if err := l.NotWhole(); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
