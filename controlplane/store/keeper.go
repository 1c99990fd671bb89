package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"
)

const (
	// groupBytes bounds what is written in one transaction, apart from its last
	// Swap.
	groupBytes = 16 << 20
	// mendEvery is how often, at most, it is tried to write a spoiled file anew.
	mendEvery = time.Second
	// endWithin is how long Close waits for the disk.
	endWithin = 5 * time.Second
)

// keeper keeps a Memory in a file. Its goroutine is the only one that changes the
// Memory: Swaps that come while one transaction is written are in the next.
type keeper struct {
	memory *Memory
	path   string
	log    *slog.Logger
	// lock is held as long as the file is ours.
	lock *os.File

	swaps  chan *swap // without a place, so that what gives up waiting is nowhere
	ending chan struct{}
	ended  chan error // has a place for one

	// The others belong to the goroutine. Tests replace create and commit.

	file    *stateFile
	create  func(path string, s state) (*stateFile, error)
	commit  func(f *stateFile, entries map[string]entry, head stateHead) error
	failure error     // of the last write; nil if there was none
	spoiled bool      // the file is not to be written to any more
	mended  time.Time // when it was last tried to write it anew
}

// swap is a Swap that waits to be written.
type swap struct {
	ctx     context.Context
	changes []Change
	answer  chan swapAnswer // has a place for one
}

type swapAnswer struct {
	made []int64
	err  error
}

// OpenMemory returns a store in memory that begins with what is in a file, and is
// kept there: Swap returns when what it has changed is on the disk. Its folder must
// exist. While the file cannot be written Swap fails, Get goes on, and log is told.
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
	// It is written anew: so it needs no more room than it must have, nothing in it
	// is as an older version or a crash has left it, and it tells at once whether
	// it can be written.
	file, err := createState(path, m.state(m.timeLocked()))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("state file: %w", err), lock.Close())
	}
	m.keeper = &keeper{
		memory: m, path: path, log: log, lock: lock,
		swaps: make(chan *swap), ending: make(chan struct{}), ended: make(chan error, 1),
		file: file, create: createState, commit: (*stateFile).commit,
	}
	go m.keeper.run()
	return m, nil
}

// load reads the file of a path.
func (m *Memory) load(path string, log *slog.Logger) error {
	s, err := readState(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.Is(err, errBadState):
		aside, asideErr := putAside(path, m.now())
		if asideErr != nil {
			return errors.Join(fmt.Errorf("%s %w", path, err), asideErr)
		}
		log.Error("state file cannot be used: the store begins empty, so limits begin anew", "file", path, "problem", err.Error(), "putAsideAs", aside)
		return nil
	case err != nil:
		return err
	}
	m.latest, m.version = s.time, s.version
	now := m.timeLocked()
	for key, e := range s.entries {
		if !e.expired(now) {
			m.entries[key] = e
			m.used = m.used.with(key, e)
		}
	}
	log.Info("state file read", "file", path, "entries", m.used.entries, "keptAt", s.time)
	return nil
}

// state returns what a file keeps.
func (m *Memory) state(now time.Time) state {
	return state{time: now, version: m.version, entries: m.entries}
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

// swap makes changes, and returns when they are on the disk. If ctx ends while they
// are written, nobody knows whether they are made.
func (k *keeper) swap(ctx context.Context, changes []Change) ([]int64, error) {
	if err := k.usable(ctx); err != nil {
		return nil, err
	}
	s := &swap{ctx: ctx, changes: changes, answer: make(chan swapAnswer, 1)}
	select {
	case k.swaps <- s:
	case <-k.ending:
		return nil, ErrClosed
	case <-ctx.Done():
		return nil, k.late(ctx)
	}
	select {
	case a := <-s.answer:
		return a.made, a.err
	case <-ctx.Done():
		return nil, k.late(ctx)
	}
}

func (k *keeper) usable(ctx context.Context) error {
	k.memory.mu.Lock()
	defer k.memory.mu.Unlock()
	return k.memory.usableLocked(ctx)
}

func (k *keeper) late(ctx context.Context) error {
	return fmt.Errorf("state file %s: waiting until it is written: %w", k.path, ctx.Err())
}

// run writes what Swaps change until end.
func (k *keeper) run() {
	for {
		select {
		case <-k.ending:
			k.mended = time.Time{} // It is tried for a last time.
			k.ended <- k.finish()
			return
		case s := <-k.swaps:
			k.keep(k.gather(s))
		}
	}
}

// gather returns a Swap and those that are waiting as well.
func (k *keeper) gather(first *swap) []*swap {
	group, size := []*swap{first}, first.size()
	for size < groupBytes {
		select {
		case s := <-k.swaps:
			group = append(group, s)
			size += s.size()
		default:
			return group
		}
	}
	return group
}

func (s *swap) size() int {
	size := 0
	for _, c := range s.changes {
		size += len(c.Key) + len(c.Data)
	}
	return size
}

// keep makes the changes of Swaps and answers them.
func (k *keeper) keep(group []*swap) {
	m := k.memory
	answers := make([]swapAnswer, len(group))
	m.mu.Lock()
	b := m.beginLocked()
	for i, s := range group {
		if err := s.ctx.Err(); err != nil {
			answers[i].err = err // Nobody waits any more.
			continue
		}
		answers[i].made, answers[i].err = b.swap(s.changes)
	}
	m.mu.Unlock()
	if len(b.entries) > 0 {
		err := k.write(b)
		for i := range answers {
			if err != nil && answers[i].err == nil {
				answers[i] = swapAnswer{err: err}
			}
		}
	}
	for i, s := range group {
		s.answer <- answers[i]
	}
}

// write has a batch on the disk, and then in the Memory. If it fails, the Memory stays
// as it is, and with it the file, but that may have the batch as well.
func (k *keeper) write(b *batch) error {
	err := k.mend(b.now)
	if err == nil {
		err = k.put(b)
	}
	k.tell(err)
	if err != nil {
		return fmt.Errorf("state file: %w", err)
	}
	k.memory.mu.Lock()
	defer k.memory.mu.Unlock()
	k.memory.applyLocked(b)
	return nil
}

// put has a batch on the disk.
func (k *keeper) put(b *batch) error {
	before, err := k.file.transaction()
	if err != nil {
		return err
	}
	err = k.commit(k.file, b.entries, stateHead{stateFormat, b.now, b.version, b.used.entries})
	if err != nil {
		after, askErr := k.file.transaction()
		k.spoiled = askErr != nil || before != after
	}
	return err
}

// mend writes the file anew, with what the Memory holds, if it is spoiled.
func (k *keeper) mend(now time.Time) error {
	if !k.spoiled {
		return nil
	}
	if !k.mended.IsZero() && time.Since(k.mended) < mendEvery {
		return k.failure
	}
	// Nobody else changes what is in memory, so it can be read without the lock.
	file, err := k.create(k.path, k.memory.state(now))
	k.mended = time.Now()
	if err != nil {
		return err
	}
	old := k.file
	k.file, k.spoiled = file, false
	if err := old.close(); err != nil {
		k.log.Warn("the old state file was not closed", "file", k.path, "error", err.Error())
	}
	return nil
}

// tell notes whether the file was written, and logs when that begins to fail, and
// when it works again.
func (k *keeper) tell(err error) {
	switch {
	case err != nil && k.failure == nil:
		k.log.Error("state file cannot be written: reports are refused until it can", "file", k.path, "error", err.Error())
	case err == nil && k.failure != nil:
		k.log.Info("state file is written again", "file", k.path)
	}
	k.failure = err
}

// finish notes the time, so that it does not go back, and closes the file.
func (k *keeper) finish() error {
	k.memory.mu.Lock()
	b := k.memory.beginLocked()
	k.memory.mu.Unlock()
	err := k.write(b)
	if closeErr := k.file.close(); closeErr != nil {
		err = errors.Join(err, fmt.Errorf("state file: %w", closeErr))
	}
	return errors.Join(err, k.lock.Close())
}

// end has the goroutine end, and waits for it.
func (k *keeper) end() error {
	close(k.ending)
	patience := time.NewTimer(endWithin)
	defer patience.Stop()
	select {
	case err := <-k.ended:
		return err
	case <-patience.C:
		return fmt.Errorf("state file %s: the disk has not answered for %s", k.path, endWithin)
	}
}
