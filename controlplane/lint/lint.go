// Package lint checks manifests before they are served: what loading and
// compiling them finds, which is all that keeps something out of the table, and
// on top of that what works, but is hardly meant.
package lint

import (
	"github.com/tollgate-apim/tollgate/controlplane/compile"
	"github.com/tollgate-apim/tollgate/controlplane/finding"
	"github.com/tollgate-apim/tollgate/controlplane/manifest"
	"github.com/tollgate-apim/tollgate/table"
)

// Report is what Check finds.
type Report struct {
	Findings []finding.Finding // by place
	Ignored  int               // how many more there would be without comments
	Table    *table.Table      // what the manifests make
}

// Check compiles what was loaded and applies all rules but the disabled ones.
func Check(loaded *manifest.Loaded, disabled map[finding.Rule]bool) *Report {
	result := compile.Compile(loaded.Objects)
	findings := append(append([]finding.Finding{}, loaded.Findings...), result.Findings...)
	w := newWorld(loaded, result)
	for _, r := range Rules() {
		if r.check != nil && !disabled[r.Name] {
			findings = append(findings, r.check(w)...)
		}
	}
	comments := readIgnores(loaded.Comments)
	report := &Report{Table: result.Table}
	var kept []finding.Finding
	for _, f := range finding.Sort(findings) {
		switch {
		case disabled[f.Rule]:
		case comments.ignore(f):
			report.Ignored++
		default:
			kept = append(kept, f)
		}
	}
	if !disabled[finding.Ignore] {
		// What is left out may be what a comment is there for.
		whole := len(loaded.Broken) == 0 && len(loaded.Objects.LeftOut) == 0
		kept = append(kept, comments.findings(disabled, whole)...)
	}
	for i := range kept {
		kept[i] = mask(kept[i])
	}
	report.Findings = finding.Sort(kept)
	return report
}

// world is what the rules look at.
type world struct {
	*manifest.Objects
	*compile.Result
	// lacking has the kinds, by namespace, of which some objects are left out;
	// broken says that nobody can tell which objects are missing.
	lacking map[finding.Object]bool
	broken  bool
}

func newWorld(loaded *manifest.Loaded, result *compile.Result) *world {
	w := &world{Objects: loaded.Objects, Result: result, lacking: map[finding.Object]bool{}, broken: len(loaded.Broken) > 0}
	for o := range loaded.Objects.LeftOut {
		w.lacking[finding.Object{Kind: o.Kind, Namespace: o.Namespace}] = true
	}
	return w
}

// mask makes sure of what the rules take care of: that a finding shows no key,
// not even one that stands where a name belongs, and that it is one line.
func mask(f finding.Finding) finding.Finding {
	for _, text := range []*string{&f.Object.Kind, &f.Object.Namespace, &f.Object.Name, &f.Field, &f.Problem, &f.Allowed, &f.Fix} {
		*text = finding.Mask(*text)
	}
	return f
}
