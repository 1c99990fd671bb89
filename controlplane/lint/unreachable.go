package lint

import (
	"fmt"

	"github.com/tollgate-apim/tollgate/controlplane/finding"
)

// unreachable finds subscriptions that ask for something and win nothing of it.
func unreachable(w *world) []finding.Finding {
	var found []finding.Finding
	for _, s := range w.Result.Subscriptions {
		if s.Wins > 0 || len(s.Losses) == 0 {
			continue
		}
		to := s.Losses[0].To
		others := fmt.Sprintf("%s, of weight %d,", to.Ref(), to.Spec.Weight)
		verb := "wins"
		if more := len(s.Losses) - 1; more > 0 {
			others += fmt.Sprintf(" and %d more", more)
			verb = "win"
		}
		found = append(found, s.Finding(finding.UnreachableSubscription, finding.Error, "spec.weight",
			fmt.Sprintf("is %d, and %s %s all that it asks for, so it grants nothing", s.Spec.Weight, others, verb),
			"", "give it a higher weight, or take it out"))
	}
	return found
}
