package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"
)

// TestDocumentedCommands checks that lint takes the flags that pages show, and
// that the YAML there is YAML.
func TestDocumentedCommands(t *testing.T) {
	command := regexp.MustCompile("(?m)^[^`|]*?tollgate lint( --[^\n>|]*| [a-z./][^\n>|]*)")
	blocks := regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$")
	found := 0
	for _, page := range []string{"readme.md", "docs/pull-requests.md", "docs/checks.md"} {
		data, err := os.ReadFile(filepath.Join("../../..", page))
		if err != nil {
			t.Fatal(err)
		}
		for _, block := range regexp.MustCompile("(?ms)^```.*?^```$").FindAllString(string(data), -1) {
			for _, m := range command.FindAllStringSubmatch(block, -1) {
				found++
				flags := newLintCommand().Flags()
				if err := flags.Parse(strings.Fields(strings.ReplaceAll(m[1], `"`, ""))); err != nil {
					t.Errorf("%s: tollgate lint%s: %v", page, m[1], err)
				}
			}
		}
		if page != "docs/pull-requests.md" {
			continue
		}
		for _, m := range blocks.FindAllStringSubmatch(string(data), -1) {
			var any map[string]any
			if err := yaml.Unmarshal([]byte(m[1]), &any); err != nil {
				t.Errorf("%s: %v", page, err)
			}
		}
		for _, m := range regexp.MustCompile(`--([a-z]+)`).FindAllStringSubmatch(newLintCommand().Flags().FlagUsages(), -1) {
			if !strings.Contains(string(data), "| `--"+m[1]+"` |") {
				t.Errorf("%s: --%s is missing", page, m[1])
			}
		}
	}
	if found < 5 {
		t.Errorf("found %d commands", found)
	}
}

// TestDocumentedServe checks that the pages tell each flag of serve, with its
// default, and no others.
func TestDocumentedServe(t *testing.T) {
	for _, page := range []string{"readme.md", "docs/serve.md"} {
		data, err := os.ReadFile(filepath.Join("../../..", page))
		if err != nil {
			t.Fatal(err)
		}
		_, text, _ := strings.Cut(string(data), "\n| flag | default | |\n| --- | --- | --- |\n")
		text, _, _ = strings.Cut(text, "\n\n")
		told := map[string]string{}
		for row := range strings.Lines(text) {
			cells := strings.Split(row, " | ")
			for _, m := range regexp.MustCompile("`--([a-z-]+)`").FindAllStringSubmatch(cells[0], -1) {
				told[m[1]] = strings.Trim(cells[1], "`")
			}
		}
		newServeCommand().Flags().VisitAll(func(f *pflag.Flag) {
			want := f.DefValue
			if f.Name == "manifests" {
				want = "required"
			} else if want == "" || want == "[]" {
				want = "none"
			}
			if told[f.Name] != want {
				t.Errorf("%s: --%s has the default %q, want %q", page, f.Name, told[f.Name], want)
			}
			delete(told, f.Name)
		})
		for flag := range told {
			t.Errorf("%s: there is no --%s", page, flag)
		}
	}
}

// TestHooks checks that the hooks are there, and that the one that builds
// tollgate does so and lints.
func TestHooks(t *testing.T) {
	const top = "../../.."
	data, err := os.ReadFile(filepath.Join(top, ".pre-commit-hooks.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var hooks []struct {
		ID, Entry, Language string
		Files               string
		PassFilenames       *bool `yaml:"pass_filenames"`
	}
	if err := yaml.Unmarshal(data, &hooks); err != nil {
		t.Fatal(err)
	}
	script := ""
	for _, h := range hooks {
		if h.PassFilenames == nil || *h.PassFilenames || !regexp.MustCompile(h.Files).MatchString("a/b.yaml") {
			t.Errorf("%+v", h)
		}
		if h.Language == "script" {
			script = filepath.Join(top, h.Entry)
		}
	}
	if len(hooks) != 2 || script == "" {
		t.Fatalf("got %+v", hooks)
	}
	if script, err = filepath.Abs(script); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "bad.yaml"), []byte("a: [\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), script, "bad.yaml")
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(string(out), "bad.yaml:1:1: error") {
		t.Errorf("got %v: %s", err, out)
	}
}
