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
	write := func(t *testing.T, path string) {
		t.Helper()
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
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
			w, err := watch.New()
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
	w, err := watch.New()
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
	w, err := watch.New()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
}
