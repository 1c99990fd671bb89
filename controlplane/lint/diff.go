package lint

import (
	"regexp"
	"strings"

	"github.com/tollgate-apim/tollgate/controlplane/finding"
)

// Lines returns a line of a file, from 1, or false where it is not to be had.
type Lines func(file string, line int) (string, bool)

// Diff returns the findings that a change from before to after brings, and those
// that it takes away. What a change merely moves, to another line, file or place
// in a list, it does neither to. What is at another place in a list was moved if
// its line reads the same: else one was mended, and another is new.
func Diff(before, after []finding.Finding, linesBefore, linesAfter Lines) (brought, gone []finding.Finding) {
	brought, gone = less(after, before, identifyAt), less(before, after, identifyAt)
	movedTo := func(f finding.Finding) identity { return identifyLine(f, linesAfter) }
	movedFrom := func(f finding.Finding) identity { return identifyLine(f, linesBefore) }
	return lessMoved(brought, gone, movedTo, movedFrom), lessMoved(gone, brought, movedFrom, movedTo)
}

// less returns those of findings that are not among others. Of several that are
// the same, the last are returned.
func less(findings, others []finding.Finding, identify func(finding.Finding) identity) []finding.Finding {
	return lessMoved(findings, others, identify, identify)
}

func lessMoved(findings, others []finding.Finding, identify, identifyOther func(finding.Finding) identity) []finding.Finding {
	known := map[identity]int{}
	for _, f := range others {
		known[identifyOther(f)]++
	}
	var out []finding.Finding
	for _, f := range findings {
		if id := identify(f); id.line != noLine && known[id] > 0 {
			known[id]--
		} else {
			out = append(out, f)
		}
	}
	return out
}

// identity is what two findings have in common that are about the same.
type identity struct {
	rule     finding.Rule
	severity finding.Severity
	file     string // only where there is no object
	object   finding.Object
	field    string
	problem  string
	line     string // what stands there, where that counts
}

// noLine is the line of what is the same as nothing else.
const noLine = "\n"

// maxItem is the longest line, in bytes, that is compared: a longer one has more
// than an item of a list.
const maxItem = 1024

// moving is what says where something stands: a line in the text of a finding,
// and a place in a list. movingLine is the former alone.
var (
	moving     = regexp.MustCompile(`:\d+\b|\bline \d+|\[\d+\]`)
	movingLine = regexp.MustCompile(`:\d+\b|\bline \d+`)
)

// identifyAt is identify with places in lists.
func identifyAt(f finding.Finding) identity {
	id := identify(f)
	id.field, id.problem = f.Field, movingLine.ReplaceAllString(f.Problem, "#")
	return id
}

// identifyLine is identify with what the line of f says.
func identifyLine(f finding.Finding, lines Lines) identity {
	id := identify(f)
	id.line = noLine
	if lines != nil {
		if line, ok := lines(f.File, f.Line); ok && len(line) <= maxItem {
			id.line = strings.TrimSpace(line)
		}
	}
	return id
}

func identify(f finding.Finding) identity {
	id := identity{
		rule: f.Rule, severity: f.Severity, object: f.Object,
		field: moving.ReplaceAllString(f.Field, "#"), problem: moving.ReplaceAllString(f.Problem, "#"),
	}
	if f.Object == (finding.Object{}) {
		id.file = f.File
	}
	return id
}

// Fingerprint returns a text that stays the same while a finding stands, however
// the lines above it change.
func Fingerprint(f finding.Finding) string {
	id := identify(f)
	return string(id.rule) + " " + id.file + id.object.String() + " " + id.field + " " + id.problem
}
