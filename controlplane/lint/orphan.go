package lint

import (
	"github.com/tollgate-apim/tollgate/controlplane/finding"
	"github.com/tollgate-apim/tollgate/controlplane/key"
	"github.com/tollgate-apim/tollgate/controlplane/manifest"
)

// secretField is the entry of a Secret that holds the digest.
const secretField = "key"

// orphan finds plans, bundles, versions and Secrets that nothing refers to.
// Where something cannot be read or is left out, that may be what does.
func orphan(w *world) []finding.Finding {
	if w.broken {
		return nil
	}
	o := orphans{world: w, named: map[finding.Object]bool{}}
	o.note()
	var found []finding.Finding
	for _, p := range w.Plans {
		found = o.append(found, p, "no ManagedSubscription names it", "ManagedSubscription", "APICatalogItem", "APIAccess")
	}
	for _, b := range w.Bundles {
		found = o.append(found, b, "no ManagedSubscription names it", "ManagedSubscription", "APICatalogItem", "APIAccess")
	}
	for _, v := range w.Versions {
		found = o.append(found, v, "no API names it", "API")
	}
	for _, s := range w.Secrets {
		// Others than those with a digest are none of our business.
		text := string(s.Data[secretField])
		if entry, ok := s.StringData[secretField]; ok {
			text = entry
		}
		if _, err := key.ParseDigest(text); err == nil {
			found = o.append(found, s, "it has a digest, and no ManagedApplication names it", "ManagedApplication")
		}
	}
	return found
}

type orphans struct {
	*world
	named map[finding.Object]bool
}

// note notes all that is named somewhere.
func (o *orphans) note() {
	name := func(kind, namespace, name string) {
		o.named[finding.Object{Kind: kind, Namespace: namespace, Name: name}] = true
	}
	names := func(kind, namespace string, refs []manifest.NameRef) {
		for _, ref := range refs {
			name(kind, namespace, ref.Name)
		}
	}
	for _, s := range o.Objects.Subscriptions {
		name("APIPlan", s.Namespace, s.Spec.APIPlan.Name)
		names("APIBundle", s.Namespace, s.Spec.APIBundles)
	}
	for _, i := range o.CatalogItems {
		if i.Spec.APIPlan != nil {
			name("APIPlan", i.Namespace, i.Spec.APIPlan.Name)
		}
		names("APIBundle", i.Namespace, i.Spec.APIBundles)
	}
	for _, a := range o.Accesses {
		if a.Spec.APIPlan != nil {
			name("APIPlan", a.Namespace, a.Spec.APIPlan.Name)
		}
		names("APIBundle", a.Namespace, a.Spec.APIBundles)
	}
	for _, a := range o.APIs {
		names("APIVersion", a.Namespace, a.Spec.Versions)
	}
	for _, a := range o.Applications {
		for _, k := range a.Spec.APIKeys {
			name("Secret", a.Namespace, k.SecretName)
		}
	}
}

type object interface {
	Ref() finding.Object
	Finding(rule finding.Rule, severity finding.Severity, path, problem, allowed, fix string) finding.Finding
}

// append appends a finding about an object unless something names it, or one of
// the kinds that could do so is not wholly known.
func (o *orphans) append(found []finding.Finding, on object, why string, kinds ...string) []finding.Finding {
	ref := on.Ref()
	if o.named[ref] {
		return found
	}
	for _, kind := range kinds {
		if o.lacking[finding.Object{Kind: kind, Namespace: ref.Namespace}] {
			return found
		}
	}
	return append(found, on.Finding(finding.Orphan, finding.Warning, "", "is of no use: "+why, "", "name it where it belongs, or take it out"))
}
