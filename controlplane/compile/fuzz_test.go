package compile_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tollgate-apim/tollgate/controlplane/compile"
	"github.com/tollgate-apim/tollgate/controlplane/manifest"
)

// FuzzCompile checks that whatever loads compiles to a valid table, in which
// each row points at something, and that it does so again.
func FuzzCompile(f *testing.F) {
	for _, pattern := range []string{"testdata/*.yaml", "../manifest/testdata/good/*.yaml", "../manifest/testdata/bad/*.yaml"} {
		paths, err := filepath.Glob(pattern)
		if err != nil || len(paths) == 0 {
			f.Fatalf("no seeds: %v", err)
		}
		for _, path := range paths {
			data, err := os.ReadFile(path)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		result := compile.Compile(manifest.Parse("f.yaml", data).Objects)
		tbl := result.Table
		checkValid(t, tbl)
		for name, app := range tbl.Applications {
			for api, sub := range app.Grants {
				if _, ok := tbl.APIs[api]; !ok {
					t.Errorf("%s is granted %s, which does not exist", name, api)
				}
				if _, ok := tbl.Plans[tbl.Subscriptions[sub].Plan]; !ok {
					t.Errorf("%s has %s, whose plan does not exist", name, sub)
				}
			}
		}
		for _, holders := range tbl.Keys {
			for _, h := range holders {
				if _, ok := tbl.Applications[h.Application]; !ok {
					t.Errorf("%s holds a key and does not exist", h.Application)
				}
			}
		}
		again := compile.Compile(manifest.Parse("f.yaml", data).Objects)
		if diff := cmp.Diff(tbl, again.Table); diff != "" {
			t.Errorf("compiled again (-first +second):\n%s", diff)
		}
		if diff := cmp.Diff(result.Findings, again.Findings); diff != "" {
			t.Errorf("compiled again (-first +second):\n%s", diff)
		}
	})
}

// FuzzIncremental checks that an edit, whatever it is, and its being taken back
// are compiled as everything is.
func FuzzIncremental(f *testing.F) {
	paths, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(paths) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	var last []byte
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(last, data)
		last = data
	}
	f.Fuzz(func(t *testing.T, before, after []byte) {
		e := newEditor(t, nil)
		for _, data := range [][]byte{before, after, before} {
			e.texts["f.yaml"] = []string{string(data)}
			e.write("f.yaml")
			if problem := e.compare(); problem != "" {
				t.Fatal(problem)
			}
		}
	})
}
