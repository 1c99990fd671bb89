package lint_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tollgate-apim/tollgate/controlplane/finding"
	"github.com/tollgate-apim/tollgate/controlplane/lint"
)

func TestDiff(t *testing.T) {
	object := finding.Object{Kind: "API", Namespace: "apps", Name: "weather"}
	at := func(file string, line int, object finding.Object, field, problem string) finding.Finding {
		return finding.Finding{Rule: finding.Resource, Severity: finding.Error, File: file, Line: line, Column: 1, Object: object, Field: field, Problem: problem}
	}
	warning := at("a.yaml", 1, object, "f", "p")
	warning.Severity = finding.Warning
	// In a list, what stands at 1 moves to 10; all else reads differently.
	said := func(_ string, n int) (string, bool) {
		return map[int]string{1: "- same", 10: "  - same"}[n], n == 1 || n == 10
	}
	all := func(f ...finding.Finding) []finding.Finding { return f }
	for _, test := range []struct {
		name                         string
		before, after, brought, gone []finding.Finding
	}{
		{"nothing", nil, nil, nil, nil},
		{"the same", all(warning), all(warning), nil, nil},
		{"moved to another file and line", all(at("a.yaml", 1, object, "f", "p")), all(at("b.yaml", 7, object, "f", "p")), nil, nil},
		{"moved in a list", all(at("a.yaml", 1, object, "apis[1].name", "p")), all(at("a.yaml", 10, object, "apis[10].name", "p")), nil, nil},
		{"mended, and wrong elsewhere in a list", all(at("a.yaml", 1, object, "apis[1].name", "p")), all(at("a.yaml", 2, object, "apis[2].name", "p")),
			all(at("a.yaml", 2, object, "apis[2].name", "p")), all(at("a.yaml", 1, object, "apis[1].name", "p"))},
		{"nothing known of the lines", all(at("a.yaml", 3, object, "apis[1].name", "p")), all(at("a.yaml", 3, object, "apis[2].name", "p")),
			all(at("a.yaml", 3, object, "apis[2].name", "p")), all(at("a.yaml", 3, object, "apis[1].name", "p"))},
		{"in place, however it reads", all(at("a.yaml", 1, object, "apis[1].name", "p")), all(at("a.yaml", 2, object, "apis[1].name", "p")), nil, nil},
		{"one in place and one moved", all(at("a.yaml", 2, object, "apis[1]", "p"), at("a.yaml", 1, object, "apis[2]", "p")),
			all(at("a.yaml", 2, object, "apis[1]", "p"), at("a.yaml", 10, object, "apis[3]", "p")), nil, nil},
		{"what it tells of moved", all(at("a.yaml", 9, object, "f", "at a.yaml:12, first on line 3")), all(at("a.yaml", 9, object, "f", "at a.yaml:13, first on line 4")), nil, nil},
		{"another problem", all(at("a.yaml", 1, object, "f", "is 1")), all(at("a.yaml", 1, object, "f", "is 2")),
			all(at("a.yaml", 1, object, "f", "is 2")), all(at("a.yaml", 1, object, "f", "is 1"))},
		{"another severity", all(warning), all(at("a.yaml", 1, object, "f", "p")), all(at("a.yaml", 1, object, "f", "p")), all(warning)},
		{"one more of the same", all(at("a.yaml", 1, object, "apis[0]", "p")), all(at("a.yaml", 1, object, "apis[0]", "p"), at("a.yaml", 2, object, "apis[1]", "p")),
			all(at("a.yaml", 2, object, "apis[1]", "p")), nil},
		{"without an object the file counts", all(at("a.yaml", 1, finding.Object{}, "", "p")), all(at("b.yaml", 1, finding.Object{}, "", "p")),
			all(at("b.yaml", 1, finding.Object{}, "", "p")), all(at("a.yaml", 1, finding.Object{}, "", "p"))},
	} {
		t.Run(test.name, func(t *testing.T) {
			brought, gone := lint.Diff(test.before, test.after, said, said)
			if diff := cmp.Diff(test.brought, brought); diff != "" {
				t.Errorf("brought (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.gone, gone); diff != "" {
				t.Errorf("gone (-want +got):\n%s", diff)
			}
		})
	}
	if a, b := lint.Fingerprint(at("a.yaml", 1, object, "f[0]", "p")), lint.Fingerprint(at("b.yaml", 2, object, "f[1]", "p")); a != b {
		t.Errorf("fingerprints differ: %q and %q", a, b)
	}
	if a, b := lint.Fingerprint(warning), lint.Fingerprint(at("a.yaml", 1, finding.Object{}, "f", "p")); a == b {
		t.Errorf("fingerprints are the same: %q", a)
	}
}
