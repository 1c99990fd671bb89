package lint

import "github.com/tollgate-apim/tollgate/controlplane/finding"

// emptyFilter finds filters that are written and let nothing through, which a
// missing one would.
func emptyFilter(w *world) []finding.Finding {
	var found []finding.Finding
	for _, s := range w.Objects.Subscriptions {
		if f := s.Spec.OperationFilter; f != nil && len(f.Include) == 0 {
			found = append(found, s.Finding(finding.EmptyFilter, finding.Error, "spec.operationFilter", "allows no operation, so the subscription grants nothing",
				"", "name operation sets under include, or take the filter out to allow all operations"))
		}
	}
	return found
}
