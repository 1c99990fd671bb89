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
	// Links are the places that symbolic links lead to, and Modified is the latest
	// time of modification of all folders and files.
	Links    []string
	Modified time.Time
}

// List returns what stands under paths, each a folder or a file: files whose
// names end in .yaml, .yml or .json, in the folder and its sub-folders. Names
// that begin with a dot are passed over, symbolic links are followed, and what
// can be reached in several ways is listed once. Pipes and devices in folders are
// passed over. A link that leads nowhere, because it leads to itself, is listed,
// and Load tells that it cannot be read.
func List(paths []string) (Tree, error) {
	l := lister{seen: map[string]bool{}, watched: map[string]bool{}}
	for _, p := range paths {
		if err := l.add(filepath.Clean(p), true); err != nil {
			return Tree{}, fmt.Errorf("listing manifests: %w", err)
		}
	}
	slices.SortFunc(l.tree.Files, func(a, b File) int { return cmp.Compare(a.Path, b.Path) })
	return l.tree, nil
}

type lister struct {
	tree    Tree
	seen    map[string]bool // by real path
	watched map[string]bool // tree.Folders
}

// add lists what path names, wherever symbolic links lead. Below a root, a file
// must look like a manifest and be a regular one, and what has just been removed
// is passed over.
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
		if root {
			return err
		}
		l.lost(path, err)
		return nil
	}
	if real != path {
		l.tree.Links = append(l.tree.Links, real)
	}
	if root {
		l.watchLinks(path)
	}
	if info.IsDir() {
		return l.folder(path, real, info)
	}
	l.watch(filepath.Dir(path))
	l.watch(filepath.Dir(real))
	l.file(path, real, info)
	return nil
}

// watch makes a folder one that is watched.
func (l *lister) watch(folder string) {
	if !l.watched[folder] {
		l.watched[folder] = true
		l.tree.Folders = append(l.tree.Folders, folder)
	}
}

// watchLinks watches the folders of the symbolic links that a path leads over, so
// that it is noticed when one of them leads elsewhere.
func (l *lister) watchLinks(path string) {
	for ; path != filepath.Dir(path); path = filepath.Dir(path) {
		if info, err := os.Lstat(path); err == nil && info.Mode()&fs.ModeSymlink != 0 {
			l.watch(filepath.Dir(path))
		}
	}
}

// lost lists a file that is there and cannot be looked at.
func (l *lister) lost(path string, err error) {
	if !errors.Is(err, fs.ErrNotExist) {
		l.tree.Files = append(l.tree.Files, File{Path: path})
	}
}

// see reports whether a real path comes for the first time.
func (l *lister) see(real string, info fs.FileInfo) bool {
	if l.seen[real] {
		return false
	}
	l.seen[real] = true
	if info.ModTime().After(l.tree.Modified) {
		l.tree.Modified = info.ModTime()
	}
	return true
}

func (l *lister) file(path, real string, info fs.FileInfo) {
	if l.see(real, info) {
		l.tree.Files = append(l.tree.Files, newFile(path, info))
	}
}

func (l *lister) folder(path, real string, info fs.FileInfo) error {
	if !l.see(real, info) {
		return nil
	}
	l.watch(path)
	entries, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		if err := l.entry(filepath.Join(path, e.Name()), filepath.Join(real, e.Name()), e); err != nil {
			return err
		}
	}
	return nil
}

// entry lists an entry of a folder, which is no symbolic link itself as far as
// the entry says.
func (l *lister) entry(path, real string, e fs.DirEntry) error {
	switch {
	case e.Type()&fs.ModeSymlink != 0:
		return l.add(path, false)
	case !e.IsDir() && (!e.Type().IsRegular() || !isManifest(path)):
		return nil
	}
	info, err := e.Info()
	switch {
	case err != nil:
		l.lost(path, err)
	case e.IsDir():
		return l.folder(path, real, info)
	default:
		l.file(path, real, info)
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
