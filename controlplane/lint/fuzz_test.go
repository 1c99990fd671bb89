package lint_test

import (
	"os"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"github.com/tollgate-apim/tollgate/controlplane/finding"
	"github.com/tollgate-apim/tollgate/controlplane/lint"
	"github.com/tollgate-apim/tollgate/controlplane/manifest"
)

// FuzzCheck checks that whatever is written in manifests and their comments, the
// findings are of registered rules and one line each, that comments only ever
// take findings away or add those about themselves, and that it is so again.
func FuzzCheck(f *testing.F) {
	world, err := os.ReadFile("testdata/world.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range append(glob(f, "testdata/bad/*.yaml"), glob(f, "testdata/good/*.yaml")...) {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte("# tollgate:ignore\t\u202eorphan\u0000 x\na: b # tollgate:\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		load := func() *manifest.Loaded {
			return manifest.ParseAll(t.Context(), []manifest.Text{{Name: "f.yaml", Data: data}, {Name: "world.yaml", Data: world}})
		}
		report := lint.Check(load(), nil)
		for _, found := range report.Findings {
			if lint.Find(found.Rule) == nil || strings.ContainsFunc(found.Message(), unicode.IsControl) {
				t.Errorf("%q", found)
			}
		}
		if diff := cmp.Diff(report.Findings, lint.Check(load(), nil).Findings); diff != "" {
			t.Errorf("checked again (-first +second):\n%s", diff)
		}
		loaded := load()
		loaded.Comments = nil
		without := len(lint.Check(loaded, nil).Findings)
		about := 0
		for _, found := range report.Findings {
			if found.Rule == finding.Ignore {
				about++
			}
		}
		if with := len(report.Findings) - about; with > without || with+report.Ignored < without {
			t.Errorf("%d findings, %d ignored, %d without comments", with, report.Ignored, without)
		}
		all := map[finding.Rule]bool{}
		for _, r := range lint.Rules() {
			all[r.Name] = true
		}
		if found := lint.Check(load(), all).Findings; len(found) > 0 {
			t.Errorf("all rules are disabled: got %v", found)
		}
	})
}
