package manifest_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tollgate-apim/tollgate/controlplane/finding"
	"github.com/tollgate-apim/tollgate/controlplane/manifest"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestBad reads each bad manifest and compares all findings, and the names of
// what passed, with the file beside it.
func TestBad(t *testing.T) {
	paths, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no manifests: %v", err)
	}
	for _, path := range paths {
		name := strings.TrimSuffix(filepath.Base(path), ".yaml")
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			got := describe(name+".yaml", data)
			golden := strings.TrimSuffix(path, ".yaml") + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("findings differ (-want +got):\n%s", diff)
			}
		})
	}
}

func describe(name string, data []byte) string {
	l := manifest.Parse(name, data)
	var b strings.Builder
	for _, f := range l.Findings {
		fmt.Fprintln(&b, f)
	}
	fmt.Fprintf(&b, "broken: %d\n", len(l.Broken[name]))
	for _, object := range names(l.Objects) {
		fmt.Fprintf(&b, "kept: %s\n", object)
	}
	return b.String()
}

func names(o *manifest.Objects) []string {
	var out []string
	out = append(out, namesOf("API", o.APIs)...)
	out = append(out, namesOf("APIVersion", o.Versions)...)
	out = append(out, namesOf("APIBundle", o.Bundles)...)
	out = append(out, namesOf("APIPlan", o.Plans)...)
	out = append(out, namesOf("ManagedApplication", o.Applications)...)
	out = append(out, namesOf("Secret", o.Secrets)...)
	out = append(out, namesOf("ManagedSubscription", o.Subscriptions)...)
	return out
}

func namesOf[T metav1.Object](kind string, objects []T) []string {
	var out []string
	for _, o := range objects {
		out = append(out, kind+" "+o.GetNamespace()+"/"+o.GetName())
	}
	return out
}

// TestGood reads manifests that nobody should have a word to say about.
func TestGood(t *testing.T) {
	for _, test := range []struct {
		file string
		want []string
	}{
		{"seed.yaml", []string{
			"API apps/weather-api", "APIPlan apps/standard-plan",
			"ManagedApplication apps/weather-mobile", "ManagedApplication apps/weather-mobile-inline",
			"Secret apps/weather-mobile-key", "Secret apps/weather-mobile-key-as-text",
			"ManagedSubscription apps/weather-mobile-sub",
		}},
		{"every-field.yaml", []string{
			"API apps/weather", "APIVersion apps/weather-v1", "APIBundle apps/all", "APIPlan apps/gold",
			"ManagedApplication apps/mobile", "Secret apps/mobile.key", "ManagedSubscription apps/mobile",
		}},
		{"document.json", []string{"API default/json"}},
	} {
		t.Run(test.file, func(t *testing.T) {
			data, err := os.ReadFile(filepath.Join("testdata/good", test.file))
			if err != nil {
				t.Fatal(err)
			}
			loaded := manifest.Parse(test.file, data)
			if diff := cmp.Diff([]finding.Finding(nil), loaded.Findings); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.want, names(loaded.Objects)); diff != "" {
				t.Errorf("objects (-want +got):\n%s", diff)
			}
		})
	}
}

// TestValues checks that what is read is what is written.
func TestValues(t *testing.T) {
	data, err := os.ReadFile("testdata/good/every-field.yaml")
	if err != nil {
		t.Fatal(err)
	}
	o := manifest.Parse("f.yaml", data).Objects
	ten, path := int64(10), "spec.apiKeys[1].value"
	for _, test := range []struct {
		name      string
		got, want any
	}{
		{"labels", o.APIs[0].Labels, map[string]string{"team": "weather", "8": "eight"}},
		{"annotation", o.APIs[0].Annotations["note"], "2026-11-21"},
		{"description", o.APIs[0].Spec.Description, "Lines of text, --- and even\n ---\n"},
		{"versions", o.APIs[0].Spec.Versions, []manifest.NameRef{{Name: "weather-v1"}}},
		{"sets", o.APIs[0].Spec.OpenAPISpec.OperationSets, []manifest.OperationSet{{Name: "read", Matchers: []manifest.Matcher{
			{Path: "/weather", Methods: []string{"get", "HEAD"}}, {PathPrefix: "/weather"}, {PathRegex: `^/weather/\d+$`}, {Methods: []string{"PURGE"}},
		}}}},
		{"release", o.Versions[0].Spec.Release, "v1.0.0-rc.1+build.5"},
		{"empty selector", o.Bundles[0].Spec.APISelector, &metav1.LabelSelector{}},
		{"plan", o.Plans[0].Spec, manifest.APIPlanSpec{
			Title: "Gold", Description: "Much",
			RateLimit: &manifest.Limit{Limit: &ten, Period: "1s", Bucket: "application"},
			Quota:     &manifest.Limit{Limit: &ten, Period: "9999h", Bucket: "application"},
		}},
		{"app ID", o.Applications[0].Spec.AppID, "2026-11-21"},
		{"keys", o.Applications[0].Spec.APIKeys[0], manifest.APIKey{SecretName: "mobile.key", Title: "first", Suspended: true}},
		{"filter", o.Subscriptions[0].Spec.OperationFilter, &manifest.OperationFilter{Include: []string{}}},
		{"weight", o.Subscriptions[0].Spec.Weight, int64(10)},
		{"claims", o.Subscriptions[0].Spec.Claims, "Equals(`grp`, `admin`)"},
		{"secret data", string(o.Secrets[0].Data["tls.crt"]), "hello"},
		{"secret string data", o.Secrets[0].StringData["key"], "anything"},
		{"secret type", string(o.Secrets[0].Type), "Opaque"},
		{
			"position", o.Applications[0].Finding(finding.PlaintextKey, finding.Error, path, "p", "a", "f"),
			finding.Finding{
				Rule: finding.PlaintextKey, Severity: finding.Error, File: "f.yaml", Line: 80, Column: 11,
				Object: finding.Object{Kind: "ManagedApplication", Namespace: "apps", Name: "mobile"},
				Field:  path, Problem: "p", Allowed: "a", Fix: "f",
			},
		},
	} {
		if diff := cmp.Diff(test.want, test.got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
}

func TestTooLarge(t *testing.T) {
	dir := t.TempDir()
	for name, size := range map[string]int{"most.yaml": 16 << 20, "more.yaml": 16<<20 + 1} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(strings.Repeat("#", size)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	loaded := load(t, dir)
	if len(loaded.Findings) != 1 || len(loaded.Broken) != 1 {
		t.Fatalf("got %v, broken %v, want one finding", loaded.Findings, loaded.Broken)
	}
	want := filepath.Join(dir, "more.yaml") + ": error: is too large; allowed: at most 16 MiB; split it into several files (file)"
	if got := loaded.Findings[0].String(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestUnreadable(t *testing.T) {
	for _, test := range []struct {
		name string
		load func(path string) *manifest.Loaded
		want string
	}{
		{"gone", func(path string) *manifest.Loaded {
			return manifest.Load(context.Background(), []manifest.File{{Path: path}})
		}, "cannot be read: no such file or directory"},
		{"not UTF-8", func(path string) *manifest.Loaded {
			return manifest.Parse(path, []byte("kind: \xff"))
		}, "is not UTF-8 text"},
	} {
		t.Run(test.name, func(t *testing.T) {
			loaded := test.load("f.yaml")
			if len(loaded.Findings) != 1 || len(loaded.Broken) != 1 || loaded.Findings[0].Rule != finding.File {
				t.Fatalf("got %v, broken %v, want one finding of rule file", loaded.Findings, loaded.Broken)
			}
			if got := loaded.Findings[0].Problem; got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func load(t *testing.T, paths ...string) *manifest.Loaded {
	t.Helper()
	tree, err := manifest.List(paths)
	if err != nil {
		t.Fatal(err)
	}
	return manifest.Load(t.Context(), tree.Files)
}

func TestList(t *testing.T) {
	dir := t.TempDir()
	write := func(name string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, time.Time{}, time.Unix(1, 0)); err != nil {
			t.Fatal(err)
		}
	}
	link := func(target, name string) {
		t.Helper()
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"b.yml", "a.yaml", "c.json", "readme.md", "sub/deep/d.yaml", ".git/e.yaml", ".hidden.yaml", "mounted/..2026/f.yaml", "linked/g.yaml"} {
		write(name)
	}
	// As Kubernetes mounts a ConfigMap.
	link("..2026", "mounted/..data")
	link("..data/f.yaml", "mounted/f.yaml")
	link("linked", "link")      // seen before or after what it points to
	link("..", "sub/loop")      // back to where it came from
	link("gone", "broken.yaml") // as when it has just been removed
	t.Chdir(dir)

	tree, err := manifest.List([]string{".", "sub", "readme.md", "a.yaml"})
	if err != nil {
		t.Fatal(err)
	}
	file := func(path string) manifest.File { return manifest.File{Path: path, Modified: time.Unix(1, 0)} }
	want := manifest.Tree{
		Folders: []string{".", "link", "mounted", "mounted/..2026", "sub", "sub/deep"},
		Files: []manifest.File{
			file("a.yaml"), file("b.yml"), file("c.json"), file("link/g.yaml"), file("mounted/f.yaml"), file("readme.md"), file("sub/deep/d.yaml"),
		},
		Links: []string{"linked", "mounted/..2026/f.yaml", "."},
	}
	for _, folder := range want.Folders {
		info, err := os.Stat(folder)
		if err != nil {
			t.Fatal(err)
		}
		if info.ModTime().After(want.Modified) {
			want.Modified = info.ModTime()
		}
	}
	// What only the file system chooses.
	for i := range tree.Files {
		tree.Files[i].Changed, tree.Files[i].Inode = time.Time{}, 0
	}
	if diff := cmp.Diff(want, tree); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, err := manifest.List([]string{"nothing"}); err == nil {
		t.Error("a path that does not exist: got no error")
	}
}

func TestJSON(t *testing.T) {
	const object = `{"apiVersion": "hub.traefik.io/v1alpha1", "kind": "API", "metadata": {"name": "x"}, "spec": {"title": %s}}`
	for _, test := range []struct {
		name, title, want string
	}{
		{"plain", `"a"`, "a"},
		{"escaped slash", `"a\/b\\/c"`, `a/b\/c`},
		{"two halves", `"\ud83d\ude00!"`, "\U0001f600!"},
		{"an escaped backslash before u", `"\\ud83d\\ude00"`, `\ud83d\ude00`},
		{"other escapes", `"\u00e9\""`, "é\""},
	} {
		t.Run(test.name, func(t *testing.T) {
			loaded := manifest.Parse("f.json", fmt.Appendf(nil, object, test.title))
			if len(loaded.Objects.APIs) != 1 {
				t.Fatalf("got %v", loaded.Findings)
			}
			if got := loaded.Objects.APIs[0].Spec.Title; got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
	loaded := manifest.Parse("f.json", []byte("{\n\t\"kind\":\n}"))
	if len(loaded.Findings) != 1 || loaded.Findings[0].Line != 3 || len(loaded.Broken) != 1 {
		t.Errorf("got %v, want a finding on line 3", loaded.Findings)
	}
}

// TestOneBadDocument checks that the others of the file, and the lines told, do
// not suffer.
func TestOneBadDocument(t *testing.T) {
	const good = "apiVersion: hub.traefik.io/v1alpha1\r\nkind: API\r\nmetadata: {name: %s}\r\n"
	text := fmt.Sprintf(good, "first") + "---\r\n\tbad\r\n---\r\n" + fmt.Sprintf(good, "last")
	loaded := manifest.Parse("f.yaml", []byte(text))
	if diff := cmp.Diff([]string{"API default/first", "API default/last"}, names(loaded.Objects)); diff != "" {
		t.Errorf("objects (-want +got):\n%s", diff)
	}
	if len(loaded.Findings) != 1 || loaded.Findings[0].Line != 5 || loaded.Findings[0].Rule != finding.Syntax {
		t.Errorf("got %v, want one finding on line 5", loaded.Findings)
	}
	if file, line := loaded.Objects.APIs[1].Position(); file != "f.yaml" || line != 7 {
		t.Errorf("last is at %s:%d, want f.yaml:7", file, line)
	}
}
