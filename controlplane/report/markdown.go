package report

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"github.com/tollgate-apim/tollgate/controlplane/access"
	"github.com/tollgate-apim/tollgate/controlplane/finding"
	"github.com/tollgate-apim/tollgate/controlplane/lint"
)

// GitHub refuses comments of more than 65536 characters.
const (
	maxRows = 50  // of each table
	maxCode = 120 // characters, of each text of manifests
)

// markdown writes tables for a comment on a pull request.
func markdown(w io.Writer, r *Report, _ Options) error {
	b := bufio.NewWriter(w)
	fmt.Fprint(b, "### Tollgate\n\n")
	if r.Change != nil {
		accessMarkdown(b, r.Change)
	}
	title := "Findings"
	if r.Change != nil {
		title = "Findings that the change brings"
	}
	findingsMarkdown(b, title, r.Findings)
	if r.Change != nil && len(r.Change.Gone) > 0 {
		findingsMarkdown(b, "Findings that the change takes away", r.Change.Gone)
	}
	return b.Flush()
}

func findingsMarkdown(w io.Writer, title string, findings []finding.Finding) {
	if len(findings) == 0 {
		fmt.Fprintf(w, "**%s:** none.\n\n", title)
		return
	}
	fmt.Fprintf(w, "**%s:**\n\n| | where | what | rule |\n| --- | --- | --- | --- |\n", title)
	for _, f := range findings[:min(len(findings), maxRows)] {
		fmt.Fprintf(w, "| %s | %s | %s | [%s](%s#%s) |\n", f.Severity, code(f.Place()), prose(f.Message()), f.Rule, lint.Page, f.Rule)
	}
	rest(w, len(findings))
}

// rest says how many rows are left out.
func rest(w io.Writer, n int) {
	if n > maxRows {
		fmt.Fprintf(w, "\nand %d more.\n", n-maxRows)
	}
	fmt.Fprintln(w)
}

// accessMarkdown writes what becomes of applications, a row for each difference.
func accessMarkdown(w io.Writer, c *Change) {
	if len(c.Access) == 0 {
		fmt.Fprint(w, "**Access:** no application gains, loses or changes anything.\n\n")
		return
	}
	fmt.Fprint(w, "**Access:**\n\n| application | | API or key | before | after |\n| --- | --- | --- | --- | --- |\n")
	var rows []string
	for _, change := range c.Access {
		row := func(kind access.Kind, what, before, after string) {
			rows = append(rows, fmt.Sprintf("| %s | %s | %s | %s | %s |\n", code(change.Application), kind, what, before, after))
		}
		for _, a := range change.APIs {
			switch a.Kind {
			case access.Gained:
				row(a.Kind, code(a.API), "", grantMarkdown(a.After))
			case access.Lost:
				row(a.Kind, code(a.API), grantMarkdown(a.Before), "")
			default:
				for _, d := range a.Differences() {
					row(a.Kind, code(a.API), d.Field+" "+code(d.Before), d.Field+" "+code(d.After))
				}
			}
		}
		for _, k := range change.Keys {
			before := ""
			if k.Kind == access.Changed {
				before = "title " + code(k.Before)
			}
			row(k.Kind, prose(keyName(k)), before, "")
		}
	}
	for _, r := range rows[:min(len(rows), maxRows)] {
		fmt.Fprint(w, r)
	}
	rest(w, len(rows))
}

func grantMarkdown(g *access.Grant) string {
	return fmt.Sprintf("operations %s, plan %s, rate limit %s, quota %s, by %s",
		code(g.Operations), code(g.Plan), code(g.RateLimit), code(g.Quota), code(g.Subscription))
}

// code puts text of manifests in code, where it means nothing to Markdown.
func code(s string) string {
	if r := []rune(s); len(r) > maxCode {
		s = string(r[:maxCode]) + "…"
	}
	s = strings.NewReplacer("`", "'", "|", `\|`).Replace(oneLine(s))
	if strings.TrimSpace(s) == "" {
		return ""
	}
	return "`" + s + "`"
}

// escaped is what may mean something to Markdown or HTML, or to GitHub: an at
// sign would notify people.
var escaped = strings.NewReplacer(`\`, `\\`, "`", "\\`", "*", `\*`, "_", `\_`, "[", `\[`, "]", `\]`, "<", `\<`, ">", `\>`,
	"|", `\|`, "~", `\~`, "&", `\&`, "#", `\#`, "!", `\!`, "$", `\$`, "@", "@\u200b")

// prose escapes text of manifests.
func prose(s string) string { return escaped.Replace(oneLine(s)) }
