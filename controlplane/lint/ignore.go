package lint

import (
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/tollgate-apim/tollgate/controlplane/finding"
	"github.com/tollgate-apim/tollgate/controlplane/manifest"
)

// ignoreForm is what a comment must look like.
const ignoreForm = "# tollgate:ignore RULE reason"

// ignores are the comments that ignore findings.
type ignores struct {
	lines     map[ignored][]*ignore // by line
	documents map[ignored][]*ignore // those for more than a line, in order; without line
	all       []*ignore
	wrong     []finding.Finding
}

// ignored is what an ignore is about.
type ignored struct {
	file string
	rule finding.Rule
	line int
}

// ignore is a comment that ignores the findings of a rule on some lines.
type ignore struct {
	rule    finding.Rule
	comment manifest.Comment
	used    bool
}

// readIgnores reads comments. Those that are wrong ignore nothing.
func readIgnores(comments []manifest.Comment) *ignores {
	out := &ignores{lines: map[ignored][]*ignore{}, documents: map[ignored][]*ignore{}}
	for _, c := range comments {
		rule, wrong := parseIgnore(c)
		if wrong != nil {
			out.wrong = append(out.wrong, *wrong)
			continue
		}
		i := &ignore{rule: rule, comment: c}
		out.all = append(out.all, i)
		if c.From == c.To {
			about := ignored{c.File, rule, c.From}
			out.lines[about] = append(out.lines[about], i)
		} else {
			about := ignored{c.File, rule, 0}
			out.documents[about] = append(out.documents[about], i)
		}
	}
	return out
}

// parseIgnore returns the rule that a comment ignores, or what is wrong with it.
func parseIgnore(c manifest.Comment) (finding.Rule, *finding.Finding) {
	wrong := func(problem, allowed, fix string) *finding.Finding {
		return &finding.Finding{
			Rule: finding.Ignore, Severity: finding.Warning, File: c.File, Line: c.Line, Column: c.Column,
			Problem: problem, Allowed: allowed, Fix: fix,
		}
	}
	words := strings.Fields(c.Text)
	if len(words) == 0 || words[0] != "ignore" {
		return "", wrong("the comment is for Tollgate, and says nothing that it knows", ignoreForm, "")
	}
	if len(words) == 1 {
		return "", wrong("the comment names no rule, so it ignores nothing", ignoreForm, "")
	}
	rule := finding.Rule(words[1])
	switch {
	case Find(rule) == nil:
		fix := ""
		if name := nearestRule(words[1]); name != "" {
			fix = fmt.Sprintf("did you mean %q?", name)
		}
		return "", wrong("the comment names no rule that there is, so it ignores nothing", "the rules of "+Page, fix)
	case rule == finding.Ignore, rule == finding.File, rule == finding.Syntax:
		return "", wrong(fmt.Sprintf("findings of rule %s cannot be ignored", rule), "", "mend what it says")
	case len(words) == 2:
		return "", wrong("the comment gives no reason, so it ignores nothing", ignoreForm, "say why the finding is fine here")
	}
	return rule, nil
}

// ignore reports whether comments ignore f.
func (i *ignores) ignore(f finding.Finding) bool {
	about := i.lines[ignored{f.File, f.Rule, f.Line}]
	// Documents do not overlap: those that begin at the last line before f.
	documents := i.documents[ignored{f.File, f.Rule, 0}]
	end := sort.Search(len(documents), func(n int) bool { return documents[n].comment.From > f.Line })
	begin := end
	for begin > 0 && documents[begin-1].comment.From == documents[end-1].comment.From {
		begin--
	}
	is := false
	for _, at := range slices.Concat(about, documents[begin:end]) {
		if f.Line <= at.comment.To {
			at.used, is = true, true
		}
	}
	return is
}

// findings returns what is wrong with the comments. Where something was not
// looked at, none can be told to be of no use.
func (i *ignores) findings(disabled map[finding.Rule]bool, whole bool) []finding.Finding {
	found := i.wrong
	for _, at := range i.all {
		if at.used || !whole || disabled[at.rule] {
			continue
		}
		fix := "take it out"
		if at.comment.To < at.comment.From {
			fix = "put it above a line, at the end of one, or above all of a document, below its \"---\""
		}
		found = append(found, finding.Finding{
			Rule: finding.Ignore, Severity: finding.Warning, File: at.comment.File, Line: at.comment.Line, Column: at.comment.Column,
			Problem: fmt.Sprintf("there is no finding of rule %s for the comment to ignore", at.rule), Fix: fix,
		})
	}
	return found
}
