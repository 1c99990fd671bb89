package manifest_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tollgate-apim/tollgate/controlplane/finding"
	"github.com/tollgate-apim/tollgate/controlplane/manifest"
)

// TestAliasesOfAList gives a List many items that are one large object.
func TestAliasesOfAList(t *testing.T) {
	const api = "{apiVersion: hub.traefik.io/v1alpha1, kind: API, metadata: {name: a, labels: {%s}}}"
	var labels strings.Builder
	for i := range 400 {
		fmt.Fprintf(&labels, "l%d: x, ", i)
	}
	object := fmt.Sprintf(api, labels.String())
	head := "apiVersion: v1\nkind: List\n"
	for name, test := range map[string]struct {
		text   string
		broken bool
	}{
		"a few":              {head + "items:\n- &a " + object + strings.Repeat("\n- *a", 9), false},
		"many":               {head + "items:\n- &a " + object + strings.Repeat("\n- *a", 400), true},
		"many, written out":  {head + "items:" + strings.Repeat("\n- "+object, 400), false},
		"all items an alias": {"metadata: &m\n" + strings.Repeat("- "+object+"\n", 400) + head + "items: *m\n", true},
		"a document each":    {strings.Repeat(head+"items:\n- &a "+object+strings.Repeat("\n- *a", 90)+"\n---\n", 4), false},
	} {
		t.Run(name, func(t *testing.T) {
			loaded := manifest.Parse("f.yaml", []byte(test.text))
			if got := len(loaded.Broken) > 0; got != test.broken {
				t.Errorf("broken is %v, want %v", got, test.broken)
			}
		})
	}
}

// TestFindingsOfOneObject makes more mistakes than anybody reads.
func TestFindingsOfOneObject(t *testing.T) {
	var text strings.Builder
	text.WriteString("apiVersion: hub.traefik.io/v1alpha1\nkind: API\nmetadata: {name: a}\nspec:\n")
	for i := range 500 {
		fmt.Fprintf(&text, "  wrong%d: x\n", i)
	}
	loaded := manifest.Parse("f.yaml", []byte(text.String()))
	if len(loaded.Findings) != 101 || len(loaded.Objects.APIs) > 0 {
		t.Fatalf("got %d findings, want 101", len(loaded.Findings))
	}
	const want = "f.yaml:1:1: error: API default/a: has more to mend: 400 findings are not shown (unknown-field)"
	if got := loaded.Findings[0]; got.String() != want || got.Severity != finding.Error {
		t.Errorf("got %s, want %s", got, want)
	}
}
