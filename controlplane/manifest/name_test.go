package manifest_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tollgate-apim/tollgate/controlplane/finding"
	"github.com/tollgate-apim/tollgate/controlplane/manifest"
)

// TestNames writes names in forms that are no plain strings in metadata itself.
// An object's reference must have them: the table is keyed by it.
func TestNames(t *testing.T) {
	const head = "apiVersion: hub.traefik.io/v1alpha1, kind: ManagedApplication, spec: {appId: a, owner: o}"
	var items []string
	for _, metadata := range []string{
		"{name: 2024-01-01}", "{namespace: apps, name: 2024-01-02}", "{namespace: 2024-01-01, name: a}",
		"{<<: {name: one, namespace: apps}}", "{<<: [{name: two}]}", "{<<: {name: x}, name: three}",
	} {
		items = append(items, "{"+head+", metadata: "+metadata+"}")
	}
	want := []string{
		"ManagedApplication 2024-01-01/a", "ManagedApplication apps/2024-01-02", "ManagedApplication apps/one",
		"ManagedApplication default/2024-01-01", "ManagedApplication default/three", "ManagedApplication default/two",
	}
	for form, text := range map[string]string{
		"documents": strings.Join(items, "\n---\n"),
		"a List":    "{apiVersion: v1, kind: List, items: [" + strings.Join(items, ", ") + "]}",
	} {
		loaded := manifest.Parse("f.yaml", []byte(text))
		var got []string
		for _, a := range loaded.Objects.Applications {
			got = append(got, a.Ref().String())
		}
		if diff := cmp.Diff(want, got); diff != "" || len(loaded.Findings) > 0 {
			t.Errorf("%s: (-want +got):\n%s%v", form, diff, loaded.Findings)
		}
	}
}

// TestNamelessAreRefused checks that no object without a name passes.
func TestNamelessAreRefused(t *testing.T) {
	for _, metadata := range []string{"{}", "{name: }", "{name: ''}", "{name: 1}", "{<<: {name: ''}}", "{<<: {nam: a}}", "x"} {
		loaded := manifest.Parse("f.yaml", []byte("apiVersion: hub.traefik.io/v1alpha1\nkind: API\nmetadata: "+metadata))
		if errors, _ := finding.Count(loaded.Findings); errors == 0 || len(loaded.Objects.APIs) > 0 {
			t.Errorf("%s: got %v and %v, want an error and no object", metadata, names(loaded.Objects), loaded.Findings)
		}
	}
}
