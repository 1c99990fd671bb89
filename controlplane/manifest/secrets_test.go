package manifest_test

import (
	"testing"

	"github.com/tollgate-apim/tollgate/controlplane/finding"
	"github.com/tollgate-apim/tollgate/controlplane/manifest"
)

// TestSecretsOfOthers checks that Secrets which no application names are nobody's
// errors.
func TestSecretsOfOthers(t *testing.T) {
	const (
		sops        = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {password: 'ENC[AES256_GCM,data:x==,iv:y,type:str]'}\nsops: {mac: 'ENC[x]', version: 3.9.0}\n"
		vault       = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {key: '<path:kv/data/apps#key>'}\n"
		twice       = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: s}\n"
		application = "---\napiVersion: hub.traefik.io/v1alpha1\nkind: ManagedApplication\nmetadata: {name: a}\nspec: {appId: a, owner: o, apiKeys: [{secretName: s}]}\n"
		leftOut     = "---\napiVersion: hub.traefik.io/v1alpha1\nkind: ManagedApplication\nmetadata: {name: a}\nspec: {appId: a, apiKeys: [{secretName: s}]}\n"
		elsewhere   = "---\napiVersion: hub.traefik.io/v1alpha1\nkind: ManagedApplication\nmetadata: {name: a, namespace: other}\nspec: {appId: a, owner: o, apiKeys: [{secretName: s}]}\n"
	)
	for name, text := range map[string]string{"sops": sops, "vault": vault, "twice": twice} {
		for _, test := range []struct {
			name, application string
			told              bool
		}{
			{"named by none", "", false},
			{"named in another namespace", elsewhere, false},
			{"named", application, true},
			{"named by what is left out", leftOut, true},
		} {
			loaded := manifest.Parse("f.yaml", []byte(text+test.application))
			told := false
			for _, f := range loaded.Findings {
				told = told || f.Object.Kind == "Secret"
			}
			ref := finding.Object{Kind: "Secret", Namespace: "default", Name: "s"}
			if told != test.told || loaded.Objects.LeftOut[ref] && !test.told {
				t.Errorf("%s, %s: got %v, left out %v", name, test.name, loaded.Findings, loaded.Objects.LeftOut)
			}
		}
	}
}
