package gittree_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tollgate-apim/tollgate/controlplane/gittree"
	"github.com/tollgate-apim/tollgate/controlplane/manifest"
)

// TestHeadOf checks which changes of a work tree count.
func TestHeadOf(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(t *testing.T, top string)
		want   string // what is not as it was committed; empty for nothing
	}{
		{"nothing", func(*testing.T, string) {}, ""},
		{"an edit", func(t *testing.T, top string) { write(t, filepath.Join(top, "m/b.yaml"), "changed") }, "m/b.yaml"},
		{"an edit that is staged", func(t *testing.T, top string) {
			write(t, filepath.Join(top, "m/b.yaml"), "changed")
			git(t, top, "add", "-A")
		}, "m/b.yaml"},
		{"the same written again", func(t *testing.T, top string) { write(t, filepath.Join(top, "m/b.yaml"), "two") }, ""},
		{"a removal", func(t *testing.T, top string) { remove(t, filepath.Join(top, "m/deep/c.json")) }, "m/deep/c.json"},
		{"a removal that is staged", func(t *testing.T, top string) { git(t, top, "rm", "-q", "m/b.yaml") }, "m/b.yaml"},
		{"a new manifest", func(t *testing.T, top string) { write(t, filepath.Join(top, "m/new/x y.yaml"), "x") }, "m/new/x y.yaml"},
		{"a renamed manifest", func(t *testing.T, top string) { git(t, top, "mv", "m/b.yaml", "m/z.txt") }, "m/b.yaml"},
		{"a manifest that Git ignores", func(t *testing.T, top string) { write(t, filepath.Join(top, "m/local.yaml"), "x") }, "m/local.yaml"},
		{"a manifest in a folder that Git ignores", func(t *testing.T, top string) { write(t, filepath.Join(top, "m/build/x.yaml"), "x") }, "m/build/"},
		{"something else in that folder", func(t *testing.T, top string) { write(t, filepath.Join(top, "m/build/x.txt"), "x") }, ""},
		{"a repository inside", func(t *testing.T, top string) {
			write(t, filepath.Join(top, "m/other/x.yaml"), "x")
			git(t, filepath.Join(top, "m/other"), "init", "-q")
		}, "m/other/"},
		{"a hidden file", func(t *testing.T, top string) { write(t, filepath.Join(top, "m/.swap.yaml"), "x") }, ""},
		{"a hidden folder", func(t *testing.T, top string) { write(t, filepath.Join(top, "m/.cache/x.yaml"), "x") }, ""},
		{"what is no manifest", func(t *testing.T, top string) { write(t, filepath.Join(top, "m/readme.md"), "x") }, ""},
		{"what is elsewhere", func(t *testing.T, top string) { write(t, filepath.Join(top, "a.yaml"), "x") }, ""},
		{"where a link leads", func(t *testing.T, top string) { write(t, filepath.Join(top, "linked/l.yaml"), "x") }, "linked/l.yaml"},
		{"a link that leads elsewhere", func(t *testing.T, top string) {
			remove(t, filepath.Join(top, "m/link"))
			link(t, "../elsewhere", filepath.Join(top, "m/link"))
		}, "m/link"},
	} {
		t.Run(test.name, func(t *testing.T) {
			top := repository(t, map[string]string{
				"a.yaml": "one", "m/b.yaml": "two", "m/deep/c.json": "{}", "m/readme.md": "three", "linked/l.yaml": "four", "elsewhere/e.yaml": "five",
				".gitignore": "local.yaml\nbuild/\n",
			})
			link(t, "../linked", filepath.Join(top, "m/link"))
			commitAll(t, top)
			clean, err := head(t, top, "m")
			if err != nil {
				t.Fatal(err)
			}
			test.change(t, top)
			got, err := head(t, top, "m")
			if test.want == "" {
				if err != nil || got != clean || len(got.Commit) < 40 {
					t.Errorf("got %+v, %v, want %+v", got, err, clean)
				}
				return
			}
			if want := filepath.Join(top, test.want) + " is not as it was committed"; err == nil || err.Error() != want || !errors.Is(err, gittree.ErrNotCommitted) {
				t.Errorf("got %v, want %s", err, want)
			}
			if got.Dir != filepath.Join(top, ".git") {
				t.Errorf("the folder is %q all the same", got.Dir)
			}
			if test.name != "a repository inside" {
				commitAll(t, top, "--force")
				if committed, err := head(t, top, "m"); err != nil || committed.Commit == clean.Commit {
					t.Errorf("committed, got %+v, %v", committed, err)
				}
			}
		})
	}
}

// TestHeadOfNothing has manifests that are not all of one commit.
func TestHeadOfNothing(t *testing.T) {
	top := repository(t, map[string]string{"a.yaml": "one"})
	other := repository(t, map[string]string{"b.yaml": "two"})
	outside := t.TempDir()
	write(t, filepath.Join(outside, "c.yaml"), "three")
	empty := t.TempDir()
	git(t, empty, "init", "-q")
	link(t, outside, filepath.Join(top, "out"))
	commitAll(t, top)
	for _, test := range []struct {
		name  string
		paths []string
		want  string
	}{
		{"outside of any", []string{outside}, "not a git repository"},
		{"of two", []string{top, other}, "is outside of the work tree"},
		{"a link that leads out", []string{top}, "is outside of the work tree"},
		{"no commit", []string{empty}, "has no commit"},
		{"not there", []string{filepath.Join(top, "gone")}, "no such file"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := head(t, "", test.paths...); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
	if _, err := head(t, top, "a.yaml"); err != nil {
		t.Errorf("one file: %v", err)
	}
	// As git-sync checks out: a work tree beside the repository, and a link to it.
	git(t, top, "worktree", "add", "-q", filepath.Join(empty, "one"))
	link(t, filepath.Join(empty, "one"), filepath.Join(outside, "current"))
	got, err := head(t, outside, "current/a.yaml")
	if err != nil || got.Dir != filepath.Join(top, ".git/worktrees/one") {
		t.Errorf("another work tree: got %+v, %v", got, err)
	}
}

func TestTimes(t *testing.T) {
	top := repository(t, map[string]string{"a.yaml": "one"})
	for _, date := range []string{"1700000000 +0000", "1600000000 +0100", "1800000000 -0100"} {
		t.Setenv("GIT_COMMITTER_DATE", date)
		commitAll(t, top, "--allow-empty")
	}
	h, err := head(t, top, ".")
	if err != nil {
		t.Fatal(err)
	}
	got, err := gittree.Times(t.Context(), h, 3)
	if want := []int64{1800000000, 1600000000, 1700000000}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
}

// head returns the head of paths below top, as manifest.List sees them.
func head(t *testing.T, top string, paths ...string) (gittree.Head, error) {
	t.Helper()
	for i, p := range paths {
		paths[i] = filepath.Join(top, p)
	}
	tree, err := manifest.List(paths)
	if err != nil {
		tree.Links = nil // as HeadOf says too
	}
	return gittree.HeadOf(t.Context(), paths, tree.Links)
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

func link(t *testing.T, target, path string) {
	t.Helper()
	if err := os.Symlink(target, path); err != nil {
		t.Fatal(err)
	}
}

func commitAll(t *testing.T, top string, options ...string) {
	t.Helper()
	add := []string{"add", "-A"}
	if slices.Contains(options, "--force") {
		add, options = append(add, "-f"), nil
	}
	git(t, top, add...)
	git(t, top, append([]string{"-c", "user.name=x", "-c", "user.email=x@example.com", "commit", "-q", "-m", "x"}, options...)...)
}
