package report_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	_ "github.com/owenrumney/go-sarif/v3/pkg/report/v210/sarif" // for its schema
	"github.com/xeipuuv/gojsonschema"

	"github.com/tollgate-apim/tollgate/controlplane/report"
)

// schema returns the schema of SARIF 2.1.0 by OASIS, which go-sarif has in a
// constant and keeps to itself: what it validates is not what we have written,
// but what it has read of that.
func schema(t *testing.T) *gojsonschema.Schema {
	t.Helper()
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/owenrumney/go-sarif/v3").Output()
	if err != nil {
		t.Fatalf("looking for the schema: %v", err)
	}
	path := filepath.Join(strings.TrimSpace(string(dir)), "pkg/report/v210/sarif/schema.go")
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var text string
	ast.Inspect(file, func(n ast.Node) bool {
		if literal, ok := n.(*ast.BasicLit); ok {
			text, err = strconv.Unquote(literal.Value)
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	s, err := gojsonschema.NewSchema(gojsonschema.NewStringLoader(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSARIF(t *testing.T) {
	s := schema(t)
	validate := func(text string) []gojsonschema.ResultError {
		result, err := s.Validate(gojsonschema.NewStringLoader(text))
		if err != nil {
			t.Fatal(err)
		}
		return result.Errors()
	}
	for name, r := range examples() {
		var b strings.Builder
		if err := report.Write(&b, "sarif", r, report.Options{}); err != nil {
			t.Fatal(err)
		}
		for _, problem := range validate(b.String()) {
			t.Errorf("%s: %s", name, problem)
		}
		// The schema sees what is wrong.
		for _, wrong := range [][2]string{{`"version"`, `"v"`}, {`"level": "error"`, `"level": "fatal"`}, {`"2.1.0"`, `"2.1"`}} {
			if len(validate(strings.Replace(b.String(), wrong[0], wrong[1], 1))) == 0 {
				t.Errorf("%s: with %s the schema finds nothing wrong", name, wrong[1])
			}
		}
	}
}
