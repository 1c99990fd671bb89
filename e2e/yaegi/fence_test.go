package yaegi

import (
	"fmt"
	"go/ast"
	"go/build/constraint"
	"go/parser"
	"go/token"
	"go/types"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tollgate-apim/tollgate/e2e/stack"
)

// The linters deny the packages and identifiers that Yaegi lacks. What follows
// looks for constructs, which they cannot: code that compiles, and that Yaegi
// runs wrong or that could end Traefik.

// starters run their last argument on a goroutine of its own.
var starters = map[string]bool{"AfterFunc": true, "after": true, "background": true}

// passing are the functions, by package and name, that give a parameter of
// theirs to a starter. They stand behind fields called after, whose callers are
// looked at instead.
var passing = map[string]bool{
	"feed.realTiming":     true,
	"reporter.realTiming": true,
	"tollgate.afterFunc":  true,
}

// TestFence looks through the plugin's sources.
func TestFence(t *testing.T) {
	root, err := stack.CopyPlugin(t.TempDir(), false, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range packagesBelow(t, root) {
		sources := map[string]string{}
		files, err := filepath.Glob(filepath.Join(root, dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			sources[filepath.Join(dir, filepath.Base(file))] = string(data)
		}
		for _, finding := range fence(t, sources) {
			t.Error(finding)
		}
	}
}

// TestFenceFinds checks that the fence can fail.
func TestFenceFinds(t *testing.T) {
	for _, test := range []struct {
		name, body string
		want       string // empty: no finding
	}{
		{"select", `func f(c chan int) { select { case <-c: } }`, "select"},
		{"tagless switch", `func f(a, b bool) { switch { case a, b: } }`, "tagless"},
		{"tagless switch, one each", `func f(a, b bool) { switch { case a: case b: } }`, ""},
		{"switch with a tag", `func f(a int) { switch a { case 1, 2: } }`, ""},
		{"assignment of expression and call", `func f(a, b int) { a, b = b/2, g() }; func g() int { return 1 }`, "beside a call"},
		{"assignment of call and field", `func f(a, b int, c struct{ d int }) { a, b = g(), c.d }; func g() int { return 1 }`, "beside a call"},
		{"assignment of conversion and call", `func f(a int, b int64) { a, b = int(b), g() }; func g() int64 { return 1 }`, "beside a call"},
		{"assignment of calls and variables", `func f(a, b, c int) { a, b, c = g(), b, 1 }; func g() int { return 1 }`, ""},
		{"assignment of expressions", `func f(a, b int) { a, b = b/2, a-b }`, ""},
		{"definition of expression and call", `func f(a int) { b, c := a/2, g(); _, _ = b, c }; func g() int { return 1 }`, ""},
		{"second result of a built-in function", `func f(a []int) (int, int) { return 1, len(a) }`, "len"},
		{"third result of a built-in function", `func f(a []int) (n int, s string, b []int) { return 1, "", append(a, 1) }`, "append"},
		{"first result of a built-in function", `func f(a []int) (int, int64) { return len(a), int64(1) }`, ""},
		{"result with a built-in function in it", `func f(a []int) (int, int) { return 1, len(a) - 1 }`, ""},
		{"unnamed parameter", `func f(int) {}`, "without a name"},
		{"unnamed parameter of a literal", `var f = func(int) {}`, "without a name"},
		{"parameter that is not used", `func f(_ int) {}; type g func(int)`, ""},
		{"marshaler", `type T int; func (T) MarshalText() ([]byte, error) { return nil, nil }`, "MarshalText"},
		{"goroutine", `func f() { go func() {}() }`, "recover"},
		{"goroutine that recovers", `func f() { go func() { defer func() { _ = recover() }(); f() }() }`, ""},
		{"goroutine that recovers too late", `func f() { go func() { f(); defer func() { _ = recover() }() }() }`, "recover"},
		{"goroutine that recovers nothing", `func f() { go func() { defer func() { _ = func() any { return recover() } }(); f() }() }`, "recover"},
		{"goroutine of a function", `func f() { go g() }; func g() {}`, "recover"},
		{"goroutine of a function that recovers", `func f() { go g() }; func g() { defer h() }; func h() { recover() }`, ""},
		{"goroutine of a method", `type T int; func (t T) g() {}; func f(t *T) { go t.g() }`, "recover"},
		{"goroutine of a method that recovers", `type T int; func (t T) g() { defer h() }; func h() { recover() }; func f(t *T) { go t.g() }`, ""},
		{"goroutine of anything", `func f(g func()) { go g() }`, "cannot tell"},
		{"goroutine behind a field", `type T struct { after func(int, func()) }; func f(t *T) { t.after(1, g) }; func g() {}`, "recover"},
		{"timer", `import "time"; func f() { time.AfterFunc(1, f) }`, "recover"},
		{"timer that recovers", `import "time"; func f() { time.AfterFunc(1, func() { defer func() { recover() }() }) }`, ""},
		{"order of variables", `var a = f(); func f() int { return g() }; func g() int { return b }; var b = 2`, "initializer"},
		{"order of variables through a value", `var a = run(f); func run(f func() int) int { return f() }; func f() int { return b }; var b = 2`, "initializer"},
		{"variables without initializers", `var a = f(); func f() int { return b }; var b int`, ""},
		{"variables in order of need", `var a = 1; var b = a`, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			findings := fence(t, map[string]string{"p.go": "package p\n" + test.body})
			if test.want == "" && len(findings) > 0 {
				t.Errorf("got %q, want no finding", findings)
			}
			if test.want != "" && (len(findings) != 1 || !strings.Contains(findings[0], test.want)) {
				t.Errorf("got %q, want one that has %q", findings, test.want)
			}
		})
	}
}

// checked is one package's sources with what their identifiers mean.
type checked struct {
	fset  *token.FileSet
	files []*ast.File
	info  *types.Info
	pkg   *types.Package
	// bodies has the package's functions and methods.
	bodies map[types.Object]*ast.FuncDecl

	findings []string
}

// fence returns what it finds in the sources of one package.
func fence(t *testing.T, sources map[string]string) []string {
	t.Helper()
	c := load(t, sources)
	for _, file := range c.files {
		for _, decl := range file.Decls {
			c.enclosed(decl)
		}
	}
	c.variables()
	return c.findings
}

func load(t *testing.T, sources map[string]string) *checked {
	t.Helper()
	c := &checked{
		fset:   token.NewFileSet(),
		info:   &types.Info{Defs: map[*ast.Ident]types.Object{}, Uses: map[*ast.Ident]types.Object{}},
		bodies: map[types.Object]*ast.FuncDecl{},
	}
	for _, name := range slices.Sorted(maps.Keys(sources)) {
		if !forYaegi(sources[name]) {
			continue
		}
		file, err := parser.ParseFile(c.fset, name, sources[name], parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		c.files = append(c.files, file)
	}
	// Imports stay unresolved, which is an error each and no matter here: we ask
	// only what the package's own identifiers mean.
	config := types.Config{Importer: noImports{}, Error: func(error) {}}
	c.pkg, _ = config.Check("p", c.fset, c.files, c.info)
	for _, file := range c.files {
		for _, decl := range file.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok && f.Body != nil {
				c.bodies[c.info.Defs[f.Name]] = f
			}
		}
	}
	return c
}

// forYaegi tells whether a file's build constraint lets Yaegi load it.
func forYaegi(source string) bool {
	for line := range strings.Lines(source) {
		if strings.HasPrefix(line, "package ") {
			break
		}
		if expr, err := constraint.Parse(strings.TrimSpace(line)); err == nil {
			return expr.Eval(func(tag string) bool { return tag == "yaegi" })
		}
	}
	return true
}

type noImports struct{}

func (noImports) Import(path string) (*types.Package, error) {
	return nil, fmt.Errorf("%s is not loaded", path)
}

func (c *checked) find(n ast.Node, format string, args ...any) {
	c.findings = append(c.findings, fmt.Sprintf("%s: %s", c.fset.Position(n.Pos()), fmt.Sprintf(format, args...)))
}

// enclosed looks at one declaration.
func (c *checked) enclosed(decl ast.Decl) {
	within := c.pkg.Name()
	if f, ok := decl.(*ast.FuncDecl); ok {
		within += "." + f.Name.Name
		switch f.Name.Name {
		case "MarshalJSON", "UnmarshalJSON", "MarshalText", "UnmarshalText":
			c.find(f, "Yaegi never calls %s of a type of ours", f.Name.Name)
		}
	}
	ast.Inspect(decl, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectStmt:
			c.find(n, "select crosses values between goroutines in Yaegi")
		case *ast.SwitchStmt:
			c.tagless(n)
		case *ast.AssignStmt:
			c.parallel(n)
		case *ast.ReturnStmt:
			c.returns(n)
		case *ast.FuncDecl:
			c.unnamed(n.Type)
		case *ast.FuncLit:
			c.unnamed(n.Type)
		case *ast.GoStmt:
			c.recovers(n, n.Call.Fun, within)
		case *ast.CallExpr:
			if s, ok := n.Fun.(*ast.SelectorExpr); ok && starters[s.Sel.Name] {
				c.recovers(n, n.Args[len(n.Args)-1], within)
			}
		}
		return true
	})
}

func (c *checked) unnamed(f *ast.FuncType) {
	for _, parameter := range f.Params.List {
		if len(parameter.Names) == 0 {
			c.find(parameter, "Yaegi mixes up a parameter without a name with results and variables; call it _")
		}
	}
}

// parallel finds fault with an assignment of several values of which one is a
// call and another an expression, which Yaegi then leaves out.
func (c *checked) parallel(a *ast.AssignStmt) {
	if a.Tok != token.ASSIGN || len(a.Rhs) < 2 {
		return
	}
	called, computed := false, false
	for _, value := range a.Rhs {
		switch value := value.(type) {
		case *ast.CallExpr:
			if name, ok := value.Fun.(*ast.Ident); ok && c.isType(name) {
				computed = true
			} else {
				called = true
			}
		case *ast.Ident, *ast.BasicLit:
		default:
			computed = true
		}
	}
	if called && computed {
		c.find(a, "Yaegi drops an expression that is assigned beside a call; make it two assignments")
	}
}

// returns finds fault with a result that is a call of a built-in function, unless it
// is the first one: Yaegi gives it as the first one, too.
func (c *checked) returns(r *ast.ReturnStmt) {
	for i, result := range r.Results {
		call, ok := result.(*ast.CallExpr)
		if i == 0 || !ok {
			continue
		}
		if name, ok := call.Fun.(*ast.Ident); ok {
			if _, is := c.info.Uses[name].(*types.Builtin); is {
				c.find(r, "Yaegi returns what %s gives as the first result; put it in a variable", name.Name)
			}
		}
	}
}

// isType tells whether a name is that of a type, so that what looks like a call
// converts a value.
func (c *checked) isType(name *ast.Ident) bool {
	_, is := c.info.Uses[name].(*types.TypeName)
	return is
}

func (c *checked) tagless(s *ast.SwitchStmt) {
	if s.Tag != nil {
		return
	}
	for _, clause := range s.Body.List {
		if clause, ok := clause.(*ast.CaseClause); ok && len(clause.List) > 1 {
			c.find(clause, "Yaegi tests only the first condition of a case in a tagless switch")
		}
	}
}

// recovers finds fault unless the function that a goroutine starts with begins
// by deferring a recovery: a panic there would end Traefik.
func (c *checked) recovers(at ast.Node, run ast.Expr, within string) {
	body := c.body(run)
	if body == nil {
		if !passing[within] {
			c.find(at, "cannot tell which function runs here, so whether it recovers (see passing)")
		}
		return
	}
	if len(body.List) > 0 {
		if d, ok := body.List[0].(*ast.DeferStmt); ok && callsRecover(c.body(d.Call.Fun)) {
			return
		}
	}
	c.find(at, "what runs here must begin with a deferred function that calls recover")
}

// body returns the body of a function literal, or of a function or method of
// the package, and nil for anything else.
func (c *checked) body(run ast.Expr) *ast.BlockStmt {
	var name *ast.Ident
	switch run := run.(type) {
	case *ast.FuncLit:
		return run.Body
	case *ast.Ident:
		name = run
	case *ast.SelectorExpr:
		name = run.Sel
	default:
		return nil
	}
	if f := c.bodies[c.info.Uses[name]]; f != nil && c.info.Uses[name] != nil {
		return f.Body
	}
	return nil
}

// callsRecover tells whether a deferred body calls recover itself: in a function
// that it calls, recover does nothing.
func callsRecover(body *ast.BlockStmt) bool {
	found := false
	if body == nil {
		return false
	}
	ast.Inspect(body, func(n ast.Node) bool {
		if _, nested := n.(*ast.FuncLit); nested {
			return false
		}
		if call, ok := n.(*ast.CallExpr); ok {
			if name, ok := call.Fun.(*ast.Ident); ok && name.Name == "recover" {
				found = true
			}
		}
		return true
	})
	return found
}

// variables finds fault with a package variable whose initializer reaches,
// through functions, another one that has an initializer: Yaegi may run them in
// the wrong order.
func (c *checked) variables() {
	initialized := map[types.Object]bool{}
	specs := []*ast.ValueSpec{}
	for _, file := range c.files {
		for _, decl := range file.Decls {
			g, ok := decl.(*ast.GenDecl)
			if !ok || g.Tok != token.VAR {
				continue
			}
			for _, spec := range g.Specs {
				spec := spec.(*ast.ValueSpec)
				if len(spec.Values) > 0 {
					specs = append(specs, spec)
				}
				for _, name := range spec.Names {
					initialized[c.info.Defs[name]] = len(spec.Values) > 0
				}
			}
		}
	}
	for _, spec := range specs {
		for _, value := range spec.Values {
			for _, reached := range c.reached(value) {
				if initialized[reached] {
					c.find(spec, "the initializer of %s reaches %s through a function; set it in init", spec.Names[0].Name, reached.Name())
				}
			}
		}
	}
}

// reached returns the objects that the functions that an expression mentions
// mention, and so on.
func (c *checked) reached(value ast.Expr) []types.Object {
	var reached []types.Object
	seen := map[types.Object]bool{}
	var visit func(n ast.Node, through bool)
	visit = func(n ast.Node, through bool) {
		ast.Inspect(n, func(n ast.Node) bool {
			name, ok := n.(*ast.Ident)
			if !ok {
				return true
			}
			object := c.info.Uses[name]
			if object == nil || seen[object] {
				return true
			}
			if f := c.bodies[object]; f != nil {
				seen[object] = true
				visit(f.Body, true)
			} else if through {
				seen[object] = true
				reached = append(reached, object)
			}
			return true
		})
	}
	visit(value, false)
	return reached
}
