// Package finding holds what checking manifests finds: values with a position,
// a reason and a way out, not errors.
//
// A finding never contains a key or a whole digest: whoever makes one writes its
// text from names and positions, not from the values of secrets, and what stands
// where a name belongs is masked when findings are sorted and objects are shown.
package finding

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Severity says what a finding does to its object.
type Severity string

const (
	// Error: the object, or the part that Field names, is left out or grants
	// nothing.
	Error Severity = "error"
	// Warning: it works, but hardly as meant.
	Warning Severity = "warning"
)

// Rule is the stable name of a check.
type Rule string

// The rules. Package lint says in a sentence what each is for.
const (
	Childless               Rule = "childless"                // there is nothing in an object
	ClaimsUnsupported       Rule = "claims-unsupported"       // a subscription needs a token with claims
	Deprecated              Rule = "deprecated"               // a kind or field has a successor
	Duplicate               Rule = "duplicate"                // an object, App ID, reference, field or key comes again
	EmptyFilter             Rule = "empty-filter"             // a filter allows no operation
	File                    Rule = "file"                     // a file cannot be read, or is too large, or there is none
	Ignore                  Rule = "ignore"                   // a comment that ignores findings is wrong itself
	Keyless                 Rule = "keyless"                  // nobody can call as an application
	OperationSet            Rule = "operation-set"            // a filter names a set that no API has
	Orphan                  Rule = "orphan"                   // nothing refers to an object
	Period                  Rule = "period"                   // a period is no duration, or out of range
	PlaintextKey            Rule = "plaintext-key"            // there is no digest where one belongs
	Reference               Rule = "reference"                // a reference points at nothing
	Regex                   Rule = "regex"                    // a regular expression cannot be compiled
	Release                 Rule = "release"                  // a release is no semantic version, or comes again
	Resource                Rule = "resource"                 // a field is missing, or its value is not allowed
	Secret                  Rule = "secret"                   // a Secret is missing or has no usable key
	Selector                Rule = "selector"                 // a label selector is not valid, or selects nothing
	SharedKey               Rule = "shared-key"               // several applications have one key
	Syntax                  Rule = "syntax"                   // a document cannot be parsed
	UnknownField            Rule = "unknown-field"            // a field is misspelt, or of another kind
	UnknownKind             Rule = "unknown-kind"             // a document is no object, or of an unknown kind or version of the group
	UnreachableSubscription Rule = "unreachable-subscription" // others win all that a subscription asks for
	WeightTie               Rule = "weight-tie"               // only the name decides between two subscriptions
	ZeroLimit               Rule = "zero-limit"               // a limit of 0 means something else than it seems
)

// Object names what a finding is about. It is zero where a file or a document
// could not be read far enough to tell.
type Object struct {
	Kind      string `json:"kind,omitempty"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"`
}

// String returns "Kind namespace/name", or "" for the zero Object. It is masked.
func (o Object) String() string {
	o = o.masked()
	switch {
	case o == Object{}:
		return ""
	case o.Name == "":
		return o.Kind
	case o.Namespace == "":
		return o.Kind + " " + o.Name
	}
	return o.Kind + " " + o.Namespace + "/" + o.Name
}

// Finding is one thing that is wrong, or hardly meant, in a manifest. Findings
// are comparable with ==.
type Finding struct {
	Rule     Rule     `json:"rule"`
	Severity Severity `json:"severity"`
	File     string   `json:"file"`
	// Line and Column count from 1; 0 where there is none to name.
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
	Object Object `json:"object,omitzero"`
	// Field is a path such as spec.apiKeys[0].value.
	Field string `json:"field,omitempty"`
	// Problem says what is wrong, Allowed what would be right (may be empty),
	// Fix how to mend it (may be empty).
	Problem string `json:"problem"`
	Allowed string `json:"allowed,omitempty"`
	Fix     string `json:"fix,omitempty"`
}

// String returns the finding on one line:
//
//	file:line:column: severity: Kind namespace/name: field: problem; allowed: …; fix (rule)
func (f Finding) String() string {
	return fmt.Sprintf("%s: %s: %s (%s)", f.Place(), f.Severity, f.Message(), f.Rule)
}

// Place returns "file:line:column", or "file" where there is no line to name.
func (f Finding) Place() string {
	if f.Line == 0 {
		return f.File
	}
	return fmt.Sprintf("%s:%d:%d", f.File, f.Line, f.Column)
}

// Message returns what the finding says, without place, severity and rule.
func (f Finding) Message() string {
	var b strings.Builder
	for _, part := range []string{f.Object.String(), f.Field} {
		if part != "" {
			b.WriteString(part + ": ")
		}
	}
	b.WriteString(f.Problem)
	if f.Allowed != "" {
		b.WriteString("; allowed: " + f.Allowed)
	}
	if f.Fix != "" {
		b.WriteString("; " + f.Fix)
	}
	return b.String()
}

// Sort masks findings, orders them by place, then by rule and text, and drops
// those that say the same twice. It works in place and returns what is left.
func Sort(findings []Finding) []Finding {
	for i, f := range findings {
		findings[i] = f.masked()
	}
	slices.SortFunc(findings, Compare)
	return slices.Compact(findings)
}

// Compare orders findings as Sort does: it is negative where a comes before b.
func Compare(a, b Finding) int {
	return cmp.Or(
		cmp.Compare(a.File, b.File),
		cmp.Compare(a.Line, b.Line),
		cmp.Compare(a.Column, b.Column),
		cmp.Compare(a.Field, b.Field),
		cmp.Compare(a.Rule, b.Rule),
		cmp.Compare(a.Problem, b.Problem),
		cmp.Compare(a.Object.String(), b.Object.String()),
	)
}

// Count returns how many of the findings are errors and how many are warnings.
func Count(findings []Finding) (errors, warnings int) {
	for _, f := range findings {
		if f.Severity == Error {
			errors++
		} else {
			warnings++
		}
	}
	return errors, warnings
}
