package lint

import (
	"fmt"

	"github.com/tollgate-apim/tollgate/controlplane/finding"
	"github.com/tollgate-apim/tollgate/controlplane/manifest"
)

// Page is where the rules are explained, each under its name.
const Page = "https://github.com/tollgate-apim/tollgate/blob/main/docs/checks.md"

// Rule is one check.
type Rule struct {
	Name finding.Rule
	// Severity is that of its gravest findings; each finding has its own.
	Severity finding.Severity
	// Summary says in a sentence what is wrong where the rule finds something.
	Summary string

	// check is nil where loading or compiling finds it.
	check func(*world) []finding.Finding
}

// Link returns where the rule is explained.
func (r Rule) Link() string { return Page + "#" + string(r.Name) }

// Rules returns all rules by name.
func Rules() []Rule {
	const e, w = finding.Error, finding.Warning
	return []Rule{
		{finding.Childless, e, "There is nothing in an API, a bundle or a subscription.", childless},
		{finding.ClaimsUnsupported, e, "A subscription asks for claims, which API keys cannot have.", nil},
		{finding.Deprecated, w, "A kind or a field has a successor.", nil},
		{finding.Duplicate, e, "An object, an App ID, a reference, a field or a key is there again.", nil},
		{finding.EmptyFilter, e, "An operation filter allows no operation.", emptyFilter},
		{finding.File, e, "A file cannot be read, or is too large, or there is none.", nil},
		{finding.Ignore, w, "A comment that is to ignore a finding does not, or has no reason.", nil},
		{finding.Keyless, w, "An application has no key that is in force.", keyless},
		{finding.OperationSet, e, "An operation filter names a set that no API of the subscription has.", nil},
		{finding.Orphan, w, "Nothing refers to a plan, a bundle, a version or a Secret.", orphan},
		{finding.Period, e, "A period is no duration, or too short or too long.", nil},
		{finding.PlaintextKey, e, "There is something else than a digest where a digest belongs.", nil},
		{finding.Reference, e, "A reference points at nothing.", nil},
		{finding.Regex, e, "A regular expression cannot be compiled.", nil},
		{finding.Release, e, "A release is no semantic version, or two versions of an API have the same.", release},
		{finding.Resource, e, "A field is missing, or its value is not allowed.", nil},
		{finding.Secret, e, "A Secret is missing, or has no usable key.", nil},
		{finding.Selector, e, "A label selector is not valid, or selects nothing.", nil},
		{finding.SharedKey, w, "Several applications have the same key.", nil},
		{finding.Syntax, e, "A document cannot be parsed.", nil},
		{finding.UnknownField, e, "A field is not known.", nil},
		{finding.UnknownKind, w, "A document is no object, or of a kind or version that is not known.", nil},
		{finding.UnreachableSubscription, e, "Other subscriptions win all that a subscription asks for.", unreachable},
		{finding.WeightTie, w, "Only their names decide which of two subscriptions counts.", weightTie},
		{finding.ZeroLimit, w, "A limit of 0 means something else than it seems.", nil},
	}
}

// Find returns the rule of that name, or nil.
func Find(name finding.Rule) *Rule {
	for _, r := range Rules() {
		if r.Name == name {
			return &r
		}
	}
	return nil
}

// ParseRule returns the rule that name is the name of.
func ParseRule(name string) (finding.Rule, error) {
	if Find(finding.Rule(name)) != nil {
		return finding.Rule(name), nil
	}
	if other := nearestRule(name); other != "" {
		return "", fmt.Errorf("%q is no rule, did you mean %q?", name, other)
	}
	return "", fmt.Errorf("%q is no rule, see %s", name, Page)
}

func nearestRule(name string) string {
	var names []string
	for _, r := range Rules() {
		names = append(names, string(r.Name))
	}
	return manifest.Nearest(name, names)
}
