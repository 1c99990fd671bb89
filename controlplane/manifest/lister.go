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
// only at what changed. One goroutine uses it at a time.
type Lister struct {
	paths []string

	roots   []*listed
	folders map[string]*listed // all of them, by path
	last    Tree
	// plain says that there is one way to everything, so that a part of it can be
	// looked at by itself.
	plain bool
	// What the last List looked at: these paths, these folders with all that is in
	// them, or everything.
	again, whole []string
	everything   bool

	seen  map[string]bool // by real path, while everything is listed
	links []string
	extra []string // folders to watch beside those with manifests
}

// listed is a folder, or a file that is a root or reached by a symbolic link.
type listed struct {
	path, real string
	self       File // also of a folder
	isFolder   bool
	files      []File // by path
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

// List returns what stands under the paths, as the function List does. If there
// was a listing before, it looks only at what changed: files and folders that
// came, went, or are not as they were. It looks at everything if that is nil.
func (l *Lister) List(changed []string) (Tree, error) {
	l.everything = changed == nil || !l.plain
	if !l.everything {
		l.again, l.whole = changed, nil
		l.everything = !l.look(changed, nil)
	}
	return l.result()
}

// Again looks once more at what the last List looked at.
func (l *Lister) Again() (Tree, error) {
	l.everything = l.everything || !l.plain || !l.look(l.again, slices.Clone(l.whole))
	return l.result()
}

func (l *Lister) result() (Tree, error) {
	if l.everything {
		if err := l.listAll(); err != nil {
			l.plain = false
			return Tree{}, fmt.Errorf("listing manifests: %w", err)
		}
	}
	return l.last, nil
}

func (l *Lister) listAll() error {
	*l = Lister{paths: l.paths, plain: true, everything: true, folders: map[string]*listed{}, seen: map[string]bool{}}
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
	l.last = l.tree()
	return nil
}

// look looks at paths, and at folders with all that is in them. It reports
// whether that is enough.
func (l *Lister) look(paths, folders []string) bool {
	same := true
	for _, root := range l.roots {
		real, err := filepath.EvalSymlinks(root.path)
		if err != nil || real != root.real {
			return false
		}
		info, err := os.Stat(root.path)
		if err != nil || info.IsDir() != root.isFolder {
			return false
		}
		self := newFile(root.path, info)
		same = same && self == root.self
		root.self = self
	}
	for _, path := range paths {
		did, err := l.lookAt(filepath.Clean(path))
		if err != nil {
			return false
		}
		same = same && !did
	}
	for _, path := range folders {
		if f := l.folders[path]; f != nil {
			same = false
			if l.lookInto(f) != nil {
				return false
			}
		}
	}
	if !same {
		l.last = l.tree()
	}
	return l.plain
}

// lookAt looks at an entry of a folder, and reports whether it is not as it was.
func (l *Lister) lookAt(path string) (changed bool, err error) {
	in := l.folders[filepath.Dir(path)]
	if in == nil || strings.HasPrefix(filepath.Base(path), ".") {
		return false, nil // there are no manifests, or the folder's own folder is looked at too
	}
	info, err := os.Stat(in.path)
	if err != nil {
		return false, err
	}
	self := newFile(in.path, info)
	changed = self != in.self
	in.self = self

	beforeFile, isFile := in.take(path)
	var beforeFolder *listed
	if i := slices.IndexFunc(in.folders, func(f *listed) bool { return f.path == path }); i >= 0 {
		beforeFolder = in.folders[i]
		in.folders = slices.Delete(in.folders, i, i+1)
	}
	looked := len(l.whole)
	info, err = os.Lstat(path)
	switch {
	case err == nil:
		if err := l.entry(in, path, fs.FileInfoToDirEntry(info), beforeFolder); err != nil {
			return false, err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return false, err
	}
	afterFile, isStill := in.find(path)
	afterFolder := l.folders[path]
	if beforeFolder != nil && !slices.Contains(in.folders, beforeFolder) {
		l.forget(beforeFolder)
		afterFolder = nil
	}
	return changed || isFile != isStill || beforeFile != afterFile || beforeFolder != afterFolder || len(l.whole) > looked, nil
}

// put adds a file to those of the folder.
func (f *listed) put(file File) {
	i, _ := f.place(file.Path)
	f.files = slices.Insert(f.files, i, file)
}

// find returns the file of that path.
func (f *listed) find(path string) (File, bool) {
	i, ok := f.place(path)
	if !ok {
		return File{}, false
	}
	return f.files[i], true
}

// take takes the file of that path out.
func (f *listed) take(path string) (File, bool) {
	file, ok := f.find(path)
	if i, _ := f.place(path); ok {
		f.files = slices.Delete(f.files, i, i+1)
	}
	return file, ok
}

func (f *listed) place(path string) (int, bool) {
	if n := len(f.files); n == 0 || f.files[n-1].Path < path {
		return n, false // as when they come in order
	}
	return slices.BinarySearchFunc(f.files, path, func(file File, path string) int { return strings.Compare(file.Path, path) })
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
	if err := l.lookInto(out); err != nil {
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

// lookInto lists a folder. Of its sub-folders it lists those that are not as they
// were.
func (l *Lister) lookInto(f *listed) error {
	l.whole = append(l.whole, f.path)
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
			in.put(file.self)
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
		in.put(self)
		return nil
	}
	// A folder that looks the same has the same entries, and a change of one of
	// them is told by itself.
	if before != nil && before.self == self && self.Inode != 0 {
		in.folders = append(in.folders, before)
		return nil
	}
	if before == nil {
		before = &listed{path: path, real: real, isFolder: true}
	}
	in.folders = append(in.folders, before)
	return l.lookInto(before)
}
