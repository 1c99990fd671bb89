package server_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tollgate-apim/tollgate/controlplane/manifest"
	"github.com/tollgate-apim/tollgate/controlplane/revision"
	"github.com/tollgate-apim/tollgate/table"
)

var seed = flag.Uint64("seed", 20261121, "seed of the generated edits")

// replica is a control plane beside others.
type replica struct {
	*followed
	numbering string // as the flag has it; DIR stands for its folder
}

func newReplica(t *testing.T, dir, numbering string) *replica {
	t.Helper()
	r := &replica{followed: &followed{t: t, dir: dir}, numbering: numbering}
	r.restart()
	return r
}

func (r *replica) restart() {
	r.t.Helper()
	if r.stop != nil {
		r.stop()
	}
	source, err := revision.Parse(strings.ReplaceAll(r.numbering, "DIR", r.dir), []string{r.dir})
	if err != nil {
		r.t.Fatal(err)
	}
	r.start(source)
}

func (r *replica) body() string {
	r.t.Helper()
	return body(r.t, get(r.server, "GET", table.Path))
}

// agree checks that all replicas serve the same bytes, and that these are new.
func agree(t *testing.T, before string, replicas ...*replica) string {
	t.Helper()
	for i, r := range replicas {
		r.tell(2 * time.Second)
		if got, want := r.body(), replicas[0].body(); got != want {
			t.Fatalf("replica %d serves\n%s\nwant\n%s", i, got, want)
		}
	}
	after := replicas[0].body()
	if after == before {
		t.Fatalf("still serve %s", after)
	}
	return after
}

func git(t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("git %v: %v: %s", args, err, out)
	}
}

// origin makes a repository that replicas pull from.
func origin(t *testing.T) *followed {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("there is no git")
	}
	for _, name := range []string{"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"} {
		t.Setenv(name, "") // so that it is put back
		os.Unsetenv(name)
	}
	for _, name := range []string{"GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"} {
		t.Setenv(name, os.DevNull)
	}
	for _, name := range []string{"GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"} {
		t.Setenv(name, "x@example.com")
	}
	o := &followed{t: t, dir: filepath.Join(t.TempDir(), "origin")}
	o.write("m/a.yaml", planNamed("a"))
	git(t, o.dir, "init", "-q", "-b", "main")
	o.commit("2026-11-21T17:00:00Z")
	return o
}

// commit commits everything at a time.
func (f *followed) commit(at string) {
	f.t.Helper()
	f.t.Setenv("GIT_COMMITTER_DATE", at)
	git(f.t, f.dir, "add", "-A")
	git(f.t, f.dir, "commit", "-q", "--allow-empty", "-m", "x")
}

// clone makes a clone of the repository and returns the folder of its manifests.
func (f *followed) clone(options ...string) string {
	f.t.Helper()
	dir := filepath.Join(f.t.TempDir(), "clone")
	git(f.t, ".", append(append([]string{"clone", "-q"}, options...), "file://"+f.dir, dir)...)
	return filepath.Join(dir, "m")
}

// TestReplicasOfCommits has replicas that pull at times of their own.
func TestReplicasOfCommits(t *testing.T) {
	for _, numbering := range []string{"git", "auto"} {
		t.Run(numbering, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := origin(t)
				one, two, shallow := newReplica(t, o.clone(), numbering), newReplica(t, o.clone(), numbering), newReplica(t, o.clone("--depth=1"), numbering)
				served := agree(t, "", one, two, shallow)
				if want := `{"revision":1795280400000,"issuedAt":"2026-11-21T17:00:00Z"`; !strings.HasPrefix(served, want) {
					t.Fatalf("serve %s, want %s: the time of the commit", served, want)
				}

				// Two commits in a second, which not all of them see.
				o.write("m/a.yaml", planNamed("b"))
				o.commit("2026-11-21T17:00:00Z")
				git(t, one.dir, "pull", "-q")
				served = agree(t, served, one)
				if two.body() == served {
					t.Error("who has not pulled serves the new table")
				}
				o.write("m/a.yaml", planNamed("c"))
				o.commit("2026-11-21T17:00:00Z")
				git(t, one.dir, "pull", "-q")
				git(t, two.dir, "pull", "-q")
				served = agree(t, served, one, two)
				if want := `{"revision":1795280400002,`; !strings.HasPrefix(served, want) {
					t.Errorf("serve %s, want %s: the third in its second", served, want)
				}
				two.restart()
				agree(t, "", one, two)

				// What changes no manifest is a revision too: who starts after it
				// knows no other.
				o.write("readme.md", "x")
				o.commit("2026-11-21T17:01:00Z")
				for _, r := range []*replica{one, two, shallow} {
					git(t, r.dir, "pull", "-q")
				}
				served = agree(t, served, one, two, shallow)
				one.restart()
				agree(t, "", one, two)

				// Going back is going on, for those who see it.
				for _, r := range []*replica{one, two} {
					git(t, r.dir, "checkout", "-q", "HEAD~3")
				}
				served = agree(t, served, one, two)
				if want := `{"revision":1795280460001,`; !strings.HasPrefix(served, want) {
					t.Errorf("serve %s, want %s: one more than the last", served, want)
				}
				if !strings.Contains(one.log.String(), `level=WARN msg="the revision was counted up`) {
					t.Errorf("logged %s, want that the revision was counted up", one.log)
				}
				o.commit("2026-11-21T17:02:00Z")
				for _, r := range []*replica{one, two} {
					git(t, r.dir, "checkout", "-q", "main")
					git(t, r.dir, "pull", "-q")
				}
				agree(t, served, one, two)
			})
		})
	}
}

// TestReplicaOfNoCommit edits a work tree by hand.
func TestReplicaOfNoCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := origin(t)
		strict, auto := newReplica(t, o.clone(), "git"), newReplica(t, o.clone(), "auto")
		served := agree(t, "", strict, auto)
		strict.write("a.yaml", planNamed("b"))
		strict.tell(10 * time.Second)
		if got := strict.body(); got != served {
			t.Errorf("serves %s, which is not committed", got)
		}
		if want := filepath.Join(strict.dir, "a.yaml") + " is not as it was committed"; !strings.Contains(strict.log.String(), want) {
			t.Errorf("logged %s, want %s", strict.log, want)
		}
		if got := body(t, get(strict.server, "GET", "/healthz")); !strings.Contains(got, `"keptOut":true`) {
			t.Errorf("health is %s, want keptOut", got)
		}
		auto.write("a.yaml", planNamed("b"))
		auto.tell(10 * time.Second)
		auto.expect("b")
		if !strings.Contains(auto.log.String(), `msg="revisions come from the clock" because=`) {
			t.Errorf("logged %s, want that the clock takes over", auto.log)
		}

		for _, r := range []*replica{strict, auto} {
			(&followed{t: t, dir: filepath.Dir(r.dir)}).commit("2026-11-21T18:00:00Z")
		}
		agree(t, served, strict, auto)
		// A commit on its way, or somebody who edits by hand: first what was
		// committed counts.
		auto.write("a.yaml", planNamed("c"))
		auto.tell(500 * time.Millisecond)
		auto.expect("b")
		(&followed{t: t, dir: filepath.Dir(auto.dir)}).commit("2026-11-21T19:00:00Z")
		auto.tell(5 * time.Second)
		if got := auto.body(); !strings.HasPrefix(got, `{"revision":1795287600000,`) {
			t.Errorf("serves %s, want the revision of the commit", got)
		}
	})
}

// TestReplicasOfOneFolder has replicas that share a folder, of which one notices
// every edit, and the other some.
func TestReplicasOfOneFolder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		random := rand.New(rand.NewPCG(*seed, 0))
		dir := t.TempDir()
		// The time of all changes, to the millisecond.
		now := time.Date(2026, 11, 21, 17, 0, 0, 0, time.UTC)
		touch := func(path string) {
			t.Helper()
			if err := os.Chtimes(path, now, now); err != nil {
				t.Fatal(err)
			}
		}
		touch(dir)
		one, two := newReplica(t, dir, "mtime"), newReplica(t, dir, "mtime")
		served := agree(t, "", one, two)
		for edit := range 40 {
			now = now.Add(time.Duration(1+random.IntN(2000)) * time.Millisecond)
			path := filepath.Join(dir, fmt.Sprintf("%d.yaml", random.IntN(4)))
			if _, err := os.Stat(path); err == nil && random.IntN(3) == 0 {
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
			} else {
				one.write(filepath.Base(path), planNamed(fmt.Sprint("p", random.IntN(3))))
				touch(path)
			}
			touch(dir)
			if random.IntN(5) == 0 {
				two.restart()
			}
			served = agree(t, served, one)
			if random.IntN(3) == 0 {
				agree(t, "", one, two)
			}
			if t.Failed() {
				t.Fatalf("seed %d, edit %d", *seed, edit)
			}
		}
		two.restart()
		agree(t, "", one, two)
	})
}

// TestReplicasOfAFile has replicas that are told the revision beside copies of
// the manifests.
func TestReplicasOfAFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dirs := []string{t.TempDir(), t.TempDir()}
		both := func(name, text string) {
			for _, dir := range dirs {
				(&followed{t: t, dir: dir}).write(name, text)
			}
		}
		both("a.yaml", planNamed("a"))
		both("revision", "7\n")
		one, two := newReplica(t, dirs[0], "file:DIR/revision"), newReplica(t, dirs[1], "file:DIR/revision")
		served := agree(t, "", one, two)
		if want := `{"revision":7,"issuedAt":"1970-01-01T00:00:00.007Z"`; !strings.HasPrefix(served, want) {
			t.Errorf("serve %s, want %s", served, want)
		}
		both("a.yaml", planNamed("b"))
		one.tell(time.Second) // and counts up
		both("revision", "12")
		served = agree(t, served, one, two)

		both("revision", "twelve")
		both("a.yaml", planNamed("c"))
		one.tell(10 * time.Second)
		if got := one.body(); got != served {
			t.Errorf("serves %s without a revision", got)
		}
		if !strings.Contains(one.log.String(), "must hold a whole number from 1") {
			t.Errorf("logged %s, want what a revision is", one.log)
		}
		both("revision", "13")
		two.restart()
		agree(t, served, one, two)
		// More than can be written as a time.
		both("revision", "9223372036854775807")
		if got := agree(t, "", one, two); !strings.HasPrefix(got, `{"revision":9223372036854775807,"issuedAt":"9999-12-31T23:59:59.999Z"`) {
			t.Errorf("serve %s", got)
		}
	})
}

// told is a source of revisions that says what the test does.
type told struct{ number revision.Number }

func (s *told) Of(context.Context, manifest.Tree) (revision.Number, error) { return s.number, nil }
func (s *told) Folders() []string                                          { return nil }

// TestClockBehind has a clock that is behind the revision in force: revisions
// grow all the same.
func TestClockBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &told{}
		f := &followed{t: t, dir: t.TempDir()}
		f.write("a.yaml", planNamed("a"))
		f.start(source)
		if _, got := f.plans(); got != time.Now().UnixMilli() {
			t.Errorf("revision is %d, want %d: the time", got, time.Now().UnixMilli())
		}
		ahead := time.Now().Add(time.Hour).UnixMilli()
		source.number = revision.Number{Value: ahead}
		f.tell(time.Second)
		source.number = revision.Number{}
		for i, name := range []string{"b", "b", "c"} {
			f.write("a.yaml", planNamed(name))
			f.tell(5 * time.Second)
			f.expect(name)
			if _, got := f.plans(); got != ahead+int64(i+2)/2 {
				t.Errorf("edit %d: revision is %d, %d ahead", i, got, got-ahead)
			}
		}
	})
}
