package lint

import (
	"github.com/tollgate-apim/tollgate/controlplane/finding"
	"github.com/tollgate-apim/tollgate/controlplane/manifest"
)

// childless finds objects in which nothing is written. Where something is
// written and leads nowhere, the rules reference and selector say so.
func childless(w *world) []finding.Finding {
	var found []finding.Finding
	for _, s := range w.Objects.Subscriptions {
		if len(s.Spec.ManagedApplications)+len(s.Spec.Applications) == 0 && s.Spec.ManagedApplicationSelector == nil {
			found = append(found, s.Finding(finding.Childless, finding.Error, "spec", "names and selects no application, so it grants nothing",
				"managedApplications, managedApplicationSelector", ""))
		}
		if len(s.Spec.APIs)+len(s.Spec.APIBundles) == 0 && s.Spec.APISelector == nil {
			found = append(found, s.Finding(finding.Childless, finding.Error, "spec", "names and selects no API, so it grants nothing",
				"apis, apiSelector, apiBundles", ""))
		}
	}
	for _, b := range w.Bundles {
		if len(b.Spec.APIs) == 0 && b.Spec.APISelector == nil {
			found = append(found, b.Finding(finding.Childless, finding.Warning, "spec", "names and selects no API", "apis, apiSelector", ""))
		}
	}
	for _, a := range w.APIs {
		// An API without either is all operations of a service, which is fine.
		began := a.Spec.OpenAPISpec != nil || a.Spec.Versions != nil
		if began && len(a.Spec.Versions) == 0 && isEmpty(a.Spec.OpenAPISpec) {
			path := "spec.openApiSpec"
			if a.Spec.OpenAPISpec == nil {
				path = "spec.versions"
			}
			found = append(found, a.Finding(finding.Childless, finding.Warning, path, "is empty, and the API has no operation sets elsewhere",
				"openApiSpec with path, url or operationSets, or versions", "fill it, or take it out"))
		}
	}
	return found
}

func isEmpty(s *manifest.OpenAPISpec) bool {
	return s == nil || s.Path == "" && s.URL == "" && len(s.OperationSets) == 0
}
