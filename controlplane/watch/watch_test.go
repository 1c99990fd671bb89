package watch_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/tollgate-apim/tollgate/controlplane/watch"
)

// patience is how long a test waits for what must come; it is no delay.
const patience = 20 * time.Second

func TestWatcher(t *testing.T) {
	mkdir := func(t *testing.T, path string) {
		t.Helper()
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		name    string
		prepare func(t *testing.T, dir string)
		change  func(t *testing.T, dir string) error
	}{
		{"a new file", nil, func(t *testing.T, dir string) error { return os.WriteFile(filepath.Join(dir, "a"), nil, 0o600) }},
		{"an edit", func(t *testing.T, dir string) { write(t, filepath.Join(dir, "a")) },
			func(t *testing.T, dir string) error { return os.WriteFile(filepath.Join(dir, "a"), []byte("y"), 0o600) }},
		{"a removed file", func(t *testing.T, dir string) { write(t, filepath.Join(dir, "a")) },
			func(t *testing.T, dir string) error { return os.Remove(filepath.Join(dir, "a")) }},
		{"a new folder", nil, func(t *testing.T, dir string) error { return os.Mkdir(filepath.Join(dir, "sub"), 0o700) }},
		{"a swapped link, as Kubernetes does", func(t *testing.T, dir string) {
			mkdir(t, filepath.Join(dir, "..1"))
			mkdir(t, filepath.Join(dir, "..2"))
			if err := os.Symlink("..2", filepath.Join(dir, "..data_tmp")); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink("..1", filepath.Join(dir, "..data")); err != nil {
				t.Fatal(err)
			}
		}, func(t *testing.T, dir string) error {
			return os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data"))
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			if test.prepare != nil {
				test.prepare(t, dir)
			}
			w, err := watch.New(isYAML)
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			if err := w.Watch([]string{dir}); err != nil {
				t.Fatal(err)
			}
			if err := test.change(t, dir); err != nil {
				t.Fatal(err)
			}
			expect(t, w)
		})
	}
}

func isYAML(name string) bool { return filepath.Ext(name) == ".yaml" }

// TestChange checks what is told of a change, all of it together.
func TestChange(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(t *testing.T, dir string)
		want   watch.Change // with Path by its base name
	}{
		{"renamed there", func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, ".tmp"))
			rename(t, filepath.Join(dir, ".tmp"), filepath.Join(dir, "a.yaml"))
		}, watch.Change{Path: "a.yaml"}},
		{"written", func(t *testing.T, dir string) { write(t, filepath.Join(dir, "old.yaml")) }, watch.Change{Path: "old.yaml", Written: true}},
		{"made and written", func(t *testing.T, dir string) { write(t, filepath.Join(dir, "a.yaml")) }, watch.Change{Path: "a.yaml", Written: true}},
		{"made", func(t *testing.T, dir string) {
			if err := os.WriteFile(filepath.Join(dir, "a.yaml"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}, watch.Change{Path: "a.yaml"}},
		{"its permissions", func(t *testing.T, dir string) {
			if err := os.Chmod(filepath.Join(dir, "old.yaml"), 0o644); err != nil {
				t.Fatal(err)
			}
		}, watch.Change{Path: "old.yaml", Written: true}},
		{"removed", func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, "old.yaml")); err != nil {
				t.Fatal(err)
			}
		}, watch.Change{Path: "old.yaml", More: true}},
		{"moved", func(t *testing.T, dir string) {
			rename(t, filepath.Join(dir, "old.yaml"), filepath.Join(dir, "new.yaml"))
		}, watch.Change{Path: "old.yaml", More: true}},
		{"two", func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "a.yaml"))
			write(t, filepath.Join(dir, "b.yaml"))
		}, watch.Change{Path: "a.yaml", Written: true, More: true}},
		{"what does not matter", func(t *testing.T, dir string) { write(t, filepath.Join(dir, "a.txt")) }, watch.Change{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, filepath.Join(dir, "old.yaml"))
			w, err := watch.New(isYAML)
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			if err := w.Watch([]string{dir}); err != nil {
				t.Fatal(err)
			}
			test.change(t, dir)
			if test.want.Path != "" {
				test.want.Path = filepath.Join(dir, test.want.Path)
			}
			deadline := time.After(patience)
			for got := (watch.Change{Paths: map[string]bool{}}); ; {
				select {
				case change := <-w.Changes():
					got = got.And(change)
					// Every change has something to do with these.
					for path := range got.Paths {
						if filepath.Dir(path) != dir {
							t.Fatalf("told of %s", path)
						}
					}
					if got.Path == test.want.Path && got.Written == test.want.Written && got.More == test.want.More &&
						(got.Path == "" || got.Paths[got.Path]) {
						return
					}
				case <-deadline:
					t.Fatalf("got %+v, want %+v", got, test.want)
				}
			}
		})
	}
}

func write(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

func expect(t *testing.T, w *watch.Watcher) {
	t.Helper()
	select {
	case <-w.Changes():
	case <-time.After(patience):
		t.Fatal("no change was told")
	}
}

// TestWatchOthers checks that folders can be exchanged.
func TestWatchOthers(t *testing.T) {
	one, two := t.TempDir(), t.TempDir()
	w, err := watch.New(isYAML)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := w.Watch([]string{one}); err != nil {
		t.Fatal(err)
	}
	if err := w.Watch([]string{filepath.Join(one, "gone"), two}); err == nil {
		t.Error("a folder that is not there: got no error")
	}
	if err := os.WriteFile(filepath.Join(two, "a"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	expect(t, w)
}

func TestCloseEnds(t *testing.T) {
	w, err := watch.New(isYAML)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
}
