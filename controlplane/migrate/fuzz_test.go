package migrate_test

import (
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/tollgate-apim/tollgate/controlplane/compile"
	"github.com/tollgate-apim/tollgate/controlplane/finding"
	"github.com/tollgate-apim/tollgate/controlplane/manifest"
	"github.com/tollgate-apim/tollgate/controlplane/migrate"
)

// FuzzMigrate checks that what is written loads without an error, and grants
// nothing new but what was everyone's.
func FuzzMigrate(f *testing.F) {
	for n := range uint64(3) {
		text, _ := generated(rand.New(rand.NewPCG(1, n)))
		f.Add([]byte(text))
	}
	data, err := os.ReadFile("testdata/every-form.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		loaded := manifest.Parse("f.yaml", data)
		if len(migrate.Refusals(loaded)) > 0 {
			return
		}
		everyone := map[string]bool{} // namespaces in which something was everyone's
		for _, a := range loaded.Objects.Accesses {
			everyone[a.Namespace] = everyone[a.Namespace] || a.Spec.Everyone
		}
		after := *loaded.Objects
		for _, file := range migrate.Migrate(loaded.Objects).Files {
			written := manifest.Parse(file.Path, []byte(file.Text))
			for _, f := range written.Findings {
				if f.Severity == finding.Error {
					t.Fatalf("%v\n%s", f, file.Text)
				}
			}
			after.Plans = append(slices.Clone(after.Plans), written.Objects.Plans...)
			after.Subscriptions = slices.DeleteFunc(slices.Clone(after.Subscriptions), func(old *manifest.ManagedSubscription) bool {
				return slices.ContainsFunc(written.Objects.Subscriptions, func(s *manifest.ManagedSubscription) bool { return s.Ref() == old.Ref() })
			})
			after.Subscriptions = append(after.Subscriptions, written.Objects.Subscriptions...)
		}
		was := compile.Compile(loaded.Objects).Table
		for name, app := range compile.Compile(&after).Table.Applications {
			namespace, _, _ := strings.Cut(name, "/")
			for api := range app.Grants {
				if was.Applications[name].Grants[api] == "" && !everyone[namespace] {
					t.Fatalf("%s may call %s, and did not before", name, api)
				}
			}
		}
	})
}
