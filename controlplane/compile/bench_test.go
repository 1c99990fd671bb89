package compile_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tollgate-apim/tollgate/controlplane/compile"
	"github.com/tollgate-apim/tollgate/controlplane/key"
	"github.com/tollgate-apim/tollgate/controlplane/manifest"
)

// manyManifests is n applications, each with a Secret and a subscription of its
// own. Ten of the subscriptions select a tenth of them by label, the others one.
func manyManifests(n int) []byte {
	var b strings.Builder
	b.WriteString(world)
	for i := range n {
		label := "alone"
		if i < 10 {
			label = "group"
		}
		fmt.Fprintf(&b, `---
apiVersion: hub.traefik.io/v1alpha1
kind: ManagedApplication
metadata: {name: app-%[1]d, labels: {group: "%[2]d", alone: "%[1]d"}}
spec:
  appId: app-%[1]d
  owner: me
  apiKeys:
    - {secretName: key-%[1]d, title: key}
---
apiVersion: v1
kind: Secret
metadata: {name: key-%[1]d}
stringData: {key: "%[3]s"}
---
apiVersion: hub.traefik.io/v1alpha1
kind: ManagedSubscription
metadata: {name: sub-%[1]d}
spec:
  apiPlan: {name: p}
  managedApplicationSelector: {matchLabels: {%[4]s: "%[1]d"}}
  managedApplications: [{name: app-%[1]d}]
  apis: [{name: one}]
`, i, i%10, key.Digest(fmt.Sprint(i)), label)
	}
	return []byte(b.String())
}

// BenchmarkLoadAndCompile must grow with the number of manifests and no faster.
func BenchmarkLoadAndCompile(b *testing.B) {
	for _, n := range []int{1_000, 10_000} {
		data := manyManifests(n)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				loaded := manifest.Parse("f.yaml", data)
				if len(loaded.Findings) > 0 || len(loaded.Objects.Applications) < n {
					b.Fatal("the manifests are not good")
				}
				if result := compile.Compile(loaded.Objects); len(result.Findings) > 0 || len(result.Table.Keys) != n {
					b.Fatal("the table is not good")
				}
			}
		})
	}
}
