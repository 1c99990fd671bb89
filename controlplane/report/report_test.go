package report_test

import (
	"encoding/json"
	"encoding/xml"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"github.com/tollgate-apim/tollgate/controlplane/access"
	"github.com/tollgate-apim/tollgate/controlplane/finding"
	"github.com/tollgate-apim/tollgate/controlplane/report"
)

var update = flag.Bool("update", false, "write the golden files anew")

var object = finding.Object{Kind: "ManagedApplication", Namespace: "apps", Name: "mobile"}

// examples are reports with what a format may stumble over.
func examples() map[string]*report.Report {
	findings := []finding.Finding{
		{Rule: finding.File, Severity: finding.Error, File: "a b/ü,:%.yaml", Problem: "is too large", Allowed: "at most 16 MiB", Fix: "split it"},
		{
			Rule: finding.PlaintextKey, Severity: finding.Error, File: "apps.yaml", Line: 3, Column: 7, Object: object, Field: "spec.apiKeys[0].value",
			Problem: "is <not> a digest, 100% & \"quoted\" | `code` * @jane",
		},
		{Rule: finding.Orphan, Severity: finding.Warning, File: "apps.yaml", Line: 4, Column: 3, Object: object, Problem: "is of no use"},
		{Rule: finding.Keyless, Severity: finding.Warning, File: "apps.yaml", Line: 4, Column: 3, Object: object, Field: "spec", Problem: "has no key"},
		{Rule: finding.Ignore, Severity: finding.Warning, File: "/tmp/x.yaml", Line: 400, Column: 1, Problem: "there is no such line"},
	}
	before := &access.Grant{Subscription: "apps/old", Plan: "apps/gold", Operations: "read (GET|HEAD /weather/…)", RateLimit: "10 in 1s for each subscription", Quota: "none"}
	after := *before
	after.Subscription, after.Operations, after.Quota = "apps/new", "all", "1000 in 720h for each application"
	changes := []access.Change{
		{
			Application: "apps/mobile",
			Fields:      []access.Difference{{Field: "appId", Before: "a|b", After: "mobile"}, {Field: "owner", After: "jane"}},
			APIs: []access.APIChange{
				{Kind: access.Gained, API: "apps/tides", After: &after},
				{Kind: access.Lost, API: "apps/storms", Before: before},
				{Kind: access.Changed, API: "apps/weather", Before: before, After: &after},
			},
			Keys: []access.KeyChange{
				{Kind: access.Added, Title: "a|b `c`"},
				{Kind: access.Changed, Title: "new", Before: "old"},
				{Kind: access.Removed},
				{Kind: access.Replaced, Title: "phone", Suspended: true},
				{Kind: access.Resumed, Title: "tablet"},
				{Kind: access.Suspended, Title: "web", Suspended: true},
			},
			Shared: []access.SharedKey{
				{Kind: access.Admitted, Title: "a", API: "apps/tides", After: &access.Reach{Application: "apps/mobile", Operations: "all"}},
				{Kind: access.Changed, API: "apps/weather", Before: &access.Reach{Application: "apps/web", Operations: "read (GET)"}, After: &access.Reach{Application: "apps/mobile", Operations: "all"}},
				{Kind: access.Refused, Title: "b", API: "apps/storms", Before: &access.Reach{Application: "apps/mobile", Operations: "all"}},
			},
		},
		{Application: "apps/web", APIs: []access.APIChange{{Kind: access.Lost, API: "apps/weather", Before: before}}},
	}
	return map[string]*report.Report{
		"clean":     {},
		"findings":  {Findings: findings, Ignored: 2},
		"change":    {Findings: findings[1:2], Change: &report.Change{Base: "main", Gone: findings[2:4], Access: changes}},
		"unchanged": {Change: &report.Change{Base: "main"}},
	}
}

const source = "kind: ManagedApplication\nspec:\n  \t\"ä\": {value: not-to-be-told, title: 'not-to-be-told # x'} # not-to-be-told\n- ManagedApplication: not-to-be-told\n"

func line(file string, n int) (string, bool) {
	lines := strings.Split(source, "\n")
	if file != "apps.yaml" || n > len(lines) {
		return "", false
	}
	return lines[n-1], true
}

// TestGolden writes each example in each format and compares it with the file of
// that name.
func TestGolden(t *testing.T) {
	for name, r := range examples() {
		for _, format := range append(report.Formats(), "text-colour") {
			t.Run(name+"."+format, func(t *testing.T) {
				var b strings.Builder
				written, colour := strings.CutSuffix(format, "-colour")
				if err := report.Write(&b, written, r, report.Options{Colour: colour, Line: line}); err != nil {
					t.Fatal(err)
				}
				golden := filepath.Join("testdata", name+"."+format)
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
					t.Error("tells a key")
				}
			})
		}
	}
	if err := report.Write(&strings.Builder{}, "xml", &report.Report{}, report.Options{}); err == nil {
		t.Error("an unknown format: got no error")
	}
}

// TestMarkdownCut checks that of what is cut the difference is shown, and of rows
// those that allow more.
func TestMarkdownCut(t *testing.T) {
	sets := "read (" + strings.Repeat("GET /tidings, ", 30)
	before := &access.Grant{Operations: sets + "GET /a" + strings.Repeat(", GET /z", 30) + ")"}
	after := &access.Grant{Operations: sets + "any method" + strings.Repeat(", GET /z", 30) + ")"}
	var changes []access.Change
	for i := range 60 {
		changes = append(changes, access.Change{Application: fmt.Sprint("apps/", i), APIs: []access.APIChange{{Kind: access.Lost, API: "apps/weather", Before: &access.Grant{}}}})
	}
	changes = append(changes, access.Change{Application: "apps/z", APIs: []access.APIChange{
		{Kind: access.Changed, API: "apps/weather", Before: before, After: after, Wider: true},
		{Kind: access.Gained, API: "apps/tides", After: after},
	}})
	var b strings.Builder
	if err := report.Write(&b, "markdown", &report.Report{Change: &report.Change{Base: "main", Access: changes}}, report.Options{}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| operations `…ings, GET /tidings, GET /a, GET /z, GET /z, GE…` | operations `…ings, GET /tidings, any method, GET /z, GET /z, GE…` |",
		"| `apps/z` | gained |", "and 12 more",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("lacks %q:\n%s", want, b.String())
		}
	}
}

// TestLongLine checks that of a long line, such as minified JSON is, nothing is
// shown, and that its length costs nothing.
func TestLongLine(t *testing.T) {
	long := "  - a: " + strings.Repeat(`{"kind":"API"},`, 20_000)
	r := &report.Report{}
	for range 500 {
		r.Findings = append(r.Findings, finding.Finding{Rule: finding.Resource, Severity: finding.Error, File: "a.json", Line: 1, Column: 200_000, Object: object, Field: "kind", Problem: "is API"})
	}
	lines := func(string, int) (string, bool) { return long, true }
	var b strings.Builder
	allocated := testing.AllocsPerRun(1, func() {
		b.Reset()
		if err := report.Write(&b, "text", r, report.Options{Line: lines}); err != nil {
			t.Fatal(err)
		}
	})
	if got := strings.Count(b.String(), "\n"); got != 501 || allocated > 100_000 {
		t.Errorf("got %d lines and %.0f allocations, want 501 lines and no work on the line", got, allocated)
	}
	long = "kind: API # " + strings.Repeat("x", 300)
	r.Findings = r.Findings[:1]
	r.Findings[0].Column = 1
	b.Reset()
	if err := report.Write(&b, "text", r, report.Options{Line: lines}); err != nil || !strings.Contains(b.String(), "| kind: API\n") {
		t.Errorf("a long comment: got %v, %s", err, b.String())
	}
}

var (
	githubLine = regexp.MustCompile(`^::(error|warning) file=[^,:\n]*(,line=\d+,col=-?\d+)?,title=[^,:\n]*::[^\n]*$`)
	textColour = regexp.MustCompile("\x1b\\[[0-9;]*m")
)

// FuzzWrite checks that nothing in a finding, in a change or in a manifest breaks
// out of its place in a format.
func FuzzWrite(f *testing.F) {
	f.Add("a.yaml", "x", "spec.x", "is wrong\r\n::error::", "kind: x # y", 1, 3)
	f.Add("a,b:c%\x1b[31m\n.yaml", "\x00\u2028", "`|<a>", "]]>\"'&\xff", "\t- {a: \"b\", \xff}", 2, 100)
	f.Fuzz(func(t *testing.T, file, name, field, problem, source string, at, column int) {
		found := finding.Finding{
			Rule: finding.Resource, Severity: finding.Error, File: file, Line: at, Column: column,
			Object: finding.Object{Kind: "API", Namespace: "apps", Name: name}, Field: field, Problem: problem, Fix: name,
		}
		grant := &access.Grant{Operations: problem, Plan: name}
		r := &report.Report{
			Findings: []finding.Finding{found},
			Change: &report.Change{Base: file, Gone: []finding.Finding{found}, Access: []access.Change{{
				Application: name, APIs: []access.APIChange{{Kind: access.Gained, API: name, After: grant}}, Keys: []access.KeyChange{{Kind: access.Added, Title: problem}},
			}}},
		}
		written := map[string]string{}
		for _, format := range report.Formats() {
			var b strings.Builder
			lines := func(string, int) (string, bool) { return source, !strings.Contains(source, "\n") }
			if err := report.Write(&b, format, r, report.Options{Colour: true, Line: lines}); err != nil {
				t.Fatalf("%s: %v", format, err)
			}
			written[format] = b.String()
		}
		for _, format := range []string{"json", "sarif"} {
			if !json.Valid([]byte(written[format])) {
				t.Errorf("%s: not JSON: %s", format, written[format])
			}
		}
		if err := xml.Unmarshal([]byte(written["checkstyle"]), new(struct{})); err != nil {
			t.Errorf("checkstyle: %v: %s", err, written["checkstyle"])
		}
		if got := strings.TrimSuffix(written["github"], "\n"); !githubLine.MatchString(got) {
			t.Errorf("github: %q", got)
		}
		// Package lint sees to the texts of findings; the names of files and the
		// words of changes are for the formats to see to.
		if strings.ContainsFunc(problem+name+field, unicode.IsControl) {
			return
		}
		plain := textColour.ReplaceAllString(written["text"], "")
		if strings.ContainsFunc(plain, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }) {
			t.Errorf("text: %q", plain)
		}
		for _, row := range strings.Split(written["markdown"], "\n") {
			if cells := strings.Count(strings.ReplaceAll(row, `\|`, ""), "|"); cells != 0 && cells != 5 && cells != 6 {
				t.Errorf("markdown: %q", row)
			}
		}
	})
}
