package report

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"slices"
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
	rows := accessRows(c)
	if len(rows) > maxRows {
		// What allows more is not to be among what is left out.
		slices.SortStableFunc(rows, func(a, b accessRow) int { return cmp.Compare(a.rank, b.rank) })
	}
	for _, r := range rows[:min(len(rows), maxRows)] {
		fmt.Fprint(w, r.text)
	}
	rest(w, len(rows))
}

// accessRow is a row of the table. Those that allow more have a lower rank.
type accessRow struct {
	rank int
	text string
}

func accessRows(c *Change) []accessRow {
	var rows []accessRow
	for _, change := range c.Access {
		row := func(rank int, kind access.Kind, what, before, after string) {
			rows = append(rows, accessRow{rank, fmt.Sprintf("| %s | %s | %s | %s | %s |\n", code(change.Application), kind, what, before, after)})
		}
		differences := func(rank int, what string, all []access.Difference) {
			for _, d := range all {
				before, after := differing(d.Before, d.After)
				row(rank, access.Changed, what, d.Field+" "+code(before), d.Field+" "+code(after))
			}
		}
		differences(kindRank[access.Changed], "", change.Fields)
		for _, a := range change.APIs {
			switch {
			case a.Kind == access.Gained:
				row(0, a.Kind, code(a.API), "", grantMarkdown(a.After))
			case a.Kind == access.Lost:
				row(kindRank[a.Kind], a.Kind, code(a.API), grantMarkdown(a.Before), "")
			case a.Wider:
				differences(0, code(a.API), a.Differences())
			default:
				differences(kindRank[access.Changed], code(a.API), a.Differences())
			}
		}
		for _, k := range change.Keys {
			before := ""
			if k.Kind == access.Changed {
				before = "title " + code(k.Before)
			}
			row(kindRank[k.Kind], k.Kind, prose(keyName(k)), before, "")
		}
		for _, k := range change.Shared {
			what := prose(sharedName(k)) + ", shared, at " + code(k.API)
			switch k.Kind {
			case access.Admitted:
				row(0, k.Kind, what, "", reachMarkdown(k.After))
			case access.Refused:
				row(kindRank[k.Kind], k.Kind, what, reachMarkdown(k.Before), "")
			default:
				differences(0, what, k.Differences())
			}
		}
	}
	return rows
}

// kindRank is 0 for what allows more.
var kindRank = map[access.Kind]int{access.Changed: 1, access.Replaced: 1, access.Lost: 2, access.Removed: 2, access.Suspended: 2, access.Refused: 2}

// context is how much is shown of what is the same on both sides of a
// difference, in characters.
const context = 20

// differing takes off what two long texts begin and end with, so that they do
// not look the same when they are cut.
func differing(before, after string) (string, string) {
	b, a := []rune(before), []rune(after)
	if max(len(b), len(a)) <= maxCode {
		return before, after
	}
	start, end := 0, 0
	for start < min(len(b), len(a)) && b[start] == a[start] {
		start++
	}
	for end < min(len(b), len(a))-start && b[len(b)-1-end] == a[len(a)-1-end] {
		end++
	}
	window := func(r []rune) string {
		first, last := start-context, len(r)-end+context
		out := ""
		if first > 0 {
			out, r, last = "…", r[first:], last-first
		}
		if last < len(r) {
			return out + string(r[:last]) + "…"
		}
		return out + string(r)
	}
	return window(b), window(a)
}

func reachMarkdown(r *access.Reach) string {
	return fmt.Sprintf("operations %s, accounted to %s", code(r.Operations), code(r.Application))
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
