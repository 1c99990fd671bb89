package lint

import (
	"fmt"
	"slices"

	"github.com/tollgate-apim/tollgate/controlplane/compile"
	"github.com/tollgate-apim/tollgate/controlplane/finding"
)

// weightTie finds subscriptions that lose something to another one by their name
// alone, where it makes a difference.
func weightTie(w *world) []finding.Finding {
	var found []finding.Finding
	for _, s := range w.Result.Subscriptions {
		var ties []compile.Loss
		for _, l := range s.Losses {
			if l.To.Spec.Weight == s.Spec.Weight && difference(s, l.To) != "" {
				ties = append(ties, l)
			}
		}
		if len(ties) == 0 {
			continue
		}
		tie, more := ties[0], ""
		if n := len(ties) - 1; n > 0 {
			more = fmt.Sprintf("; it ties with %d more", n)
		}
		found = append(found, s.Finding(finding.WeightTie, finding.Warning, "spec.weight",
			fmt.Sprintf("is %d, like that of %s, which has another %s and wins %s for %s only because its name comes first%s",
				s.Spec.Weight, tie.To.Ref(), difference(s, tie.To), tie.API.Ref(), tie.Application.Ref(), more),
			"", "give the one that is meant a higher weight"))
	}
	return found
}

// difference says in what two subscriptions differ, or "".
func difference(a, b *compile.Subscription) string {
	f, g := a.Spec.OperationFilter, b.Spec.OperationFilter
	switch {
	case a.Spec.APIPlan != b.Spec.APIPlan:
		return "plan"
	case (f == nil) != (g == nil), f != nil && !slices.Equal(sorted(f.Include), sorted(g.Include)):
		return "operation filter"
	}
	return ""
}

func sorted(names []string) []string {
	names = slices.Clone(names)
	slices.Sort(names)
	return slices.Compact(names)
}
