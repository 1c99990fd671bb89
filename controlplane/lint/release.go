package lint

import (
	"fmt"
	"strings"

	"github.com/tollgate-apim/tollgate/controlplane/finding"
	"github.com/tollgate-apim/tollgate/controlplane/manifest"
)

// release finds versions of one API that are the same release. That a release is
// a semantic version is checked when it is loaded.
func release(w *world) []finding.Finding {
	versions := make(map[finding.Object]*manifest.APIVersion, len(w.Versions))
	for _, v := range w.Versions {
		versions[v.Ref()] = v
	}
	var found []finding.Finding
	for _, a := range w.APIs {
		first := map[string]*manifest.APIVersion{}
		for i, ref := range a.Spec.Versions {
			v := versions[finding.Object{Kind: "APIVersion", Namespace: a.Namespace, Name: ref.Name}]
			if v == nil {
				continue
			}
			number := strings.TrimPrefix(v.Spec.Release, "v")
			other := first[number]
			if other == nil {
				first[number] = v
			} else if other != v {
				found = append(found, a.Finding(finding.Release, finding.Warning, fmt.Sprintf("spec.versions[%d].name", i),
					fmt.Sprintf("names %s, which is release %s as %s is", v.Ref(), v.Spec.Release, other.Ref()), "", "give each version of an API a release of its own"))
			}
		}
	}
	return found
}
