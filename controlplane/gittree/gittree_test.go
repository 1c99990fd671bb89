package gittree_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tollgate-apim/tollgate/controlplane/gittree"
	"github.com/tollgate-apim/tollgate/controlplane/manifest"
)

// repository makes a repository with one commit and returns its top folder.
func repository(t *testing.T, files map[string]string) string {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("there is no git")
	}
	for _, name := range []string{"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"} {
		t.Setenv(name, "") // so that it is put back
		os.Unsetenv(name)
	}
	t.Setenv("GIT_CONFIG_GLOBAL", os.DevNull)
	t.Setenv("GIT_CONFIG_SYSTEM", os.DevNull)
	top := t.TempDir()
	for name, text := range files {
		write(t, filepath.Join(top, name), text)
	}
	if err := os.Symlink("a.yaml", filepath.Join(top, "link.yaml")); err != nil {
		t.Fatal(err)
	}
	git(t, top, "init", "-q")
	git(t, top, "add", "-A")
	git(t, top, "-c", "user.name=x", "-c", "user.email=x@example.com", "commit", "-q", "-m", "x")
	return top
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func git(t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("git %v: %v: %s", args, err, out)
	}
}

func TestRead(t *testing.T) {
	top := repository(t, map[string]string{
		"a.yaml": "one", "readme.md": "two", "m/b.yml": "three\n", "m/deep/c.json": "", "m/.hidden/d.yaml": "x", "m/.e.yaml": "x",
		"m2/f.yaml": "four", "with space/ü\n.yaml": "five",
	})
	// What follows is not committed.
	write(t, filepath.Join(top, "a.yaml"), "changed")
	write(t, filepath.Join(top, "new.yaml"), "new")
	if err := os.RemoveAll(filepath.Join(top, "m2")); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, dir string
		paths     []string
		want      []string // name=text
	}{
		{"all", "", []string{"."}, []string{"a.yaml=one", "m/b.yml=three\n", "m/deep/c.json=", "m2/f.yaml=four", "with space/ü\n.yaml=five"}},
		{"a folder", "", []string{"m/"}, []string{"m/b.yml=three\n", "m/deep/c.json="}},
		{"files", "", []string{"readme.md", "m/deep/c.json", "a.yaml"}, []string{"a.yaml=one", "m/deep/c.json=", "readme.md=two"}},
		{"from below", "m/deep", []string{".", "../../a.yaml"}, []string{"../../a.yaml=one", "c.json="}},
		{"absolute", "m", []string{filepath.Join(top, "m")}, []string{filepath.Join(top, "m/b.yml") + "=three\n", filepath.Join(top, "m/deep/c.json") + "="}},
		{"each once", "", []string{"m", "."}, []string{"a.yaml=one", "m/b.yml=three\n", "m/deep/c.json=", "m2/f.yaml=four", "with space/ü\n.yaml=five"}},
		{"gone by now", "", []string{"m2"}, []string{"m2/f.yaml=four"}},
		{"not there yet", "", []string{"new.yaml"}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			texts, err := gittree.Read(t.Context(), filepath.Join(top, test.dir), "HEAD", test.paths)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, text := range texts {
				got = append(got, text.Name+"="+string(text.Data))
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestReadLinks checks that symbolic links are followed as manifest.List does it,
// so that nothing differs where nothing was changed.
func TestReadLinks(t *testing.T) {
	top := repository(t, map[string]string{"a.yaml": "one", "base/b.yaml": "two", "base/.c.yaml": "three", "v1/d.yaml": "four", "v2/d.yaml": "five", "text": "six"})
	for link, target := range map[string]string{
		"0.yaml": "a.yaml", "z.yaml": "base/.c.yaml", "readme": "a.yaml", "apps/base": "../base", "current": "v1", "self": ".",
		"gone.yaml": "nowhere.yaml", "text.yaml": "text", "through.yaml": "apps/base/b.yaml", "absolute": filepath.Join(top, "v2"), "over.yaml": "apps/base/../v1/d.yaml",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(top, link)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, filepath.Join(top, link)); err != nil {
			t.Fatal(err)
		}
	}
	git(t, top, "add", "-A")
	git(t, top, "-c", "user.name=x", "-c", "user.email=x@example.com", "commit", "-q", "-m", "x")
	for _, paths := range [][]string{{"."}, {"apps", "current"}, {"self/apps/base"}, {"v1", "."}, {filepath.Join(top, "current")}} {
		given := slices.Clone(paths)
		for i, p := range given {
			if !filepath.IsAbs(p) {
				given[i] = filepath.Join(top, p)
			}
		}
		tree, err := manifest.List(given)
		if err != nil {
			t.Fatal(err)
		}
		texts, err := gittree.Read(t.Context(), top, "HEAD", given)
		if err != nil {
			t.Fatal(err)
		}
		var want, got []string
		for _, f := range tree.Files {
			data, err := os.ReadFile(f.Path)
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, f.Path+"="+string(data))
		}
		for _, text := range texts {
			got = append(got, text.Name+"="+string(text.Data))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%v (-want +got):\n%s", paths, diff)
		}
	}
	// What a link led to then counts, not what it leads to now.
	if err := os.Remove(filepath.Join(top, "current")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("v2", filepath.Join(top, "current")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("loop.yaml", filepath.Join(top, "loop.yaml")); err != nil {
		t.Fatal(err)
	}
	git(t, top, "add", "loop.yaml")
	git(t, top, "-c", "user.name=x", "-c", "user.email=x@example.com", "commit", "-q", "-m", "x")
	texts, err := gittree.Read(t.Context(), top, "HEAD", []string{"current", "loop.yaml"})
	if err != nil || len(texts) != 1 || string(texts[0].Data) != "four" {
		t.Errorf("got %v, %q, want what v1 had", err, texts)
	}
}

func TestReadFails(t *testing.T) {
	top := repository(t, map[string]string{"a.yaml": "x"})
	outside := t.TempDir()
	for _, test := range []struct {
		name, dir, revision, path, want string
	}{
		{"no such revision", top, "gone", ".", `"gone" names no commit`},
		{"an option", top, "--help", ".", `"--help" names no commit`},
		{"nothing", top, "", ".", `"" names no commit`},
		{"not a commit", top, "HEAD:a.yaml", ".", "names no commit"},
		{"outside of the work tree", top, "HEAD", "..", "is outside of the work tree"},
		{"no repository", outside, "HEAD", ".", "git: not a git repository"},
		{"no folder", filepath.Join(top, "gone"), "HEAD", ".", "running git"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := gittree.Read(t.Context(), test.dir, test.revision, []string{test.path})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
}

func TestReadLarge(t *testing.T) {
	top := repository(t, map[string]string{"large.yaml": strings.Repeat("#", manifest.MaxFileBytes+1000), "z.yaml": "# small"})
	texts, err := gittree.Read(t.Context(), top, "HEAD", []string{"."})
	if err != nil {
		t.Fatal(err)
	}
	if len(texts) != 2 || len(texts[0].Data) != manifest.MaxFileBytes+1 || string(texts[1].Data) != "# small" {
		t.Errorf("got %d texts", len(texts))
	}
	if loaded := manifest.ParseAll(t.Context(), texts); len(loaded.Findings) != 1 {
		t.Errorf("got %v, want one finding", loaded.Findings)
	}
}
