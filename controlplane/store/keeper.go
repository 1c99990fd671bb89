package store

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"time"
)

const (
	// keepEvery is how often, at most, a state file is written.
	keepEvery = time.Second
	// keepShare bounds the share of time that is spent with writing it: so many
	// times as long as that took, nothing is written.
	keepShare = 20
)

// keeper keeps a Memory in a file.
type keeper struct {
	memory *Memory
	path   string
	log    *slog.Logger
	// lock is held as long as the file is ours.
	lock *os.File
	// write writes the file at a stroke; tests replace it.
	write func(path string, s state) error

	changed chan struct{} // has a place for one
	ending  chan struct{}
	ended   chan error

	failing bool // belongs to the goroutine
}

// OpenMemory returns a store in memory that begins with what is in a file and is
// kept there: at Close, and at most a second after a change, or, if writing takes
// long, 20 times as long as that takes. Its folder must exist. While the file
// cannot be written the store goes on, and tells log.
//
// A file that holds something else, or not all that it should, is put aside under
// another name, which log is told, and the store begins empty. A file that cannot
// be read, or that another process uses, is an error. The store takes the time
// from now; nil means time.Now.
func OpenMemory(path string, now func() time.Time, log *slog.Logger) (*Memory, error) {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real // The file is replaced, a link to it is not.
	}
	lock, err := lockFile(path + ".lock")
	if err != nil {
		return nil, fmt.Errorf("state file %s: %w", path, err)
	}
	m := NewMemory(now)
	if err := m.load(path, log); err != nil {
		return nil, errors.Join(fmt.Errorf("state file: %w", err), lock.Close())
	}
	m.keeper = &keeper{
		memory: m, path: path, log: log, lock: lock, write: replaceState,
		changed: make(chan struct{}, 1), ending: make(chan struct{}), ended: make(chan error, 1),
	}
	// It tells at once whether the file can be written.
	if err := m.keeper.keep(); err != nil {
		return nil, errors.Join(fmt.Errorf("state file: %w", err), lock.Close())
	}
	go m.keeper.run()
	return m, nil
}

// load reads the file of a path.
func (m *Memory) load(path string, log *slog.Logger) error {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is no regular file", path)
	}
	s, err := readState(file)
	var failed *fs.PathError
	if errors.As(err, &failed) {
		return err // The disk's fault, not the file's.
	}
	if err != nil {
		aside, asideErr := putAside(path, m.now())
		if asideErr != nil {
			return errors.Join(fmt.Errorf("%s %w", path, err), asideErr)
		}
		log.Error("state file cannot be used: the store begins empty, so limits begin anew", "file", path, "problem", err.Error(), "putAsideAs", aside)
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.latest, m.version = s.time, s.version
	for key, e := range s.entries {
		m.putLocked(key, e)
	}
	m.sweepLocked(m.timeLocked())
	log.Info("state file read", "file", path, "entries", m.used.entries, "keptAt", s.time)
	return nil
}

// putAside renames a file and returns its new name, which no other file has.
func putAside(path string, now time.Time) (string, error) {
	name := path + ".bad-" + now.UTC().Format("20060102T150405.000000000Z")
	if _, err := os.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("putting it aside: %s: %w", name, fs.ErrExist)
	}
	if err := os.Rename(path, name); err != nil {
		return "", fmt.Errorf("putting it aside: %w", err)
	}
	return name, nil
}

// wake tells that something has changed. It does not wait.
func (k *keeper) wake() {
	select {
	case k.changed <- struct{}{}:
	default:
	}
}

// run keeps what changes until end.
func (k *keeper) run() {
	rest := time.NewTimer(keepEvery)
	defer rest.Stop()
	for {
		select {
		case <-k.ending:
			k.ended <- k.keep()
			return
		case <-k.changed:
		}
		// Not at once: what comes within a second is written with it.
		select {
		case <-k.ending:
			k.ended <- k.keep()
			return
		case <-rest.C:
		}
		begin := time.Now()
		err := k.keep()
		k.tell(err)
		if err != nil {
			k.wake() // another try
		}
		rest.Reset(max(keepEvery, keepShare*time.Since(begin)))
	}
}

// tell logs when writing begins to fail, and when it works again.
func (k *keeper) tell(err error) {
	switch {
	case err != nil && !k.failing:
		k.log.Error("state file cannot be written: a restart forgets what has changed since", "file", k.path, "error", err.Error())
	case err == nil && k.failing:
		k.log.Info("state file is written again", "file", k.path)
	}
	k.failing = err != nil
}

// keep writes the file.
func (k *keeper) keep() error {
	m := k.memory
	m.mu.Lock()
	m.changed = false
	m.sweepLocked(m.timeLocked())
	s := state{time: m.latest, version: m.version, entries: maps.Clone(m.entries)}
	m.mu.Unlock()
	return k.write(k.path, s)
}

// end writes the file for the last time and gives it up.
func (k *keeper) end() error {
	close(k.ending)
	err := <-k.ended
	if err != nil {
		err = fmt.Errorf("state file: %w", err)
	}
	return errors.Join(err, k.lock.Close())
}

// replaceState writes a file so that it has either the old content or the new one,
// also after a power failure. Only its owner can read it.
func replaceState(path string, s state) error {
	// The lock is ours, so this name is, too.
	next := path + ".next"
	if err := os.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	file, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = s.write(file)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Rename(next, path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(next))
	}
	return syncFolder(filepath.Dir(path))
}

// syncFolder has the disk keep the names in a folder.
func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
