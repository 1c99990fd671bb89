package manifest_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tollgate-apim/tollgate/controlplane/manifest"
)

// TestKustomize reads the layouts that Kustomize composes manifests from, without
// composing them.
func TestKustomize(t *testing.T) {
	const plan = "apiVersion: hub.traefik.io/v1alpha1\nkind: APIPlan\nmetadata: {name: free}\nspec: {title: Free}\n"
	const patch = "apiVersion: hub.traefik.io/v1alpha1\nkind: APIPlan\nmetadata: {name: free}\nspec: {quota: {limit: 5, period: 1h}}\n"
	const overlay = "if one is an overlay of the other, read what \"kustomize build\" makes of it instead of both"
	const rename = "rename one of them, or take it out"
	for _, test := range []struct {
		name  string
		files []string // name, text, name, text …
		want  []string // file: problem; fix
		kept  int
	}{
		{"a base", []string{"base/kustomization.yaml", "resources: [plan.yaml]\nmetadata: {name: x}\n", "base/plan.yaml", plan}, nil, 1},
		{"what is no YAML for us", []string{"base/kustomization.yml", "\tresources", "base/plan.yaml", plan}, nil, 1},
		{"a patch", []string{"base/kustomization.yml", "", "base/plan.yaml", plan, "base/patch.yaml", "- op: remove\n"}, nil, 1},
		{"a patch elsewhere", []string{"base/kustomization.yml", "", "base/plan.yaml", plan, "patch.yaml", "- op: remove\n"},
			[]string{"patch.yaml: the document is no Kubernetes object, so it is passed over; "}, 1},
		{"an overlay that adds", []string{
			"base/kustomization.yaml", "", "base/plan.yaml", plan,
			"overlays/prod/kustomization.yaml", "resources: [../../base, gold.yaml]\n", "overlays/prod/gold.yaml", strings.ReplaceAll(plan, "free", "gold"),
		}, nil, 2},
		{"an overlay that patches", []string{
			"base/plan.yaml", plan,
			"overlays/prod/kustomization.yaml", "patches: [{path: plan.yaml}]\n", "overlays/prod/plan.yaml", patch,
		}, []string{
			"overlays/prod/plan.yaml: is the name of another APIPlan of this namespace, at base/plan.yaml:1, which is kept; " + overlay,
			"overlays/prod/plan.yaml: is missing; ",
		}, 1},
		{"two overlays", []string{
			"overlays/dev/kustomization.yaml", "", "overlays/dev/plan.yaml", plan,
			"overlays/prod/kustomization.yaml", "", "overlays/prod/plan.yaml", plan,
		}, []string{"overlays/prod/plan.yaml: is the name of another APIPlan of this namespace, at overlays/dev/plan.yaml:1, which is kept; " + overlay}, 1},
		{"no kustomization", []string{"a.yaml", plan, "b.yaml", plan},
			[]string{"b.yaml: is the name of another APIPlan of this namespace, at a.yaml:1, which is kept; " + rename}, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			var texts []manifest.Text
			for i := 0; i < len(test.files); i += 2 {
				texts = append(texts, manifest.Text{Name: test.files[i], Data: []byte(test.files[i+1])})
			}
			loaded := manifest.ParseAll(t.Context(), texts)
			var got []string
			for _, f := range loaded.Findings {
				got = append(got, f.File+": "+f.Problem+"; "+f.Fix)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
			if got := len(loaded.Objects.Plans); got != test.kept {
				t.Errorf("kept %d plans, want %d", got, test.kept)
			}
		})
	}
}
