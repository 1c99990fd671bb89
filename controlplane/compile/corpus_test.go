package compile_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tollgate-apim/tollgate/controlplane/compile"
	"github.com/tollgate-apim/tollgate/controlplane/finding"
	"github.com/tollgate-apim/tollgate/controlplane/lint"
	"github.com/tollgate-apim/tollgate/controlplane/manifest"
	"github.com/tollgate-apim/tollgate/table"
)

// corpus holds manifests as teams have them, in Traefik Hub's syntax.
const corpus = "../../testdata/manifests/hub"

// justified are the findings that files of the corpus deserve.
var justified = map[string][]finding.Rule{
	"20-claims.yaml":                 {finding.ClaimsUnsupported},
	"21-app-ids.yaml":                {finding.Deprecated},
	"27-access-and-rate-limits.yaml": {finding.Deprecated, finding.Deprecated, finding.Deprecated, finding.Deprecated},
}

func load(t *testing.T, paths ...string) *manifest.Loaded {
	t.Helper()
	tree, err := manifest.List(paths)
	if err != nil {
		t.Fatal(err)
	}
	return manifest.Load(t.Context(), tree.Files)
}

// TestCorpus checks that no file of the corpus has a finding that it does not
// deserve, alone or among the others.
func TestCorpus(t *testing.T) {
	entries, err := os.ReadDir(corpus)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) < 30 {
		t.Errorf("the corpus has %d entries, want 30 or more", len(entries))
	}
	check := func(t *testing.T, name string, paths ...string) {
		t.Helper()
		var want, got []finding.Rule
		for file, rules := range justified {
			if name == "" || file == name {
				want = append(want, rules...)
			}
		}
		for _, f := range lint.Check(load(t, paths...), nil).Findings {
			got = append(got, f.Rule)
			if !slices.Contains(want, f.Rule) {
				t.Errorf("%v", f)
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("rules (-want +got):\n%s", diff)
		}
	}
	for _, e := range entries {
		t.Run(e.Name(), func(t *testing.T) { check(t, e.Name(), filepath.Join(corpus, e.Name())) })
	}
	t.Run("all", func(t *testing.T) { check(t, "", corpus) })
}

// TestCorpusAccess compares who may call what by the corpus with a list.
func TestCorpusAccess(t *testing.T) {
	tbl := compile.Compile(load(t, corpus).Objects).Table
	tbl.Revision, tbl.IssuedAt = 1, time.Unix(1, 0)
	if err := table.Validate(tbl); err != nil {
		t.Fatal(err)
	}
	keys := map[string]int{}
	for _, holders := range tbl.Keys {
		for _, h := range holders {
			keys[h.Application]++
		}
	}
	var lines []string
	for name, app := range tbl.Applications {
		lines = append(lines, fmt.Sprintf("%s has %d keys", name, keys[name]))
		for api, sub := range app.Grants {
			filter := "all operations"
			if f := tbl.Subscriptions[sub].OperationFilter; f != nil {
				filter = "operations of " + strings.Join(f.Include, ", ")
			}
			lines = append(lines, fmt.Sprintf("%s calls %s by %s under %s: %s", name, api, sub, tbl.Subscriptions[sub].Plan, filter))
		}
	}
	slices.Sort(lines)
	got := strings.Join(lines, "\n") + "\n"
	const golden = "testdata/corpus.txt"
	if f := flag.Lookup("update"); f != nil && f.Value.String() == "true" {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
