package manifest_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tollgate-apim/tollgate/controlplane/manifest"
)

func TestComments(t *testing.T) {
	for _, test := range []struct {
		name string
		text string
		want []string // line:column text from-to
	}{
		{"at the end of a line", "a: b # tollgate:x y", []string{"1:6 x y 1-1"}},
		{"above a line", "a:\n  #tollgate: x\n\n  # another\n  b: c\n", []string{"2:3 x 5-5"}},
		{"two above a line", "a:\n  # tollgate:x\n  # tollgate:y\n  b: c\n", []string{"2:3 x 4-4", "3:3 y 4-4"}},
		{"above the document", "# tollgate:x\na: b\nc: d\n\n# end\n", []string{"1:1 x 2-3"}},
		{"above a marker", "# tollgate:x\n---\na: b\nc: d\n---\ne: f\n", []string{"1:1 x 3-4"}},
		{"below a marker", "a: b\n--- # tollgate:x\n# tollgate:y\nc: d\ne: f\n", []string{"2:5 x 4-5", "3:1 y 4-5"}},
		{"on a marker's line", "a: b\n--- {c: d} # tollgate:x\n", []string{"2:12 x 2-2"}},
		{"at the end", "a: b\n# tollgate:x\n", []string{"2:1 x 4-3"}},
		{"at the end of a document", "a: b\n# tollgate:x\n---\nc: d", []string{"2:1 x 4-3"}},
		{"Windows", "a:\r\n  # tollgate:x y\r\n  b: c\r\n", []string{"2:3 x y 3-3"}},
		{"after other characters", "ä: ü # tollgate:x", []string{"1:6 x 1-1"}},
		{"not a comment", "a: b# tollgate:x\nc: tollgate:y\n", nil},
		{"in quotes", "a: \"b # tollgate:x\"\nc: 'it''s\n  # tollgate:y'\nd: \"\\\"\n # tollgate:z\"", nil},
		{"after quotes", "a: &x \"b\" # tollgate:x\nc: 'it''s' # tollgate:y\nd: !!str \"\\\\\" # tollgate:z",
			[]string{"1:11 x 1-1", "2:12 y 2-2", "3:15 z 3-3"}},
		{"in a block", "a: |\n  # tollgate:x\n\n    # tollgate:y\nb: >-\n  # tollgate:z\n", nil},
		{"around a block", "a: | # tollgate:x\n  text\n# tollgate:y\nb: c\n", []string{"1:6 x 1-1", "3:1 y 4-4"}},
		{"not YAML", "a: [\n# tollgate:x\n", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			var got []string
			for _, c := range manifest.Parse("f.yaml", []byte(test.text)).Comments {
				got = append(got, fmt.Sprintf("%d:%d %s %d-%d", c.Line, c.Column, c.Text, c.From, c.To))
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	if got := manifest.Parse("f.json", []byte(`{"a": "b # tollgate:x"}`)).Comments; got != nil {
		t.Errorf("JSON: got %v", got)
	}
}

// TestManyComments would take hours if each comment were compared with each text.
func TestManyComments(t *testing.T) {
	const n = 100_000
	text := "a:\n" + strings.Repeat("  - \"x\" # tollgate:x\n", n)
	if got := len(manifest.Parse("f.yaml", []byte(text)).Comments); got != n {
		t.Errorf("got %d comments, want %d", got, n)
	}
}

// TestCommentsInARow has so many comments that it would take minutes if each
// looked for the next line that has anything.
func TestCommentsInARow(t *testing.T) {
	const n = 100_000
	loaded := manifest.Parse("f.yaml", []byte("a: b\n"+strings.Repeat("# tollgate:ignore\n", n)+"c: d\n"))
	if len(loaded.Comments) != n {
		t.Fatalf("got %d comments, want %d", len(loaded.Comments), n)
	}
	for _, c := range loaded.Comments {
		if c.From != n+2 || c.To != n+2 {
			t.Fatalf("got %+v, want it to be about line %d", c, n+2)
		}
	}
}
