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
)

// Lister lists what stands under some paths, again and again, and looks again
// only where something changed. One goroutine uses it at a time.
type Lister struct {
	paths []string

	roots   []*listed
	folders map[string]*listed // all of them, by path
	// plain says that there is one way to everything, so that a folder can be
	// looked at by itself.
	plain  bool
	looked []string // the folders that the last List looked at; nil for all

	seen  map[string]bool // by real path, while everything is listed
	links []string
	extra []string // folders to watch beside those with manifests
}

// listed is a folder, or a file that is a root or reached by a symbolic link.
type listed struct {
	path, real string
	self       File // also of a folder
	isFolder   bool
	files      []File
	folders    []*listed
}

// NewLister returns a lister that has not looked yet.
func NewLister(paths []string) *Lister {
	l := &Lister{}
	for _, p := range paths {
		l.paths = append(l.paths, filepath.Clean(p))
	}
	return l
}

// List returns what stands under the paths, as the function List does. Only what
// is in the given folders is looked at again, if there was a listing before, and
// everything if they are nil.
func (l *Lister) List(folders []string) (Tree, error) {
	if folders == nil || !l.plain || !l.listAgain(folders) {
		if err := l.listAll(); err != nil {
			l.plain = false
			return Tree{}, fmt.Errorf("listing manifests: %w", err)
		}
	}
	return l.tree(), nil
}

// Looked returns the folders that the last List looked at, nil for all.
func (l *Lister) Looked() []string { return l.looked }

func (l *Lister) listAll() error {
	*l = Lister{paths: l.paths, plain: true, folders: map[string]*listed{}, seen: map[string]bool{}}
	for _, p := range l.paths {
		root, err := l.follow(p, true)
		if err != nil {
			return err
		}
		if root != nil {
			l.roots = append(l.roots, root)
		}
		l.watchLinks(p)
	}
	l.seen = nil
	return nil
}

// listAgain looks at some folders, and reports whether that is enough.
func (l *Lister) listAgain(folders []string) bool {
	l.looked = []string{}
	for i, root := range l.roots {
		real, err := filepath.EvalSymlinks(root.path)
		if err != nil || real != root.real {
			return false
		}
		if !root.isFolder {
			info, err := os.Stat(root.path)
			if err != nil || info.IsDir() {
				return false
			}
			l.roots[i].self = newFile(root.path, info)
		}
	}
	sorted := make([]string, len(folders))
	for i, f := range folders {
		sorted[i] = filepath.Clean(f)
	}
	slices.Sort(sorted)
	for _, path := range slices.Compact(sorted) {
		// What is in none has no manifests, or its own folder is looked at too.
		if f := l.folders[path]; f != nil && l.look(f) != nil {
			return false
		}
	}
	return l.plain
}

// tree puts together what is listed.
func (l *Lister) tree() Tree {
	t := Tree{Links: l.links, Folders: slices.Clone(l.extra)}
	see := func(f File) {
		if f.Modified.After(t.Modified) {
			t.Modified = f.Modified
		}
	}
	var walk func(f *listed)
	walk = func(f *listed) {
		see(f.self)
		if !f.isFolder {
			t.Files = append(t.Files, f.self)
			return
		}
		t.Folders = append(t.Folders, f.path)
		for _, file := range f.files {
			see(file)
		}
		t.Files = append(t.Files, f.files...)
		for _, inner := range f.folders {
			walk(inner)
		}
	}
	for _, root := range l.roots {
		walk(root)
	}
	slices.SortFunc(t.Files, func(a, b File) int { return cmp.Compare(a.Path, b.Path) })
	slices.Sort(t.Folders)
	t.Folders = slices.Compact(t.Folders)
	return t
}

// follow lists what path names, wherever symbolic links lead. Below a root, a
// file must look like a manifest and be a regular one, and what has just been
// removed is passed over. It returns nil for what is not listed.
func (l *Lister) follow(path string, root bool) (*listed, error) {
	info, err := os.Stat(path)
	if err == nil && !info.IsDir() && !root && (!info.Mode().IsRegular() || !isManifest(path)) {
		return nil, nil
	}
	real := path
	if err == nil {
		real, err = filepath.EvalSymlinks(path)
	}
	switch {
	case err != nil && root:
		return nil, err
	case err != nil:
		return lost(path, err), nil
	case real != path:
		l.links = append(l.links, real)
	}
	if l.seen[real] {
		l.plain = false
		return nil, nil
	}
	l.seen[real] = true
	out := &listed{path: path, real: real, self: newFile(path, info), isFolder: info.IsDir()}
	if !out.isFolder {
		l.extra = append(l.extra, filepath.Dir(path), filepath.Dir(real))
		return out, nil
	}
	if err := l.look(out); err != nil {
		return nil, err
	}
	return out, nil
}

// lost returns a file that is there and cannot be looked at, or nil if it is not
// there.
func lost(path string, err error) *listed {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return &listed{path: path, self: File{Path: path}}
}

// watchLinks watches the folders of the symbolic links that a path leads over, so
// that it is noticed when one of them leads elsewhere.
func (l *Lister) watchLinks(path string) {
	for ; path != filepath.Dir(path); path = filepath.Dir(path) {
		if info, err := os.Lstat(path); err == nil && info.Mode()&fs.ModeSymlink != 0 {
			l.extra = append(l.extra, filepath.Dir(path))
		}
	}
}

// look lists a folder. Of its sub-folders it lists those that it did not have.
func (l *Lister) look(f *listed) error {
	if l.looked != nil {
		l.looked = append(l.looked, f.path)
	}
	info, err := os.Stat(f.path)
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(f.path)
	if err != nil {
		return err
	}
	before := make(map[string]*listed, len(f.folders))
	for _, inner := range f.folders {
		before[inner.path] = inner
	}
	f.self, f.files, f.folders = newFile(f.path, info), nil, nil
	l.folders[f.path] = f
	for _, e := range entries {
		path := filepath.Join(f.path, e.Name())
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		if err := l.entry(f, path, e, before[path]); err != nil {
			return err
		}
	}
	for _, inner := range f.folders {
		delete(before, inner.path)
	}
	for _, gone := range before {
		l.forget(gone)
	}
	return nil
}

func (l *Lister) forget(f *listed) {
	delete(l.folders, f.path)
	for _, inner := range f.folders {
		l.forget(inner)
	}
}

// entry lists an entry of a folder. Before it may have been a folder.
func (l *Lister) entry(in *listed, path string, e fs.DirEntry, before *listed) error {
	if e.Type()&fs.ModeSymlink != 0 {
		l.plain = false
		if l.seen == nil {
			return nil // everything will be listed
		}
		out, err := l.follow(path, false)
		if out != nil {
			in.folders = append(in.folders, out)
		}
		return err
	}
	if !e.IsDir() && (!e.Type().IsRegular() || !isManifest(path)) {
		return nil
	}
	info, err := e.Info()
	if err != nil {
		if file := lost(path, err); file != nil {
			in.files = append(in.files, file.self)
		}
		return nil
	}
	self, real := newFile(path, info), filepath.Join(in.real, e.Name())
	if l.seen != nil {
		if l.seen[real] {
			l.plain = false
			return nil
		}
		l.seen[real] = true
	}
	if !e.IsDir() {
		in.files = append(in.files, self)
		return nil
	}
	// A folder that looks the same has the same entries, and a change of one of
	// them is told as one in that folder.
	if before != nil && before.self == self && self.Inode != 0 {
		in.folders = append(in.folders, before)
		return nil
	}
	if before == nil {
		before = &listed{path: path, real: real, isFolder: true}
	}
	in.folders = append(in.folders, before)
	return l.look(before)
}
