package lint_test

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tollgate-apim/tollgate/controlplane/finding"
	"github.com/tollgate-apim/tollgate/controlplane/lint"
	"github.com/tollgate-apim/tollgate/controlplane/manifest"
)

var update = flag.Bool("update", false, "write the golden files anew")

// check checks a file together with testdata/world.yaml.
func check(t testing.TB, path string) *lint.Report {
	t.Helper()
	var texts []manifest.Text
	for _, p := range []string{"testdata/world.yaml", path} {
		data, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, manifest.Text{Name: filepath.Base(p), Data: data})
	}
	return lint.Check(manifest.ParseAll(t.Context(), texts), nil)
}

func glob(t testing.TB, pattern string) []string {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil || len(paths) == 0 {
		t.Fatalf("no files %s: %v", pattern, err)
	}
	return paths
}

// TestBad compares all that is found in each bad manifest with the file beside
// it. Those of a rule begin with its name, and one of them has a finding of it.
func TestBad(t *testing.T) {
	missing := map[finding.Rule]bool{}
	for _, r := range lint.Rules() {
		missing[r.Name] = true
	}
	for _, path := range glob(t, "testdata/bad/*.yaml") {
		name := strings.TrimSuffix(filepath.Base(path), ".yaml")
		t.Run(name, func(t *testing.T) {
			report := check(t, path)
			var b strings.Builder
			for _, f := range report.Findings {
				fmt.Fprintln(&b, f)
				if name == string(f.Rule) {
					delete(missing, f.Rule)
				}
			}
			fmt.Fprintln(&b, "ignored:", report.Ignored)
			golden := strings.TrimSuffix(path, ".yaml") + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), b.String()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if strings.Contains(b.String(), "not-to-be-told") {
				t.Error("a finding tells a key")
			}
		})
	}
	for rule := range missing {
		t.Errorf("no file of rule %s has a finding of it", rule)
	}
}

// TestGood checks manifests about which nobody should have a word to say: at
// least one for each rule.
func TestGood(t *testing.T) {
	for _, path := range glob(t, "testdata/good/*.yaml") {
		t.Run(filepath.Base(path), func(t *testing.T) {
			if diff := cmp.Diff([]finding.Finding(nil), check(t, path).Findings); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	for _, r := range lint.Rules() {
		if _, err := os.Stat(filepath.Join("testdata/good", string(r.Name)+".yaml")); err != nil {
			t.Error(err)
		}
	}
}

// TestRules checks that each rule that package finding names is registered.
func TestRules(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "../finding/finding.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok {
			if kind, ok := spec.Type.(*ast.Ident); ok && kind.Name == "Rule" {
				name, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
				if err != nil {
					t.Fatal(err)
				}
				want = append(want, name)
			}
		}
		return true
	})
	var got []string
	for _, r := range lint.Rules() {
		got = append(got, string(r.Name))
		if !strings.HasSuffix(r.Summary, ".") || r.Link() != lint.Page+"#"+string(r.Name) {
			t.Errorf("%+v", r)
		}
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" || len(got) < 20 {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
