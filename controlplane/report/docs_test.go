package report_test

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tollgate-apim/tollgate/controlplane/finding"
	"github.com/tollgate-apim/tollgate/controlplane/lint"
	"github.com/tollgate-apim/tollgate/controlplane/manifest"
	"github.com/tollgate-apim/tollgate/controlplane/report"
)

const checksPage = "../../docs/checks.md"

var (
	section = regexp.MustCompile(`(?m)^## (.*)$`)
	block   = regexp.MustCompile("(?ms)^```(yaml|text)\n(.*?)^```$")
)

// printed is what lint prints about an example, without the summary.
func printed(world, example string) (string, []finding.Finding) {
	texts := []manifest.Text{{Name: "world.yaml", Data: []byte(world)}, {Name: "example.yaml", Data: []byte(example)}}
	findings := lint.Check(manifest.ParseAll(context.Background(), texts), nil).Findings
	lines := func(file string, n int) (string, bool) {
		text := map[string]string{"world.yaml": world, "example.yaml": example}[file]
		all := strings.Split(text, "\n")
		return all[n-1], true
	}
	var b strings.Builder
	if err := report.Write(&b, "text", &report.Report{Findings: findings}, report.Options{Line: lines}); err != nil {
		return fmt.Sprint(err), findings
	}
	text := strings.TrimSuffix(b.String(), "\n")
	return text[:strings.LastIndexByte(text, '\n')+1], findings
}

// TestChecksPage lints the examples of docs/checks.md: each rule has one with a
// mistake, exactly what is printed about it, and one without.
func TestChecksPage(t *testing.T) {
	data, err := os.ReadFile(checksPage)
	if err != nil {
		t.Fatal(err)
	}
	page := string(data)
	sections := map[string]string{}
	heads := section.FindAllStringSubmatchIndex(page, -1)
	for i, h := range heads {
		end := len(page)
		if i+1 < len(heads) {
			end = heads[i+1][0]
		}
		sections[page[h[2]:h[3]]] = page[h[1]:end]
	}
	world := block.FindStringSubmatch(sections["The examples"])[2]
	delete(sections, "The examples")
	ignored := block.FindStringSubmatch(sections["Ignoring a finding"])[2]
	delete(sections, "Ignoring a finding")
	if _, findings := printed(world, ignored); len(findings) > 0 {
		t.Errorf("the comments do not ignore %v", findings)
	}

	for _, rule := range lint.Rules() {
		name := string(rule.Name)
		text, ok := sections[name]
		delete(sections, name)
		if !ok {
			t.Errorf("rule %s is not on the page", name)
			continue
		}
		if word := strings.Title(string(rule.Severity)); !strings.Contains(text, "\n*"+word) { //nolint:staticcheck // It is one English word.
			t.Errorf("%s: the page does not say %s", name, word)
		}
		blocks := block.FindAllStringSubmatch(text, -1)
		if rule.Name == finding.File {
			continue // what is too large for lint is too large for a page
		}
		if len(blocks) != 3 || blocks[0][1] != "yaml" || blocks[1][1] != "text" || blocks[2][1] != "yaml" {
			t.Errorf("%s: the page must have a bad example, what is printed, and a good example", name)
			continue
		}
		got, findings := printed(world, blocks[0][2])
		if *update {
			page = strings.Replace(page, blocks[0][0]+"\n\n"+blocks[1][0], blocks[0][0]+"\n\n```text\n"+got+"```", 1)
			blocks[1][2] = got
		}
		if diff := cmp.Diff(blocks[1][2], got); diff != "" {
			t.Errorf("%s: (-page +printed):\n%s", name, diff)
		}
		for _, f := range findings {
			if f.Rule == rule.Name {
				ok = false
			}
		}
		if ok {
			t.Errorf("%s: the bad example has no such finding: %v", name, findings)
		}
		if _, findings := printed(world, blocks[2][2]); len(findings) > 0 {
			t.Errorf("%s: the good example has findings: %v", name, findings)
		}
	}
	for name := range sections {
		t.Errorf("%q is no rule", name)
	}
	if *update {
		if err := os.WriteFile(checksPage, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
