//go:build unix

package manifest_test

import (
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tollgate-apim/tollgate/controlplane/manifest"
)

var seed = flag.Uint64("seed", 20261121, "seed of the generated edits")

// TestLister changes folders at random, and checks that a lister that looks only
// where something changed lists what is there.
func TestLister(t *testing.T) {
	random := rand.New(rand.NewPCG(*seed, 0))
	dir := t.TempDir()
	roots := []string{filepath.Join(dir, "one"), filepath.Join(dir, "two"), filepath.Join(dir, "three.yaml")}
	for _, root := range roots[:2] {
		must(t, os.Mkdir(root, 0o700))
	}
	must(t, os.WriteFile(roots[2], nil, 0o600))
	lister := manifest.NewLister(roots)
	if _, err := lister.List(nil); err != nil {
		t.Fatal(err)
	}
	alone, files := 0, 0
	for edit := range 120 {
		before := state(t, dir)
		for range 1 + random.IntN(3) {
			change(t, random, roots)
		}
		paths := told(before, state(t, dir))
		got, err := lister.List(paths)
		if err != nil {
			t.Fatal(err)
		}
		want, err := manifest.List(roots)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" || !got.Equal(want) {
			t.Fatalf("seed %d, edit %d of %v (-all +changed):\n%s", *seed, edit, paths, diff)
		}
		if again, err := lister.Again(); err != nil || !again.Equal(want) {
			t.Fatalf("again: got %v, %v, want %v", again, err, want)
		}
		if !slices.ContainsFunc(got.Folders, func(f string) bool { return filepath.Base(f) == "link" }) && len(got.Links) == 0 {
			alone++
		}
		files += len(got.Files)
	}
	if alone < 30 || files < 300 {
		t.Errorf("looked only where something changed %d times, and listed %d files: too few to see a difference", alone, files)
	}
}

// state returns what a watcher would notice a change of, by path.
func state(t *testing.T, dir string) map[string]manifest.File {
	t.Helper()
	out := map[string]manifest.File{}
	must(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		f := manifest.File{Inode: info.Sys().(*syscall.Stat_t).Ino}
		if e.IsDir() {
			// Its time tells of its entries, even of those that came and went.
			out[filepath.Join(path, "entries")] = manifest.File{Modified: info.ModTime()}
		} else {
			f.Size, f.Modified = info.Size(), info.ModTime()
		}
		out[path] = f
		return nil
	}))
	return out
}

// told returns what a watcher tells of.
func told(before, after map[string]manifest.File) []string {
	paths := []string{}
	for path := range before {
		if before[path] != after[path] {
			paths = append(paths, path)
		}
	}
	for path := range after {
		if _, ok := before[path]; !ok {
			paths = append(paths, path)
		}
	}
	return paths
}

// change changes something below roots.
func change(t *testing.T, random *rand.Rand, roots []string) {
	t.Helper()
	any := func() string {
		path := roots[random.IntN(2)]
		for range random.IntN(3) {
			path = filepath.Join(path, fmt.Sprintf("folder%d", random.IntN(2)))
		}
		return path
	}
	folder := any()
	file := filepath.Join(folder, fmt.Sprintf("%d%s", random.IntN(3), []string{".yaml", ".json", ".txt"}[random.IntN(3)]))
	switch random.IntN(12) {
	case 0:
		must(t, os.WriteFile(roots[2], []byte(fmt.Sprint(random.IntN(1000))), 0o600))
	case 1:
		if !slices.Contains(roots, folder) {
			must(t, os.RemoveAll(folder))
		}
	case 2: // to where another may be
		to := any()
		if slices.Contains(roots, folder) || slices.Contains(roots, to) || os.RemoveAll(to) != nil || os.MkdirAll(filepath.Dir(to), 0o700) != nil {
			return
		}
		_ = os.Rename(folder, to) // fails into itself, and where there is none
	case 3:
		if random.IntN(5) == 0 {
			must(t, os.MkdirAll(folder, 0o700))
			_ = os.Symlink(any(), filepath.Join(folder, "link"))
		}
	case 4:
		for path := range state(t, filepath.Dir(roots[0])) {
			if filepath.Base(path) == "link" {
				must(t, os.Remove(path))
			}
		}
	case 5:
		must(t, os.RemoveAll(file))
	case 6: // a folder with the name of a manifest
		must(t, os.RemoveAll(file))
		must(t, os.MkdirAll(file, 0o700))
		must(t, os.WriteFile(filepath.Join(file, "x.yaml"), nil, 0o600))
	default:
		must(t, os.MkdirAll(folder, 0o700))
		if info, err := os.Stat(file); err == nil && info.IsDir() {
			must(t, os.RemoveAll(file))
		}
		must(t, os.WriteFile(file, []byte(fmt.Sprint(random.IntN(1000))), 0o600))
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestListerRoots takes away what the lister was given.
func TestListerRoots(t *testing.T) {
	dir := t.TempDir()
	one, two, current := filepath.Join(dir, "1"), filepath.Join(dir, "2"), filepath.Join(dir, "current")
	for _, folder := range []string{one, two} {
		must(t, os.Mkdir(folder, 0o700))
		must(t, os.WriteFile(filepath.Join(folder, filepath.Base(folder)+".yaml"), nil, 0o600))
	}
	must(t, os.Symlink(one, current))
	lister := manifest.NewLister([]string{current})
	expect := func(want string) {
		t.Helper()
		tree, err := lister.List([]string{current})
		if err != nil || len(tree.Files) != 1 || tree.Files[0].Path != filepath.Join(current, want) || !slices.Contains(tree.Folders, dir) {
			t.Errorf("got %v, %v, want %s", tree, err, want)
		}
	}
	expect("1.yaml")
	must(t, os.Remove(current))
	must(t, os.Symlink(two, current))
	expect("2.yaml")
	must(t, os.Remove(current))
	if _, err := lister.List([]string{current}); err == nil {
		t.Error("gone: got no error")
	}
	must(t, os.Symlink(one, current))
	expect("1.yaml")
}
