package manifest

import "github.com/tollgate-apim/tollgate/controlplane/finding"

// secrets keeps what there is to find about Secrets until it is known which of
// them applications name. The others are none of our business: tools that encrypt
// or fill them in put into them what Kubernetes never sees.
type secrets struct {
	named    map[finding.Object]bool
	findings map[finding.Object][]finding.Finding
}

// name notes the Secrets that an application names, be it left out itself.
func (s *secrets) name(a *ManagedApplication) {
	for _, k := range a.Spec.APIKeys {
		if k.SecretName != "" {
			s.named[finding.Object{Kind: "Secret", Namespace: a.Namespace, Name: k.SecretName}] = true
		}
	}
}

// tell adds the findings about Secrets that are named, and makes as if there were
// none of the others that are left out.
func (s *secrets) tell(out *Loaded) {
	for ref, findings := range s.findings {
		if s.named[ref] {
			out.Findings = append(out.Findings, findings...)
		} else {
			delete(out.Objects.LeftOut, ref)
		}
	}
}
