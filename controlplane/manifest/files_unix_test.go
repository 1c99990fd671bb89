//go:build unix

package manifest_test

import (
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
)

// TestSpecialFiles puts beside a manifest what can be opened and never read, and
// what cannot be opened.
func TestSpecialFiles(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	if err := syscall.Mkfifo(path("pipe.yaml"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path("good.yaml"), []byte("apiVersion: hub.traefik.io/v1alpha1\nkind: API\nmetadata: {name: a}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{
		"linked.yaml": "pipe.yaml", "device.yaml": "/dev/zero", "loop.yaml": "loop.yaml", "there.yml": "back.yml", "back.yml": "there.yml",
	} {
		if err := os.Symlink(target, path(name)); err != nil {
			t.Fatal(err)
		}
	}
	loaded := load(t, dir)
	if got := names(loaded.Objects); !slices.Equal(got, []string{"API default/a"}) {
		t.Errorf("got %v, want the API", got)
	}
	var got []string
	for _, f := range loaded.Findings {
		got = append(got, filepath.Base(f.File)+" "+f.Problem)
	}
	const problem = " cannot be read: too many levels of symbolic links"
	if want := []string{"back.yml" + problem, "loop.yaml" + problem, "there.yml" + problem}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if len(loaded.Broken) != 3 {
		t.Errorf("broken: %v, want the three links", loaded.Broken)
	}
	// A pipe that is asked for is read, and does not block without a writer.
	if loaded := load(t, path("pipe.yaml")); len(loaded.Findings) > 0 {
		t.Errorf("a pipe: got %v", loaded.Findings)
	}
}
