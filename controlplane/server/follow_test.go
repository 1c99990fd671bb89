package server_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tollgate-apim/tollgate/controlplane/manifest"
	"github.com/tollgate-apim/tollgate/controlplane/revision"
	"github.com/tollgate-apim/tollgate/controlplane/server"
	"github.com/tollgate-apim/tollgate/controlplane/watch"
	"github.com/tollgate-apim/tollgate/table"
)

const plan = "apiVersion: hub.traefik.io/v1alpha1\nkind: APIPlan\nmetadata: {name: %}\nspec: {title: Plan}\n"

func planNamed(name string) string { return strings.ReplaceAll(plan, "%", name) }

// followed is a follower of a folder, in a bubble of synctest, with the changes
// told by the test.
type followed struct {
	t       *testing.T
	dir     string
	server  *server.Server
	changes chan watch.Change
	log     *bytes.Buffer // only read after synctest.Wait
	ended   chan error
	stop    func()
	watched []string
	made    atomic.Int64           // tables
	onWatch atomic.Pointer[func()] // called whenever manifests are about to be read
}

func follow(t *testing.T, files map[string]string) *followed {
	t.Helper()
	f := &followed{t: t, dir: t.TempDir()}
	for name, text := range files {
		f.write(name, text)
	}
	f.start(revision.Clock{})
	return f
}

// start starts following, until stop or the end of the test.
func (f *followed) start(revisions revision.Source) {
	f.t.Helper()
	f.changes, f.log, f.ended = make(chan watch.Change, 1), &bytes.Buffer{}, make(chan error, 1)
	log := slog.New(slog.NewTextHandler(f.log, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
	f.server = server.New(server.Options{Log: log})
	follower := &server.Follower{
		Paths: []string{f.dir}, Changes: f.changes, Revisions: revisions, Server: f.server, Log: log,
		Compiled: func(time.Duration) { f.made.Add(1) },
		Watch: func(folders []string) error {
			f.watched = folders
			if hook := f.onWatch.Load(); hook != nil {
				(*hook)()
			}
			return nil
		},
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() { f.ended <- follower.Run(ctx) }()
	f.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-f.ended; err != nil {
			f.t.Errorf("Run: %v", err)
		}
	})
	f.t.Cleanup(f.stop)
	synctest.Wait()
}

func (f *followed) write(name, text string) {
	f.t.Helper()
	path := filepath.Join(f.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		f.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		f.t.Fatal(err)
	}
}

// tell tells of a change and lets d pass.
func (f *followed) tell(d time.Duration) {
	select {
	case f.changes <- watch.Change{}:
	default:
	}
	time.Sleep(d) // of the bubble's clock: takes no time
	synctest.Wait()
}

// plans returns the names of the plans that are served, and the revision.
func (f *followed) plans() (string, int64) {
	f.t.Helper()
	tbl, err := table.Decode([]byte(body(f.t, get(f.server, "GET", table.Path))))
	if err != nil {
		f.t.Fatal(err)
	}
	var names []string
	for name := range tbl.Plans {
		names = append(names, strings.TrimPrefix(name, "default/"))
	}
	slices.Sort(names)
	return strings.Join(names, " "), tbl.Revision
}

func (f *followed) expect(want string) {
	f.t.Helper()
	if got, _ := f.plans(); got != want {
		f.t.Errorf("serves the plans %q, want %q", got, want)
	}
}

func TestFollowDebounces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := follow(t, map[string]string{"a.yaml": planNamed("a")})
		f.expect("a")
		f.write("sub/b.yaml", planNamed("b"))
		f.tell(60 * time.Millisecond)
		f.expect("a")
		f.write("sub/c.yaml", planNamed("c"))
		f.tell(99 * time.Millisecond)
		f.expect("a")
		f.tell(101 * time.Millisecond)
		f.expect("a b c")
		if got := f.watched; len(got) != 2 || got[1] != filepath.Join(f.dir, "sub") {
			t.Errorf("watches %v, want the folder and sub", got)
		}
	})
}

// TestFollowWaits checks for how long a change has to be quiet.
func TestFollowWaits(t *testing.T) {
	for _, test := range []struct {
		name    string
		changes []watch.Change // with Path below the folder
		text    string         // of a.yaml
		wait    time.Duration
		want    string
	}{
		{"put in place", []watch.Change{{Path: "a.yaml"}}, planNamed("b"), 20 * time.Millisecond, "b"},
		{"put in place by a program that wrote another file before", []watch.Change{{}, {Path: "a.yaml"}}, planNamed("b"), 20 * time.Millisecond, "b"},
		{"written", []watch.Change{{Path: "a.yaml", Written: true}}, planNamed("b"), 50 * time.Millisecond, "b"},
		{"put in place and written", []watch.Change{{Path: "a.yaml"}, {Path: "a.yaml", Written: true}}, planNamed("b"), 50 * time.Millisecond, "b"},
		{"two files", []watch.Change{{Path: "a.yaml"}, {Path: "c.yaml"}}, planNamed("b"), 100 * time.Millisecond, "b"},
		{"one taken away", []watch.Change{{Path: "a.yaml", More: true}}, planNamed("b"), 100 * time.Millisecond, "b"},
		{"something else", []watch.Change{{}}, planNamed("b"), 100 * time.Millisecond, "b"},
		{"gone by now", []watch.Change{{Path: "c.yaml"}}, planNamed("b"), 100 * time.Millisecond, "b"},
		{"empty", []watch.Change{{Path: "a.yaml", Written: true}}, "", 2 * time.Second, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := follow(t, map[string]string{"a.yaml": planNamed("a")})
				f.write("a.yaml", test.text)
				for _, change := range test.changes {
					if change.Path != "" {
						change.Path = filepath.Join(f.dir, change.Path)
					}
					f.changes <- change
					synctest.Wait()
				}
				time.Sleep(test.wait - time.Millisecond)
				synctest.Wait()
				f.expect("a")
				time.Sleep(time.Millisecond)
				synctest.Wait()
				f.expect(test.want)
			})
		})
	}
}

// TestFollowEmptied has a program that empties a file and takes its time to write
// it again.
func TestFollowEmptied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := follow(t, map[string]string{"a.yaml": planNamed("a")})
		change := watch.Change{Path: filepath.Join(f.dir, "a.yaml"), Written: true}
		f.write("a.yaml", "")
		f.changes <- change
		time.Sleep(time.Second)
		synctest.Wait()
		f.expect("a")
		f.write("a.yaml", planNamed("b"))
		f.changes <- change
		time.Sleep(50 * time.Millisecond)
		synctest.Wait()
		f.expect("b")
	})
}

// TestFollowDoesNotWaitForEver changes manifests without a pause.
func TestFollowDoesNotWaitForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := follow(t, nil)
		f.write("a.yaml", planNamed("a"))
		for range 39 {
			f.tell(50 * time.Millisecond)
		}
		f.expect("")
		for range 8 {
			f.tell(50 * time.Millisecond)
		}
		f.expect("a")
	})
}

// TestFollowNeverHalf changes a file while the manifests are being read.
func TestFollowNeverHalf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := follow(t, map[string]string{"a.yaml": planNamed("a")})
		reads := 0
		hook := func() {
			if reads++; reads == 1 {
				f.write("b.yaml", planNamed("b"))
			}
		}
		f.onWatch.Store(&hook)
		f.write("c.yaml", planNamed("c"))
		f.tell(150 * time.Millisecond)
		f.expect("a") // half of it was read, and thrown away
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		f.expect("a b c")
		if reads != 2 {
			t.Errorf("read %d times, want 2", reads)
		}
	})
}

// TestFollowRechecks makes changes that nobody tells of.
func TestFollowRechecks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := follow(t, map[string]string{"a.yaml": planNamed("a")})
		var reads atomic.Int32
		hook := func() { reads.Add(1) }
		f.onWatch.Store(&hook)
		time.Sleep(time.Hour)
		synctest.Wait()
		if got := reads.Load(); got != 0 {
			t.Errorf("read %d times without a change, want 0", got)
		}
		f.write("b.yaml", planNamed("b"))
		time.Sleep(31 * time.Second)
		synctest.Wait()
		f.expect("a b")
	})
}

func TestFollowSameContent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := follow(t, map[string]string{"a.yaml": planNamed("a")})
		_, before := f.plans()
		f.log.Reset()
		f.write("a.yaml", "# a comment\n"+planNamed("a"))
		f.tell(time.Second)
		if _, after := f.plans(); after != before {
			t.Errorf("revision %d became %d", before, after)
		}
		if f.log.Len() > 0 {
			t.Errorf("logged %s", f.log)
		}
	})
}

func TestFollowKeepsOutWhatIsBroken(t *testing.T) {
	const unparsable = "kind: [}\n"
	for _, test := range []struct {
		name  string
		spoil func(f *followed)
		mend  func(f *followed)
	}{
		{"a document", func(f *followed) { f.write("a.yaml", unparsable) }, func(f *followed) { f.write("a.yaml", planNamed("a")) }},
		{"one document of a file", func(f *followed) { f.write("a.yaml", planNamed("a")+"---\n"+unparsable) },
			func(f *followed) { f.write("a.yaml", planNamed("a")) }},
		{"a file", func(f *followed) { f.write("a.yaml", "\xff") }, func(f *followed) { f.write("a.yaml", planNamed("a")) }},
		{"the folder", func(f *followed) { f.rename(f.dir, f.dir+".away") }, func(f *followed) { f.rename(f.dir+".away", f.dir) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := follow(t, map[string]string{"a.yaml": planNamed("a")})
				f.write("b.yaml", planNamed("b"))
				test.spoil(f)
				f.log.Reset()
				f.tell(time.Second)
				f.expect("a")
				if got := f.made.Load(); got != 1 {
					t.Errorf("tells of %d tables, want 1", got)
				}
				if got := strings.Count(f.log.String(), `msg="change kept out: the last good table stays in force"`); got != 1 {
					t.Errorf("told %d times, want once: %s", got, f.log)
				}
				if got := body(t, get(f.server, "GET", "/healthz")); !strings.Contains(got, `"keptOut":true`) {
					t.Errorf("health is %s, want keptOut", got)
				}
				f.log.Reset()
				f.tell(time.Second)
				if f.log.Len() > 0 {
					t.Errorf("told again: %s", f.log)
				}
				test.mend(f)
				f.tell(time.Second)
				f.expect("a b")
				if got := f.made.Load(); got != 2 {
					t.Errorf("tells of %d tables, want 2", got)
				}
				if got := body(t, get(f.server, "GET", "/healthz")); !strings.Contains(got, `"keptOut":false`) {
					t.Errorf("health is %s, want not keptOut", got)
				}
			})
		})
	}
}

// TestFollowFindsAgain takes the folder away and puts it back as it was. Only its
// going is told: it is not watched afterwards, nor is what is above it.
func TestFollowFindsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := follow(t, map[string]string{"a.yaml": planNamed("a")})
		f.rename(f.dir, f.dir+".away")
		f.tell(time.Minute)
		if got := body(t, get(f.server, "GET", "/healthz")); !strings.Contains(got, `"keptOut":true`) {
			t.Errorf("health is %s, want keptOut", got)
		}
		f.log.Reset()
		var watches atomic.Int32
		hook := func() { watches.Add(1) }
		f.onWatch.Store(&hook)
		f.rename(f.dir+".away", f.dir)
		time.Sleep(time.Second)
		synctest.Wait()
		if got := body(t, get(f.server, "GET", "/healthz")); !strings.Contains(got, `"keptOut":false`) {
			t.Errorf("health is %s, want not keptOut", got)
		}
		if watches.Load() != 1 {
			t.Errorf("watched %d times, want once", watches.Load())
		}
		if !strings.HasPrefix(f.log.String(), `level=INFO msg="mended: `) {
			t.Errorf("logged %s, want that it is mended", f.log)
		}
		time.Sleep(29 * time.Second)
		synctest.Wait()
		if watches.Load() != 1 {
			t.Errorf("read %d times after it was found, want once", watches.Load())
		}
	})
}

// TestFollowTellsMended puts back what was there before a change that is kept out.
func TestFollowTellsMended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := follow(t, map[string]string{"a.yaml": planNamed("a")})
		f.log.Reset()
		f.write("a.yaml", "kind: [}\n")
		f.tell(time.Second)
		if !strings.Contains(f.log.String(), `error="1 file cannot be read whole"`) {
			t.Errorf("logged %s, want 1 file", f.log)
		}
		for _, attribute := range []string{"object=", "field=", "allowed=", "fix="} {
			if strings.Contains(f.log.String(), attribute+`""`) {
				t.Errorf("logged an empty %s: %s", attribute, f.log)
			}
		}
		f.log.Reset()
		f.write("a.yaml", planNamed("a"))
		f.tell(time.Second)
		if got := strings.Count(f.log.String(), `level=INFO msg="mended: `); got != 1 {
			t.Errorf("told %d times that it is mended, want once: %s", got, f.log)
		}
		f.tell(time.Second)
		if got := strings.Count(f.log.String(), `msg="mended: `); got != 1 {
			t.Errorf("told again: %s", f.log)
		}
	})
}

func TestFollowTellsThereIsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := follow(t, nil)
		f.tell(time.Second)
		want := `level=WARN msg="there are no manifests under ` + f.dir + `"`
		if got := strings.Count(f.log.String(), want); got != 1 {
			t.Errorf("told %d times, want once: %s", got, f.log)
		}
		f.write("a.yaml", planNamed("a"))
		f.tell(time.Second)
		if err := os.Remove(filepath.Join(f.dir, "a.yaml")); err != nil {
			t.Fatal(err)
		}
		f.tell(time.Second)
		if got := strings.Count(f.log.String(), want); got != 2 {
			t.Errorf("told %d times, want once more: %s", got, f.log)
		}
	})
}

func (f *followed) rename(from, to string) {
	f.t.Helper()
	if err := os.Rename(from, to); err != nil {
		f.t.Fatal(err)
	}
}

// TestFollowStartsBroken checks that what was broken at the start is left out,
// and keeps no later change out.
func TestFollowStartsBroken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := follow(t, map[string]string{"a.yaml": planNamed("a"), "bad.yaml": "\t\n---\nkind: [}\n"})
		f.expect("a")
		f.write("b.yaml", planNamed("b"))
		f.tell(time.Second)
		f.expect("a b")
		f.write("bad.yaml", "kind: [}\n---\nkind: [}\n"+"---\nkind: [}\n")
		f.write("c.yaml", planNamed("c"))
		f.tell(time.Second)
		f.expect("a b")
		f.write("bad.yaml", "")
		f.tell(time.Second)
		f.expect("a b c")
	})
}

// TestFollowKeepsOutAnotherBreak starts with a broken document and breaks
// something else of its file, so that there is as much broken as before.
func TestFollowKeepsOutAnotherBreak(t *testing.T) {
	const broken = "---\nkind: [}\n"
	for name, text := range map[string]string{
		"the file":                  "\xff",
		"another document":          planNamed("b") + "---\napiVersion: [}\n",
		"another and a new one":     broken + "---\nmetadata: {\n---\n" + planNamed("b"),
		"the same document, copied": broken + broken,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := follow(t, map[string]string{"a.yaml": planNamed("a") + broken})
				f.expect("a")
				f.write("a.yaml", text)
				f.tell(time.Second)
				f.expect("a")
				if got := body(t, get(f.server, "GET", "/healthz")); !strings.Contains(got, `"keptOut":true`) {
					t.Errorf("health is %s, want keptOut", got)
				}
				f.write("a.yaml", "# moved\n\n"+broken+"---\n"+planNamed("c"))
				f.tell(time.Second)
				f.expect("c")
			})
		})
	}
}

// TestFollowTakesWhatWasUnreadable starts with a file that cannot be read, of
// which nothing is in force, and mends a part of it.
func TestFollowTakesWhatWasUnreadable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := follow(t, map[string]string{"a.yaml": "\xff"})
		f.write("a.yaml", planNamed("a")+"---\nkind: [}\n")
		f.tell(time.Second)
		f.expect("a")
	})
}

// TestFollowLeavesOutObjects checks that one bad object is no broken change, and
// that a finding is logged once.
func TestFollowLeavesOutObjects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := follow(t, map[string]string{"a.yaml": planNamed("a")})
		f.log.Reset()
		f.write("a.yaml", planNamed("a")+"quota: 1\n")
		f.write("b.yaml", planNamed("b"))
		f.tell(time.Second)
		f.expect("b")
		want := "level=ERROR msg=finding rule=unknown-field file=" + filepath.Join(f.dir, "a.yaml") +
			" line=5 column=1 object=\"APIPlan default/a\" field=quota problem=\"is not a known field\""
		if !strings.HasPrefix(f.log.String(), want) {
			t.Errorf("logged %s, want %s", f.log, want)
		}
		f.log.Reset()
		f.write("c.yaml", planNamed("c"))
		f.tell(time.Second)
		f.expect("b c")
		if strings.Contains(f.log.String(), "msg=finding") {
			t.Errorf("logged again: %s", f.log)
		}
	})
}

// TestFollowEditsNeverWiden spoils objects that restrict others: their last good
// version stays in force.
func TestFollowEditsNeverWiden(t *testing.T) {
	const header = "---\napiVersion: hub.traefik.io/v1alpha1\n"
	digest := strings.Repeat("ab", 64)
	files := map[string]string{
		"plan.yaml":   planNamed("narrow") + "---\n" + planNamed("wide"),
		"api.yaml":    header + "kind: API\nmetadata: {name: api}\nspec: {openApiSpec: {operationSets: [{name: read, matchers: [{path: /}]}]}}\n",
		"bundle.yaml": header + "kind: APIBundle\nmetadata: {name: bundle}\nspec: {apis: [{name: api}]}\n",
		"app.yaml":    header + "kind: ManagedApplication\nmetadata: {name: app}\nspec: {appId: a, owner: o, apiKeys: [{secretName: secret}]}\n",
		"secret.yaml": "apiVersion: v1\nkind: Secret\nmetadata: {name: secret}\ntype: Opaque\nstringData: {key: " + digest + "}\n",
		"shared.yaml": header + "kind: ManagedApplication\nmetadata: {name: shared}\nspec: {appId: b, owner: o, apiKeys: [{value: " + digest + "}]}\n",
		"narrow.yaml": header + "kind: ManagedSubscription\nmetadata: {name: narrow}\n" +
			"spec: {apiPlan: {name: narrow}, managedApplications: [{name: app}], apiBundles: [{name: bundle}], operationFilter: {include: [read]}, weight: 2}\n",
		"wide.yaml": header + "kind: ManagedSubscription\nmetadata: {name: wide}\n" +
			"spec: {apiPlan: {name: wide}, managedApplications: [{name: app}, {name: shared}], apis: [{name: api}]}\n",
	}
	served := func(f *followed) table.Table {
		f.t.Helper()
		tbl, err := table.Decode([]byte(body(f.t, get(f.server, "GET", table.Path))))
		if err != nil {
			f.t.Fatal(err)
		}
		return table.Table{Applications: tbl.Applications, Keys: tbl.Keys, Subscriptions: tbl.Subscriptions}
	}
	for _, name := range []string{"bundle", "app", "secret", "shared", "narrow", "wide"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := follow(t, files)
				want := served(f)
				f.log.Reset()
				f.write(name+".yaml", files[name+".yaml"]+"spelt: wrong\n")
				f.write("new.yaml", planNamed("new")) // takes effect
				for range 2 {
					f.tell(time.Second)
					if got := served(f); !reflect.DeepEqual(got, want) {
						t.Errorf("serves %+v, want %+v", got, want)
					}
					f.expect("narrow new wide")
					f.write("newer.yaml", "")
				}
				if got := strings.Count(f.log.String(), `problem="is not a known field; the last good version of the object stays in force"`); got != 1 {
					t.Errorf("told %d times, want once: %s", got, f.log)
				}
				if err := os.Remove(filepath.Join(f.dir, name+".yaml")); err != nil {
					t.Fatal(err)
				}
				f.tell(time.Second)
				if got := served(f); reflect.DeepEqual(got, want) {
					t.Error("what was taken away is still served")
				}
				f.write(name+".yaml", files[name+".yaml"]+"spelt: wrong\n")
				f.tell(time.Second)
				if got := served(f); reflect.DeepEqual(got, want) {
					t.Error("what was taken away came back with an error, and is served")
				}
				f.write(name+".yaml", files[name+".yaml"])
				f.tell(time.Second)
				if got := served(f); !reflect.DeepEqual(got, want) {
					t.Errorf("mended, serves %+v, want %+v", got, want)
				}
			})
		})
	}
}

// TestFollowLogsNoKeys writes keys and digests where names and fields belong.
func TestFollowLogsNoKeys(t *testing.T) {
	const key = "tg_0123456789abcdefghijABCDEFGHIJ0123456"
	digest := strings.Repeat("0a", 64)
	synctest.Test(t, func(t *testing.T) {
		f := follow(t, map[string]string{
			"a.yaml": planNamed(key),
			"b.yaml": planNamed("b") + key + ": 1\n",
			"c.yaml": "apiVersion: hub.traefik.io/v1alpha1\nkind: ManagedSubscription\nmetadata: {name: s}\n" +
				"spec: {apiPlan: {name: p" + digest + "}, apis: [{name: x." + digest + "}], managedApplications: [{name: " + digest + "}]}\n",
		})
		if n := strings.Count(f.log.String(), "msg=finding"); n < 5 {
			t.Errorf("logged %d findings, want at least 5: %s", n, f.log)
		}
		if strings.Contains(f.log.String(), key) || strings.Contains(f.log.String(), digest) {
			t.Errorf("logged a key or a digest: %s", f.log)
		}
	})
}

// TestFollowMisspeltKind misspells the kind of a subscription in force, and then
// writes it again beside.
func TestFollowMisspeltKind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const app = "apiVersion: hub.traefik.io/v1alpha1\nkind: ManagedApplication\nmetadata: {name: a}\nspec: {appId: a, owner: o}\n"
		f := follow(t, map[string]string{"a.yaml": app})
		misspelt := strings.Replace(app, "kind: Managed", "kind: Mnaged", 1)
		for _, text := range []string{misspelt, misspelt + "---\n" + app} {
			f.write("a.yaml", text)
			f.tell(time.Second)
			tbl, err := table.Decode([]byte(body(t, get(f.server, "GET", table.Path))))
			if err != nil || len(tbl.Applications) != 1 {
				t.Errorf("serves %v, %v, want the application", tbl, err)
			}
		}
	})
}

func TestFollowNeedsManifests(t *testing.T) {
	f := &server.Follower{
		Paths: []string{filepath.Join(t.TempDir(), "gone")}, Watch: func([]string) error { return nil },
		Server: server.New(server.Options{Log: slog.New(slog.DiscardHandler)}), Log: slog.New(slog.DiscardHandler),
	}
	if err := f.Run(t.Context()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want that the folder does not exist", err)
	}
}

// TestFollowFiles follows real files through a real watcher, as Kubernetes and
// editors change them.
func TestFollowFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	link := func(target, name string) {
		t.Helper()
		// Put in place at once, as Kubernetes does.
		path := filepath.Join(dir, name)
		if err := os.Symlink(target, path+"_tmp"); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+"_tmp", path); err != nil {
			t.Fatal(err)
		}
	}
	write("..1/mounted.yaml", planNamed("one"))
	write("..2/mounted.yaml", planNamed("two"))
	link("..1", "..data")
	link("..data/mounted.yaml", "mounted.yaml")

	w, err := watch.New(manifest.Listed)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	lines := &lineWriter{lines: make(chan string, 1000)}
	log := slog.New(slog.NewTextHandler(lines, nil))
	s := server.New(server.Options{Log: log})
	f := &server.Follower{Paths: []string{dir}, Watch: w.Watch, Changes: w.Changes(), Server: s, Log: log}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx) }()

	// expect waits until the plans are served.
	expect := func(want string) {
		t.Helper()
		deadline := time.After(25 * time.Second) // before the recheck helps
		view := &followed{t: t, server: s}
		for {
			select {
			case line := <-lines.lines:
				if !strings.Contains(line, `msg="table served"`) {
					continue
				}
				if got, _ := view.plans(); got == want {
					return
				}
			case <-deadline:
				got, _ := view.plans()
				t.Fatalf("serves %q, want %q", got, want)
			}
		}
	}
	expect("one")
	link("..2", "..data")
	expect("two")
	write("new/deep/er.yaml", planNamed("deep"))
	expect("deep two")
	write("new/deep/er.yaml", planNamed("deeper"))
	expect("deeper two")
	if err := os.RemoveAll(filepath.Join(dir, "new")); err != nil {
		t.Fatal(err)
	}
	expect("two")
	write("new/deep/er.yaml", planNamed("again"))
	expect("again two")
	write("new/deep/er.yaml", planNamed("again-and-again"))
	expect("again-and-again two")
	// Away and back unchanged: what comes next is noticed as before.
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	lines.await(t, "change kept out: ")
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	lines.await(t, "mended: ")
	write("new/deep/er.yaml", planNamed("back"))
	expect("back two")
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// lineWriter hands on what a log writes, a line at a time.
type lineWriter struct{ lines chan string }

// await waits for a line with that message, or what begins with it.
func (w *lineWriter) await(t *testing.T, message string) {
	t.Helper()
	deadline := time.After(25 * time.Second)
	for {
		select {
		case line := <-w.lines:
			if strings.Contains(line, `msg="`+message) {
				return
			}
		case <-deadline:
			t.Fatalf("does not log %q", message)
		}
	}
}

func (w *lineWriter) Write(p []byte) (int, error) {
	w.lines <- string(p)
	return len(p), nil
}
