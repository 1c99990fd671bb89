package manifest

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// File is a manifest file as it was listed. Two listings that are equal have
// seen the same files in the same state, as far as the file system tells.
type File struct {
	Path     string
	Size     int64
	Modified time.Time
	// Changed and Inode tell what was put in the place of another file, and what
	// had its time of modification set. They are zero where the system has no such
	// thing.
	Changed time.Time
	Inode   uint64
}

// Tree is what stands under some paths: folders to watch and files to read.
type Tree struct {
	Folders []string
	Files   []File // by path
}

// List returns what stands under paths, each a folder or a file: files whose
// names end in .yaml, .yml or .json, in the folder and its sub-folders. Names
// that begin with a dot are passed over, symbolic links are followed, and what
// can be reached in several ways is listed once. Pipes and devices in folders are
// passed over. A link that leads nowhere, because it leads to itself, is listed,
// and Load tells that it cannot be read.
func List(paths []string) (Tree, error) {
	l := lister{seen: map[string]bool{}}
	for _, p := range paths {
		if err := l.add(filepath.Clean(p), true); err != nil {
			return Tree{}, fmt.Errorf("listing manifests: %w", err)
		}
	}
	slices.SortFunc(l.tree.Files, func(a, b File) int { return cmp.Compare(a.Path, b.Path) })
	return l.tree, nil
}

type lister struct {
	tree Tree
	seen map[string]bool // by real path
}

// add lists what path names. Below a root, a file must look like a manifest and
// be a regular one, and what has just been removed is passed over.
func (l *lister) add(path string, root bool) error {
	info, err := os.Stat(path)
	if err == nil && !info.IsDir() && !root && (!info.Mode().IsRegular() || !isManifest(path)) {
		return nil
	}
	real := path
	if err == nil {
		real, err = filepath.EvalSymlinks(path)
	}
	if err != nil {
		switch {
		case root:
			return err
		case !errors.Is(err, fs.ErrNotExist):
			l.tree.Files = append(l.tree.Files, File{Path: path})
		}
		return nil
	}
	if l.seen[real] {
		return nil
	}
	l.seen[real] = true
	if !info.IsDir() {
		l.tree.Files = append(l.tree.Files, newFile(path, info))
		return nil
	}
	l.tree.Folders = append(l.tree.Folders, path)
	entries, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") || e.Type().IsRegular() && !isManifest(e.Name()) {
			continue
		}
		if err := l.add(filepath.Join(path, e.Name()), false); err != nil {
			return err
		}
	}
	return nil
}

// Listed reports whether List would list the file of that path, given from a
// folder that it was asked for.
func Listed(path string) bool {
	for part := range strings.SplitSeq(filepath.ToSlash(path), "/") {
		if strings.HasPrefix(part, ".") {
			return false
		}
	}
	return isManifest(path)
}

func isManifest(name string) bool {
	switch filepath.Ext(name) {
	case ".yaml", ".yml", ".json":
		return true
	}
	return false
}
