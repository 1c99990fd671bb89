package yaegi

import (
	"bytes"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tollgate-apim/tollgate/e2e/stack"
)

// TestTwins: the request path for limits that gateways share is the one for local
// limits, but for two calls. What one of them learns the other must learn too.
func TestTwins(t *testing.T) {
	root, err := stack.Root()
	if err != nil {
		t.Fatal(err)
	}
	shared := strings.NewReplacer("hold.TakeToken(c.part, ", "quota.TakeToken(c.counter, c.interval, c.depth, ", "admitShared(", "admit(").
		Replace(bodyOf(t, filepath.Join(root, "shared.go"), "sharedHandler"))
	if local := bodyOf(t, filepath.Join(root, "plugin.go"), "handler"); shared != local {
		t.Errorf("sharedHandler, with the other two calls, is\n%s\nand handler is\n%s", shared, local)
	}
}

// bodyOf returns the body of a function without its comments.
func bodyOf(t *testing.T, path, name string) string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	for _, decl := range file.Decls {
		if f, ok := decl.(*ast.FuncDecl); ok && f.Name.Name == name {
			var body bytes.Buffer
			if err := format.Node(&body, token.NewFileSet(), f.Body); err != nil {
				t.Fatal(err)
			}
			return body.String()
		}
	}
	t.Fatalf("%s has no function %s", path, name)
	return ""
}
