package explain_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tollgate-apim/tollgate/controlplane/compile"
	"github.com/tollgate-apim/tollgate/controlplane/explain"
	"github.com/tollgate-apim/tollgate/controlplane/finding"
	"github.com/tollgate-apim/tollgate/controlplane/manifest"
)

// block returns the only block of a language on a page.
func block(t *testing.T, page, language string) string {
	t.Helper()
	found := regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```$").FindAllStringSubmatch(page, -1)
	if len(found) != 1 {
		t.Fatalf("found %d blocks of %s, want 1", len(found), language)
	}
	return found[0][1]
}

// TestPage does what the example in docs/explain.md does.
func TestPage(t *testing.T) {
	data, err := os.ReadFile("../../docs/explain.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(data)
	loaded := manifest.Parse("manifests/weather.yaml", []byte(block(t, page, "yaml")))
	compiled := compile.Compile(loaded.Objects)
	if errors, warnings := finding.Count(append(loaded.Findings, compiled.Findings...)); errors+warnings > 0 {
		t.Errorf("the manifests have findings: %v %v", loaded.Findings, compiled.Findings)
	}
	command := strings.Fields(block(t, page, "sh"))
	q := explain.Question{Method: command[len(command)-2], Target: command[len(command)-1]}
	for i, word := range command {
		switch word {
		case "--api":
			q.API = command[i+1]
		case "--app":
			q.Application = command[i+1]
		}
	}
	e, err := explain.Explain(explain.World{Table: compiled.Table, Loaded: loaded, Compiled: compiled}, q)
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	if err := e.Text(&text); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(block(t, page, "text"), text.String()); diff != "" {
		t.Errorf("(-page +real):\n%s", diff)
	}
}
