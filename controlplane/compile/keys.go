package compile

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/tollgate-apim/tollgate/controlplane/finding"
	"github.com/tollgate-apim/tollgate/controlplane/key"
	"github.com/tollgate-apim/tollgate/controlplane/manifest"
	"github.com/tollgate-apim/tollgate/table"
)

// secretField is the entry of a Secret that holds the digest.
const secretField = "key"

// holder is an application that holds a key, as its place among the
// application's keys says.
type holder struct {
	app   *manifest.ManagedApplication
	place int
}

func (h holder) key() manifest.APIKey { return h.app.Spec.APIKeys[h.place] }

// hold notes the digests of an application that counts. A key that is of no use
// is ignored, with a finding; the application stays.
func (c *compiler) hold(ns *namespace, a *manifest.ManagedApplication) {
	for i, k := range a.Spec.APIKeys {
		digest := ""
		if k.SecretName != "" {
			digest = c.secretDigest(ns, a, i)
		} else {
			digest = c.digest(a, fmt.Sprintf("spec.apiKeys[%d].value", i), k.Value)
		}
		if digest != "" {
			c.held[digest] = append(c.held[digest], holder{a, i})
		}
	}
}

// digest parses text, which stands at path of an object, or reports it. The
// finding does not repeat the text.
func (c *compiler) digest(on reporter, path, text string) string {
	digest, err := key.ParseDigest(text)
	if err != nil {
		c.findings = append(c.findings, on.PlaintextKey(path))
		return ""
	}
	return digest
}

// secretDigest returns the digest in the Secret that an application's key names,
// or reports why there is none. The name is not repeated: a key that was written
// in its place would be told.
func (c *compiler) secretDigest(ns *namespace, a *manifest.ManagedApplication, place int) string {
	at := fmt.Sprintf("spec.apiKeys[%d].secretName", place)
	name := a.Spec.APIKeys[place].SecretName
	s := ns.secrets[name]
	if s == nil {
		problem, fix := "names a Secret that does not exist in namespace "+a.Namespace, "write the Secret, or take the key out"
		if c.leftOut[finding.Object{Kind: "Secret", Namespace: a.Namespace, Name: name}] {
			problem, fix = "names a Secret that is left out", "mend what its own finding says"
		}
		c.fail(a, finding.Secret, at, problem+"; the key is ignored", fix)
		return ""
	}
	if s.Type != "" && s.Type != corev1.SecretTypeOpaque {
		c.fail(s, finding.Secret, "type", "is not Opaque, so the key is ignored", "write Opaque")
		return ""
	}
	// As in Kubernetes, stringData goes before data.
	field, text := "data."+secretField, string(s.Data[secretField])
	if entry, ok := s.StringData[secretField]; ok {
		field, text = "stringData."+secretField, entry
	}
	if text == "" {
		c.fail(s, finding.Secret, field, "is missing or empty, so the key is ignored", "write the digest under stringData.key")
		return ""
	}
	return c.digest(s, field, text)
}

// keys makes the table's keys of all that is held.
func (c *compiler) keys() {
	for digest, holders := range c.held {
		slices.SortStableFunc(holders, func(a, b holder) int {
			return cmp.Or(
				cmp.Compare(a.app.Spec.AppID, b.app.Spec.AppID),
				cmp.Compare(a.app.Namespace, b.app.Namespace),
				cmp.Compare(a.app.Name, b.app.Name),
			)
		})
		c.table.Keys[digest] = c.rows(holders)
		c.shared(holders)
	}
}

// rows returns a row for each application, and a second one where it holds the
// key both suspended and not.
func (c *compiler) rows(holders []holder) []table.Holder {
	rows := make([]table.Holder, 0, len(holders))
	for i, h := range holders {
		row := table.Holder{Application: namespacedName(h.app), Title: h.key().Title, Suspended: h.key().Suspended}
		same := func(r table.Holder) bool { return r.Application == row.Application && r.Suspended == row.Suspended }
		if i > 0 && holders[i-1].app == h.app {
			c.warn(h.app, finding.Duplicate, fmt.Sprintf("spec.apiKeys[%d]", h.place),
				"is the same key as another of this application", "take one of them out")
			// The rows of one application are next to each other.
			if slices.ContainsFunc(rows[max(0, len(rows)-2):], same) {
				continue
			}
		}
		rows = append(rows, row)
	}
	return rows
}

// shared reports a key of several applications, once, naming some of them. Where
// it is suspended it does not count.
func (c *compiler) shared(holders []holder) {
	const most = 5
	apps := slices.DeleteFunc(slices.Clone(holders), func(h holder) bool { return h.key().Suspended })
	apps = slices.CompactFunc(apps, func(a, b holder) bool { return a.app == b.app })
	if len(apps) < 2 {
		return
	}
	var others []string
	for _, h := range apps[1:min(len(apps), most+1)] {
		others = append(others, namespacedName(h.app))
	}
	if more := len(apps) - 1 - most; more > 0 {
		others = append(others, fmt.Sprintf("%d more", more))
	}
	c.warn(apps[0].app, finding.SharedKey, fmt.Sprintf("spec.apiKeys[%d]", apps[0].place),
		"is also a key of "+strings.Join(others, ", ")+", so that a request needs a subscription of each", "give each application a key of its own")
}
