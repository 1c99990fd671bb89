// Package watch tells when something under some folders changes.
package watch

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/fsnotify/fsnotify"
)

// Watcher watches folders. What it tells is a hint: the file system may lose
// events, so whoever must not miss a change looks for himself now and then.
type Watcher struct {
	fs      *fsnotify.Watcher
	changes chan struct{}
	done    chan struct{}
}

// New returns a watcher without folders. It runs until Close.
func New() (*Watcher, error) {
	fs, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("watching files: %w", err)
	}
	w := &Watcher{fs: fs, changes: make(chan struct{}, 1), done: make(chan struct{})}
	go w.run()
	return w, nil
}

// Changes delivers a value after one or more changes since it last did. It is
// never closed.
func (w *Watcher) Changes() <-chan struct{} { return w.changes }

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
	for {
		select {
		case e, ok := <-w.fs.Events:
			if !ok {
				return
			}
			// Permissions matter: a file may become readable.
			if e.Op != 0 {
				w.tell()
			}
		case _, ok := <-w.fs.Errors:
			if !ok {
				return
			}
			// Events were lost, so anything may have changed.
			w.tell()
		}
	}
}

func (w *Watcher) tell() {
	select {
	case w.changes <- struct{}{}:
	default: // one is waiting to be taken
	}
}
