package compile

import (
	"fmt"
	"iter"
	"slices"

	"github.com/tollgate-apim/tollgate/controlplane/finding"
	"github.com/tollgate-apim/tollgate/controlplane/manifest"
)

// reporter is an object that knows where its fields stand.
type reporter interface {
	Finding(rule finding.Rule, severity finding.Severity, path, problem, allowed, fix string) finding.Finding
	PlaintextKey(path string) finding.Finding
	Ref() finding.Object
}

// remark is a finding in the making. Where it stands and what may have been
// meant are looked up when it is told, and not before: both may change while the
// remark stays as it is.
type remark struct {
	on                          reporter
	rule                        finding.Rule
	severity                    finding.Severity
	path, problem, allowed, fix string
	// missing is the object that a reference names and that nobody has written.
	missing finding.Object
}

// remarks collects what is found.
type remarks []remark

func (r *remarks) fail(on reporter, rule finding.Rule, path, problem, fix string) {
	*r = append(*r, remark{on: on, rule: rule, severity: finding.Error, path: path, problem: problem, fix: fix})
}

func (r *remarks) warn(on reporter, rule finding.Rule, path, problem, fix string) {
	*r = append(*r, remark{on: on, rule: rule, severity: finding.Warning, path: path, problem: problem, fix: fix})
}

// plaintext says that what stands at path is no digest.
func (r *remarks) plaintext(on reporter, path string) {
	*r = append(*r, remark{on: on, rule: finding.PlaintextKey, path: path})
}

// dangling says that a reference points at nothing.
func (r *remarks) dangling(on reporter, path string, missing finding.Object, leftOut bool) {
	if leftOut {
		r.fail(on, finding.Reference, path, fmt.Sprintf("names %s, which is left out", missing), "mend what its own finding says")
		return
	}
	*r = append(*r, remark{
		on: on, rule: finding.Reference, severity: finding.Error, path: path,
		problem: fmt.Sprintf("names %s, which does not exist", missing), fix: "write it, or take the name out", missing: missing,
	})
}

// Bounds on looking for what was meant, which takes a while for each name.
const (
	maxGuesses = 100
	maxKnown   = 1000
)

// tell returns what remarks say, sorted. The first of those that name what does
// not exist also say which of the names known for its kind may have been meant.
func (r remarks) tell(known func(missing finding.Object) iter.Seq[string]) []finding.Finding {
	type telling struct {
		finding.Finding
		missing finding.Object
	}
	all := make([]telling, len(r))
	for i, m := range r {
		if m.rule == finding.PlaintextKey {
			all[i].Finding = m.on.PlaintextKey(m.path)
			continue
		}
		all[i] = telling{m.on.Finding(m.rule, m.severity, m.path, m.problem, m.allowed, m.fix), m.missing}
	}
	slices.SortFunc(all, func(a, b telling) int { return finding.Compare(a.Finding, b.Finding) })
	guesses := 0
	findings := make([]finding.Finding, len(all))
	for i, t := range all {
		findings[i] = t.Finding
		if t.missing.Name == "" || guesses == maxGuesses {
			continue
		}
		guesses++
		if name := nearest(t.missing.Name, known(t.missing)); name != "" {
			findings[i].Fix = fmt.Sprintf("did you mean %q?", name)
		}
	}
	return finding.Sort(findings)
}

// nearest returns the one of known names that name is a misspelling of, or "".
func nearest(name string, known iter.Seq[string]) string {
	var names []string
	for n := range known {
		if names = append(names, n); len(names) > maxKnown {
			return ""
		}
	}
	return manifest.Nearest(name, names)
}
