package manifest

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tollgate-apim/tollgate/controlplane/finding"
)

// Restore puts back, as last has them, those objects that an error took out of o
// and whose absence could admit more than last did: a subscription, by way of a
// bundle or not, goes before lighter ones that allow more, and an application,
// by way of a Secret or not, is one whose subscription a shared key needs. It
// returns the findings with a word about it. What last lacks stays left out.
func (o *Objects) Restore(last *Objects, findings []finding.Finding) []finding.Finding {
	restored := map[finding.Object]bool{}
	o.Bundles = restore(o.Bundles, last.Bundles, o.LeftOut, restored)
	o.Applications = restore(o.Applications, last.Applications, o.LeftOut, restored)
	o.Secrets = restore(o.Secrets, last.Secrets, o.LeftOut, restored)
	o.Subscriptions = restore(o.Subscriptions, last.Subscriptions, o.LeftOut, restored)
	for i, f := range findings {
		if f.Severity == finding.Error && restored[f.Object] {
			findings[i].Problem += "; the last good version of the object stays in force"
		}
	}
	return findings
}

// restorable is what all kinds have that can be restored.
type restorable interface {
	metav1.Object
	Ref() finding.Object
}

func restore[T restorable](objects, last []T, leftOut, restored map[finding.Object]bool) []T {
	if len(leftOut) == 0 {
		return objects
	}
	there := make(map[finding.Object]bool, len(objects))
	for _, object := range objects {
		there[object.Ref()] = true
	}
	for _, object := range last {
		if ref := object.Ref(); leftOut[ref] && !there[ref] {
			delete(leftOut, ref)
			restored[ref] = true
			objects = append(objects, object)
		}
	}
	sortByName(objects)
	return objects
}

// Restorable returns no more of o than Restore needs.
func (o *Objects) Restorable() *Objects {
	return &Objects{Bundles: o.Bundles, Applications: o.Applications, Secrets: o.Secrets, Subscriptions: o.Subscriptions}
}
