// Package watch tells when something under some folders changes.
package watch

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"

	"github.com/fsnotify/fsnotify"
)

// Watcher watches folders. What it tells is a hint: the file system may lose
// events, so whoever must not miss a change looks for himself now and then.
type Watcher struct {
	fs      *fsnotify.Watcher
	matters func(name string) bool
	changes chan Change
	done    chan struct{}
}

// Change is what happened in the folders since the last one was delivered. One
// without a Path is about nothing that matters by its name, such as folders, links
// and hidden files; what they are for may have changed all the same.
type Change struct {
	// Path is a file that was put in place or written.
	Path string
	// Written says that it was written, or something else was done to it, where it
	// stands. Otherwise it was put in place as it is, by renaming it or, if it is
	// still empty, by making it.
	Written bool
	// More says that Path is not all: another file that matters changed, or one
	// went away, or nobody knows what happened.
	More bool
	// Paths has all to which something happened, whether it matters or not; nil if
	// that may be anything.
	Paths map[string]bool
}

// maxPaths is how many paths are told before anything may have changed.
const maxPaths = 10_000

// And returns both changes as one, and takes their Paths.
func (c Change) And(next Change) Change {
	out := Change{Path: c.Path, Written: c.Written || next.Written, More: c.More || next.More}
	if c.Paths != nil && next.Paths != nil && len(c.Paths)+len(next.Paths) <= maxPaths {
		out.Paths = c.Paths
		maps.Copy(out.Paths, next.Paths)
	}
	switch {
	case c.Path == "":
		out.Path = next.Path
	case next.Path != "" && next.Path != c.Path:
		out.More = true
	}
	return out
}

// New returns a watcher without folders, to which files matter by their base
// names. It runs until Close.
func New(matters func(name string) bool) (*Watcher, error) {
	fs, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("watching files: %w", err)
	}
	w := &Watcher{fs: fs, matters: matters, changes: make(chan Change), done: make(chan struct{})}
	go w.run()
	return w, nil
}

// Changes delivers what changed since it last did. It is never closed.
func (w *Watcher) Changes() <-chan Change { return w.changes }

// Watch makes folders the ones watched, beside their own files but not their
// sub-folders. A folder that is watched already goes on without a gap; one that
// was removed and made again is watched anew.
func (w *Watcher) Watch(folders []string) error {
	wanted := make(map[string]bool, len(folders))
	var failures []error
	for _, f := range folders {
		wanted[filepath.Clean(f)] = true
		if err := w.fs.Add(f); err != nil {
			failures = append(failures, fmt.Errorf("watching %s: %w", f, err))
		}
	}
	for _, f := range w.fs.WatchList() {
		if !wanted[f] {
			// It fails where the folder is gone, and then the watch is too.
			_ = w.fs.Remove(f)
		}
	}
	return errors.Join(failures...)
}

// Close ends the watcher and waits until it has ended.
func (w *Watcher) Close() error {
	err := w.fs.Close()
	<-w.done
	return err
}

func (w *Watcher) run() {
	defer close(w.done)
	var change Change
	var changes chan Change // nil while there is nothing to tell
	for {
		select {
		case e, ok := <-w.fs.Events:
			if !ok {
				return
			}
			next := w.change(e)
			if changes != nil {
				next = change.And(next)
			}
			change, changes = next, w.changes
		case _, ok := <-w.fs.Errors:
			if !ok {
				return
			}
			// Events were lost, so anything may have changed.
			change, changes = change.And(Change{More: true}), w.changes
		case changes <- change:
			change, changes = Change{}, nil
		}
	}
}

func (w *Watcher) change(e fsnotify.Event) Change {
	change := Change{Paths: map[string]bool{e.Name: true}}
	switch {
	case !w.matters(filepath.Base(e.Name)):
		return change
	case e.Op.Has(fsnotify.Remove) || e.Op.Has(fsnotify.Rename):
		change.More = true
	default:
		// Permissions matter too: a file may become readable.
		change.Written = e.Op != fsnotify.Create
	}
	change.Path = e.Name
	return change
}
