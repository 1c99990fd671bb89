package stack

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Patch changes files of a copy of the plugin.
type Patch map[string]func(source string) (string, error)

// CopyPlugin copies the plugin's sources to where a GOPATH in dir has them, as
// Traefik's plugins-local and Yaegi want it, and returns that folder. Tests
// and their data go along when withTests is set.
//
// Each file that patch names by its path in the module is replaced by what the
// function makes of it.
func CopyPlugin(dir string, withTests bool, patch Patch) (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	to := filepath.Join(dir, "src", filepath.FromSlash(pluginModule))
	if err := os.RemoveAll(to); err != nil { // Of an earlier start in this folder.
		return "", err
	}
	err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return skipFolder(path, rel, withTests)
		}
		if !belongs(rel, withTests) {
			return nil
		}
		return copyFile(path, filepath.Join(to, rel))
	})
	if err != nil {
		return "", fmt.Errorf("copying the plugin: %w", err)
	}
	return to, applyPatch(to, patch)
}

// skipFolder returns fs.SkipDir for what is no part of the plugin's module.
func skipFolder(path, rel string, withTests bool) error {
	if rel == "." {
		return nil
	}
	name := filepath.Base(rel)
	if strings.HasPrefix(name, ".") || name == "testdata" && !withTests {
		return fs.SkipDir
	}
	if _, err := os.Stat(filepath.Join(path, "go.mod")); err == nil {
		return fs.SkipDir // A module of its own.
	}
	return nil
}

func belongs(rel string, withTests bool) bool {
	if strings.HasPrefix(rel, "vendor"+string(filepath.Separator)) || rel == ".traefik.yml" || rel == "go.mod" {
		return true
	}
	if strings.HasPrefix(rel, "docs"+string(filepath.Separator)) || strings.Contains(rel, "testdata"+string(filepath.Separator)) {
		return withTests // Examples in the docs are tests.
	}
	return strings.HasSuffix(rel, ".go") && (withTests || !strings.HasSuffix(rel, "_test.go"))
}

func copyFile(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o750); err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o600)
}

func applyPatch(dir string, patch Patch) error {
	for name, change := range patch {
		path := filepath.Join(dir, filepath.FromSlash(name))
		source, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("patching the plugin: %w", err)
		}
		changed, err := change(string(source))
		if err != nil {
			return fmt.Errorf("patching %s: %w", name, err)
		}
		if err := os.WriteFile(path, []byte(changed), 0o600); err != nil {
			return err
		}
	}
	return nil
}
