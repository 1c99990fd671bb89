package lint

import (
	"regexp"

	"github.com/tollgate-apim/tollgate/controlplane/finding"
)

// Diff returns the findings that a change from before to after brings, and those
// that it takes away. What a change merely moves, to another line, file or place
// in a list, it does neither to.
func Diff(before, after []finding.Finding) (brought, gone []finding.Finding) {
	return less(after, before), less(before, after)
}

// less returns those of findings that are not among others. Of several that are
// the same, the last are returned.
func less(findings, others []finding.Finding) []finding.Finding {
	known := map[identity]int{}
	for _, f := range others {
		known[identify(f)]++
	}
	var out []finding.Finding
	for _, f := range findings {
		if id := identify(f); known[id] > 0 {
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
}

// moving is what says where something stands: a line in the text of a finding,
// and a place in a list.
var moving = regexp.MustCompile(`:\d+\b|\bline \d+|\[\d+\]`)

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
