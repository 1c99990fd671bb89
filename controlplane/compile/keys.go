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

// row returns what the table says of it, with the name that the application has
// there.
func (h holder) row(name string) table.Holder {
	return table.Holder{Application: name, Title: h.key().Title, Suspended: h.key().Suspended}
}

// digests returns the digests of an application's keys, by their places. It is
// empty where a key is of no use; the key is ignored then, with a finding, and
// the application stays.
func (c *compiler) digests(a *manifest.ManagedApplication, secrets map[string]*manifest.Secret) []string {
	digests := make([]string, len(a.Spec.APIKeys))
	for i, k := range a.Spec.APIKeys {
		if k.SecretName != "" {
			digests[i] = c.secretDigest(a, i, secrets[k.SecretName])
		} else {
			digests[i] = c.digest(a, fmt.Sprintf("spec.apiKeys[%d].value", i), k.Value)
		}
	}
	return digests
}

// digest parses text, which stands at path of an object, or reports it. The
// finding does not repeat the text.
func (c *compiler) digest(on reporter, path, text string) string {
	digest, err := key.ParseDigest(text)
	if err != nil {
		c.plaintext(on, path)
		return ""
	}
	return digest
}

// secretDigest returns the digest in the Secret that an application's key names,
// or reports why there is none. The name is not repeated: a key that was written
// in its place would be told.
func (c *compiler) secretDigest(a *manifest.ManagedApplication, place int, s *manifest.Secret) string {
	at := fmt.Sprintf("spec.apiKeys[%d].secretName", place)
	if s == nil {
		problem, fix := "names a Secret that does not exist in namespace "+a.Namespace, "write the Secret, or take the key out"
		if c.leftOut[finding.Object{Kind: "Secret", Namespace: a.Namespace, Name: a.Spec.APIKeys[place].SecretName}] {
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
		c.table.Keys[digest] = c.rows(holders)
	}
}

// rows returns a row for each application that holds a key, and a second one
// where it holds it both suspended and not. Holders of one application come in
// the order of its keys.
func (r *remarks) rows(holders []holder) []table.Holder {
	slices.SortStableFunc(holders, func(a, b holder) int {
		return cmp.Or(
			cmp.Compare(a.app.Spec.AppID, b.app.Spec.AppID),
			cmp.Compare(a.app.Namespace, b.app.Namespace),
			cmp.Compare(a.app.Name, b.app.Name),
		)
	})
	rows := make([]table.Holder, 0, len(holders))
	for i, h := range holders {
		row := h.row(namespacedName(h.app))
		same := func(r table.Holder) bool { return r.Application == row.Application && r.Suspended == row.Suspended }
		if i > 0 && holders[i-1].app == h.app {
			r.warn(h.app, finding.Duplicate, fmt.Sprintf("spec.apiKeys[%d]", h.place),
				"is the same key as another of this application", "take one of them out")
			// The rows of one application are next to each other.
			if slices.ContainsFunc(rows[max(0, len(rows)-2):], same) {
				continue
			}
		}
		rows = append(rows, row)
	}
	r.shared(holders)
	return rows
}

// shared reports a key of several applications, once, naming some of them. Where
// it is suspended it does not count.
func (r *remarks) shared(holders []holder) {
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
	r.warn(apps[0].app, finding.SharedKey, fmt.Sprintf("spec.apiKeys[%d]", apps[0].place),
		"is also a key of "+strings.Join(others, ", ")+", so that a request needs a subscription of each", "give each application a key of its own")
}
