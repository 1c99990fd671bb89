package yaegi

import (
	"crypto"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/traefik/yaegi/interp"
	"github.com/traefik/yaegi/stdlib"

	"github.com/tollgate-apim/tollgate/e2e/stack"
)

const module = "github.com/tollgate-apim/tollgate"

// A host is a kind of program that the plugin may find itself in.
type host struct {
	name string
	// sha3 tells whether it links a compiled SHA-3.
	sha3    bool
	symbols interp.Exports
}

// hosts returns one that links a compiled SHA-3, as Traefik does, and one that
// does not.
//
// Every program that Go 1.26 builds with net/http links SHA-3, so the second
// one hides it: interpreted code that says SHA3_256 gets a hash that is never
// linked.
func hosts(t *testing.T) []host {
	t.Helper()
	if !crypto.SHA3_256.Available() || crypto.MD4.Available() {
		t.Fatal("this program has no SHA-3 to hide, or links MD4")
	}
	without := maps.Clone(interp.Exports(stdlib.Symbols))
	hashes := maps.Clone(without["crypto/crypto"])
	hashes["SHA3_256"] = reflect.ValueOf(crypto.MD4)
	without["crypto/crypto"] = hashes
	return []host{
		{"host with SHA-3", true, stdlib.Symbols},
		{"host without SHA-3", false, without},
	}
}

// TestPlugin runs the plugin's own tests interpreted, each package in an
// interpreter of its own.
func TestPlugin(t *testing.T) {
	gopath := t.TempDir()
	root, err := stack.CopyPlugin(gopath, true, nil)
	if err != nil {
		t.Fatal(err)
	}
	packages := packagesBelow(t, root)
	for _, host := range hosts(t) {
		for _, dir := range packages {
			t.Run(host.name+"/"+dir, func(t *testing.T) {
				t.Chdir(filepath.Join(root, dir))
				runTests(t, gopath, path.Join(module, filepath.ToSlash(dir)), host.symbols)
			})
		}
	}
}

// TestDigest checks that the plugin uses the host's SHA-3 where there is one,
// does without where there is none, and gives the same digest in both.
func TestDigest(t *testing.T) {
	gopath := t.TempDir()
	if _, err := stack.CopyPlugin(gopath, false, nil); err != nil {
		t.Fatal(err)
	}
	for _, host := range hosts(t) {
		t.Run(host.name, func(t *testing.T) {
			i := newInterpreter(t, gopath, host.symbols)
			if _, err := i.Eval(`import "` + module + `/hashing"`); err != nil {
				t.Fatal(err)
			}
			if got := eval[bool](t, i, `hashing.Compiled()`); got != host.sha3 {
				t.Errorf("hashing.Compiled() is %t, want %t", got, host.sha3)
			}
			for _, key := range []string{"secret-api-key", "", strings.Repeat("long ", 100)} {
				got, want := eval[func(string) string](t, i, `hashing.Digest`)(key), stack.Digest(key)
				if got != want {
					t.Errorf("the digest of %q is %s, want %s", key, got, want)
				}
			}
		})
	}
}

func eval[T any](t *testing.T, i *interp.Interpreter, expression string) T {
	t.Helper()
	value, err := i.Eval(expression)
	if err != nil {
		t.Fatalf("%s: %v", expression, err)
	}
	result, ok := value.Interface().(T)
	if !ok {
		t.Fatalf("%s is a %s", expression, value.Type())
	}
	return result
}

// packagesBelow returns the folders of the plugin's packages, vendored ones
// left out.
func packagesBelow(t *testing.T, root string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(root, func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && (entry.Name() == "vendor" || entry.Name() == "testdata") {
			return fs.SkipDir
		}
		if dir, _ := filepath.Rel(root, filepath.Dir(file)); strings.HasSuffix(file, ".go") && !slices.Contains(found, dir) {
			found = append(found, dir)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(found, ".") || !slices.Contains(found, "hashing") {
		t.Fatalf("found only the packages %q", found)
	}
	return found
}

// newInterpreter returns an interpreter with nothing but the standard symbols.
func newInterpreter(t *testing.T, gopath string, symbols interp.Exports) *interp.Interpreter {
	t.Helper()
	i := interp.New(interp.Options{
		GoPath:    gopath,
		BuildTags: []string{"yaegi"}, // Files that need what Yaegi lacks say !yaegi.
		Env:       os.Environ(),
	})
	if err := i.Use(symbols); err != nil {
		t.Fatal(err)
	}
	return i
}

// runTests loads a package with its tests, and runs each of them.
func runTests(t *testing.T, gopath, importPath string, symbols interp.Exports) {
	t.Helper()
	i := newInterpreter(t, gopath, symbols)
	if err := i.EvalTest(importPath); err != nil {
		t.Fatal(err)
	}
	exported := i.Symbols(importPath)[importPath]
	ran := 0
	for _, name := range slices.Sorted(maps.Keys(exported)) {
		if test, ok := exported[name].Interface().(func(*testing.T)); ok && strings.HasPrefix(name, "Test") {
			ran++
			t.Run(name, test)
		}
	}
	if ran == 0 {
		t.Fatal("the package has no tests")
	}
}
