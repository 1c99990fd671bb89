package manifest_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tollgate-apim/tollgate/controlplane/finding"
	"github.com/tollgate-apim/tollgate/controlplane/manifest"
)

const planText = "apiVersion: hub.traefik.io/v1alpha1\nkind: APIPlan\nmetadata: {name: %s}\nspec: {title: %s}\n"

// cached is a cache of files as the test says that they are.
type cached struct {
	*manifest.Cache
	t     *testing.T
	files []manifest.File
}

// write writes a file of documents, and makes it one that was written at a time.
func (c *cached) write(name string, modified time.Time, documents ...string) {
	c.t.Helper()
	var text strings.Builder
	for _, d := range documents {
		text.WriteString("---\n" + d)
	}
	if err := os.WriteFile(name, []byte(text.String()), 0o600); err != nil {
		c.t.Fatal(err)
	}
	c.files = slices.DeleteFunc(c.files, func(f manifest.File) bool { return f.Path == name })
	c.files = append(c.files, manifest.File{Path: name, Modified: modified})
	slices.SortFunc(c.files, func(a, b manifest.File) int { return strings.Compare(a.Path, b.Path) })
}

// expect reads the files and compares what that does to objects.
func (c *cached) expect(want ...string) {
	c.t.Helper()
	c.Read(c.t.Context(), c.files)
	got := []string{}
	for _, e := range c.Edits() {
		what := "edits"
		switch {
		case e.Before == nil && e.After == nil:
			what = "does nothing to"
		case e.Before == nil:
			what = "adds"
		case e.After == nil:
			what = "takes out"
		}
		got = append(got, what+" "+e.Ref.String())
	}
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		c.t.Errorf("(-want +got):\n%s", diff)
	}
}

func newCached(t *testing.T) *cached {
	t.Chdir(t.TempDir())
	return &cached{Cache: manifest.NewCache(), t: t}
}

func plan(name, title string) string { return fmt.Sprintf(planText, name, title) }

// TestCacheReadsWhatChanged checks that an edit is one of the objects that it
// changes, wherever it moves the others, and that they know where they are.
func TestCacheReadsWhatChanged(t *testing.T) {
	c := newCached(t)
	c.write("a.yaml", time.Unix(1, 0), plan("a", "A"), plan("b", "B"), plan("c", "C"))
	c.write("b.yaml", time.Unix(1, 0), plan("d", "D"))
	c.expect("adds APIPlan default/a", "adds APIPlan default/b", "adds APIPlan default/c", "adds APIPlan default/d")
	c.expect([]string{}...)

	// The same file to all appearances is not read.
	if err := os.WriteFile("b.yaml", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c.write("a.yaml", time.Unix(2, 0), plan("a", "A"), "# longer\n"+plan("b", "Bee"), plan("c", "C"), plan("d", "D"))
	c.expect("edits APIPlan default/b", "edits APIPlan default/d")
	// What the second d says of the first shows where that is; it moves on.
	c.write("a.yaml", time.Unix(3, 0), "# and longer\n"+plan("a", "A"), "# longer\n"+plan("b", "Bee"), plan("c", "C"), plan("d", "D"))
	c.expect("edits APIPlan default/a")
	told := c.Told().Findings
	if len(told) != 1 || !strings.Contains(told[0].String(), "at a.yaml:19, which is kept") {
		t.Errorf("told %v, want that there is another on line 19", told)
	}

	c.write("b.yaml", time.Unix(4, 0))
	c.expect([]string{}...)
	c.write("a.yaml", time.Unix(4, 0), plan("c", "C"), plan("a", "A"))
	c.expect("edits APIPlan default/a", "takes out APIPlan default/b", "takes out APIPlan default/d")
}

// TestCacheRepeats has the same document several times in a file.
func TestCacheRepeats(t *testing.T) {
	c := newCached(t)
	c.write("a.yaml", time.Unix(1, 0), plan("a", "A"), plan("a", "A"))
	c.expect("adds APIPlan default/a")
	c.write("a.yaml", time.Unix(2, 0), plan("a", "A"), plan("b", "B"), plan("a", "A"), plan("a", "A"))
	c.expect("adds APIPlan default/b")
	if got := len(c.Told().Findings); got != 2 {
		t.Errorf("told %d findings, want one for each repetition", got)
	}
	c.write("a.yaml", time.Unix(3, 0), plan("b", "B"), plan("a", "A"))
	c.expect([]string{}...)
	if got := c.Told().Findings; len(got) > 0 {
		t.Errorf("told %v", got)
	}
}

// TestCacheReadsAgain has files that may change without looking different.
func TestCacheReadsAgain(t *testing.T) {
	t.Run("written just now", func(t *testing.T) {
		c := newCached(t)
		now := time.Now()
		c.write("a.yaml", now, plan("a", "A"))
		c.expect("adds APIPlan default/a")
		c.write("a.yaml", now, plan("b", "B"))
		c.expect("adds APIPlan default/b", "takes out APIPlan default/a")
	})
	t.Run("not readable", func(t *testing.T) {
		c := newCached(t)
		c.files = []manifest.File{{Path: "a.yaml", Modified: time.Unix(1, 0)}}
		c.expect([]string{}...)
		if got := c.Broken(); len(got) != 1 {
			t.Errorf("broken are %v, want the file", got)
		}
		c.write("a.yaml", time.Unix(1, 0), plan("a", "A"))
		c.expect("adds APIPlan default/a")
	})
}

// TestCacheKeepsOut reads a change that is not put in force, and then another.
func TestCacheKeepsOut(t *testing.T) {
	c := newCached(t)
	c.write("a.yaml", time.Unix(1, 0), plan("a", "A"), plan("b", "B"))
	c.expect("adds APIPlan default/a", "adds APIPlan default/b")
	c.write("a.yaml", time.Unix(2, 0), plan("a", "Another"), "kind: [}\n")
	c.Read(t.Context(), c.files)
	c.write("a.yaml", time.Unix(3, 0), plan("a", "A"), plan("b", "B"), plan("c", "C"))
	// They were decoded anew, and that is all.
	c.expect("adds APIPlan default/c", "edits APIPlan default/a", "edits APIPlan default/b")
}

// TestCacheStirs edits a Secret: the applications that name it are edited too.
func TestCacheStirs(t *testing.T) {
	const (
		app    = "apiVersion: hub.traefik.io/v1alpha1\nkind: ManagedApplication\nmetadata: {name: %s}\nspec: {appId: %[1]s, owner: o, apiKeys: [{secretName: s}]}\n"
		secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {key: %q}\n"
	)
	c := newCached(t)
	c.write("apps.yaml", time.Unix(1, 0), fmt.Sprintf(app, "a"), fmt.Sprintf(app, "b"), fmt.Sprintf(app, "c")+"spoilt: true\n")
	c.write("secret.yaml", time.Unix(1, 0), fmt.Sprintf(secret, "1"))
	c.expect("adds ManagedApplication default/a", "adds ManagedApplication default/b", "adds Secret default/s",
		"does nothing to ManagedApplication default/c")
	c.write("secret.yaml", time.Unix(2, 0), fmt.Sprintf(secret, "2"))
	c.expect("edits ManagedApplication default/a", "edits ManagedApplication default/b", "edits Secret default/s")
	// Spoilt, it stays in force.
	c.write("secret.yaml", time.Unix(3, 0), fmt.Sprintf(secret, "3")+"spoilt: true\n")
	c.expect("edits ManagedApplication default/a", "edits ManagedApplication default/b")
	if got := c.Told().Findings; len(got) != 2 || !strings.HasSuffix(got[1].Problem, "the last good version of the object stays in force") {
		t.Errorf("told %v, want that the Secret stays in force", got)
	}
	// Nobody names it any more, so it is nobody's business.
	c.write("apps.yaml", time.Unix(2, 0))
	c.expect("does nothing to ManagedApplication default/c", "takes out ManagedApplication default/a",
		"takes out ManagedApplication default/b", "takes out Secret default/s")
}

// TestCacheKustomizes has a patch, which is nobody's mistake beside a
// kustomization.
func TestCacheKustomizes(t *testing.T) {
	c := newCached(t)
	if err := os.Mkdir("overlay", 0o700); err != nil {
		t.Fatal(err)
	}
	patch, kustomization := filepath.Join("overlay", "patch.yaml"), filepath.Join("overlay", "kustomization.yaml")
	told := func(want int) {
		t.Helper()
		c.expect([]string{}...)
		if got := c.Told().Findings; len(got) != want || want > 0 && got[0].Rule != finding.UnknownKind {
			t.Errorf("told %v, want %d findings", got, want)
		}
	}
	c.write(patch, time.Unix(1, 0), "spec: {weight: 1}\n")
	told(1)
	c.write(kustomization, time.Unix(1, 0), "resources: []\n")
	told(0)
	c.files = c.files[1:]
	told(1)
}
