package lint_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tollgate-apim/tollgate/controlplane/finding"
	"github.com/tollgate-apim/tollgate/controlplane/key"
	"github.com/tollgate-apim/tollgate/controlplane/lint"
	"github.com/tollgate-apim/tollgate/controlplane/manifest"
)

const orphanPlan = "apiVersion: hub.traefik.io/v1alpha1\nkind: APIPlan\nmetadata: {name: p}\nspec: {title: P}\n"

func TestDisabled(t *testing.T) {
	for _, test := range []struct {
		name, text string
		disabled   []finding.Rule
		want       int
	}{
		{"none", orphanPlan, nil, 1},
		{"another", orphanPlan, []finding.Rule{finding.Keyless}, 1},
		{"one that advises", orphanPlan, []finding.Rule{finding.Orphan}, 0},
		{"one of loading", "a: [", []finding.Rule{finding.Syntax}, 0},
		// The comment is not to blame.
		{"one that is ignored", "# tollgate:ignore orphan it is new\n" + orphanPlan, []finding.Rule{finding.Orphan}, 0},
		{"ignore itself", "# tollgate:ignore\n" + orphanPlan, []finding.Rule{finding.Ignore}, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			disabled := map[finding.Rule]bool{}
			for _, r := range test.disabled {
				disabled[r] = true
			}
			if got := lint.Check(manifest.Parse("f.yaml", []byte(test.text)), disabled).Findings; len(got) != test.want {
				t.Errorf("got %v, want %d", got, test.want)
			}
		})
	}
}

func TestIgnored(t *testing.T) {
	const comment = "tollgate:ignore orphan it is new"
	lines := strings.SplitAfter(orphanPlan, "\n")
	other := strings.ReplaceAll(orphanPlan, "name: p", "name: q")
	for _, test := range []struct {
		name, text        string
		findings, ignored int
	}{
		{"above the document", "# " + comment + "\n" + orphanPlan, 0, 1},
		{"below the marker", "---\n# " + comment + "\n" + orphanPlan, 0, 1},
		{"at the end of the line", strings.TrimSpace(lines[0]) + " # " + comment + "\n" + strings.Join(lines[1:], ""), 0, 1},
		{"at the end of another line", strings.TrimSpace(orphanPlan) + " # " + comment + "\n", 2, 0},
		{"above another line", lines[0] + "# " + comment + "\n" + strings.Join(lines[1:], ""), 2, 0},
		{"twice", "# " + comment + "\n# " + comment + "\n" + orphanPlan, 0, 1},
		{"only one of two documents", "# " + comment + "\n" + orphanPlan + "---\n" + other, 1, 1},
		{"only the other of two documents", orphanPlan + "---\n# " + comment + "\n" + other, 1, 1},
		// Nobody can tell, as the file has a document that cannot be parsed.
		{"perhaps nothing", "# " + comment + "\n" + orphanPlan + "---\na: [\n", 1, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			report := lint.Check(manifest.Parse("f.yaml", []byte(test.text)), nil)
			if len(report.Findings) != test.findings || report.Ignored != test.ignored {
				t.Errorf("got %v and %d ignored, want %d and %d", report.Findings, report.Ignored, test.findings, test.ignored)
			}
		})
	}
}

// TestTellsNoKeys puts a key where a name belongs, and a digest too.
func TestTellsNoKeys(t *testing.T) {
	const secret = "tg_0123456789abcdefghijABCDEFGHIJ0123456"
	digest := key.Digest(secret)
	for name, text := range map[string]string{
		"a name":           strings.ReplaceAll(orphanPlan, "name: p", "name: "+secret),
		"a digest as name": strings.ReplaceAll(orphanPlan, "name: p", "name: a"+digest),
		"a field":          strings.ReplaceAll(orphanPlan, "title: P", secret+": P"),
		"a value":          strings.ReplaceAll(orphanPlan, "title: P", "title: P, quota: {limit: 1, period: "+secret+"}"),
		"a reference": "apiVersion: hub.traefik.io/v1alpha1\nkind: ManagedSubscription\nmetadata: {name: s}\n" +
			"spec: {apiPlan: {name: a" + digest + "}, applications: [{appId: " + secret + "}], operationFilter: {include: [" + secret + "]}}\n",
		"a comment": "# tollgate:ignore " + secret + " x\n" + orphanPlan,
	} {
		t.Run(name, func(t *testing.T) {
			found := lint.Check(manifest.Parse("f.yaml", []byte(text)), nil).Findings
			if len(found) == 0 {
				t.Fatal("got no finding")
			}
			for _, f := range found {
				if strings.Contains(f.String(), secret[:12]) || strings.Contains(f.String(), digest[:12]) {
					t.Errorf("tells it: %v", f)
				}
			}
		})
	}
}

// TestHostileFiles checks that what would take all memory or time is an error.
func TestHostileFiles(t *testing.T) {
	dir := t.TempDir()
	bomb := "apiVersion: hub.traefik.io/v1alpha1\nkind: API\nmetadata:\n  name: x\n  labels:\n    a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
	for i := range 30 {
		bomb += fmt.Sprintf("    a%d: &a%d [%s]\n", i+1, i+1, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i), 10), ", "))
	}
	for _, test := range []struct {
		name, text string
		want       finding.Rule
	}{
		{"bomb.yaml", bomb, finding.Syntax},
		{"large.yaml", strings.Repeat("a: b\n", 50<<20/5), finding.File},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(dir, test.name)
			if err := os.WriteFile(path, []byte(test.text), 0o600); err != nil {
				t.Fatal(err)
			}
			found := lint.Check(manifest.Load(t.Context(), []manifest.File{{Path: path}}), nil).Findings
			if len(found) != 1 || found[0].Rule != test.want || found[0].Severity != finding.Error {
				t.Errorf("got %v, want an error of rule %s", found, test.want)
			}
		})
	}
}

// TestManyIgnores would take minutes if each finding were compared with each
// comment.
func TestManyIgnores(t *testing.T) {
	const n = 20_000
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "---\n# tollgate:ignore orphan it is new\n%s", strings.ReplaceAll(orphanPlan, "name: p", fmt.Sprint("name: p", i)))
	}
	report := lint.Check(manifest.Parse("f.yaml", []byte(b.String())), nil)
	if len(report.Findings) != 0 || report.Ignored != n {
		t.Errorf("got %d findings and %d ignored", len(report.Findings), report.Ignored)
	}
}

func TestParseRule(t *testing.T) {
	if got, err := lint.ParseRule("orphan"); got != finding.Orphan || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	for name, want := range map[string]string{"orphans": `"orphans" is no rule, did you mean "orphan"?`, "": `"" is no rule, see ` + lint.Page, "xyzxyz": `see ` + lint.Page} {
		if _, err := lint.ParseRule(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", name, err, want)
		}
	}
}

// writeManifests writes n manifests to a folder, a file each: a fifth are
// applications, and each of these has a Secret, a subscription, a plan and an API
// of its own. There is something to find in every tenth application.
func writeManifests(b *testing.B, n int) []manifest.File {
	b.Helper()
	dir := b.TempDir()
	for i := range n / 5 {
		apiKeys := fmt.Sprintf("[{secretName: app-%d, title: key}]", i)
		if i%10 == 0 {
			apiKeys = fmt.Sprintf("[{secretName: app-%d, title: key, suspended: true}]", i)
		}
		for kind, spec := range map[string]string{
			"API":                 "{openApiSpec: {operationSets: [{name: read, matchers: [{pathPrefix: /, methods: [GET]}]}]}}",
			"APIPlan":             "{title: P, rateLimit: {limit: 10}, quota: {limit: 1000, period: 720h}}",
			"ManagedApplication":  fmt.Sprintf("{appId: app-%d, owner: jane, apiKeys: %s}", i, apiKeys),
			"ManagedSubscription": fmt.Sprintf("{apiPlan: {name: app-%[1]d}, managedApplications: [{name: app-%[1]d}], apiSelector: {matchLabels: {app: app-%[1]d}}, operationFilter: {include: [read]}}", i),
		} {
			text := fmt.Sprintf("apiVersion: hub.traefik.io/v1alpha1\nkind: %s\nmetadata: {name: app-%d, namespace: apps, labels: {app: app-%d}}\nspec: %s\n", kind, i, i, spec)
			if kind == "ManagedApplication" {
				text += fmt.Sprintf("---\napiVersion: v1\nkind: Secret\nmetadata: {name: app-%d, namespace: apps}\nstringData: {key: \"%s\"}\n", i, key.Digest(fmt.Sprint(i)))
			}
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d-%s.yaml", i, kind)), []byte(text), 0o600); err != nil {
				b.Fatal(err)
			}
		}
	}
	tree, err := manifest.List([]string{dir})
	if err != nil {
		b.Fatal(err)
	}
	return tree.Files
}

// BenchmarkCheck must grow with the number of manifests and no faster.
func BenchmarkCheck(b *testing.B) {
	for _, n := range []int{1_000, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			files := writeManifests(b, n)
			for b.Loop() {
				report := lint.Check(manifest.Load(context.Background(), files), nil)
				if len(report.Findings) != n/50 || len(report.Table.Keys) != n/5 {
					b.Fatalf("%d findings and %d keys", len(report.Findings), len(report.Table.Keys))
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/float64(n), "µs/manifest")
		})
	}
}
