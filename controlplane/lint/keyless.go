package lint

import (
	"slices"

	"github.com/tollgate-apim/tollgate/controlplane/finding"
	"github.com/tollgate-apim/tollgate/controlplane/manifest"
)

// keyless finds applications that nobody can call as. Keys of no use have
// findings of their own, and so have applications that are disregarded.
func keyless(w *world) []finding.Finding {
	var found []finding.Finding
	for _, a := range w.Applications {
		_, counts := w.Table.Applications[a.Namespace+"/"+a.Name]
		inForce := slices.ContainsFunc(a.Spec.APIKeys, func(k manifest.APIKey) bool { return !k.Suspended })
		if inForce || !counts {
			continue
		}
		problem := "has no key, so nobody can call as this application"
		if len(a.Spec.APIKeys) > 0 {
			problem = "has suspended keys only, so nobody can call as this application"
		}
		found = append(found, a.Finding(finding.Keyless, finding.Warning, "spec.apiKeys", problem, "", "add a key: \"tollgate key new\" makes one"))
	}
	return found
}
