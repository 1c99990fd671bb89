package finding_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tollgate-apim/tollgate/controlplane/finding"
)

func TestString(t *testing.T) {
	object := finding.Object{Kind: "API", Namespace: "apps", Name: "weather"}
	for _, test := range []struct {
		name string
		in   finding.Finding
		want string
	}{
		{
			"everything",
			finding.Finding{
				Rule: finding.Period, Severity: finding.Error, File: "a.yaml", Line: 3, Column: 7, Object: object,
				Field: "spec.x", Problem: "is wrong", Allowed: "right", Fix: "mend it",
			},
			"a.yaml:3:7: error: API apps/weather: spec.x: is wrong; allowed: right; mend it (period)",
		},
		{
			"a file",
			finding.Finding{Rule: finding.File, Severity: finding.Warning, File: "a.yaml", Problem: "is too large"},
			"a.yaml: warning: is too large (file)",
		},
		{
			"an object without a name",
			finding.Finding{Rule: finding.Resource, Severity: finding.Error, File: "a.yaml", Line: 1, Column: 1, Object: finding.Object{Kind: "API", Namespace: "x"}, Problem: "p"},
			"a.yaml:1:1: error: API: p (resource)",
		},
		{
			"an object without a namespace",
			finding.Finding{Rule: finding.Resource, Severity: finding.Error, File: "a.yaml", Object: finding.Object{Kind: "API", Name: "x"}, Problem: "p"},
			"a.yaml: error: API x: p (resource)",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := test.in.String(); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestSort(t *testing.T) {
	at := func(file string, line, column int, problem string) finding.Finding {
		return finding.Finding{File: file, Line: line, Column: column, Problem: problem}
	}
	got := finding.Sort([]finding.Finding{
		at("b", 1, 1, "x"), at("a", 10, 1, "x"), at("a", 2, 5, "x"), at("a", 2, 1, "y"), at("a", 2, 1, "x"), at("a", 10, 1, "x"),
	})
	want := []finding.Finding{
		at("a", 2, 1, "x"), at("a", 2, 1, "y"), at("a", 2, 5, "x"), at("a", 10, 1, "x"), at("b", 1, 1, "x"),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestCount(t *testing.T) {
	errors, warnings := finding.Count([]finding.Finding{{Severity: finding.Error}, {Severity: finding.Warning}, {Severity: finding.Error}})
	if errors != 2 || warnings != 1 {
		t.Errorf("got %d errors and %d warnings, want 2 and 1", errors, warnings)
	}
}
