package manifest_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tollgate-apim/tollgate/controlplane/manifest"
)

// FuzzParse checks that no text makes the loader fail, and that what it says of
// a text stands inside of it.
func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"testdata/good/*", "testdata/bad/*.yaml"} {
		paths, err := filepath.Glob(pattern)
		if err != nil || len(paths) == 0 {
			f.Fatalf("no seeds: %v", err)
		}
		for _, path := range paths {
			data, err := os.ReadFile(path)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data, strings.HasSuffix(path, ".json"))
		}
	}
	f.Add([]byte("# tollgate:x\n---\na: 'b\n# tollgate:y' # tollgate:z\nc: |\n  # tollgate:u\n"), false)
	f.Add([]byte("apiVersion: hub.traefik.io/v1alpha1\nkind: API\nmetadata: {name: 2024-01-01}\n"), false)
	f.Add([]byte("apiVersion: hub.traefik.io/v1alpha1\nkind: API\nmetadata: {<<: {name: two, namespace: apps}}\n"), false)
	f.Fuzz(func(t *testing.T, data []byte, isJSON bool) {
		name := "f.yaml"
		if isJSON {
			name = "f.json"
		}
		loaded := manifest.Parse(name, data)
		// A parser may notice at the very end, one line after the last.
		lines := strings.Count(string(data), "\n") + strings.Count(string(data), "\r") + strings.Count(string(data), "\u0085") +
			strings.Count(string(data), "\u2028") + strings.Count(string(data), "\u2029") + 2
		for _, found := range loaded.Findings {
			if found.Line < 0 || found.Line > lines || found.Problem == "" || found.File != name {
				t.Errorf("of %d lines: %v", lines, found)
			}
		}
		named := map[string]bool{}
		for _, object := range names(loaded.Objects) {
			if named[object] || strings.HasSuffix(object, "/") {
				t.Errorf("two objects have one name, or one has none: %s", object)
			}
			named[object] = true
		}
		for _, c := range loaded.Comments {
			if c.Line < 1 || c.Column < 1 || c.From < 1 || c.To > lines || c.From > c.To+1 {
				t.Errorf("of %d lines: %+v", lines, c)
			}
		}
	})
}
